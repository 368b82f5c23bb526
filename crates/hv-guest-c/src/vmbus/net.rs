//! Network cards.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ffi::{c_int, c_void};

use hv_drivers::network::{self, Card, Frames as _, Sizes};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::Open;

use super::bus::{HV_DEVICE_NET, Inner, Shared, User, find, hv_bus, number, with};
use super::closing::State;
use super::dma::KernelDma;
use super::error::*;
use super::object::{Entered, Object};
use super::wait::Pause;
use crate::machine::Either;

/// Words of a `struct hv_net`.
pub const HV_NET_WORDS: usize = 1280;

/// A network card, in memory of the kernel: zeros before `hv_net_open`, then in one place until `hv_net_close` has
/// returned 0, or for good.
#[repr(C)]
#[derive(Debug)]
pub struct hv_net {
    /// The library's.
    opaque: [u64; HV_NET_WORDS],
}

/// What is known of a card.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct hv_net_info {
    /// Its address.
    pub mac: [u8; 6],
    /// Not 0: the link is up.
    pub up: u8,
    /// Not 0: `hv_net_send` has room for a frame.
    pub can_send: u8,
    /// Maximum payload size of a frame: the bytes after its header of 14 bytes.
    pub mtu: u32,
    /// Version of the card's protocol, NVSP: 0x60001 is 6.1.
    pub version: u32,
    /// Frames that were sent.
    pub sent: u64,
    /// Frames that were received.
    pub received: u64,
    /// Messages of the host that are not frames, or frames longer than the buffer for them.
    pub receive_drops: u64,
    /// Frames that the host has completed with an error.
    pub send_errors: u64,
}

type NetCard = Card<'static, KernelDma, Either>;

struct NetDevice {
    state: State<NetCard>,
    channel: u32,
    user: User,
}

type NetObject = Object<(), NetDevice>;

const _: () = assert!(size_of::<NetObject>() <= size_of::<hv_net>());
const _: () = assert!(align_of::<NetObject>() <= align_of::<hv_net>());

impl NetDevice {
    fn card(&mut self) -> Result<&mut NetCard, Code> {
        match &mut self.state {
            State::Open(card) => Ok(card),
            _ => Err(HV_E_CLOSED.into()),
        }
    }
}

/// Calls a function with an open card that no other call uses.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` that was zeros before its first use.
unsafe fn enter<T>(net: *mut hv_net, call: impl FnOnce(&mut NetCard) -> Result<T, Code>) -> Result<T, c_int> {
    // SAFETY: `net` is null or points to such an object, by this function's contract; it has the size and the alignment
    // of one, which is asserted above.
    let object = unsafe { NetObject::at(net.cast()) }?;
    let mut entered = object.enter()?;
    let outcome = entered.card().and_then(call);
    outcome.map_err(|code| entered.user.bus().note(code))
}

/// Opens the network card with this channel (`hv_bus_find`), and waits until it is initialized. The host interrupts
/// `vp` when there are frames; HV_VP_NONE: the kernel polls. `mtu` is what the kernel wants at most, such as 1500; the
/// card may have less. `size` is sizeof(struct hv_net). Waits; on the VP that connected. Takes some 160 pages of the
/// kernel's allocator. Returns as `hv_storage_open`.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` of zeros, or one that was closed, which stays in place until it is
/// closed. `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_net_open(
    net: *mut hv_net,
    size: usize,
    bus: *mut hv_bus,
    channel: u32,
    vp: u32,
    mtu: u16,
) -> c_int {
    // SAFETY: `net` is null or points to zeros or a closed card, by this function's contract; it has the size and the
    // alignment of the object, which is asserted above.
    let object: Result<&NetObject, c_int> = unsafe { NetObject::at(net.cast()) };
    let object = match object {
        Ok(object) if size == size_of::<hv_net>() => object,
        Ok(_) => return HV_E_SIZE,
        Err(error) => return error,
    };
    let open = |bus: &mut Entered<'static, Shared, Inner>, shared: &'static Shared| {
        let user = User::new(bus);
        // In its place from the beginning: a card is large for a kernel's stack.
        let mut device =
            object.open(|_| (), |_| Ok::<_, Code>(NetDevice { state: State::None, channel, user }))?;
        let opened = start(&mut device, bus, shared, (vp, mtu));
        if opened.is_err() {
            device.close(|_| ());
        }
        opened.map(|()| 0)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    number(unsafe { with(bus, open) })
}

fn start(
    device: &mut NetDevice,
    bus: &mut Inner,
    shared: &'static Shared,
    (vp, mtu): (u32, u16),
) -> Result<(), Code> {
    let (dma, mut pause, client) = (KernelDma::new(shared), Pause::new(shared), &mut bus.client);
    let offer = find(client, device.channel, HV_DEVICE_NET)?;
    let place = (&offer, Open::on(VpIndex(vp)));
    let parts = network::connect(client, place, Sizes::default(), &dma, &mut pause);
    let (channel, buffers, control) = parts.map_err(|error| pause.code(error))?;
    device.state = State::Open(NetCard::new(channel, buffers, mtu, control));
    let ready = device.card()?.wait_ready(&mut || pause.messages(client));
    ready.map_err(|error| {
        let code = pause.code(error);
        // The first error is the one to report. Memory that the host does not give back is leaked.
        let _ = device.state.close(device.channel, client, &mut pause, |()| ());
        code
    })
}

/// Writes what is known of a card to `info`. Does not wait. Returns 0 or an error.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` that was zeros before its first use. `info` is null or valid for
/// writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_net_info(net: *mut hv_net, info: *mut hv_net_info) -> c_int {
    if info.is_null() || !info.is_aligned() {
        return HV_E_ARGUMENT;
    }
    let tell = |card: &mut NetCard| {
        let counts = card.counts();
        let value = hv_net_info {
            mac: card.mac(),
            up: card.is_up().into(),
            can_send: card.can_send().into(),
            mtu: card.mtu() as u32,
            version: card.version().0,
            sent: counts.sent,
            received: counts.received,
            receive_drops: counts.receive_drops,
            send_errors: counts.send_errors,
        };
        // SAFETY: `info` is not null and aligned, as was just seen, and valid for writes, by this function's contract.
        unsafe { info.write(value) };
        Ok(0)
    };
    // SAFETY: `net` is null or points to a card, by this function's contract.
    number(unsafe { enter(net, tell) })
}

