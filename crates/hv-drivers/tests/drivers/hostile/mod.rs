//! The network card's driver against hosts that lie, and against other hosts than this project's.

mod initialization;
mod traffic;

use hv_drivers::hv_vmbus_client::{self, Channel, Client, Contact, Open, PageRun, Slots};
use hv_drivers::network::{Buffers, Card, Checksums, Error, Frames as _};
use hv_testbed::scripted::{ScriptedDma, ScriptedHost};
use hv_testbed::scripted_card::{Heard, ScriptedCard, words};
use hv_tlfs::vmbus::guid;
use hv_tlfs::vp::VpIndex;

type Host = &'static ScriptedHost;
pub(crate) type TestCard = Card<'static, ScriptedDma<'static>, Host>;
type TestChannel = Channel<'static, ScriptedDma<'static>, Host>;

/// Pages of a ring, and of each buffer.
const RING: usize = 4;
const BUFFER: usize = 8;

/// Builds a message of this type with these words after the header.
fn message(kind: u32, body: &[u32]) -> Vec<u8> {
    words(&[&[kind, 0][..], body].concat())
}

/// Answers what the guest has posted as a host does that grants everything.
fn grant(host: Host) -> impl FnMut(&mut Client<'_, Host>) -> Result<(), hv_vmbus_client::Error> {
    move |client| {
        for (_, posted) in host.take_posted() {
            let word = |n: usize| u32::from_le_bytes(posted[n..n + 4].try_into().unwrap());
            match word(0) {
                5 => client.take(&message(6, &[word(8), word(12), 0])),
                8 => client.take(&message(10, &[word(8), word(12), 0])),
                11 => client.take(&message(12, &[word(12)])),
                _ => continue,
            };
        }
        Ok(())
    }
}

/// A guest whose card has sent nothing yet, and the host's end.
struct World {
    host: Host,
    client: Client<'static, Host>,
    card: TestCard,
    end: ScriptedCard<'static>,
}

impl World {
    fn new() -> Self {
        let host: Host = Box::leak(Box::new(ScriptedHost::new(64)));
        let slots: &'static Slots<2, 4> = Box::leak(Box::new(Slots::new()));
        let mut client = host.client(slots.lend().unwrap());
        client.contact(Contact::new(VpIndex(0))).unwrap();
        client.take(&message(15, &[1, 4, 0]));
        let mut offer = message(1, &[0; 47]);
        offer[8..24].copy_from_slice(&guid::NETWORK.bytes);
        offer[184] = 1;
        offer[190] = 1;
        offer[192..196].copy_from_slice(&0x2001_u32.to_le_bytes());
        client.take(&offer);
        let (offer, dma) = (client.find(guid::NETWORK).unwrap(), host.dma());
        let mut os = grant(host);
        let open = Open::on(VpIndex(0));
        let channel: TestChannel = client.open_channel(&offer, RING, open, &dma, &mut os).unwrap();
        let buffer = || PageRun::new(&dma, BUFFER).unwrap();
        let (receive, send) = (buffer(), buffer());
        let receive = client.share_pages(&offer, receive, &mut os).unwrap();
        let send = client.share_pages(&offer, send, &mut os).unwrap();
        let card = Card::new(channel, Buffers { receive, send }, 1500, PageRun::new(&dma, 1).unwrap());
        // The client's page comes first.
        let end = ScriptedCard::new(&host.pages()[1..], RING, BUFFER, BUFFER).unwrap();
        Self { host, client, card, end }
    }

    /// Creates a card that is initialized.
    fn ready() -> Self {
        let mut world = Self::new();
        world.initialize().unwrap();
        // The guest has completed what came last.
        world.end.serve();
        world
    }

    fn initialize(&mut self) -> Result<(), Error> {
        let Self { card, end, .. } = self;
        let mut left = 100;
        card.wait_ready(&mut || {
            end.serve();
            left -= 1;
            if left > 0 { Ok(()) } else { Err(hv_vmbus_client::Error::TimedOut) }
        })
    }

    /// Answers as a card does up to the packet for which `mine` has another answer, and returns what that leads to.
    fn with(mut self, mut mine: impl FnMut(&mut ScriptedCard<'_>, &Heard) -> bool) -> Result<(), Error> {
        let mut taken = false;
        let Self { card, end, .. } = &mut self;
        let result = card.wait_ready(&mut || {
            let Some(heard) = end.hear() else { return Err(hv_vmbus_client::Error::TimedOut) };
            if heard.kind == 11 {
                return Ok(());
            }
            if taken || !mine(end, &heard) {
                end.answer(&heard);
            } else {
                taken = true;
            }
            Ok(())
        });
        assert!(taken, "the guest has not sent it");
        result
    }

    /// Takes a frame, if there is one.
    fn take(&mut self) -> Option<Vec<u8>> {
        let mut room = [0; 1518];
        self.card.receive(&mut room).unwrap().map(|len| room[..len].to_vec())
    }
}

/// Answers a packet of NVSP of this type.
fn answered(kind: u32, answer: &[u32]) -> Result<(), Error> {
    World::new().with(|end, heard| {
        let is = heard.word(0) == kind;
        if is {
            end.complete(heard.transaction, &words(answer));
        }
        is
    })
}

/// Answers the n-th control message with this instead of its own answer.
fn control_answered(n: usize, answer: impl Fn(u32) -> Vec<u8>) -> Result<(), Error> {
    let mut seen = 0;
    World::new().with(|end, heard| {
        if heard.word(0) != 107 {
            return false;
        }
        seen += 1;
        if seen == n + 1 {
            end.complete(heard.transaction, &words(&[108, 1]));
            // Requests are numbered from 1.
            end.deliver(1, &answer(seen as u32));
        }
        seen == n + 1
    })
}

/// Answers like [`control_answered`] to a card that is asked for checksums, and returns those that it then has.
pub(crate) fn control_answered_with(
    n: usize,
    wanted: Checksums,
    answer: impl Fn(u32) -> Vec<u8>,
) -> Result<Checksums, Error> {
    let mut world = World::new();
    world.card = world.card.with_checksums(wanted);
    let World { card, end, .. } = &mut world;
    let (mut seen, mut left) = (0, 100);
    card.wait_ready(&mut || {
        while let Some(heard) = end.hear() {
            let is_control = heard.kind != 11 && heard.word(0) == 107;
            seen += usize::from(is_control);
            if is_control && seen == n + 1 {
                end.complete(heard.transaction, &words(&[108, 1]));
                end.deliver(1, &answer(seen as u32));
            } else if heard.kind != 11 {
                end.answer(&heard);
            }
        }
        left -= 1;
        if left > 0 { Ok(()) } else { Err(hv_vmbus_client::Error::TimedOut) }
    })?;
    assert!(seen > n, "the guest has not asked");
    Ok(card.checksums())
}

/// Creates a card that is initialized and was asked for checksums, and the host's end.
pub(crate) fn ready_with(wanted: Checksums) -> (TestCard, ScriptedCard<'static>) {
    let mut world = World::new();
    world.card = world.card.with_checksums(wanted);
    world.initialize().unwrap();
    world.end.serve();
    (world.card, world.end)
}
