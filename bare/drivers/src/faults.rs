//! The drivers against a host that injects faults (`hv boot --inject`): a service, a disk and a network card are used,
//! and each outcome is a line. This program expects none: the scenarios do. What was read is compared with what they
//! put on the disk.

use core::fmt;
use core::time::Duration;

use bus::{Boot, MEMORY, Os, Pool};
use hv_drivers::hv_vmbus_client::{Buffer, Client, Error, Open, PageRun, Slots};
use hv_drivers::ic::Heartbeat;
use hv_drivers::network::{self, Frames as _, Sizes};
use hv_drivers::storage::{self, Controller, Disk};
use hv_guest::arch::Either;
use hv_guest::flush::{self, GvaRange, Mask, Space};
use hv_guest::page::{CallPage, Page};
use hv_guest::synic::Synic;
use hv_tlfs::vmbus::guid;
use rt::time;

use crate::network::{ARP, request};

/// Requests in flight, and pages of each ring.
const DEPTH: usize = 4;
const RING: usize = 16;
/// Reads of each kind, of this many bytes and blocks.
const READS: u32 = 16;
const BYTES: usize = 4096;
const BLOCKS: u64 = BYTES as u64 / 512;
/// Requests to the network, to two addresses in turn.
const REQUESTS: usize = 16;
/// The wait for an answer that may have been lost, and for answers that are one too many.
const SURPLUS: Duration = Duration::from_millis(50);

type Scsi = Controller<'static, Pool, Either, u32, DEPTH>;

/// What the scenario says in advance.
pub(crate) struct Expected {
    /// The limit of each wait.
    pub(crate) limit: Duration,
    /// Frames that the card receives. Without the number it is given up after a short wait.
    pub(crate) answers: Option<usize>,
}

/// Uses everything, each wait with a limit.
pub(crate) fn run(
    boot: &Boot,
    synic: &Synic<'_, Either>,
    slots: &'static Slots<64, 72>,
    expected: &Expected,
) {
    let os = Os::new(synic).with_limit(expected.limit);
    flush(boot);
    let lent = slots.lend().expect("nothing else has taken the slots");
    // SAFETY: this is the only call.
    #[expect(unsafe_code, reason = "vouches that there is one client")]
    match unsafe { bus::connect(boot, &os, lent) } {
        Ok(mut client) => {
            rt::println!("faults: contact {:#x}", client.version().map_or(0, |version| version.0));
            heartbeat(&mut client, &os);
            disk(&mut client, &os);
            card(&mut client, &os, expected.answers);
            rt::println!("faults: disconnect: {:?}", client.disconnect(&mut &os));
        }
        Err(error) => rt::println!("faults: contact: {error:?}"),
    }
    rt::println!("faults: {} pages kept", Pool.allocated());
}

/// Makes a hypercall with a list.
fn flush(boot: &Boot) {
    static PAGE: Page = Page::new();
    let mut page = CallPage::new(&PAGE, &MEMORY);
    let ranges: [_; 8] = core::array::from_fn(|n| GvaRange::new(n as u64 * 0x2000, 1).expect("one page"));
    let flushed = flush::address_list(&boot.conduit(), &mut page, Mask::All, Space::All, &ranges);
    rt::println!("faults: flush: {}", if flushed.is_ok() { "all" } else { "refused" });
}

/// Returns a wait that hands arriving messages to the client, so that a rescinded device is noticed.
fn waiting(client: &mut Client<'static, Either>, os: &Os<'_, '_>) -> impl FnMut() -> Result<(), Error> {
    move || if os.deliver(client) { Ok(()) } else { os.wait() }
}

