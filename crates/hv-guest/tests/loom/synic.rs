//! A VP's SynIC, shared with the host half: one thread posts a message and another sets an event flag of the same SINT,
//! while the guest takes both.
//!
//! The host is hv-host, whose accesses to guest memory are loom's atomics; its lock is held across them.

use crate::flags::Flags;
use crate::message::{Freed, Slot};
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};
use hv_host::{BadAddress, Config, Connections, Flush, GuestMemory, Host, Partition, Vp, VpContext, VpMask};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::{MessageType, Sint};
use loom::sync::Arc;
use loom::sync::atomic::AtomicBool;
use loom::thread;

/// A lock that lets loom run the thread that holds it.
type Lock = spin::mutex::SpinMutex<(), Yield>;

struct Yield;

impl spin::RelaxStrategy for Yield {
    fn relax() {
        thread::yield_now();
    }
}

const SINT: u8 = 2;
const VECTOR: u32 = 20;
const FLAG: u16 = 5;
const KIND: MessageType = MessageType(1);
const TEXT: [u8; 8] = *b"a word\0\0";
/// The pages in guest memory, and the parts of the SINT in them.
const MESSAGES: u64 = 0x1000;
const EVENTS: u64 = 0x2000;
const SLOT: u64 = MESSAGES + SINT as u64 * 256;
const FLAGS: u64 = EVENTS + SINT as u64 * 256;

/// What the sides share: the SINT's slot, its flags, and the pending interrupt.
struct Shared {
    slot: Slot,
    flags: Flags,
    interrupt: AtomicBool,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            slot: Slot {
                message_type: AtomicU32::new(0),
                info: AtomicU32::new(0),
                sender: AtomicU64::new(0),
                payload: core::array::from_fn(|_| AtomicU64::new(0)),
            },
            flags: Flags {
                head: core::array::from_fn(|_| AtomicU32::new(0)),
                rest: core::array::from_fn(|_| AtomicU64::new(0)),
            },
            interrupt: AtomicBool::new(false),
        })
    }

    /// Returns the word at an address, if it is one that the host accesses one by one.
    fn word(&self, gpa: u64) -> Option<&AtomicU32> {
        match gpa.checked_sub(FLAGS) {
            Some(at @ 0..8) => self.flags.head.get(at as usize / 4),
            _ => {
                [&self.slot.message_type, &self.slot.info].get((gpa.checked_sub(SLOT)? / 4) as usize).copied()
            }
        }
    }
}

impl GuestMemory for Shared {
    fn read(&self, _: u64, _: &mut [u8]) -> Result<(), BadAddress> {
        Err(BadAddress)
    }

    /// Writes a message, with the type of a free slot.
    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        assert_eq!(gpa, SLOT, "the host writes the slot of the SINT");
        let (message_type, rest) = data.split_first_chunk().unwrap();
        assert_eq!(u32::from_le_bytes(*message_type), 0, "the type is written last");
        self.slot.message_type.store(0, Ordering::Relaxed);
        let (info, rest) = rest.split_first_chunk().unwrap();
        self.slot.info.store(u32::from_le_bytes(*info), Ordering::Relaxed);
        let (words, rest) = rest.as_chunks();
        assert!(rest.is_empty());
        for (cell, word) in [&self.slot.sender].into_iter().chain(&self.slot.payload).zip(words) {
            cell.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.word(gpa).ok_or(BadAddress)?.load(Ordering::Acquire))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa).ok_or(BadAddress)?.store(value, Ordering::Release);
        Ok(())
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa).ok_or(BadAddress)?.fetch_or(bits, Ordering::AcqRel))
    }

    /// Swaps a word. The pages are exchanged when the guest enables them: all zeros for all zeros.
    fn swap(&self, _: u64, value: u32) -> Result<u32, BadAddress> {
        assert_eq!(value, 0);
        Ok(0)
    }

    fn contains(&self, _: u64, _: u64) -> bool {
        true
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct LoomHost {
    partition: &'static Partition<'static, Lock>,
    shared: Arc<Shared>,
}

impl Host for LoomHost {
    type Memory = Shared;

    fn memory(&self) -> &Shared {
        &self.shared
    }

    fn counter(&self) -> u64 {
        0
    }

    /// Asserts an interrupt by an exchange, as in hv-vgic: whoever takes the interrupt sees what each that asserted it
    /// did before. After a plain store it would see that of the last one only.
    fn assert_interrupt(&self, _: usize, intid: u32) {
        assert_eq!(intid, VECTOR);
        self.shared.interrupt.swap(true, Ordering::Release);
    }

    fn set_deadline(&self, _: usize, _: Option<u64>) {}

    fn start_vp(&self, _: usize, _: &VpContext) {}

    fn flush_tlb(&self, _: &VpMask, _: Flush) {}
}

impl Connections for LoomHost {
    fn post_message(&self, _: usize, _: u32, _: MessageType, _: &[u8]) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn signal_event(&self, _: usize, _: u32, _: u16) -> Result<(), HvStatus> {
        Err(HvStatus::INVALID_CONNECTION_ID)
    }

    fn buffer_freed(&self, _: usize) {}
}

/// What the guest has got.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    messages: usize,
    flags: usize,
}

