//! The bus: contact with the host, its messages, and the devices that it offers.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

mod calls;

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_guest::page::Page;
use hv_guest::registers::{self, Register};
use hv_guest::synic::{SintIndex, SynicPages};
use hv_tlfs::vmbus::{ChannelId, guid};
use hv_vmbus_client::{Client, Notice, Offer, Slots, Wake};

pub use calls::*;

use super::error::*;
use super::object::{Entered, Object};
use crate::machine::Either;
use crate::os::conduit;

/// Channels that a bus has places for: one for each device that the host offers, and each sub-channel.
pub const HV_BUS_CHANNELS: usize = 64;
/// GPADLs that a bus has places for: one for each open device, and two more for each network card.
pub const HV_BUS_GPADLS: usize = 72;
/// Words of a `struct hv_bus`.
pub const HV_BUS_WORDS: usize = 2048;

/// `hv_offer.kind`: a device that this library has no driver for.
pub const HV_DEVICE_OTHER: u32 = 0;
/// `hv_offer.kind`: a SCSI controller, for `hv_storage_open`.
pub const HV_DEVICE_STORAGE: u32 = 1;
/// `hv_offer.kind`: a network card, for `hv_net_open`.
pub const HV_DEVICE_NET: u32 = 2;

/// `notice`: the host offers this channel from now on.
pub const HV_NOTICE_OFFERED: u32 = 1;
/// `notice`: the host has taken this channel away. Close the device.
pub const HV_NOTICE_REMOVED: u32 = 2;
/// `notice`: the connection has ended.
pub const HV_NOTICE_UNLOADED: u32 = 3;

/// `vp` of a device: the host interrupts no VP, and the kernel polls.
pub const HV_VP_NONE: u32 = 0xffff_ffff;

/// A connection to VMBus, in memory of the kernel: zeros before `hv_bus_init`, then in one place until `hv_bus_close`
/// has returned 0, or for good.
#[repr(C)]
#[derive(Debug)]
pub struct hv_bus {
    /// The library's.
    opaque: [u64; HV_BUS_WORDS],
}

/// What the kernel gives to a bus. `hv_bus_init` copies it. Callbacks that are not needed are null.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_bus_config {
    /// sizeof(struct hv_bus_config).
    pub size: usize,
    /// The first argument of every callback.
    pub context: *mut c_void,
    /// Allocates pages of 4096 bytes for the host and this library: neighbours in the kernel's addresses, aligned to
    /// 4096. Null if there are none. A kernel with larger pages rounds up.
    pub allocate: Option<unsafe extern "C" fn(context: *mut c_void, pages: usize) -> *mut c_void>,
    /// Frees what `allocate` returned.
    pub free: Option<unsafe extern "C" fn(context: *mut c_void, memory: *mut c_void, pages: usize)>,
    /// Lets the host access pages that are allocated or lent; not 0 if it cannot. Null where the host can access all
    /// memory, as in every partition that is not isolated.
    pub share: Option<unsafe extern "C" fn(context: *mut c_void, memory: *mut c_void, pages: usize) -> c_int>,
    /// Ends the host's access to pages that were shared, when the host has given them up.
    pub unshare: Option<unsafe extern "C" fn(context: *mut c_void, memory: *mut c_void, pages: usize)>,
    /// Sleeps until the next VMBus interrupt, of the CPU whose VP the device interrupts, or for a moment. Not 0 ends
    /// the wait: HV_E_TIMED_OUT. A kernel without a handler of that interrupt calls `hv_bus_interrupt` in it, whatever
    /// that returns. Null: the calls that wait poll.
    pub wait: Option<unsafe extern "C" fn(context: *mut c_void) -> c_int>,
    /// Is told what a message of the host changed: HV_NOTICE_*, and the channel.
    pub notice: Option<unsafe extern "C" fn(context: *mut c_void, notice: u32, channel: u32)>,
    /// The message page of the VP that connects, as it was given to `hv_set_simp`. The source's slot in it is this
    /// library's until `hv_bus_close`.
    pub messages: *mut c_void,
    /// The source (SINT) that the host's messages come to: 2, unless the kernel has reasons.
    pub sint: u32,
    /// How long a call waits for the host at most, in 100 ns by the reference clock. 0: as long as `wait` does.
    pub timeout: u64,
}

/// A device or sub-channel that the host offers.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_offer {
    /// What kind of device: its GUID, as bytes in memory.
    pub interface_id: [u8; 16],
    /// Which one of its kind: a GUID that stays the same.
    pub instance_id: [u8; 16],
    /// HV_DEVICE_*.
    pub kind: u32,
    /// Number of the channel, 1 to 2047: it is also the event flag.
    pub channel: u32,
    /// 0: the device's first channel, which its driver opens.
    pub subchannel: u32,
}

