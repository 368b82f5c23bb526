//! The trace: one ring of records for each VP, which the tool drains while the guest runs.
//!
//! Only the VP's own CPU writes its ring, and only the tool advances the tail. A record that finds the ring full is
//! dropped and counted, and the next one that finds room is preceded by the count: the guest never waits for the tool,
//! so tracing does not change the order of events.
#![expect(unsafe_code, reason = "the trace region is a raw address")]

use core::marker::PhantomData;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_partition::{BusEvent, Event, record};
use hv_trace::{Raw, Record, Trap, What};
use hv_wire::{BootFlags, BootInfo, Place, TraceRing};

use crate::arch::mrs;
use crate::report::OwnVp;
use crate::syndrome;

/// A VP's ring. It stays on the VP's CPU, the only writer.
pub(crate) struct Ring {
    base: u64,
    capacity: u64,
    vp: u32,
    here: PhantomData<*mut ()>,
}

impl Ring {
    /// Returns the ring of the CPU's own VP, in a traced run.
    pub(crate) fn new(info: &BootInfo, vp: &OwnVp) -> Option<Self> {
        let vp = vp.index();
        let share = TraceRing::share_of(info.trace_size, info.vps);
        let capacity = TraceRing::capacity_of(share);
        let on = info.flags & BootFlags::TRACE != 0 && capacity != 0 && vp < info.vps as usize;
        let ring = on.then(|| Self {
            base: info.trace_base + vp as u64 * share,
            capacity,
            vp: vp as u32,
            here: PhantomData,
        })?;
        ring.word(offset_of!(TraceRing, capacity)).store(capacity, Ordering::Release);
        Some(ring)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the ring's head is in the trace region, which is mapped, ours, and accessed only through atomics.
        unsafe { AtomicU64::from_ptr((self.base + offset as u64) as *mut u64) }
    }

    /// Appends a record.
    #[cold]
    #[inline(never)]
    pub(crate) fn push(&self, what: What) {
        let dropped = self.word(offset_of!(TraceRing, dropped));
        let told = self.word(offset_of!(TraceRing, told));
        let missed = dropped.load(Ordering::Relaxed);
        let count = missed.wrapping_sub(told.load(Ordering::Relaxed));
        if count != 0 && self.write(What::Lost { count }) {
            told.store(missed, Ordering::Relaxed);
        }
        if !self.write(what) {
            dropped.store(missed.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Writes a record; returns false if the ring is full.
    fn write(&self, what: What) -> bool {
        let head = self.word(offset_of!(TraceRing, head));
        let number = head.load(Ordering::Relaxed);
        let tail = self.word(offset_of!(TraceRing, tail)).load(Ordering::Acquire);
        if number.wrapping_sub(tail) >= self.capacity {
            return false;
        }
        let raw = Record { time: mrs!("cntpct_el0"), vp: self.vp, what }.encode();
        let place = self.base + TraceRing::HEAD_BYTES + number % self.capacity * size_of::<Raw>() as u64;
        // SAFETY: the place is inside this VP's share of the trace region, and aligned to the record's 64 bytes; no
        // other CPU writes there, since a ring is made of an `OwnVp` and stays on its CPU, and the tool does not read a
        // record before `head` is past it.
        unsafe { (place as *mut Raw).write_volatile(raw) };
        head.store(number + 1, Ordering::Release);
        true
    }

    /// Appends the record of an exit.
    #[cold]
    #[inline(never)]
    pub(crate) fn exit(&self, trap: Trap, esr: u64) {
        let address =
            if matches!(trap, Trap::GicMmio | Trap::Abort) { syndrome::fault_address(esr) } else { 0 };
        let (pc, vectors) = (mrs!("elr_el2"), mrs!("vbar_el1"));
        self.push(What::Exit { trap, syndrome: esr, pc, address, vectors });
    }

    /// Appends the record of an interrupt that this CPU made pending in a list register.
    #[cold]
    #[inline(never)]
    pub(crate) fn injected(&self, list_register: u64) {
        // The virtual INTID is the low half (Arm ARM, "ICH_LR<n>_EL2").
        self.push(What::Injected { intid: list_register as u32, list_register });
    }

    /// Appends the records of an event.
    #[cold]
    pub(crate) fn event(&self, event: &Event<'_>) {
        record::records(event, |what| self.push(what));
    }

    /// Appends the records of an event of VMBus.
    #[cold]
    pub(crate) fn bus_event(&self, event: &BusEvent<'_>) {
        record::bus_records(event, |what| self.push(what));
    }
}

/// Returns the guest's PC and its first callers, as records have them.
pub(crate) const fn place(place: &Place) -> (u64, [u64; 3]) {
    let Place { pc, callers: [caller, next, last, ..], .. } = *place;
    (pc, [caller, next, last])
}
