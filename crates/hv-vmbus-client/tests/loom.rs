//! The order of accesses to a ring, proven by exhaustion: loom runs each of these through every order that the memory
//! model allows.
//!
//! The words of the header are loom's atomics. Of the data loom is only told when it is read and written, and fails
//! where the two are not ordered.

use std::sync::Mutex;

use hv_vmbus_client::ring::{Area, Outgoing, Receiver, Sender};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU32, Ordering, fence};
use loom::thread;

/// A header and a page of data.
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

    fn header(&self, offset: usize) -> &AtomicU32 {
        &self.words[if offset == 64 { 4 } else { offset / 4 }]
    }

    fn blocks(&self, start: usize, len: usize) -> &[UnsafeCell<()>] {
        &self.blocks[start / self.block..(start + len).div_ceil(self.block)]
    }
}

impl Area for Memory {
    fn pages(&self) -> usize {
        2
    }

    fn load(&self, offset: usize) -> u32 {
        self.header(offset).load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        self.header(offset).store(value, Ordering::Release);
    }

    fn word(&self, page: usize, offset: usize) -> u64 {
        let mut word = [0; 8];
        self.read(page, offset, &mut word);
        u64::from_ne_bytes(word)
    }

    fn put(&self, page: usize, offset: usize, word: u64) {
        self.write(page, offset, &word.to_ne_bytes());
    }

    fn read(&self, page: usize, offset: usize, into: &mut [u8]) {
        assert_eq!(page, 1);
        for block in self.blocks(offset, into.len()) {
            block.with(|_| ());
        }
        into.copy_from_slice(&self.data.lock().unwrap()[offset..offset + into.len()]);
    }

    fn write(&self, page: usize, offset: usize, from: &[u8]) {
        assert_eq!(page, 1);
        for block in self.blocks(offset, from.len()) {
            block.with_mut(|_| ());
        }
        self.data.lock().unwrap()[offset..offset + from.len()].copy_from_slice(from);
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

fn ends(memory: &Memory) -> (Sender, Receiver) {
    let receiver = Receiver::new(memory).unwrap();
    (Sender::new(memory).unwrap(), receiver)
}

const SMALL: [u8; 8] = [0x5a; 8];
/// More than half of the ring: the next one needs its room.
static LARGE: [u8; 2100] = [0; 2100];

/// Sends a small packet in another thread; the result is whether the host must be signalled.
fn sending(memory: &Arc<Memory>, mut sender: Sender, id: u64) -> thread::JoinHandle<bool> {
    let memory = memory.clone();
    thread::spawn(move || sender.send(&*memory, &Outgoing::in_band(id, &SMALL)).unwrap())
}

#[test]
fn a_packet_is_read_only_after_it_was_written() {
    loom::model(|| {
        let memory = Memory::new(32, 2);
        let (mut sender, mut receiver) = ends(&memory);
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                for _ in 0..2 {
                    sender.send(&*memory, &Outgoing::in_band(1, &SMALL)).unwrap();
                }
            }
        });
        for _ in 0..2 {
            if let Some(mut packet) = receiver.next(&*memory).unwrap() {
                assert_eq!(packet.take(), Some(SMALL));
            }
        }
        other.join().unwrap();
    });
}

#[test]
fn a_packet_is_written_over_only_after_it_was_read() {
    loom::model(|| {
        let memory = Memory::new(4096, 1);
        let (mut sender, mut receiver) = ends(&memory);
        sender.send(&*memory, &Outgoing::in_band(1, &LARGE)).unwrap();
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                let mut packet = receiver.next(&*memory).unwrap().expect("written before");
                packet.read(&mut [0; 8]);
                receiver.commit(&*memory).unwrap();
            }
        });
        // With or without room, in any order: what loom looks for is the two accesses to the data.
        let _ = sender.send(&*memory, &Outgoing::in_band(2, &LARGE));
        other.join().unwrap();
    });
}

#[test]
fn no_packet_stays_unseen_when_interrupts_are_unmasked() {
    loom::model(|| {
        let memory = Memory::new(4096, 1);
        let (sender, mut receiver) = ends(&memory);
        receiver.mask(&*memory);
        let other = sending(&memory, sender, 1);
        let seen = receiver.unmask(&*memory).unwrap();
        assert!(seen || other.join().unwrap());
    });
}

#[test]
fn no_packet_stays_unseen_when_the_ring_is_emptied() {
    loom::model(|| {
        let memory = Memory::new(4096, 1);
        let (mut sender, mut receiver) = ends(&memory);
        sender.send(&*memory, &Outgoing::in_band(1, &SMALL)).unwrap();
        assert!(receiver.next(&*memory).unwrap().is_some());
        let other = sending(&memory, sender, 2);
        let seen = receiver.commit(&*memory).unwrap().more;
        assert!(seen || other.join().unwrap());
    });
}

#[test]
fn no_sender_waits_for_room_that_is_there() {
    loom::model(|| {
        let memory = Memory::new(4096, 1);
        let (mut sender, mut receiver) = ends(&memory);
        sender.send(&*memory, &Outgoing::in_band(1, &LARGE)).unwrap();
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                assert!(receiver.next(&*memory).unwrap().is_some());
                receiver.commit(&*memory).unwrap().signal
            }
        });
        let there = sender.wait_for(&*memory, 2200).unwrap();
        let signalled = other.join().unwrap();
        assert!(there || signalled);
    });
}