/// Sends a frame with its Ethernet header: 14 bytes to the MTU and 14. It is copied. Does not wait. Returns 0 or an
/// error: HV_E_AGAIN if there is no room, and then `hv_net_receive` makes some; HV_E_TOO_LONG for any other length;
/// HV_E_GONE, HV_E_DEAD.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` that was zeros before its first use. `frame` is null or valid for reads
/// of `len` bytes, which nothing else writes during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_net_send(net: *mut hv_net, frame: *const c_void, len: usize) -> c_int {
    if frame.is_null() || isize::try_from(len).is_err() {
        return HV_E_ARGUMENT;
    }
    // SAFETY: the pointer is not null, and valid for reads of `len` bytes, no more than objects have, which nothing
    // else writes during the call, by this function's contract.
    let frame = unsafe { core::slice::from_raw_parts(frame.cast::<u8>(), len) };
    let send = |card: &mut NetCard| {
        card.send(frame)?;
        Ok(0)
    };
    // SAFETY: `net` is null or points to a card, by this function's contract.
    number(unsafe { enter(net, send) })
}

/// Copies the next frame that has arrived, with its Ethernet header, and takes the completions of frames that were
/// sent. A frame longer than `room` is dropped. Does not wait. Returns its length; 0 if there is none now: call it
/// until then; or an error: HV_E_GONE, HV_E_DEAD.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` that was zeros before its first use. `into` is null or valid for writes
/// of `room` bytes, which nothing else accesses during the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_net_receive(net: *mut hv_net, into: *mut c_void, room: usize) -> c_int {
    if into.is_null() || isize::try_from(room).is_err() {
        return HV_E_ARGUMENT;
    }
    // SAFETY: the pointer is not null, and valid for writes of `room` bytes, no more than objects have, which nothing
    // else accesses during the call, by this function's contract; what they hold is bytes, whatever they are.
    let into = unsafe { core::slice::from_raw_parts_mut(into.cast::<u8>(), room) };
    let receive = |card: &mut NetCard| match card.receive(into)? {
        // The host reports a removal by a message, which the ring says nothing of.
        None if card.is_over() => Err(HV_E_GONE.into()),
        None => Ok(0),
        // A frame is shorter than 128 KiB.
        Some(len) => Ok(len as c_int),
    };
    // SAFETY: `net` is null or points to a card, by this function's contract.
    number(unsafe { enter(net, receive) })
}

/// Returns 1, once, if the link has gone up or down, or leads to another network, since the last call; 0 if not, or an
/// error. Does not wait.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_net_link_changed(net: *mut hv_net) -> c_int {
    // SAFETY: `net` is null or points to a card, by this function's contract.
    number(unsafe { enter(net, |card| Ok(card.take_link_change().into())) })
}

/// Halts a card and closes it. All memory is the kernel's then; frames in flight may or may not have been sent. Waits;
/// on the VP that connected. Returns 0, or an error, and can be called again: HV_E_TIMED_OUT, HV_E_POST, HV_E_IN_USE,
/// HV_E_WRONG_VP.
///
/// # Safety
///
/// `net` is null or points to a `struct hv_net` that was zeros before its first use; `bus` is null or points to the bus
/// that it was opened on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_net_close(net: *mut hv_net, bus: *mut hv_bus) -> c_int {
    // SAFETY: `net` is null or points to a card, by this function's contract; it has the size and the alignment of the
    // object, which is asserted above.
    let object: Result<&NetObject, c_int> = unsafe { NetObject::at(net.cast()) };
    let entered = object.and_then(Object::enter);
    let mut entered = match entered {
        Ok(entered) => entered,
        Err(error) => return error,
    };
    let closing = |bus: &mut Entered<'static, Shared, Inner>, shared: &'static Shared| {
        entered.user.check(bus)?;
        let channel = entered.channel;
        entered.state.close(channel, &mut bus.client, &mut Pause::new(shared), |()| ())
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    let closed = unsafe { with(bus, closing) };
    if closed.is_ok() {
        entered.close(|_| ());
    }
    number(closed.map(|()| 0))
}
