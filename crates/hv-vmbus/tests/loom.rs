//! The order of accesses to a ring, proven by exhaustion: loom runs each of these through every order that the memory
//! model allows.
//!
//! The words of the header are loom's atomics. Of the data loom is only told when it is read and written, and fails
//! where the two are not ordered.

mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
}

// The module of the crate, compiled here against loom's atomics in place of the processor's.
#[path = "../src/calls.rs"]
mod calls;

use calls::{Attempt, Calls};
use hv_memory::{BadAddress, GuestMemory};
use hv_vmbus::protocol::PacketType;
use hv_vmbus::ring::{Consumer, Outgoing, Producer, PushError, Ring};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use loom::thread;
use std::sync::Mutex;

/// The header is page 0, the data page 1.
const PAGES: [u64; 2] = [0, 1];

struct Memory {
    /// `write_index`, `read_index`, `interrupt_mask`, `pending_send_size`, `features`.
    words: [AtomicU32; 5],
    /// One for each `block` bytes of data.
    blocks: Vec<UnsafeCell<()>>,
    block: usize,
    /// The data itself, out of loom's sight.
    data: Mutex<Vec<u8>>,
}

impl Memory {
    /// Creates a watch of the first `count` blocks; no test goes beyond them.
    fn new(block: usize, count: usize) -> Arc<Self> {
        Arc::new(Self {
            words: std::array::from_fn(|_| AtomicU32::new(0)),
            blocks: (0..count).map(|_| UnsafeCell::new(())).collect(),
            block,
            data: Mutex::new(vec![0; 4096]),
        })
    }

    fn word(&self, gpa: u64) -> &AtomicU32 {
        match gpa {
            64 => &self.words[4],
            gpa => &self.words[gpa as usize / 4],
        }
    }

    fn blocks(&self, gpa: u64, len: usize) -> &[UnsafeCell<()>] {
        let start = gpa as usize - 4096;
        &self.blocks[start / self.block..(start + len).div_ceil(self.block)]
    }
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        for block in self.blocks(gpa, into.len()) {
            block.with(|_| ());
        }
        let start = gpa as usize - 4096;
        into.copy_from_slice(&self.data.lock().unwrap()[start..start + into.len()]);
        Ok(())
    }

    fn write(&self, gpa: u64, from: &[u8]) -> Result<(), BadAddress> {
        for block in self.blocks(gpa, from.len()) {
            block.with_mut(|_| ());
        }
        let start = gpa as usize - 4096;
        self.data.lock().unwrap()[start..start + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.word(gpa).load(Ordering::Acquire))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa).store(value, Ordering::Release);
        Ok(())
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa).swap(value, Ordering::AcqRel))
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa).fetch_or(bits, Ordering::AcqRel))
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        gpa.checked_add(len).is_some_and(|end| end <= 2 * 4096)
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

fn ring(memory: &Memory) -> Ring<'_, Memory> {
    Ring::new(memory, &PAGES).unwrap()
}

fn packet(len: u32) -> Outgoing {
    Outgoing { packet_type: PacketType::DATA_IN_BAND, flags: 0, transaction_id: 1, len }
}

fn fill(_: u32, into: &mut [u8]) -> Result<(), hv_vmbus::ring::RingError> {
    into.fill(0x5a);
    Ok(())
}

