//! The network: what is behind the guest's card is a virtio card of QEMU's, with memory of its own.
//!
//! Frames are copied: from the guest into a buffer here, where its card finishes them, and into one that QEMU reads;
//! the other way likewise. So neither QEMU nor the guest ever writes what the other one has yet to read.
//!
//! The card's interrupt comes to CPU 0. It takes frames in, a few at a time: if there are more, it raises itself again,
//! and if the guest has no room, the frames stay where they are until its card has. Frames go out on the CPU whose VP
//! sends them.
//!
//! Injected faults ([`FrameFault`]) befall the copies here: neither the guest's memory nor QEMU's has a corrupt
//! frame.
//!
//! Lock order: what receives, then what the partition takes, then what sends.
#![expect(unsafe_code, reason = "the queues are shared with QEMU")]

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::sync::atomic::{AtomicBool, Ordering};

use hv_devices::network::{Lost, MAX_FRAME, Received, Request};
use hv_partition::faults::{self, Faults as _, FrameFault};
use hv_virtio::{
    Broken, DeviceMemory, NET_HEADER, NET_MEMORY, NetReceiver, NetSender, RECEIVE_FRAME, SEND_FRAME, device,
    net,
};
use hv_vmbus::{Pages, Started};
use hv_wire::BootFlags;
use spin::Once;

use crate::devices::BUS;
use crate::gic;
use crate::host::FaultyEmbedder;
use crate::lock::Mutex;
use crate::log::Log;
use crate::memory::GuestRam;
use crate::outcomes::{CPU, NETWORK};
use crate::virtio::{self, Mmio};

/// Frames that one interrupt takes in.
const FRAMES: usize = 16;

const _: () = assert!(MAX_FRAME <= SEND_FRAME, "the longest frame of the guest's has a buffer");

/// Memory of the queues.
#[repr(C, align(4096))]
struct Memory(UnsafeCell<[u8; NET_MEMORY]>);

// SAFETY: `begin` alone takes its address, once, and hands it to a `DeviceMemory`, which has rules of its own.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([0; NET_MEMORY]));
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Bytes of a word: two pieces of memory are copied by words if both are as far from a word's beginning.
const WORD: usize = 8;

/// Room for a frame from outside, or for a header and a frame of the guest's. A frame from outside begins with a word
/// here, as it does in QEMU's memory and in the guest's.
#[repr(align(8))]
struct Packet<const LEN: usize>([u8; LEN]);

impl<const LEN: usize> Packet<LEN> {
    const EMPTY: Self = Self([0; LEN]);
}

/// What takes frames in.
struct Inward {
    receiver: NetReceiver<Mmio>,
    frame: Packet<RECEIVE_FRAME>,
    /// Outcome of the current frame, once that is known.
    fate: Option<Option<FrameFault>>,
}

/// What sends frames.
struct Outward {
    sender: NetSender<Mmio>,
    packet: Packet<{ WORD - 1 + NET_HEADER + MAX_FRAME }>,
}

/// A frame that a fault holds back, to follow the next one.
struct Late<const LEN: usize> {
    present: AtomicBool,
    /// Its length and its bytes.
    frame: Mutex<(usize, [u8; LEN])>,
}

impl<const LEN: usize> Late<LEN> {
    const fn new() -> Self {
        Self { present: AtomicBool::new(false), frame: Mutex::new((0, [0; LEN])) }
    }
}

impl<const LEN: usize> faults::Late for &Late<LEN> {
    #[cold]
    fn keep(&mut self, frame: &[u8]) -> bool {
        let (len, bytes) = &mut *self.frame.lock();
        if *len > 0 || frame.len() > LEN {
            return false;
        }
        bytes[..frame.len()].copy_from_slice(frame);
        *len = frame.len();
        self.present.store(true, Ordering::Relaxed);
        true
    }

    #[inline]
    fn release(&mut self, out: impl FnOnce(&mut [u8])) {
        if self.present.swap(false, Ordering::Relaxed) {
            let (len, bytes) = &mut *self.frame.lock();
            out(&mut bytes[..core::mem::take(len)]);
        }
    }
}

/// Such a frame for the guest: its lock is taken with that of what receives held.
static LATE_IN: Late<RECEIVE_FRAME> = Late::new();
/// Such a frame of the guest's, after room for a header: its lock is taken with that of what sends held.
static LATE_OUT: Late<{ NET_HEADER + MAX_FRAME }> = Late::new();

static INWARD: Once<Mutex<Inward>> = Once::new();
static OUTWARD: Once<Mutex<Outward>> = Once::new();
/// The guest's card waits until a frame can be sent.
static WAITING: AtomicBool = AtomicBool::new(false);
/// A frame from outside waits for room in the guest's card, which is to look at it again once a frame of the guest's
/// waits.
static HELD: AtomicBool = AtomicBool::new(false);

/// Takes QEMU's card into use, if the tool gave the guest one. CPU 0 calls it once, before the guest starts.
pub(crate) fn begin(flags: u64) {
    if flags & BootFlags::NETWORK == 0 {
        return;
    }
    let Some((intid, registers)) = virtio::find(device::NET, 0) else {
        let _ = writeln!(Log, "there is no virtio card for the network");
        return;
    };
    if TAKEN.swap(true, Ordering::Relaxed) {
        return;
    }
    // SAFETY: `TAKEN` lets this happen once, and nothing else reaches `MEMORY`. It is mapped at its own address and
    // aligned to 4096 bytes, and QEMU's devices are coherent with its CPUs.
    let memory = unsafe { DeviceMemory::new(MEMORY.0.get().cast(), NET_MEMORY) };
    match net(registers, memory) {
        Ok((receiver, sender)) => {
            INWARD.call_once(|| Mutex::new(Inward { receiver, frame: Packet::EMPTY, fate: None }));
            OUTWARD.call_once(|| Mutex::new(Outward { sender, packet: Packet::EMPTY }));
            NETWORK.begin(intid);
            gic::take(intid, CPU);
        }
        Err(refused) => {
            let _ = writeln!(Log, "the network is not used: {refused}");
        }
    }
}