impl LoomHost {
    /// Creates a machine whose VP has its SynIC, both pages and the SINT enabled.
    fn new(partition: &'static Partition<'static, Lock>) -> Self {
        let machine = Self { partition, shared: Shared::new() };
        partition.reset(&machine);
        machine.set(RegisterName::GUEST_OS_ID, 1);
        machine.set(RegisterName::SIMP, MESSAGES | 1);
        machine.set(RegisterName::SIEFP, EVENTS | 1);
        machine
            .set(RegisterName(RegisterName::SINT0.0 + u32::from(SINT)), Sint(0).with_vector(VECTOR as u8).0);
        machine.set(RegisterName::SCONTROL, 1);
        machine
    }

    fn set(&self, name: RegisterName, value: u64) {
        let mut x = [0; 31];
        x[..6].copy_from_slice(&[0x1_0001_0051, u64::MAX, 0xffff_fffe, name.0.into(), 0, value]);
        let _ = self.partition.hvc(self, 0, 1, &mut x);
        assert_eq!(x[0], 1 << 32, "{name:?}");
    }

    /// Posts a message and sets a flag, from a thread each.
    fn send(&self) -> [thread::JoinHandle<()>; 2] {
        let (post, signal) = (self.clone(), self.clone());
        [
            thread::spawn(move || post.partition.post_message(&post, 0, SINT, KIND, 0, &TEXT).unwrap()),
            thread::spawn(move || {
                assert_eq!(signal.partition.signal_event(&signal, 0, SINT, FLAG), Ok(true));
            }),
        ]
    }

    /// Handles an interrupt, if one is pending.
    fn interrupted(&self, taken: &mut Taken) {
        if self.shared.interrupt.swap(false, Ordering::Acquire) {
            self.take(taken);
        }
    }

    /// Takes what there is.
    fn take(&self, taken: &mut Taken) {
        taken.flags += usize::from(self.shared.flags.take(FLAG));
        if let Some(pending) = self.shared.slot.pending() {
            assert_eq!(pending.read().unwrap().payload(), TEXT);
            taken.messages += 1;
            if self.shared.slot.free(KIND) == Freed::MoreWait {
                self.set(RegisterName::EOM, 0);
            }
        }
    }
}

/// Runs a model with the partition of one test.
macro_rules! model {
    ($test:expr) => {{
        static VPS: [Vp<Lock>; 1] = [Vp::new()];
        static PARTITION: Partition<'static, Lock> = Partition::new(Config::new(62_500_000), &VPS, &[]);
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.max_branches = 10_000;
        model.check(|| $test(LoomHost::new(&PARTITION)));
    }};
}

const ALL: Taken = Taken { messages: 1, flags: 1 };

#[test]
fn a_guest_gets_the_message_and_the_flag_once_each_by_interrupts_alone() {
    model!(|machine: LoomHost| {
        let hosts = machine.send();
        let mut taken = Taken::default();
        machine.interrupted(&mut taken);
        hosts.into_iter().for_each(|host| host.join().unwrap());
        machine.interrupted(&mut taken);
        machine.interrupted(&mut taken);
        assert_eq!(taken, ALL);
    });
}

#[test]
#[should_panic(expected = "left behind")]
fn a_guest_that_looks_before_it_acknowledges_loses_one() {
    model!(|machine: LoomHost| {
        let hosts = machine.send();
        let mut taken = Taken::default();
        machine.take(&mut taken);
        machine.shared.interrupt.swap(false, Ordering::Acquire);
        hosts.into_iter().for_each(|host| host.join().unwrap());
        machine.interrupted(&mut taken);
        assert_eq!(taken, ALL, "left behind");
    });
}

#[test]
fn a_queued_message_and_a_flag_both_come() {
    model!(|machine: LoomHost| {
        machine.partition.post_message(&machine, 0, SINT, KIND, 0, &TEXT).unwrap();
        let host = {
            let machine = machine.clone();
            thread::spawn(move || {
                machine.partition.post_message(&machine, 0, SINT, KIND, 0, &TEXT).unwrap();
                machine.partition.signal_event(&machine, 0, SINT, FLAG).unwrap();
            })
        };
        let mut taken = Taken::default();
        machine.interrupted(&mut taken);
        host.join().unwrap();
        machine.interrupted(&mut taken);
        machine.interrupted(&mut taken);
        assert_eq!(taken, Taken { messages: 2, flags: 1 });
    });
}

#[test]
fn who_takes_a_flag_sees_what_was_written_before_the_signal() {
    model!(|machine: LoomHost| {
        let data = Arc::new(AtomicU32::new(0));
        let host = {
            let (machine, data) = (machine.clone(), data.clone());
            thread::spawn(move || {
                data.store(1, Ordering::Relaxed);
                machine.partition.signal_event(&machine, 0, SINT, FLAG).unwrap();
            })
        };
        if machine.shared.flags.take(FLAG) {
            assert_eq!(data.load(Ordering::Relaxed), 1, "the flag came before the data");
        }
        host.join().unwrap();
    });
}