#[test]
fn a_packet_is_read_only_after_it_was_written() {
    loom::model(|| {
        let memory = Memory::new(32, 2);
        let mut consumer = Consumer::attach(&ring(&memory)).unwrap();
        let mut producer = Producer::attach(&ring(&memory)).unwrap();
        let sender = thread::spawn({
            let memory = memory.clone();
            move || {
                for _ in 0..2 {
                    producer.push(&ring(&memory), &packet(8), fill).unwrap();
                }
            }
        });
        for _ in 0..2 {
            if let Some(packet) = consumer.next(&ring(&memory)).unwrap() {
                let mut payload = [0; 8];
                packet.read(&ring(&memory), 0, &mut payload).unwrap();
                assert_eq!(payload, [0x5a; 8]);
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_packet_is_written_over_only_after_it_was_read() {
    loom::model(|| {
        let memory = Memory::new(4096, 1);
        let mut consumer = Consumer::attach(&ring(&memory)).unwrap();
        let mut producer = Producer::attach(&ring(&memory)).unwrap();
        // More than half of the ring: the next one needs its room.
        producer.push(&ring(&memory), &packet(2100), fill).unwrap();
        let receiver = thread::spawn({
            let memory = memory.clone();
            move || {
                let packet = consumer.next(&ring(&memory)).unwrap().expect("written before");
                packet.read(&ring(&memory), 0, &mut [0; 8]).unwrap();
                consumer.commit(&ring(&memory)).unwrap();
            }
        });
        match producer.push(&ring(&memory), &packet(2100), fill) {
            Ok(_) | Err(PushError::Full(_)) => {}
            Err(error) => panic!("{error}"),
        }
        receiver.join().unwrap();
    });
}

#[test]
fn a_packet_is_seen_by_the_last_look_or_signalled() {
    loom::model(|| {
        let memory = Memory::new(32, 1);
        let consumer = Consumer::attach(&ring(&memory)).unwrap();
        let mut producer = Producer::attach(&ring(&memory)).unwrap();
        consumer.mask(&ring(&memory)).unwrap();
        let sender = thread::spawn({
            let memory = memory.clone();
            move || producer.push(&ring(&memory), &packet(8), fill).unwrap()
        });
        let seen = consumer.unmask(&ring(&memory)).unwrap();
        let signalled = sender.join().unwrap();
        assert!(seen || signalled, "both sleep, and a packet lies in the ring");
    });
}

#[test]
fn a_packet_is_seen_by_the_look_after_others_or_signalled() {
    loom::model(|| {
        let memory = Memory::new(32, 2);
        let mut consumer = Consumer::attach(&ring(&memory)).unwrap();
        let mut producer = Producer::attach(&ring(&memory)).unwrap();
        producer.push(&ring(&memory), &packet(8), fill).unwrap();
        let sender = thread::spawn({
            let memory = memory.clone();
            move || producer.push(&ring(&memory), &packet(8), fill).unwrap()
        });
        consumer.next(&ring(&memory)).unwrap().expect("written before");
        let seen = consumer.commit(&ring(&memory)).unwrap().more;
        let signalled = sender.join().unwrap();
        assert!(seen || signalled, "both sleep, and a packet lies in the ring");
    });
}

#[test]
fn room_is_seen_by_the_last_look_or_signalled() {
    loom::model(|| {
        let memory = Memory::new(4096, 1);
        let mut consumer = Consumer::attach(&ring(&memory)).unwrap();
        let mut producer = Producer::attach(&ring(&memory)).unwrap();
        producer.push(&ring(&memory), &packet(2100), fill).unwrap();
        let Err(PushError::Full(needed)) = producer.push(&ring(&memory), &packet(2100), fill) else {
            panic!("it is full")
        };
        let receiver = thread::spawn({
            let memory = memory.clone();
            move || {
                consumer.next(&ring(&memory)).unwrap().expect("written before");
                consumer.commit(&ring(&memory)).unwrap().signal
            }
        });
        let seen = producer.wait_for(&ring(&memory), needed).unwrap();
        let signalled = receiver.join().unwrap();
        assert!(seen || signalled, "both sleep, and the ring has room");
    });
}

/// A device with two channels, behind a lock like that of `hv-lock`.
struct ServedDevice {
    calls: Calls<2>,
    next: AtomicU32,
    serving: AtomicU32,
    /// 1 for a channel whose ring has a packet.
    packets: [AtomicU32; 2],
}

impl ServedDevice {
    fn new() -> Arc<Self> {
        let none = || AtomicBool::new(false);
        Arc::new(Self {
            calls: Calls::from_parts(AtomicU64::new(0), [none(), none()]),
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
            packets: [AtomicU32::new(0), AtomicU32::new(0)],
        })
    }

    /// Does something with the device, if no other thread has it.
    fn try_with(&self, work: impl FnOnce()) -> bool {
        let ticket = self.serving.load(Ordering::Acquire);
        let next = self.next.compare_exchange(ticket, ticket + 1, Ordering::AcqRel, Ordering::Relaxed);
        if next.is_ok() {
            work();
            self.serving.store(ticket + 1, Ordering::Release);
        }
        next.is_ok()
    }

    /// Takes the packet of a channel, if it is seen.
    fn take(&self, line: usize) {
        if self.packets[line].load(Ordering::Relaxed) == 1 {
            self.packets[line].store(0, Ordering::Relaxed);
        }
    }

    /// Puts a packet into a channel's ring, as a VP of the guest, and signals.
    fn signal(&self, line: usize) {
        self.packets[line].store(1, Ordering::Relaxed);
        self.calls.signal(line, || self.try_with(|| self.take(line)));
        let mut left = 2;
        let done = self.calls.serve(|| {
            if left == 0 {
                return Attempt::Exhausted;
            }
            left -= 1;
            match self.try_with(|| self.calls.take().for_each(|line| self.take(line))) {
                true => Attempt::Served,
                false => Attempt::Held,
            }
        });
        assert!(done, "there are two signals");
    }
}

#[test]
fn a_signal_that_finds_its_device_in_use_is_served() {
    loom::model(|| {
        let device = ServedDevice::new();
        let other = thread::spawn({
            let device = device.clone();
            move || device.signal(1)
        });
        device.signal(0);
        other.join().unwrap();
        for packet in &device.packets {
            assert_eq!(
                packet.load(Ordering::Relaxed),
                0,
                "a packet lies in its ring, and nothing looks for it"
            );
        }
    });
}
