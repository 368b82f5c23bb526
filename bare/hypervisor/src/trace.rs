//! The trace: one ring of records for each VP, which the tool drains while the guest runs.
//!
//! Only the VP's own CPU writes its ring, and only the tool advances the tail. A record that finds the ring full is dropped
//! and counted: the guest never waits for the tool, so tracing changes no order of events.
#![expect(unsafe_code, reason = "the trace region is a raw address")]

use core::fmt::{self, Write};
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use hv_partition::BusEvent;
use hv_partition::hv_host::event::{Cause, Conduit, Convention, Event, TimerEvent};
use hv_tlfs::status::HvStatus;
use hv_wire::{BootFlags, BootInfo, BusChange, Place, TraceKind, TraceRecord, TraceRing, Trap};

use crate::arch::mrs;
use crate::syndrome;

/// A VP's ring. It stays on the VP's CPU, the only writer.
pub(crate) struct Ring {
    base: u64,
    capacity: u64,
    vp: u32,
    here: PhantomData<*mut ()>,
}

impl Ring {
    /// Gives the ring of a VP, if this run is traced.
    ///
    /// # Safety
    ///
    /// The code runs on the VP's CPU, and there has been none for this VP before.
    pub(crate) unsafe fn new(info: &BootInfo, vp: usize) -> Option<Self> {
        let share = TraceRing::share_of(info.trace_size, info.vps);
        let capacity = TraceRing::capacity_of(share);
        let on = info.flags & BootFlags::TRACE != 0 && capacity != 0 && vp < info.vps as usize;
        let ring = on.then(|| Self {
            base: info.trace_base + vp as u64 * share,
            capacity,
            vp: vp as u32,
            here: PhantomData,
        })?;
        ring.word(core::mem::offset_of!(TraceRing, capacity)).store(capacity, Ordering::Release);
        Some(ring)
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the ring's head is in the trace region, which is mapped, ours, and reached through atomics alone.
        unsafe { AtomicU64::from_ptr((self.base + offset as u64) as *mut u64) }
    }

    /// Appends a record.
    #[cold]
    #[inline(never)]
    pub(crate) fn push(&self, kind: TraceKind, values: [u64; 6]) {
        let head = self.word(core::mem::offset_of!(TraceRing, head));
        let number = head.load(Ordering::Relaxed);
        let tail = self.word(core::mem::offset_of!(TraceRing, tail)).load(Ordering::Acquire);
        if number.wrapping_sub(tail) >= self.capacity {
            self.word(core::mem::offset_of!(TraceRing, dropped)).fetch_add(1, Ordering::Relaxed);
            return;
        }
        let record = TraceRecord { time: mrs!("cntpct_el0"), kind: kind as u32, vp: self.vp, values };
        let place =
            self.base + TraceRing::HEAD_BYTES + number % self.capacity * size_of::<TraceRecord>() as u64;
        // SAFETY: the place is inside this VP's share of the trace region, and aligned to the record's 64 bytes; no other CPU
        // writes there (`new`), and the tool does not read a record before `head` is behind it.
        unsafe { (place as *mut TraceRecord).write_volatile(record) };
        head.store(number + 1, Ordering::Release);
    }

    /// Appends a record of two values, where the guest is, and its first callers.
    pub(crate) fn push_place(&self, kind: TraceKind, first: u64, second: u64, place: &Place) {
        let Place { pc, callers: [caller, next, last, ..], .. } = *place;
        self.push(kind, [first, second, pc, caller, next, last]);
    }

    /// Appends the record of an exit.
    #[cold]
    #[inline(never)]
    pub(crate) fn exit(&self, trap: Trap, esr: u64) {
        let address =
            if matches!(trap, Trap::GicMmio | Trap::Abort) { syndrome::fault_address(esr) } else { 0 };
        self.push(TraceKind::Exit, [trap as u64, esr, mrs!("elr_el2"), address, 0, 0]);
    }

    /// Appends the record of an interrupt that this CPU made pending in a list register.
    #[cold]
    #[inline(never)]
    pub(crate) fn injected(&self, list_register: u64) {
        // The virtual INTID is the low half (Arm ARM, "ICH_LR<n>_EL2").
        let intid = u64::from(list_register as u32);
        self.push(TraceKind::Injected, [intid, list_register, 0, 0, 0, 0]);
    }