/// What all calls and the devices may read while the bus is open.
pub(super) struct Shared {
    pub(super) config: hv_bus_config,
    sint: SintIndex,
    /// The message page of the VP that connects.
    messages: &'static Page,
    slots: Slots<HV_BUS_CHANNELS, HV_BUS_GPADLS>,
    /// Devices that are open.
    users: AtomicU32,
    /// The VP that connected, or `HV_VP_NONE` before that.
    vp: AtomicU32,
}

pub(super) type BusClient = Client<'static, Either, &'static Shared>;
pub(super) type BusObject = Object<Shared, Inner>;

/// What belongs to one call at a time.
pub(super) struct Inner {
    pub(super) client: BusClient,
    /// The page of the messages to the host, from the kernel's allocator.
    page: NonNull<[Page]>,
    /// Contact was begun, and the connection was not ended since.
    contacted: bool,
}

const _: () = assert!(size_of::<BusObject>() <= size_of::<hv_bus>());
const _: () = assert!(align_of::<BusObject>() <= align_of::<hv_bus>());

impl Wake for Shared {
    fn wake(&self, notice: &Notice) {
        let (number, channel) = match notice {
            Notice::Offered(channel) => (HV_NOTICE_OFFERED, channel.0),
            Notice::Rescinded(channel) => (HV_NOTICE_REMOVED, channel.0),
            Notice::Unloaded => (HV_NOTICE_UNLOADED, 0),
            _ => return,
        };
        if let Some(call) = self.config.notice {
            // SAFETY: the caller of `hv_bus_init` vouches that the callback may be called with the context from every
            // call that takes messages.
            unsafe { call(self.config.context, number, channel) };
        }
    }
}

impl BusObject {
    /// Notes the host's number behind an error, and returns the error.
    pub(super) fn note(&self, code: Code) -> c_int {
        if code.status != 0 {
            self.number.store(code.status, Ordering::Relaxed);
        }
        code.error
    }
}

impl Shared {
    /// Returns false on another VP than the one that connected.
    fn is_here(&self) -> bool {
        let vp = self.vp.load(Ordering::Relaxed);
        let elsewhere = || registers::get(&conduit(), Register::VP_INDEX).is_ok_and(|here| here.0 != vp);
        vp == HV_VP_NONE || !elsewhere()
    }

    /// Returns true if there are messages that the calling VP can take.
    pub(super) fn has_messages(&self) -> bool {
        SynicPages::pending_in(self.messages, self.sint).is_some() && self.is_here()
    }

    /// Takes the messages that have come, 64 at most, and gives them to the client. Returns how many they were.
    pub(super) fn deliver(&self, client: &mut Client<'_, Either, &'static Self>) -> Result<u32, c_int> {
        const BATCH: u32 = 64;
        let mut count = 0;
        while count < BATCH
            && let Some(pending) = SynicPages::pending_in(self.messages, self.sint)
        {
            // The end of a message makes the hypervisor look at the queue of the calling VP.
            if count == 0 && !self.is_here() {
                return Err(HV_E_WRONG_VP);
            }
            let message = pending.read();
            // The status is about the next message: it comes with the next end.
            let _ = SynicPages::end(&conduit(), pending);
            count += 1;
            if let Ok(message) = message {
                client.take_message(&message);
            }
        }
        Ok(count)
    }
}

/// Gives a bus the messages that have come, or asks the call that has it to do so. Returns how many they were.
pub(super) fn pump(bus: &BusObject) -> Result<u32, c_int> {
    let mut entered = bus.enter_or_ask()?;
    // SAFETY: the object is open, and this call has it: it is not emptied before `entered` is gone.
    let shared: &Shared = unsafe { bus.shared() };
    let count = shared.deliver(&mut entered.client);
    let more = leave(entered);
    Ok(count? + more?)
}

/// Frees a bus: every call that does not close it ends with this. An interrupt handler that found the bus in use has
/// asked for another look at the messages, which is taken first. Returns how many they were.
fn leave(mut entered: Entered<'_, Shared, Inner>) -> Result<u32, c_int> {
    // SAFETY: the object is open, and this call has it: it is not emptied before `entered` is gone.
    let shared: &Shared = unsafe { entered.object().shared() };
    let mut total = Ok(0);
    while let Some(mut again) = entered.leave() {
        let count = shared.deliver(&mut again.client);
        total = total.and_then(|total| Ok(total + count?));
        entered = again;
    }
    total
}