/// Opens the heartbeat's channel, up to the version.
#[inline(never)]
fn heartbeat(client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let Some(offer) = client.find(guid::HEARTBEAT) else { return };
    let mut service = match os.open(client, &offer, 4) {
        Ok(channel) => Heartbeat::new(channel),
        Err(error) => return rt::println!("faults: heartbeat: {error:?}"),
    };
    let agreed = agree(&mut service, &mut waiting(client, os));
    // A service that goes when it has its answer sends a message.
    while os.deliver(client) {}
    rt::println!("faults: heartbeat: {agreed:?}, rescinded {}", service.is_over());
    match client.close_channel(service.into_service().into_channel(), &mut &*os) {
        Ok(_) => rt::println!("faults: heartbeat closed"),
        Err(error) => rt::println!("faults: heartbeat not closed: {error:?}"),
    }
}

/// Waits for the version of the service.
fn agree(
    service: &mut Heartbeat<'static, Pool, Either>,
    wait: &mut impl hv_drivers::Wait,
) -> Result<(u16, u16), Error> {
    loop {
        service.poll()?;
        match service.version() {
            Some(version) => return Ok((version.major, version.minor)),
            None if service.is_over() => return Err(Error::Rescinded),
            None => wait()?,
        }
    }
}

// Functions with large frames are not inlined: a stack holds one of them, not all.

/// Counts of reads by outcome.
#[derive(Default)]
struct Tally {
    right: u32,
    wrong: u32,
    failed: u32,
    /// Reads that ended before an earlier one.
    early: u32,
    last: u32,
    first: Option<storage::Failure>,
}