    /// Appends the record of an event; some events need none.
    #[cold]
    pub(crate) fn event(&self, event: &Event<'_>) {
        if let Some((kind, values)) = record(event) {
            self.push(kind, values);
        }
    }

    /// Appends the record of an event of VMBus.
    #[cold]
    pub(crate) fn bus_event(&self, event: &BusEvent<'_>) {
        if let Some((kind, values)) = bus_record(event) {
            self.push(kind, values);
        }
    }
}

/// The first bytes of a payload behind what is known: its length, then as many words as there is room for.
fn with_payload<const KNOWN: usize>(known: [u64; KNOWN], payload: &[u8]) -> [u64; 6] {
    let mut values = [0; 6];
    values[..KNOWN].copy_from_slice(&known);
    values[KNOWN] = payload.len() as u64;
    for (value, bytes) in values[KNOWN + 1..].iter_mut().zip(payload.chunks(8)) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        *value = u64::from_le_bytes(word);
    }
    values
}

fn status(status: HvStatus) -> u64 {
    u64::from(status.0)
}

fn record(event: &Event<'_>) -> Option<(TraceKind, [u64; 6])> {
    Some(match *event {
        Event::Hypercall { convention, control, parameters: [first, second], result, retry, .. } => {
            let convention = u64::from(convention == Convention::Hvc1);
            (TraceKind::Hypercall, [control.0, first, second, result.0, convention, u64::from(retry)])
        }
        Event::RegisterGet { target, name, value, .. } => {
            let ([low, high], code) = match value {
                Ok(value) => (value, 0),
                Err(error) => ([0; 2], status(error)),
            };
            (TraceKind::RegisterGet, [target as u64, u64::from(name.0), low, high, code, 0])
        }
        Event::RegisterSet { target, name, value: [low, high], status: code, .. } => {
            (TraceKind::RegisterSet, [target as u64, u64::from(name.0), low, high, status(code), 0])
        }
        Event::Smccc { conduit, function, arguments: [a, b, c], result, .. } => {
            (TraceKind::Smccc, [u64::from(conduit == Conduit::Smc), u64::from(function), a, b, c, result])
        }
        Event::UnknownImmediate { conduit, immediate, .. } => (
            TraceKind::UnknownImmediate,
            [u64::from(conduit == Conduit::Smc), u64::from(immediate), 0, 0, 0, 0],
        ),
        Event::MessagePosted { connection, message_type, payload, status: code, .. } => {
            let known = [u64::from(connection), u64::from(message_type), status(code)];
            (TraceKind::MessagePosted, with_payload(known, payload))
        }
        Event::MessageQueued { vp, sint } => {
            (TraceKind::MessageQueued, [vp as u64, u64::from(sint), 0, 0, 0, 0])
        }
        Event::MessageDropped { vp, sint, place } => {
            (TraceKind::MessageDropped, [vp as u64, u64::from(sint), u64::from(place), 0, 0, 0])
        }
        Event::MessageDelivered { vp, sint, message_type, payload, pending } => {
            let sint = u64::from(sint) | u64::from(pending) << 8;
            (TraceKind::MessageDelivered, with_payload([vp as u64, sint, u64::from(message_type)], payload))
        }
        Event::EndOfMessage { waiting, delivered, .. } => {
            (TraceKind::EndOfMessage, [u64::from(waiting), u64::from(delivered), 0, 0, 0, 0])
        }
        Event::EventSignalled { connection, flag, status: code, .. } => {
            (TraceKind::EventSignalled, [u64::from(connection), u64::from(flag), status(code), 0, 0, 0])
        }
        Event::EventFlag { vp, sint, flag, was_set } => {
            (TraceKind::EventFlag, [vp as u64, u64::from(sint), u64::from(flag), u64::from(was_set), 0, 0])
        }
        Event::Interrupt { vp, intid, cause } => {
            let (cause, which) = match cause {
                Cause::Message(sint) => (0, sint),
                Cause::Event(sint) => (1, sint),
                Cause::Timer(timer) => (2, timer),
                Cause::Ipi => (3, 0),
            };
            (TraceKind::Interrupt, [vp as u64, u64::from(intid), cause, u64::from(which), 0, 0])
        }
        Event::Timer { timer, what, .. } => {
            let [what, first, second] = match what {
                TimerEvent::Armed(due) => [0, due, 0],
                TimerEvent::Stopped => [1, 0, 0],
                TimerEvent::Expired(due, now) => [2, due, now],
                TimerEvent::Blocked => [3, 0, 0],
                TimerEvent::Skipped(periods) => [4, periods, 0],
            };
            (TraceKind::Timer, [u64::from(timer), what, first, second, 0, 0])
        }
        Event::Crash { control, parameters: [a, b, c, d, e], .. } => {
            (TraceKind::Crash, [control, a, b, c, d, e])
        }
        Event::VpStarting { vp, context, .. } => (TraceKind::VpStarting, [vp as u64, context.pc, 0, 0, 0, 0]),
        Event::VpOnline { .. } => (TraceKind::VpOnline, [0; 6]),
        Event::VpOffline { .. } => (TraceKind::VpOffline, [0; 6]),
        Event::TimeChanged { sequence, now } => {
            (TraceKind::TimeChanged, [u64::from(sequence), now, 0, 0, 0, 0])
        }
        Event::Reset => (TraceKind::Reset, [0; 6]),
        Event::Restored => (TraceKind::Restored, [0; 6]),
        _ => return None,
    })
}