/// Calls a function with a bus that no other call uses.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
pub(super) unsafe fn with<T>(
    bus: *mut hv_bus,
    call: impl FnOnce(&mut Entered<'static, Shared, Inner>, &'static Shared) -> Result<T, Code>,
) -> Result<T, c_int> {
    // SAFETY: `bus` is null or points to such an object, by this function's contract.
    let (entered, value) = unsafe { hold(bus, call) }?;
    // It fails if the call came back on another VP than it began on, which the header forbids.
    let _ = leave(entered);
    Ok(value)
}

/// Calls a function with a bus that no other call uses, and keeps the bus if the function returns no error.
///
/// Another VP than the one that connected is refused: the handler there would find the bus in use, and the messages
/// could not be taken here.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
unsafe fn hold<T>(
    bus: *mut hv_bus,
    call: impl FnOnce(&mut Entered<'static, Shared, Inner>, &'static Shared) -> Result<T, Code>,
) -> Result<(Entered<'static, Shared, Inner>, T), c_int> {
    // SAFETY: `bus` is null or points to such an object, which stays in place while it is open, by this function's
    // contract; a bus has the size and the alignment of one, which is asserted above.
    let object: &'static BusObject = unsafe { BusObject::at(bus.cast()) }?;
    let mut entered = object.enter()?;
    // SAFETY: the object is open. It is emptied by `hv_bus_close` alone, which has to enter it, and refuses while a
    // device is open; devices alone keep this reference longer than this call has the bus.
    let shared = unsafe { object.shared() };
    let outcome = if shared.is_here() { call(&mut entered, shared) } else { Err(HV_E_WRONG_VP.into()) };
    match outcome {
        Ok(value) => Ok((entered, value)),
        Err(code) => {
            let error = object.note(code);
            // The error of the call is the one to return.
            let _ = leave(entered);
            Err(error)
        }
    }
}

/// Returns the number for C of an outcome.
pub(super) fn number(outcome: Result<c_int, c_int>) -> c_int {
    outcome.unwrap_or_else(|error| error)
}

/// A device's hold on its bus, which is not closed before it is dropped.
pub(super) struct User(&'static BusObject);

impl User {
    /// Holds a bus that a call has entered.
    pub(super) fn new(entered: &Entered<'static, Shared, Inner>) -> Self {
        let user = Self(entered.object());
        user.shared().users.fetch_add(1, Ordering::AcqRel);
        user
    }

    pub(super) fn bus(&self) -> &'static BusObject {
        self.0
    }

    /// Checks that a device is closed with the bus that it was opened on.
    pub(super) fn check(&self, entered: &Entered<'static, Shared, Inner>) -> Result<(), Code> {
        if core::ptr::eq(self.0, entered.object()) { Ok(()) } else { Err(HV_E_ARGUMENT.into()) }
    }

    pub(super) fn shared(&self) -> &'static Shared {
        // SAFETY: `new` was given an object that is entered, and so open, and counts this user with the object still
        // entered; `hv_bus_close`, the only one to empty it, refuses while a user is counted, and a device keeps its
        // `User` as long as anything that has this reference.
        unsafe { self.0.shared() }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.shared().users.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Describes an offer for C.
fn describe(offer: &Offer) -> hv_offer {
    let device = offer.device();
    let kind = match device.interface {
        guid::SCSI => HV_DEVICE_STORAGE,
        guid::NETWORK => HV_DEVICE_NET,
        _ => HV_DEVICE_OTHER,
    };
    hv_offer {
        interface_id: device.interface.bytes,
        instance_id: device.instance.bytes,
        kind,
        channel: offer.channel().0,
        subchannel: device.subchannel_index.into(),
    }
}

/// Finds the first channel of a device of this kind.
pub(super) fn find(client: &BusClient, channel: u32, kind: u32) -> Result<Offer, Code> {
    let mut offers = client.offers();
    let found = offers.find(|offer| offer.channel().0 == channel && !offer.is_subchannel());
    let found = found.filter(|offer| describe(offer).kind == kind);
    found.ok_or_else(|| HV_E_NOT_FOUND.into())
}

/// Tells the host that the channel of a device that it has removed is no longer used, as Linux does.
pub(super) fn release(client: &mut BusClient, channel: u32) {
    if !client.offers().any(|offer| offer.channel().0 == channel) {
        // After the end of the connection there is no such channel, and nothing to release.
        let _ = client.release(ChannelId(channel));
    }
}