impl Tally {
    fn count(&mut self, outcome: Result<u32, storage::Failure>, right: impl FnOnce() -> bool) {
        match outcome {
            Ok(_) if right() => self.right += 1,
            Ok(_) => self.wrong += 1,
            Err(failure) => {
                self.failed += 1;
                self.first = self.first.or(Some(failure));
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { right, wrong, failed, early, .. } = self;
        write!(f, "{right} right, {wrong} wrong, {failed} failed, {early} early")?;
        self.first.map_or(Ok(()), |first| write!(f, ", first {first:?}"))
    }
}

/// Returns the byte at this offset of the disk, as the scenarios put it there.
fn at(place: usize) -> u8 {
    (place * 7 + place / 251 + 13) as u8
}

fn is_right(bytes: &[u8; BYTES], block: u64) -> bool {
    (block as usize * 512..).zip(bytes).all(|(place, byte)| *byte == at(place))
}

/// Uses the first disk.
#[inline(never)]
fn disk(client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let Some(offer) = client.find(guid::SCSI) else { return rt::println!("faults: no controller") };
    let mut scsi: Scsi = match os.open(client, &offer, RING) {
        Ok(channel) => Controller::new(channel, Pool),
        Err(error) => return rt::println!("faults: controller: {error:?}"),
    };
    let mut wait = waiting(client, os);
    let used = use_disk(&mut scsi, &mut wait);
    drop(wait);
    rt::println!("faults: controller {:#x}: {used:?}, rescinded {}", scsi.version(), scsi.is_over());
    let closing = loop {
        match scsi.close(client) {
            Ok(closing) => break Ok(closing),
            Err(back) if back.error.may_retry() => scsi = back.value,
            Err(back) => break Err(back.error),
        }
    };
    let closed = closing.and_then(|closing| client.block_on(closing, &mut &*os).map_err(|back| back.error));
    match closed {
        Ok(left) => rt::println!("faults: controller closed, {} in flight", left.iter().flatten().count()),
        Err(error) => rt::println!("faults: controller not closed: {error:?}"),
    }
}

fn use_disk(scsi: &mut Scsi, wait: &mut impl hv_drivers::Wait) -> Result<(), storage::Error> {
    scsi.wait_ready(wait)?;
    let mut first = None;
    scsi.disks(wait, |disk| first = first.or(Some(disk)))?;
    let Some(disk) = first else {
        rt::println!("faults: no disk");
        return Ok(());
    };
    let read = one_by_one(scsi, &disk, wait);
    read?;
    several(scsi, &disk, wait)?;
    let mut sector = [0; 512];
    sector.iter_mut().zip((disk.blocks as usize - 1) * 512..).for_each(|(byte, place)| *byte = at(place));
    let written = scsi.write(&disk, disk.blocks - 1, &sector, wait);
    let flushed = scsi.flush(&disk, wait);
    rt::println!("faults: write {written:?}, flush {flushed:?}");
    Ok(())
}

/// Reads that block, each with its own retries.
#[inline(never)]
fn one_by_one(scsi: &mut Scsi, disk: &Disk, wait: &mut impl hv_drivers::Wait) -> Result<(), storage::Error> {
    let mut tally = Tally::default();
    let mut ended = Ok(());
    for n in 0..READS {
        let (mut bytes, block) = ([0; BYTES], u64::from(n) * BLOCKS);
        let outcome = match scsi.read(disk, block, &mut bytes, wait) {
            Ok(()) => Ok(BYTES as u32),
            Err(storage::Error::Failed(failure)) => Err(failure),
            Err(error) => {
                ended = Err(error);
                break;
            }
        };
        tally.count(outcome, || is_right(&bytes, block));
    }
    rt::println!("faults: reads: {tally}");
    ended
}

/// Reads with some in flight.
#[inline(never)]
fn several(scsi: &mut Scsi, disk: &Disk, wait: &mut impl hv_drivers::Wait) -> Result<(), storage::Error> {
    let mut tally = Tally::default();
    let (mut next, mut ended) = (0, 0);
    let outcome = loop {
        if next < READS {
            let pages = PageRun::of_bytes(&Pool, BYTES)?;
            let data = Buffer { pages, offset: 0, len: BYTES as u32 };
            match scsi.submit_read(next, disk, u64::from(next) * BLOCKS, data) {
                Ok(()) => {
                    next += 1;
                    continue;
                }
                // As many are in flight as there may be.
                Err(refused) if refused.error == storage::Error::Client(Error::InUse) => {}
                Err(refused) => break Err(refused.error),
            }
        }
        match scsi.poll() {
            Ok(Some(done)) => {
                ended += 1;
                tally.early += u32::from(done.tag < tally.last);
                tally.last = done.tag;
                tally.count(done.outcome, || {
                    let mut bytes = [0; BYTES];
                    done.data.iter().for_each(|data| data.pages.read(0, &mut bytes));
                    is_right(&bytes, u64::from(done.tag) * BLOCKS)
                });
            }
            Ok(None) if ended == READS => break Ok(()),
            Ok(None) if scsi.is_over() => break Err(Error::Rescinded.into()),
            Ok(None) => {
                if let Err(error) = wait() {
                    break Err(error.into());
                }
            }
            Err(error) => break Err(error),
        }
    };
    rt::println!("faults: reads in flight: {tally}");
    outcome
}

/// Asks the network for two addresses in turn.
#[inline(never)]
fn card(client: &mut Client<'static, Either>, os: &Os<'_, '_>, answers: Option<usize>) {
    let Some(offer) = client.find(guid::NETWORK) else { return rt::println!("faults: no card") };
    let (place, size) = ((&offer, Open::on(os.vp())), (1500, Sizes::default()));
    match network::open(client, place, size, &Pool, &mut &*os) {
        Ok(mut card) => {
            use_card(&mut card, client, os, answers);
            close_card(card, client, os);
        }
        Err(error) => rt::println!("faults: card: {error:?}"),
    }
}

#[inline(never)]
fn use_card(card: &mut Card, client: &mut Client<'static, Either>, os: &Os<'_, '_>, answers: Option<usize>) {
    rt::println!("faults: card {:#x}", card.version().0);
    let mut seen = Seen::default();
    let used = ask(card, client, os, &mut seen).and_then(|()| rest(card, client, os, &mut seen, answers));
    let counts = card.counts();
    rt::println!(
        "faults: frames: {used:?}, {} sent, {} answers, {} others, {} errors, {}in order",
        counts.sent,
        seen.answers,
        seen.others,
        counts.send_errors,
        if seen.turned { "not " } else { "" }
    );
    rt::println!("faults: link has changed: {}", seen.link_changed);
}

#[inline(never)]
fn close_card(mut card: Card, client: &mut Client<'static, Either>, os: &Os<'_, '_>) {
    let closing = loop {
        match card.close(client) {
            Ok(closing) => break closing,
            Err(back) if back.error.may_retry() => card = back.value,
            Err(back) => return rt::println!("faults: card not closed: {:?}", back.error),
        }
    };
    match client.block_on(closing, &mut &*os) {
        Ok(_) => rt::println!("faults: card closed"),
        Err(back) => rt::println!("faults: card not closed: {:?}", back.error),
    }
}

/// What came: answers from two addresses in turn, or not.
#[derive(Default)]
struct Seen {
    answers: usize,
    others: usize,
    last: u8,
    turned: bool,
    link_changed: bool,
}

impl Seen {
    fn frames(&self) -> usize {
        self.answers + self.others
    }

    fn take(&mut self, frame: &[u8], mac: [u8; 6]) {
        // ARP, an answer to this card, with zeros after it (RFC 826); the network's stations are 52:55:10.0.2.N.
        let from = frame.get(31).copied().unwrap_or(0);
        let station = [0x52, 0x55, 10, 0, 2, from];
        let right = frame.len() >= ARP
            && frame[..6] == mac
            && frame[6..12] == station
            && frame[12..22] == [8, 6, 0, 1, 8, 0, 6, 4, 0, 2]
            && frame[22..28] == station
            && frame[28..32] == [10, 0, 2, from]
            && frame[32..38] == mac
            && frame[38..42] == [10, 0, 2, 15]
            && frame[ARP..].iter().all(|byte| *byte == 0);
        if !right {
            self.others += 1;
            return;
        }
        self.turned |= self.last == from;
        self.last = from;
        self.answers += 1;
    }
}

type Card = network::Card<'static, Pool, Either>;

fn ask(
    card: &mut Card,
    client: &mut Client<'static, Either>,
    os: &Os<'_, '_>,
    seen: &mut Seen,
) -> Result<(), network::Error> {
    let mac = card.mac();
    while !card.is_up() {
        if !take(card, seen)? && !os.deliver(client) {
            os.wait()?;
        }
    }
    for n in 0..REQUESTS {
        let mut request = request(mac);
        request[ARP - 1] = 2 + (n % 2) as u8;
        card.send(&request)?;
        // One at a time, so that answers have an order, unless the network loses one.
        let before = seen.frames();
        let end = time::counter() + time::ticks(SURPLUS);
        while seen.frames() == before && time::counter() < end {
            os.deliver(client);
            take(card, seen)?;
        }
    }
    Ok(())
}

/// Waits for the answers that are left, without a limit, then a while for more than were expected.
fn rest(
    card: &mut Card,
    client: &mut Client<'static, Either>,
    os: &Os<'_, '_>,
    seen: &mut Seen,
    answers: Option<usize>,
) -> Result<(), network::Error> {
    // It looks at its ring without pause: a host with faults may not signal.
    while seen.frames() < answers.unwrap_or(0) {
        os.deliver(client);
        take(card, seen)?;
    }
    let end = time::counter() + time::ticks(SURPLUS);
    while time::counter() < end {
        os.deliver(client);
        take(card, seen)?;
    }
    Ok(())
}

/// Takes what the card has received.
fn take(card: &mut Card, seen: &mut Seen) -> Result<bool, network::Error> {
    let mut frame = [0; 1518];
    let came = card.receive(&mut frame)?;
    seen.link_changed |= card.take_link_change();
    match came {
        Some(len) => seen.take(&frame[..len], card.mac()),
        None if card.is_over() => return Err(Error::Rescinded.into()),
        None => {}
    }
    Ok(came.is_some())
}
