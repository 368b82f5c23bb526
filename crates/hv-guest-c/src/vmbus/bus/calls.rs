//! The calls of a bus.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use hv_guest::page::{CallPage, Page};
use hv_guest::registers::{self, Register};
use hv_guest::synic::{SintIndex, SynicPages};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::{Client, Contact, Dma, Offer, Slots};

use super::*;
use crate::os::hv_is_hyperv_initialized;
use crate::vmbus::dma::KernelDma;
use crate::vmbus::wait::Pause;

/// Checks a configuration, and returns its source and its message page.
fn check(config: &hv_bus_config) -> Result<(SintIndex, NonNull<u8>), c_int> {
    let page = NonNull::new(config.messages.cast::<u8>()).filter(|page| page.cast::<Page>().is_aligned());
    let sint = u8::try_from(config.sint).ok().and_then(SintIndex::new);
    let (Some(page), Some(sint), Some(_), Some(_)) = (page, sint, config.allocate, config.free) else {
        return Err(HV_E_ARGUMENT);
    };
    if hv_is_hyperv_initialized() { Ok((sint, page)) } else { Err(HV_E_NO_HYPERV) }
}

/// Writes a field of what a unique reference points to.
macro_rules! put {
    ($place:ident, $field:ident, $value:expr) => {
        // SAFETY: `$place` comes from a unique reference, so this makes a pointer into what that points to.
        let field = unsafe { &raw mut (*$place).$field };
        // SAFETY: the field is part of what the unique reference points to, and aligned, as the structure is.
        unsafe { field.write($value) };
    };
}

/// Writes the part of a bus that all calls read, in place: it is large for a kernel's stack.
fn fill(shared: &mut MaybeUninit<Shared>, config: hv_bus_config, sint: SintIndex, messages: &'static Page) {
    let place = shared.as_mut_ptr();
    put!(place, config, config);
    put!(place, sint, sint);
    put!(place, messages, messages);
    put!(place, slots, Slots::new());
    put!(place, users, AtomicU32::new(0));
    put!(place, vp, AtomicU32::new(HV_VP_NONE));
}

/// Opens a bus, which is not connected yet. `size` is sizeof(struct hv_bus). Returns 0 or an error: HV_E_ARGUMENT,
/// HV_E_SIZE, HV_E_NO_HYPERV, HV_E_IN_USE if it is open, HV_E_NO_MEMORY.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` of zeros, or one that was closed, which stays in place until it is
/// closed. `config` is null or points to a structure that begins with its size and is as long as that says. Its
/// callbacks do what their fields say, from the contexts in which the calls of this header are made, and do not use the
/// object of the call that they serve. Memory that `allocate` returns is valid for reads and writes and used by nothing
/// else until `free`, and `virt_to_phys` of `struct hv_guest_os` translates it. `messages` is null or the enabled
/// message page of the VP that connects, which nothing else uses but by aligned words until the bus is closed. There is
/// one bus.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_init(bus: *mut hv_bus, size: usize, config: *const hv_bus_config) -> c_int {
    // SAFETY: `bus` is null or points to zeros or a closed bus that stays in place, by this function's contract.
    number(unsafe { init(bus, size, config) }.map(|()| 0))
}

// `init` reads the size of a configuration of any version.
const _: () = assert!(core::mem::offset_of!(hv_bus_config, size) == 0);

