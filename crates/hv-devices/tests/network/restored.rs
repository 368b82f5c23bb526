//! A machine that is saved and restored between its guest's packets ends as one that is not: every frame that went out,
//! every byte of the rings and of the receive buffer, and the bus's own state.

use crate::guest::{Data, Guest, RECEIVE, packet_message, rndis, words};
use hv_memory::GuestMemory as _;
use hv_memory::save::Writer;
use proptest::prelude::*;

/// Pages of the rings of all channels, and of the receive buffer.
const RINGS: std::ops::Range<u64> = 16..80;
const RECEIVE_PAGES: u64 = 128;

/// A step of the guest, of its network, or of the host.
#[derive(Clone, Debug)]
enum Step {
    /// A frame of this length goes out: through a section, or through listed pages. Its TCP segments may be cut into
    /// this many bytes.
    Send { len: usize, section: bool, segments: Option<u32> },
    /// Frames of these lengths come in together.
    Arrive(Vec<usize>),
    /// The guest reads a packet, and completes it now or after others.
    Take { late: bool },
    /// The guest completes the oldest packet that it has read.
    Complete,
    /// The guest asks for an object.
    Query(u32),
    /// The guest changes its filter.
    Filter(u32),
    /// The guest opens a sub-channel.
    Open(u32),
    /// The cable is pulled or plugged in.
    Link(bool),
    /// The host has work to do that is due.
    Run,
    /// The machine may be saved and restored here.
    Restore,
}

fn step() -> impl Strategy<Value = Step> {
    let segments = prop_oneof![2 => Just(None), 1 => (100_u32..1460).prop_map(Some)];
    let oid = prop_oneof![
        Just(0x0101_0101_u32),
        Just(0x0001_0107),
        Just(0x0002_0102),
        Just(0xfc01_020c),
        any::<u32>()
    ];
    prop_oneof![
        6 => (60_usize..4000, any::<bool>(), segments)
            .prop_map(|(len, section, segments)| Step::Send { len, section, segments }),
        6 => proptest::collection::vec(60_usize..1514, 1..20).prop_map(Step::Arrive),
        6 => any::<bool>().prop_map(|late| Step::Take { late }),
        3 => Just(Step::Complete),
        1 => oid.prop_map(Step::Query),
        1 => prop_oneof![Just(0_u32), Just(0xd), Just(0x20)].prop_map(Step::Filter),
        1 => (2_u32..4).prop_map(Step::Open),
        1 => any::<bool>().prop_map(Step::Link),
        2 => Just(Step::Run),
        3 => Just(Step::Restore),
    ]
}

/// Builds an Ethernet frame: a segment of TCP over IPv4 from one of many ports, to everyone.
fn frame(len: usize, turn: usize) -> Vec<u8> {
    let mut frame = vec![turn as u8; len];
    frame[..6].fill(0xff);
    frame[12..15].copy_from_slice(&[8, 0, 0x45]);
    frame[16..24].copy_from_slice(&[0, 0, 0, 0, 0x40, 0, 64, 6]);
    frame[16..18].copy_from_slice(&(len as u16 - 14).to_be_bytes());
    frame[46] = 0x50;
    frame
}

/// What a run leaves: the frames that went out, the state, and the guest's memory.
type Left = (Vec<Vec<u8>>, Vec<u8>, Vec<u8>);

struct Run {
    guest: Guest,
    /// Packets that were read and not completed: channel and id.
    late: Vec<(u32, u64)>,
    open: u32,
}

impl Run {
    fn take(&mut self, late: bool) {
        for channel in 1..=self.open {
            let Some(packet) = self.guest.take(channel) else { continue };
            match packet.kind {
                7 if late => self.late.push((channel, packet.id)),
                7 => self.guest.complete(channel, packet.id),
                _ => {}
            }
        }
    }

    /// Sends a control message. Its answer is read later.
    fn control(&mut self, kind: u32, body: &[u32]) {
        let message = rndis(kind, &words(body));
        self.guest.start(1, true, &Data { section: None, listed: Some((0, &message)) });
    }

    fn step(&mut self, step: &Step, turn: usize, restores: bool) {
        match step {
            Step::Send { len, section, segments } => {
                let info: Vec<(u32, u32)> =
                    segments.map(|mss| (2, mss | 34 << 20 | 1 << 30)).into_iter().collect();
                let message = packet_message(&frame(*len, turn), &info);
                let data = match section {
                    true => Data { section: Some((turn as u32 % 10, &message)), listed: None },
                    false => Data { section: None, listed: Some((turn as u32 % 4096, &message)) },
                };
                self.guest.start(1, false, &data);
                // What is left of it is sent before the data changes.
                self.guest.run();
            }
            Step::Arrive(lengths) => {
                let frames: Vec<_> = lengths.iter().map(|len| frame(*len, turn + len)).collect();
                self.guest.arrive_together(&frames);
            }
            Step::Take { late } => self.take(*late),
            Step::Complete if !self.late.is_empty() => {
                let (channel, id) = self.late.remove(0);
                self.guest.complete(channel, id);
            }
            Step::Complete => {}
            Step::Query(oid) => self.control(4, &[turn as u32, *oid, 0, 20, 0]),
            Step::Filter(bits) => self.control(5, &[turn as u32, 0x0001_010e, 4, 20, 0, *bits]),
            Step::Open(channel) if *channel == self.open + 1 => {
                self.guest.put(1, 6, 1, 3, &[], &words(&[133, 1, 2]));
                self.guest.open(*channel);
                self.open = *channel;
            }
            Step::Open(_) => {}
            Step::Link(up) => {
                let (bus, host) = (&self.guest.bus, &self.guest.host);
                let _ = bus.with(bus.devices(), host, |card, io| card.set_link(*up, io));
            }
            Step::Run => self.guest.run(),
            Step::Restore if restores => self.guest.restore(),
            Step::Restore => {}
        }
    }
}

fn run(steps: &[Step], restores: bool) -> Left {
    let mut run = Run { guest: Guest::new(), late: Vec::new(), open: 1 };
    steps.iter().enumerate().for_each(|(turn, step)| run.step(step, turn, restores));
    let Run { guest, .. } = run;
    guest.run();
    let mut image = Vec::new();
    guest
        .bus
        .save(&guest.host, &mut Writer::new(&mut |bytes: &[u8]| image.extend_from_slice(bytes)))
        .unwrap();
    let mut memory = Vec::new();
    for page in RINGS.chain(RECEIVE..RECEIVE + RECEIVE_PAGES) {
        let mut bytes = [0; 4096];
        guest.host.memory.read(page * 4096, &mut bytes).unwrap();
        memory.extend_from_slice(&bytes);
    }
    (guest.sent(), image, memory)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn a_run_with_restores_ends_as_one_without(steps in prop::collection::vec(step(), 1..60)) {
        let (plain, restored) = (run(&steps, false), run(&steps, true));
        prop_assert!(plain.0 == restored.0, "{} frames went out, {} with restores", plain.0.len(), restored.0.len());
        prop_assert!(plain.1 == restored.1, "the states differ");
        prop_assert!(plain.2 == restored.2, "the guests' memories differ");
    }
}