/// Handles the card's interrupt.
#[cold]
pub(crate) fn interrupt(host: &FaultyEmbedder<'_>) {
    let Some(inward) = INWARD.get() else { return };
    let mut inward = inward.lock();
    inward.receiver.acknowledge();
    // The frame that waits is looked at below: what still waits in the other direction need not ask for that.
    HELD.store(false, Ordering::SeqCst);
    resume(host);
    let mut taken = take_in(&mut inward, host);
    // What it found with room may have been filled meanwhile: the frame that waits is looked at once more, and then
    // whatever fills it sees `HELD`.
    if inward.waits() && WAITING.load(Ordering::SeqCst) {
        taken = take_in(&mut inward, host);
    }
    match taken {
        Some(Ok(true)) => {
            drop(inward);
            NETWORK.raise();
        }
        Some(Ok(false)) | None => {}
        Some(Err(broken)) => {
            let _ = writeln!(Log, "the network is lost: {broken}");
            // The device was reset: what it has been sent never comes back.
            if let Some(outward) = OUTWARD.get() {
                outward.lock().sender.lose(broken);
            }
            resume(host);
            NETWORK.begin(0);
        }
    }
}

/// Passes frames to the guest's card: all of them in one call, so that the guest is interrupted once. The outcome is
/// that of [`Inward::deliver`]; `None` without a card.
///
/// The card may try to send in that call, and the frame that waits is not in its way then: it would have this interrupt
/// come again at once, and without end.
fn take_in(inward: &mut Inward, host: &FaultyEmbedder<'_>) -> Option<Result<bool, Broken>> {
    HELD.store(false, Ordering::SeqCst);
    let taken = host.cpu.hypervisor.partition.with_vmbus(host, |vmbus| {
        let slot = &BUS.devices().network;
        vmbus.with(slot, |card, io| inward.deliver(host, |frame| card.receive(frame, io) == Received::Later))
    });
    HELD.store(inward.waits(), Ordering::SeqCst);
    taken.ok()
}

/// Has the guest's card send what waits for room, if it does.
fn resume(host: &FaultyEmbedder<'_>) {
    if WAITING.swap(false, Ordering::AcqRel) {
        host.cpu.hypervisor.partition.with_vmbus(host, |vmbus| {
            if let Ok((id, _)) = vmbus.place(&BUS.devices().network) {
                vmbus.resume(id);
            }
        });
    }
}

impl Inward {
    /// Returns true if a frame waits for room in the guest's card.
    fn waits(&self) -> bool {
        self.fate.is_some()
    }

    /// Delivers frames while there are some, up to [`FRAMES`]. `deliver` returns true if a frame has to wait. Returns
    /// true if there may be more.
    fn deliver(
        &mut self,
        host: &FaultyEmbedder<'_>,
        mut deliver: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, Broken> {
        for _ in 0..FRAMES {
            let Some(len) = self.receiver.frame(&mut self.frame.0)? else { return Ok(false) };
            // A frame that has to wait meets its fate once.
            let fate = *self.fate.get_or_insert_with(|| host.plan().frame(false));
            let frame = &mut self.frame.0[..len];
            if !FrameFault::meet(fate, frame, 0, &mut &LATE_IN, |frame| !deliver(frame)) {
                return Ok(false);
            }
            self.fate = None;
            self.receiver.done();
        }
        Ok(true)
    }
}

/// Returns how far from a word's beginning a packet has to be, so that its payload is as far from one as in the guest's
/// memory.
fn skew(request: &Request, data: Pages<'_>) -> usize {
    let from = data.segments().next().map_or(0, |first| first.gpa() as usize);
    from.wrapping_sub(NET_HEADER + request.payload_at()) % WORD
}

/// Sends a frame of the guest's. Called with its card's lock held. `fate`: the fault injected into it.
pub(crate) fn send(
    request: &Request,
    ram: &GuestRam,
    data: Pages<'_>,
    fate: impl FnOnce() -> Option<FrameFault>,
) -> Started<Result<(), Lost>> {
    let Some(outward) = OUTWARD.get() else { return Started::Done(Err(Lost)) };
    let Outward { sender, packet: Packet(packet) } = &mut *outward.lock();
    let mut room = sender.has_room();
    if room == Ok(false) {
        // The interrupt may come before the next line, so it must know then that it is waited for.
        WAITING.store(true, Ordering::SeqCst);
        room = sender.has_room();
        if room == Ok(false) {
            // The card drops it now: neither direction must wait for the other.
            if HELD.swap(false, Ordering::SeqCst) {
                NETWORK.raise();
            }
            return Started::Full;
        }
        WAITING.store(false, Ordering::Release);
    }
    let packet = &mut packet[skew(request, data)..];
    let written = room.ok().and_then(|_| request.write(ram, data, &mut packet[NET_HEADER..]).ok());
    let Some(len) = written else { return Started::Done(Err(Lost)) };
    let packet = &mut packet[..NET_HEADER + len];
    let mut sent = None;
    FrameFault::meet(fate(), packet, NET_HEADER, &mut &LATE_OUT, |packet| {
        let outcome = sender.send(packet);
        sent.get_or_insert(outcome);
        true
    });
    // One that is lost or late is taken for sent.
    Started::Done(if sent.unwrap_or(Ok(true)) == Ok(true) { Ok(()) } else { Err(Lost) })
}