/// Initializes a bus with its configuration.
///
/// # Safety
///
/// As for `hv_bus_init`.
unsafe fn init(bus: *mut hv_bus, size: usize, config: *const hv_bus_config) -> Result<(), c_int> {
    // SAFETY: `bus` is null or points to zeros or a closed bus that stays in place, by this function's contract; a bus
    // has the size and the alignment of the object, which is asserted above.
    let object: &'static BusObject = unsafe { BusObject::at(bus.cast()) }?;
    if size != size_of::<hv_bus>() {
        return Err(HV_E_SIZE);
    }
    let config = NonNull::new(config.cast_mut()).filter(|config| config.is_aligned()).ok_or(HV_E_ARGUMENT)?;
    // SAFETY: the pointer is not null and aligned, as was just seen, and points to a configuration, by this function's
    // contract: one of any version begins with its size, which is asserted above.
    if unsafe { config.cast::<usize>().read() } != size_of::<hv_bus_config>() {
        return Err(HV_E_SIZE);
    }
    // SAFETY: the pointer is not null and aligned and points to a configuration that is as long as its size says, by
    // this function's contract. The size, which was just read, is that of this version: numbers, pointers, and
    // functions that may be null.
    let config = unsafe { config.read() };
    let (sint, page) = check(&config)?;
    // SAFETY: the page is aligned, as `check` has seen, and the enabled message page of the VP that connects, which
    // hypervisor and kernel access by aligned words alone until the bus is closed, by this function's contract. The
    // reference is not used after that.
    let messages = unsafe { Page::at(page) };
    let opened = object.open(
        |shared| {
            object.number.store(0, Ordering::Relaxed);
            fill(shared, config, sint, messages);
        },
        |shared| {
            // SAFETY: `fill` has just written this part. Only `hv_bus_close` empties the object, after it has dropped
            // all that has this reference; it refuses while a device is open.
            let shared: &'static Shared = unsafe { shared.as_ref() };
            let dma = KernelDma::new(shared);
            let slots = shared.slots.lend().ok_or(HV_E_IN_USE)?;
            let page = dma.allocate(1).ok_or(HV_E_NO_MEMORY)?;
            // SAFETY: `allocate` has just returned it, as a page that is valid and unused until it is freed, which
            // happens when the client is gone.
            let input: &'static Page = unsafe { page.cast().as_ref() };
            if dma.share(core::slice::from_ref(input)).is_err() {
                // SAFETY: `allocate` has just returned it, and nothing uses it.
                unsafe { dma.free(page) };
                return Err(HV_E_NO_MEMORY);
            }
            let call = CallPage::new(input, &dma);
            // SAFETY: the messages that it is given are what the hypervisor has put into the slot of the source in the
            // message page of the VP that connects, in their order (`deliver`), and the memory is what the kernel's
            // `virt_to_phys` translates: all of this partition. The kernel has one bus, by this function's contract.
            let client = unsafe { Client::with_waker(conduit(), call, slots, shared) };
            Ok(Inner { client, page, contacted: false })
        },
    );
    leave(opened?).map(drop)
}

/// Makes contact with the host, has it send its messages to the calling VP, and waits for all offers. A connection that
/// stands, of this kernel or of one before, ends with that. Returns the version of VMBus, the major number in bits
/// 31:16, or an error: HV_E_IN_USE while devices are open, HV_E_NO_VERSION, HV_E_REFUSED, HV_E_TIMED_OUT, HV_E_POST,
/// HV_E_WRONG_VP on another VP than before.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_connect(bus: *mut hv_bus) -> c_int {
    let connect = |entered: &mut Entered<'static, Shared, Inner>, shared: &'static Shared| {
        if shared.users.load(Ordering::Acquire) != 0 {
            return Err(HV_E_IN_USE.into());
        }
        let vp = registers::get(&conduit(), Register::VP_INDEX);
        let vp = vp.map_err(|error| Code { error: HV_E_POST, status: error.status().0.into() })?;
        shared.vp.store(vp.0, Ordering::Relaxed);
        entered.contacted = true;
        let contact = Contact::new(VpIndex(vp.0)).with_sint(shared.sint);
        let mut pause = Pause::new(shared);
        let version = entered.client.connect(contact, &mut pause);
        Ok(version.map_err(|error| pause.code(error))?.0 as c_int)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    number(unsafe { with(bus, connect) })
}

/// Takes the messages that the host has sent: in the handler of the VMBus interrupt on the VP that connected, or now
/// and then in a kernel that polls. Does not wait. Returns how many they were, or an error. HV_E_IN_USE is none in an
/// interrupt handler on that VP: the call that has the bus is on the same VP, and takes them before it returns.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_interrupt(bus: *mut hv_bus) -> c_int {
    // SAFETY: `bus` is null or points to a bus, by this function's contract; a bus has the size and the alignment of
    // the object, which is asserted above.
    let object: Result<&BusObject, c_int> = unsafe { BusObject::at(bus.cast()) };
    number(object.and_then(pump).map(|count| count as c_int))
}

/// Clears the event flags of a source in an event flags page, and passes the channel of each that was set to `each`:
/// poll the device with that channel. A flag that stays set raises no further interrupt, so the handler of the VMBus
/// interrupt calls this on every VP, with that VP's page, as it was given to `hv_set_siefp`. Returns how many they
/// were, or HV_E_ARGUMENT. Any context; needs no bus.
///
/// # Safety
///
/// `events` is null or an enabled event flags page. `each` is null or may be called with the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_events(
    events: *mut c_void,
    sint: u32,
    each: Option<unsafe extern "C" fn(context: *mut c_void, channel: u32)>,
    context: *mut c_void,
) -> c_int {
    let page = NonNull::new(events.cast::<u8>()).filter(|page| page.cast::<Page>().is_aligned());
    let sint = u8::try_from(sint).ok().and_then(SintIndex::new);
    let (Some(page), Some(sint)) = (page, sint) else { return HV_E_ARGUMENT };
    // SAFETY: the address is aligned, as was just seen, and an enabled event flags page's, by this function's contract:
    // memory that hypervisor and kernel access by aligned words alone.
    let page = unsafe { Page::at(page) };
    let mut count = 0;
    SynicPages::take_events_in(page, sint, |channel| {
        count += 1;
        if let Some(each) = each {
            // SAFETY: the caller vouches that the function may be called with the context, by this function's contract.
            unsafe { each(context, channel.into()) };
        }
    });
    count
}

