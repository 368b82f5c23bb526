//! The trace: a ring of records for each VP, which the tool reads while the guest runs.
//!
//! Only the tool advances a ring's tail. A record that finds the ring full is dropped and counted, and the next one
//! that finds room is preceded by the count: the guest never waits for the tool.

use std::mem::offset_of;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use hv_kvm::vm_memory::{Bytes as _, GuestAddress, GuestMemoryMmap};
use hv_trace::{Raw, Record, What};
use hv_wire::{BootInfo, TraceRing};
use zerocopy::IntoBytes as _;

use crate::accounts::lock;

/// The rings of a traced run.
pub(crate) struct Rings {
    /// The memory that the tool reads.
    memory: GuestMemoryMmap,
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    rings: Vec<Mutex<Ring>>,
}

/// The place of a VP's ring.
#[derive(Clone, Copy)]
struct Ring {
    base: u64,
    capacity: u64,
}

impl Rings {
    /// Begins the rings in the trace region, whose records have the time of this clock.
    pub(crate) fn begin(
        info: &BootInfo,
        memory: GuestMemoryMmap,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        let share = TraceRing::share_of(info.trace_size, info.vps);
        let capacity = TraceRing::capacity_of(share);
        let bases = (0..u64::from(info.vps)).map(|vp| info.trace_base + vp * share);
        let rings: Vec<_> = bases.map(|base| Ring { base, capacity }).collect();
        let own = Self { memory, clock: Box::new(clock), rings: Vec::new() };
        rings.iter().for_each(|ring| own.put(ring.base, offset_of!(TraceRing, capacity), capacity));
        Self { rings: rings.into_iter().map(Mutex::new).collect(), ..own }
    }

    /// Appends a record to the ring of a VP.
    pub(crate) fn push(&self, vp: usize, what: What) {
        let Some(ring) = self.rings.get(vp) else { return };
        // A VP's thread alone writes its ring, and sometimes a thread that is no VP's.
        let ring = lock(ring);
        let missed = self.get(ring.base, offset_of!(TraceRing, dropped));
        let count = missed.wrapping_sub(self.get(ring.base, offset_of!(TraceRing, told)));
        if count != 0 && self.write(*ring, vp, What::Lost { count }) {
            self.put(ring.base, offset_of!(TraceRing, told), missed);
        }
        if !self.write(*ring, vp, what) {
            self.put(ring.base, offset_of!(TraceRing, dropped), missed.wrapping_add(1));
        }
    }

    /// Writes a record; returns false if the ring is full.
    fn write(&self, Ring { base, capacity }: Ring, vp: usize, what: What) -> bool {
        let number = self.get(base, offset_of!(TraceRing, head));
        if number.wrapping_sub(self.get(base, offset_of!(TraceRing, tail))) >= capacity {
            return false;
        }
        let raw = Record { time: (self.clock)(), vp: vp as u32, what }.encode();
        let place = base + TraceRing::HEAD_BYTES + number % capacity * size_of::<Raw>() as u64;
        // The region has all rings.
        let _ = self.memory.write_slice(raw.as_bytes(), GuestAddress(place));
        self.put(base, offset_of!(TraceRing, head), number + 1);
        true
    }

    fn get(&self, base: u64, field: usize) -> u64 {
        self.memory.load(GuestAddress(base + field as u64), Ordering::Acquire).unwrap_or(0)
    }

    fn put(&self, base: u64, field: usize, value: u64) {
        let _ = self.memory.store(value, GuestAddress(base + field as u64), Ordering::Release);
    }
}
