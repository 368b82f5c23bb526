//! Injected faults, each against the drivers: they end with an error or continue, wrong bytes are never taken for right
//! ones, and all memory comes back.
//!
//! What goes wrong outside of devices (interrupts, rep hypercalls, message buffers, the clock, pages that a hostile
//! host writes to) needs a machine: the scenarios `inject/drivers` have that, and every form of a rule.

use hv_devices::scsi::Disk as HostDisk;
use hv_devices::storage::{MAX_TRANSFER, Storage};
use hv_drivers::hv_vmbus_client::{self, Buffer, Client, Open, PageRun, Wait};
use hv_drivers::ic::Heartbeat;
use hv_drivers::network::{self, Frames as _, Sizes};
use hv_drivers::storage::{Address, Controller, Disk, Error, Failure, Sense};
use hv_host::faults::{FORMS, Name, Plan};
use hv_tlfs::vmbus::{Guid, guid};
use hv_tlfs::vp::VpIndex;

use crate::host::{TestClient, TestDma, Wire, World, number_of};
use crate::network::frame;

type Scsi = Controller<'static, TestDma, Wire, u32, 4>;
type Dead = hv_vmbus_client::Error;

const SIZE: usize = 1 << 20;
/// Reads of each kind, of this many bytes.
const READS: u32 = 16;
const BYTES: u32 = 4096;
/// Milliseconds that are waited for anything.
const PATIENCE: u32 = 300;
/// Forms that need a machine.
pub(crate) const ON_A_MACHINE: [&str; 10] = [
    "buffers",
    "delay",
    "again",
    "lost",
    "twice",
    "spurious=",
    "migrate",
    "disturb=messages|",
    "seed=",
    "...",
];

/// Its outcome.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    heartbeat: Option<Dead>,
    /// Version of storage, reads that were right, those that failed, the first failure, and what ended the use.
    version: u16,
    right: u32,
    failed: u32,
    first: Option<Failure>,
    storage: Option<Error>,
    /// Requests that were in flight at the end, and those that were overtaken.
    left: usize,
    overtaken: u32,
    network: Option<network::Error>,
    /// Frames that the network got and the guest got: of these, right ones.
    sent: [usize; 2],
    received: [usize; 2],
    in_order: bool,
    link_changes: u32,
    /// Pages that have not come back.
    kept: usize,
}

impl Outcome {
    /// Returns the expectation that nothing is noticed.
    fn good() -> Self {
        Self {
            version: 0x602,
            right: 2 * READS,
            sent: [16; 2],
            received: [16; 2],
            in_order: true,
            ..Self::default()
        }
    }
}

fn number(kind: Name, name: &str) -> Option<u64> {
    let interface = match (kind, name) {
        (Name::Device, "vmbus") => Guid::ZERO,
        (Name::Device, "storage") => guid::SCSI,
        (Name::Device, "network") => guid::NETWORK,
        (Name::Device, "heartbeat") => guid::HEARTBEAT,
        (Name::Hypercall, "HVCALL_POST_MESSAGE") => return Some(0x5c),
        (Name::Hypercall, "HVCALL_SIGNAL_EVENT") => return Some(0x5d),
        (Name::Status, "HV_STATUS_INSUFFICIENT_BUFFERS") => return Some(0x13),
        (Name::Status, "HV_STATUS_INVALID_CONNECTION_ID") => return Some(0x12),
        _ => return None,
    };
    Some(number_of(&interface).into())
}

/// Lets time pass, up to an end; the client takes the messages that come.
fn waiting(world: &'static World, client: &mut TestClient) -> impl FnMut() -> Result<(), Dead> {
    let mut left = PATIENCE;
    move || {
        world.pass_time();
        world.take_all(client);
        left -= 1;
        if left > 0 { Ok(()) } else { Err(Dead::TimedOut) }
    }
}