/// Writes the channels that are offered to `offers`, which has room for `room` of them, by no order. Returns how many
/// there are, which may be more, or an error: HV_E_WRONG_VP on another VP than the one that connected.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use. `offers` is valid for writes of
/// `room` entries, or null if that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_offers(bus: *mut hv_bus, offers: *mut hv_offer, room: usize) -> c_int {
    if room > 0 && (offers.is_null() || !offers.is_aligned()) {
        return HV_E_ARGUMENT;
    }
    let list = |entered: &mut Entered<'static, Shared, Inner>, _: &'static Shared| {
        let mut count = 0;
        for (n, offer) in entered.client.offers().enumerate() {
            if n < room {
                // SAFETY: `offers` is not null, as was just seen, and has room for more than `n` entries, by this
                // function's contract.
                let place = unsafe { offers.add(n) };
                // SAFETY: the place is one of the `room` entries that are valid for writes, by this function's
                // contract, and aligned, as the first one is.
                unsafe { place.write(describe(&offer)) };
            }
            count += 1;
        }
        Ok(count)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    number(unsafe { with(bus, list) })
}

/// Finds device number `n`, from 0 on, of a kind: HV_DEVICE_STORAGE, HV_DEVICE_NET. Their order is that of their
/// channels. Returns the channel, for `hv_storage_open` or `hv_net_open`, or an error: HV_E_NOT_FOUND,
/// HV_E_NOT_CONNECTED, HV_E_WRONG_VP.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_find(bus: *mut hv_bus, kind: u32, n: u32) -> c_int {
    let find = |entered: &mut Entered<'static, Shared, Inner>, _: &'static Shared| {
        let client = &entered.client;
        client.version().ok_or(HV_E_NOT_CONNECTED)?;
        let of_kind = |offer: &Offer| describe(offer).kind == kind && !offer.is_subchannel();
        let channels = || client.offers().filter(of_kind).map(|offer| offer.channel().0);
        let before = |channel| channels().filter(|other| *other < channel).count();
        let found = channels().find(|channel| before(*channel) == n as usize);
        Ok(found.ok_or(HV_E_NOT_FOUND)? as c_int)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    number(unsafe { with(bus, find) })
}

/// Returns the host's own number behind the last error of the bus or of a device: an NTSTATUS, a hypercall status, the
/// status of a card, or of a disk's command its sense key, code and qualifier in bits 23:16, 15:8 and 7:0; or, with bit
/// 31 set, SRB status and SCSI status in bits 15:8 and 7:0. 0: there was none since `hv_bus_init`. Any context.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_status(bus: *mut hv_bus) -> u32 {
    // SAFETY: `bus` is null or points to a bus, by this function's contract; a bus has the size and the alignment of
    // the object, which is asserted above.
    let object: Result<&BusObject, c_int> = unsafe { BusObject::at(bus.cast()) };
    object.map_or(0, |object| object.number.load(Ordering::Relaxed))
}

/// Ends the connection and waits for the host, whatever is open: before another kernel starts, or after a crash. All
/// devices are gone then, and can be closed. Returns 0 or an error: HV_E_TIMED_OUT, HV_E_POST, HV_E_WRONG_VP.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_unload(bus: *mut hv_bus) -> c_int {
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    number(unsafe { with(bus, |entered, shared| unload(entered, shared).map(|()| 0)) })
}

fn unload(inner: &mut Inner, shared: &'static Shared) -> Result<(), Code> {
    if inner.contacted {
        let mut pause = Pause::new(shared);
        inner.client.disconnect(&mut pause).map_err(|error| pause.code(error))?;
        inner.contacted = false;
    }
    Ok(())
}

/// Ends the connection, if there is one, and closes the bus: its memory is the kernel's again. Returns 0 or an error,
/// and the bus is still open: HV_E_IN_USE while devices are open, HV_E_TIMED_OUT, HV_E_POST, HV_E_WRONG_VP.
///
/// # Safety
///
/// `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_bus_close(bus: *mut hv_bus) -> c_int {
    let end = |entered: &mut Entered<'static, Shared, Inner>, shared: &'static Shared| {
        if shared.users.load(Ordering::Acquire) != 0 {
            return Err(HV_E_IN_USE.into());
        }
        unload(entered, shared).map(|()| shared)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    let (entered, shared) = match unsafe { hold(bus, end) } {
        Ok(held) => held,
        Err(error) => return error,
    };
    entered.close(|inner| {
        let dma = KernelDma::new(shared);
        // SAFETY: `allocate` returned this page, which is valid until it is freed.
        dma.unshare(unsafe { inner.page.as_ref() });
        // SAFETY: `allocate` returned this page, and the client, which alone uses it, is dropped next, without a call.
        unsafe { dma.free(inner.page) };
    });
    0
}
