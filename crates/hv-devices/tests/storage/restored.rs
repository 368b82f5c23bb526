//! A machine that is saved and restored between its guest's commands ends as one that is not: every answer, every disk,
//! every byte of the guest's memory.

use crate::guest::{Guest, InFlight, LIMIT};
use hv_devices::Storage;
use hv_devices::scsi::Disk;
use hv_devices::storage::MAX_TRANSFER;
use proptest::prelude::*;

/// Blocks of the disk, some pieces long.
const BLOCKS: u32 = 6 * LIMIT as u32 / 512;
/// Where the data of the commands lies: one part for each command that is in flight.
const DATA: u64 = 0x100;
const DATA_PAGES: u64 = 0x40;
const PARTS: u64 = 4;

/// A step of the guest or of the host.
#[derive(Clone, Debug)]
enum Step {
    /// A command with its length of data, and a byte that the data is filled with.
    Command(Vec<u8>, u32, u8),
    /// The back end completes one of those that it works on.
    Complete(usize),
    /// The host has work to do that is due.
    Due,
    /// The disk gets another size.
    Resize(u32),
    /// The guest resets the bus.
    Reset,
    /// What is in flight ends. The machine may be saved and restored here.
    Drain,
}

fn block() -> impl Strategy<Value = (u32, u16)> {
    // Some of it is beyond the end.
    (0..BLOCKS + 8, 1..(MAX_TRANSFER / 512) as u16 / 2)
}