/// Waiter for the host's messages, which come as time passes, up to an end.
pub(crate) struct Patient(&'static World, u32);

impl Wait<Wire, ()> for Patient {
    fn wait(&mut self, client: &mut Client<'_, Wire>) -> Result<(), Dead> {
        self.0.pass_time();
        self.0.take_all(client);
        self.1 -= 1;
        if self.1 > 0 { Ok(()) } else { Err(Dead::TimedOut) }
    }
}

pub(crate) fn patient(world: &'static World) -> Patient {
    Patient(world, PATIENCE)
}

/// Uses a service, a disk and a card of a host with this plan.
fn run(plan: &str) -> Outcome {
    let plan = if plan.is_empty() { Plan::NONE } else { Plan::parse(plan, &number).unwrap() };
    let mut storage = Storage::new();
    storage.attach(0, 0, 0, HostDisk::new(SIZE as u64, [7; 16], MAX_TRANSFER)).unwrap();
    let world = World::with_faults(storage, &[SIZE], plan);
    let mut client = world.unconnected();
    let mut outcome = Outcome { in_order: true, ..Outcome::default() };
    client.connect(hv_vmbus_client::Contact::new(VpIndex(0)), &mut patient(world)).unwrap();
    outcome.heartbeat = heartbeat(world, &mut client).err();
    outcome.storage = disk(world, &mut client, &mut outcome).err();
    outcome.network = card(world, &mut client, &mut outcome).err();
    client.disconnect(&mut patient(world)).unwrap();
    outcome.kept = world.host.ram.live();
    for (rule, times) in world.host.plan.fired().enumerate() {
        assert!(times > 0, "rule {rule} has never fired");
    }
    outcome
}

fn heartbeat(world: &'static World, client: &mut TestClient) -> Result<(), Dead> {
    let Some(offer) = client.find(guid::HEARTBEAT) else { return Err(Dead::Rescinded) };
    let open = Open::on(VpIndex(0));
    let channel = client.open_channel(&offer, 2, open, &TestDma(world), &mut patient(world))?;
    let mut service = Heartbeat::new(channel);
    for _ in 0..10 {
        service.poll()?;
        world.pass_time();
        world.take_all(client);
    }
    let agreed = service.version();
    let channel = service.into_service().into_channel();
    let over = channel.is_over();
    client.close_channel(channel, &mut patient(world))?;
    if over {
        return Err(Dead::Rescinded);
    }
    agreed.map(drop).ok_or(Dead::TimedOut)
}

fn disk(world: &'static World, client: &mut TestClient, outcome: &mut Outcome) -> Result<(), Error> {
    let offer = client.find(guid::SCSI).ok_or(Dead::Rescinded)?;
    let dma = TestDma(world);
    let channel = client.open_channel(&offer, 8, Open::on(VpIndex(0)), &dma, &mut patient(world))?;
    let mut scsi: Scsi = Controller::new(channel, dma);
    let used = use_disk(world, client, &mut scsi, outcome);
    outcome.version = scsi.version();
    let mut wait = patient(world);
    let closing = loop {
        match scsi.close(client) {
            Ok(closing) => break closing,
            Err(back) if back.error.may_retry() => scsi = back.value,
            Err(back) => return Err(back.error.into()),
        }
        wait.wait(client)?;
    };
    let left = client.block_on(closing, &mut patient(world)).map_err(|returned| returned.error)?;
    outcome.left = left.iter().flatten().count();
    used
}

fn use_disk(
    world: &'static World,
    client: &mut TestClient,
    scsi: &mut Scsi,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    scsi.wait_ready(&mut waiting(world, client))?;
    let at = Address { path: 0, target: 0, lun: 0 };
    let disk: Disk = scsi.disk(at, &mut waiting(world, client))?.unwrap();
    let content = world.host.disks.lock().unwrap()[0].clone();
    let place = |n: u32| n as usize * BYTES as usize;
    let expected = |n: u32| &content[place(n)..place(n + 1)];
    let failed = |outcome: &mut Outcome, failure| {
        outcome.failed += 1;
        outcome.first = outcome.first.or(Some(failure));
    };
    for n in 0..READS {
        let mut bytes = vec![0; BYTES as usize];
        match scsi.read(&disk, place(n) as u64 / 512, &mut bytes, &mut waiting(world, client)) {
            Ok(()) => {
                assert!(bytes == expected(n), "read {n} has wrong bytes");
                outcome.right += 1;
            }
            Err(Error::Failed(failure)) => failed(outcome, failure),
            Err(error) => return Err(error),
        }
    }
    let (mut next, mut ended, mut last) = (0, 0, 0);
    let mut wait = waiting(world, client);
    while ended < READS {
        while next < READS && next < ended + 4 {
            let data = Buffer { pages: PageRun::new(&TestDma(world), 1)?, offset: 0, len: BYTES };
            match scsi.submit_read(next, &disk, place(next) as u64 / 512, data) {
                Ok(()) => next += 1,
                Err(refused) if refused.error == Error::Client(Dead::InUse) => break,
                Err(refused) => return Err(refused.error),
            }
        }
        let Some(done) = scsi.poll()? else {
            if scsi.is_over() {
                return Err(Dead::Rescinded.into());
            }
            wait()?;
            continue;
        };
        ended += 1;
        outcome.overtaken += u32::from(done.tag < last);
        last = done.tag;
        match done.outcome {
            Ok(_) => {
                let mut bytes = vec![0; BYTES as usize];
                done.data.unwrap().pages.read(0, &mut bytes);
                assert!(bytes == expected(done.tag), "read {} in flight has wrong bytes", done.tag);
                outcome.right += 1;
            }
            Err(failure) => failed(outcome, failure),
        }
    }
    Ok(())
}

fn card(world: &'static World, client: &mut TestClient, outcome: &mut Outcome) -> Result<(), network::Error> {
    let offer = client.find(guid::NETWORK).ok_or(Dead::Rescinded)?;
    let place = (&offer, Open::on(VpIndex(0)));
    let dma = TestDma(world);
    let size = (1500, Sizes::default());
    let mut card = network::open(client, place, size, &dma, &mut patient(world))?;
    let used = use_card(world, client, &mut card, outcome);
    let mut wait = patient(world);
    let closing = loop {
        match card.close(client) {
            Ok(closing) => break closing,
            Err(back) if back.error.may_retry() => card = back.value,
            Err(back) => return Err(back.error.into()),
        }
        wait.wait(client)?;
    };
    client.block_on(closing, &mut patient(world)).map_err(|returned| returned.error)?;
    let frames = world.host.frames.lock().unwrap();
    let right = frames.iter().filter(|sent| **sent == frame(100, sent[14] ^ 14_u8.wrapping_mul(7)));
    outcome.sent = [frames.len(), right.count()];
    let seeds: Vec<_> = frames.iter().map(|sent| sent[14] ^ 14_u8.wrapping_mul(7)).collect();
    outcome.in_order &= seeds.is_sorted();
    used
}

fn use_card(
    world: &'static World,
    client: &mut TestClient,
    card: &mut network::Card<'static, TestDma, Wire>,
    outcome: &mut Outcome,
) -> Result<(), network::Error> {
    let mut wait = waiting(world, client);
    while !card.is_up() {
        assert_eq!(card.receive(&mut [])?, None);
        outcome.link_changes += u32::from(card.take_link_change());
        wait()?;
    }
    let (mut room, mut last) = ([0; 1514], 0);
    for n in 0..16 {
        card.send(&frame(100, n))?;
        world.frame(&frame(100, n));
        wait()?;
        if card.is_over() {
            return Err(Dead::Rescinded.into());
        }
        while let Some(len) = card.receive(&mut room)? {
            let seed = room[14] ^ 14_u8.wrapping_mul(7);
            outcome.received[0] += 1;
            outcome.received[1] += usize::from(room[..len] == frame(100, seed));
            outcome.in_order &= seed >= last;
            last = seed;
        }
    }
    Ok(())
}

/// A plan, and how the outcome differs from that of a host without faults.
type Row = (&'static str, fn(&mut Outcome));

const fn sense(key: u8, code: u8) -> Failure {
    Failure::Sense(Sense { key, code, qualifier: 0 })
}

const ROWS: &[Row] = &[
    ("", |_| ()),
    ("call=HVCALL_POST_MESSAGE:HV_STATUS_INSUFFICIENT_BUFFERS@/3", |_| ()),
    ("call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@/7", |_| ()),
    ("silent=20ms@100ms", |_| ()),
    // A frame that the guest sends is a request too, and the last one has not ended when the card is closed.
    ("late=5ms@/6", |good| (good.overtaken, good.sent, good.in_order) = (1, [15; 2], false)),
    ("reorder@/2", |good| (good.overtaken, good.sent, good.in_order) = (7, [15; 2], false)),
    ("stuck@20", |good| {
        (good.right, good.left) = (2 * READS - 1, 1);
        good.storage = Some(Error::Client(Dead::TimedOut));
    }),
    ("srb=4:0x10@20", |good| {
        let failure = Failure::Host { srb: hv_tlfs::vmbus::storage::SrbStatus(4), scsi: 0x10 };
        (good.right, good.failed, good.first) = (2 * READS - 1, 1, Some(failure));
    }),
    ("sense=3/11/00@5", |good| {
        (good.right, good.failed, good.first) = (2 * READS - 1, 1, Some(sense(3, 0x11)));
    }),
    // A blocking call repeats what is busy; a request in flight is its submitter's.
    ("busy@/5", |good| (good.right, good.failed, good.first) = (2 * READS - 4, 4, Some(Failure::Busy))),
    ("media=40-47", |good| {
        (good.right, good.failed, good.first) = (2 * READS - 2, 2, Some(sense(3, 0x11)));
    }),
    ("rescind=storage@12", |good| {
        (good.right, good.storage) = (2, Some(Error::Client(Dead::Rescinded)));
    }),
    ("rescind=network@4", |good| {
        (good.sent, good.received) = ([0; 2], [0; 2]);
        good.network = Some(network::Error::Client(Dead::Rescinded));
    }),
    ("rescind=any@1", |good| good.heartbeat = Some(Dead::Rescinded)),
    ("rescind-open=storage", |good| {
        (good.version, good.right) = (0, 0);
        good.storage = Some(Error::Client(Dead::Rescinded));
    }),
    ("rescind-open=heartbeat", |good| good.heartbeat = Some(Dead::Rescinded)),
    ("newest=vmbus:4.1,newest=storage:5.1,newest=network:5.0", |good| good.version = 0x501),
    ("mute=20ms@100ms", |_| ()),
    ("sent=lost@/4", |good| good.sent = [12; 2]),
    ("sent=twice@/4", |good| good.sent = [20; 2]),
    ("sent=corrupt@/4,seed=3", |good| good.sent = [16, 12]),
    ("sent=reorder@3", |good| good.in_order = false),
    ("received=lost@/4", |good| good.received = [12; 2]),
    ("received=twice@/4", |good| good.received = [20; 2]),
    ("received=corrupt@/4,seed=3", |good| good.received = [16, 12]),
    ("received=reorder@3", |good| good.in_order = false),
    ("link=200ms@400ms", |good| good.link_changes = 1),
];

#[test]
pub(crate) fn each_fault_has_the_outcome_that_it_must() {
    let mut wrong = Vec::new();
    for (plan, differs) in ROWS {
        let mut expected = Outcome::good();
        differs(&mut expected);
        let outcome = run(plan);
        if outcome != expected {
            wrong.push(format!("{plan}: {outcome:?}, expected {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every form of a rule has a row here, or needs a machine and has one among the scenarios.
#[test]
fn each_form_of_a_fault_has_a_row() {
    for (form, _) in FORMS {
        for one in form.split(", ") {
            let name = one.split(['=', '@']).next().unwrap();
            let words = one.split_once('=').filter(|(_, words)| words.contains('|')).map(|(_, words)| words);
            let forms: Vec<String> = match words {
                Some(words) => words.split('|').map(|word| format!("{name}={word}")).collect(),
                None => vec![name.to_owned()],
            };
            for form in forms {
                let has = |rule: &str| {
                    rule.split(['@']).next().is_some_and(|rule| {
                        rule == form || (!form.contains('=') && rule.split('=').next() == Some(&*form))
                    })
                };
                let row = ROWS.iter().any(|(plan, _)| plan.split(',').any(has));
                let machine = ON_A_MACHINE.iter().any(|known| one.starts_with(known));
                assert!(row || machine, "{form} has no row");
            }
        }
    }
}