fn bus_record(event: &BusEvent<'_>) -> Option<(TraceKind, [u64; 6])> {
    Some(match *event {
        BusEvent::Message { vp, from_guest, payload } => {
            (TraceKind::Vmbus, with_payload([vp as u64, u64::from(from_guest)], payload))
        }
        BusEvent::Server(ref change) => (TraceKind::Bus, bus(change)),
        _ => return None,
    })
}

/// A change of VMBus's state as values: a [`BusChange`] and what it says.
fn bus(change: &hv_vmbus::Event) -> [u64; 6] {
    use hv_vmbus::Event as Bus;
    let known =
        |change: BusChange, [first, second, third]: [u64; 3]| [change as u64, first, second, third, 0, 0];
    let text = |change: BusChange, value: u64, text: fmt::Arguments<'_>| {
        let [a, b, c, d] = Text::words(text);
        [change as u64, value, a, b, c, d]
    };
    match *change {
        Bus::Contact { version, accepted, vp } => {
            known(BusChange::Contact, [u64::from(version.0), u64::from(accepted), u64::from(vp)])
        }
        Bus::Unloaded => known(BusChange::Unloaded, [0; 3]),
        Bus::OffersDelivered { count } => known(BusChange::OffersDelivered, [u64::from(count), 0, 0]),
        Bus::GpadlCreated { channel, gpadl, pages } => {
            known(BusChange::GpadlCreated, [u64::from(channel.0), u64::from(gpadl.0), u64::from(pages)])
        }
        Bus::GpadlTorndown { gpadl } => known(BusChange::GpadlTorndown, [u64::from(gpadl.0), 0, 0]),
        Bus::Opened { channel, vp } => known(BusChange::Opened, [u64::from(channel.0), u64::from(vp), 0]),
        Bus::Closed { channel } => known(BusChange::Closed, [u64::from(channel.0), 0, 0]),
        Bus::Released { channel } => known(BusChange::Released, [u64::from(channel.0), 0, 0]),
        Bus::Device { channel, note: hv_devices::heartbeat::ANSWERED, value } => {
            known(BusChange::Heartbeat, [u64::from(channel.0), value, 0])
        }
        Bus::RingCorrupt { channel, error } => {
            text(BusChange::RingSpoilt, u64::from(channel.0), format_args!("{error:?}"))
        }
        Bus::Rejected { message, reason } => {
            text(BusChange::Rejected, u64::from(message.0), format_args!("{reason:?}"))
        }
        Bus::Undeliverable { message, vp } => {
            known(BusChange::Undeliverable, [u64::from(message.0), u64::from(vp), 0])
        }
        ref other => text(BusChange::Other, 0, format_args!("{other:?}")),
    }
}

/// The beginning of a text, as a record holds it.
struct Text {
    bytes: [u8; 32],
    len: usize,
}

impl Text {
    fn words(text: fmt::Arguments<'_>) -> [u64; 4] {
        let mut short = Self { bytes: [0; 32], len: 0 };
        // It takes what fits, and never fails.
        let _ = short.write_fmt(text);
        core::array::from_fn(|word| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&short.bytes[word * 8..][..8]);
            u64::from_le_bytes(bytes)
        })
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (place, byte) in self.bytes[self.len..].iter_mut().zip(text.bytes()) {
            *place = byte;
            self.len += 1;
        }
        Ok(())
    }
}