fn step() -> impl Strategy<Value = Step> {
    let extent = |operation: u8| {
        move |((block, count), fill): ((u32, u16), u8)| {
            let (b, c) = (block.to_be_bytes(), count.to_be_bytes());
            let cdb = vec![operation, 0, b[0], b[1], b[2], b[3], 0, c[0], c[1], 0];
            let len = if operation == 0x41 { 512 } else { u32::from(count) * 512 };
            Step::Command(cdb, len, fill)
        }
    };
    prop_oneof![
        4 => (block(), any::<u8>()).prop_map(extent(0x28)),
        4 => (block(), any::<u8>()).prop_map(extent(0x2a)),
        2 => (block(), any::<u8>()).prop_map(extent(0x41)),
        1 => Just(Step::Command(vec![0; 6], 0, 0)),
        1 => Just(Step::Command(vec![0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0, 0)),
        1 => Just(Step::Command(vec![0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], 8, 0)),
        4 => (0usize..4).prop_map(Step::Complete),
        2 => Just(Step::Due),
        1 => (8..BLOCKS).prop_map(Step::Resize),
        1 => Just(Step::Reset),
        2 => Just(Step::Drain),
    ]
}

/// What a run leaves: the answers, the disk, and the guest's memory.
type End = (Vec<(u16, u64, Vec<u8>)>, Vec<u8>, Vec<u8>);

struct Run {
    guest: Guest,
    blocks: u32,
    answers: Vec<(u16, u64, Vec<u8>)>,
    /// Commands that have no answer yet.
    pending: u64,
    commands: u64,
}

fn controller(blocks: u32) -> Storage<8> {
    let mut controller = Storage::new();
    let disk = Disk::new(u64::from(blocks) * 512, [5; 16], MAX_TRANSFER);
    controller.attach(0, 0, 0, disk).unwrap();
    controller
}

impl Run {
    fn complete(&mut self, (token, request, parts): InFlight) {
        let outcome = self.guest.host.serve(&self.guest.host.memory, &request, &parts);
        self.guest.bus.completed(self.guest.bus.devices(), token, outcome, &self.guest.host).unwrap();
    }

    fn receive(&mut self) {
        use zerocopy::IntoBytes as _;
        while let Some((kind, answer)) = self.guest.receive() {
            self.answers.push((kind, answer.transaction, answer.packet.as_bytes()[..answer.len].to_vec()));
            self.pending -= u64::from(answer.transaction != 0);
        }
    }

    /// Ends all that is in flight, with no new packet taken.
    fn drain(&mut self, restore: bool) {
        self.guest.bus.pause();
        while !self.guest.bus.is_idle() {
            let held: Vec<InFlight> = self.guest.host.held.take();
            held.into_iter().for_each(|held| self.complete(held));
            self.guest.bus.flush(&self.guest.host);
        }
        if restore {
            self.guest.restart(controller(self.blocks));
        } else {
            self.guest.bus.unpause(&self.guest.host);
        }
        self.receive();
    }

    fn step(&mut self, step: &Step, restore: bool) {
        match step {
            Step::Command(cdb, len, fill) => {
                // A guest gives no buffer away twice.
                if self.pending == PARTS {
                    return;
                }
                let page = DATA + self.commands % PARTS * DATA_PAGES;
                if self.pending == 0 {
                    let bytes = vec![*fill; *len as usize];
                    hv_memory::GuestMemory::write(&self.guest.host.memory, page * 4096, &bytes).unwrap();
                }
                self.guest.start(cdb, 0, *len, page);
                (self.pending, self.commands) = (self.pending + 1, self.commands + 1);
            }
            Step::Complete(n) => {
                let mut held = self.guest.host.held.take();
                let taken = (*n < held.len()).then(|| held.remove(*n));
                self.guest.host.held.replace(held);
                if let Some(taken) = taken {
                    self.complete(taken);
                }
            }
            Step::Due => self.guest.bus.flush(&self.guest.host),
            Step::Resize(blocks) => {
                self.blocks = *blocks;
                let size = u64::from(*blocks) * 512;
                let (bus, host) = (&self.guest.bus, &self.guest.host);
                let resized = bus.with(bus.devices(), host, |controller, io| {
                    controller.disk_mut(0, 0).unwrap().resize(size);
                    controller.announce(io);
                });
                resized.unwrap();
            }
            Step::Reset => {
                let mut packet = Guest::srb(&[], 0, 0);
                packet.header.operation = hv_tlfs::vmbus::storage::Operation::RESET_BUS;
                self.guest.send(&packet, 64, None);
                self.pending += 1;
            }
            Step::Drain => self.drain(restore),
        }
        self.receive();
    }
}

fn run(steps: &[Step], restore: bool) -> End {
    let bytes = (0..BLOCKS).flat_map(|block| [block as u8; 512]).collect();
    let guest = Guest::new(controller(BLOCKS), vec![bytes]);
    guest.host.hold.set(true);
    let mut run = Run { guest, blocks: BLOCKS, answers: Vec::new(), pending: 0, commands: 0 };
    steps.iter().for_each(|step| run.step(step, restore));
    while run.pending > 0 {
        run.drain(false);
    }
    let memory = run.guest.memory();
    (run.answers, run.guest.host.disks.take().remove(0), memory)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn a_run_with_restores_ends_as_one_without(steps in proptest::collection::vec(step(), 1..48)) {
        let (plain, restored) = (run(&steps, false), run(&steps, true));
        prop_assert_eq!(plain.0, restored.0, "answers");
        prop_assert!(plain.1 == restored.1, "disks");
        prop_assert!(plain.2 == restored.2, "memory");
    }
}

#[test]
fn a_packet_that_came_before_the_save_is_answered_after_the_restore() {
    let bytes = vec![9; BLOCKS as usize * 512];
    let mut guest = Guest::new(controller(BLOCKS), vec![bytes]);
    guest.host.hold.set(true);
    let first = guest.start(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], 0, 512, DATA);
    let image = |guest: &Guest| {
        let mut image = Vec::new();
        let mut writer = |part: &[u8]| image.extend_from_slice(part);
        let saved = guest.bus.save(&guest.host, &mut hv_memory::save::Writer::new(&mut writer));
        saved.map(|()| image)
    };
    assert!(image(&guest).is_err(), "a request is in flight");
    guest.bus.pause();
    let second = guest.start(&[0x28, 0, 0, 0, 0, 1, 0, 0, 1, 0], 0, 512, DATA + 1);
    let held: Vec<InFlight> = guest.host.held.take();
    assert_eq!(held.len(), 1, "a paused bus takes no packet");
    for (token, request, parts) in held {
        let outcome = guest.host.serve(&guest.host.memory, &request, &parts);
        guest.bus.completed(guest.bus.devices(), token, outcome, &guest.host).unwrap();
    }
    assert!(image(&guest).is_ok() && guest.bus.is_idle());
    guest.host.hold.set(false);
    guest.restart(controller(BLOCKS));
    let answers: Vec<u64> =
        std::iter::from_fn(|| guest.receive()).map(|(_, answer)| answer.transaction).collect();
    assert_eq!(answers, [first, second]);
}
