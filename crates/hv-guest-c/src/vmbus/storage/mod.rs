//! Disks behind a SCSI controller.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

mod blocking;
mod requests;

use core::ffi::{c_int, c_void};
use core::ptr::NonNull;

use hv_drivers::storage::{Address, Controller, Disk};
use hv_tlfs::vp::VpIndex;
use hv_vmbus_client::Open;

use super::bus::{BusClient, HV_DEVICE_STORAGE, Inner, Shared, User, find, hv_bus, number, with};
use super::closing::State;
use super::dma::KernelDma;
use super::error::*;
use super::object::{Entered, Object};
use super::wait::Pause;
use crate::machine::Either;

pub use blocking::*;
pub use requests::*;

/// Requests of a controller in flight at most.
pub const HV_STORAGE_DEPTH: usize = 16;
/// Words of a `struct hv_storage`.
pub const HV_STORAGE_WORDS: usize = 512;
/// Pages of each ring.
const RING: usize = 16;

/// A SCSI controller, in memory of the kernel: zeros before `hv_storage_open`, then in one place until
/// `hv_storage_close` has returned 0, or for good.
#[repr(C)]
#[derive(Debug)]
pub struct hv_storage {
    /// The library's.
    opaque: [u64; HV_STORAGE_WORDS],
}

/// A disk, as it was when it was looked at.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct hv_disk {
    /// Number of the bus.
    pub path: u8,
    /// Target.
    pub target: u8,
    /// Logical unit.
    pub lun: u8,
    /// Not 0: it refuses to be written.
    pub read_only: u8,
    /// Bytes of a block: a power of 2, 512 at least.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// Blocks that are discarded at once at most; 0: it does not discard.
    pub max_discard: u32,
}

/// A request that has ended.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hv_storage_completion {
    /// What the request was submitted with.
    pub tag: *mut c_void,
    /// Its memory, which is the kernel's again; null for a flush and a discard.
    pub memory: *mut c_void,
    /// 0, or why it failed: HV_E_IO, HV_E_AGAIN, HV_E_NOT_FOUND, HV_E_MALFORMED.
    pub error: c_int,
    /// As for `hv_bus_status`, for HV_E_IO.
    pub status: u32,
    /// Bytes moved.
    pub bytes: u32,
}

/// What the kernel submits a request with.
#[derive(Clone, Copy)]
struct Tag {
    tag: *mut c_void,
    memory: *mut c_void,
}

type Scsi = Controller<'static, KernelDma, Either, Tag, HV_STORAGE_DEPTH>;

struct StorageDevice {
    state: State<Scsi>,
    channel: u32,
    user: User,
}

type StorageObject = Object<(), StorageDevice>;

const _: () = assert!(size_of::<StorageObject>() <= size_of::<hv_storage>());
const _: () = assert!(align_of::<StorageObject>() <= align_of::<hv_storage>());

impl StorageDevice {
    fn parts(&mut self) -> Result<(&mut Scsi, &User), Code> {
        match &mut self.state {
            State::Open(scsi) => Ok((scsi, &self.user)),
            _ => Err(HV_E_CLOSED.into()),
        }
    }
}

impl From<Disk> for hv_disk {
    fn from(disk: Disk) -> Self {
        let Disk { address, block_size, blocks, read_only, max_discard, .. } = disk;
        let Address { path, target, lun } = address;
        Self { path, target, lun, read_only: read_only.into(), block_size, blocks, max_discard }
    }
}

impl From<hv_disk> for Disk {
    fn from(disk: hv_disk) -> Self {
        let hv_disk { path, target, lun, read_only, block_size, blocks, max_discard } = disk;
        let address = Address { path, target, lun };
        let disk = Self::new(address, block_size, blocks);
        disk.with_read_only(read_only != 0).with_max_discard(max_discard)
    }
}

/// Calls a function with an open controller that no other call uses.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use.
unsafe fn enter<T>(
    storage: *mut hv_storage,
    call: impl FnOnce(&mut Scsi, &User) -> Result<T, Code>,
) -> Result<T, c_int> {
    // SAFETY: `storage` is null or points to such an object, by this function's contract; it has the size and the
    // alignment of one, which is asserted above.
    let object = unsafe { StorageObject::at(storage.cast()) }?;
    let mut entered = object.enter()?;
    let outcome = entered.parts().and_then(|(scsi, user)| call(scsi, user));
    outcome.map_err(|code| entered.user.bus().note(code))
}

/// Reads the kernel's description of a disk.
///
/// # Safety
///
/// `disk` is null or points to a disk.
unsafe fn read_disk(disk: *const hv_disk) -> Result<Disk, c_int> {
    let disk = NonNull::new(disk.cast_mut()).filter(|disk| disk.is_aligned());
    // SAFETY: the pointer is not null and aligned, as was just seen, and points to a disk, which is numbers, by this
    // function's contract.
    disk.map(|disk| unsafe { disk.read() }.into()).ok_or(HV_E_ARGUMENT)
}

/// Opens the SCSI controller with this channel (`hv_bus_find`), and waits until it is initialized. The host interrupts
/// `vp` when a request has ended; HV_VP_NONE: the kernel polls. `size` is sizeof(struct hv_storage). Waits; on the VP
/// that connected. Returns 0 or an error: HV_E_ARGUMENT, HV_E_SIZE, HV_E_IN_USE, HV_E_NOT_FOUND, HV_E_REFUSED,
/// HV_E_NO_MEMORY, HV_E_TIMED_OUT, HV_E_WRONG_VP.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` of zeros, or one that was closed, which stays in place until it
/// is closed. `bus` is null or points to a `struct hv_bus` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_open(
    storage: *mut hv_storage,
    size: usize,
    bus: *mut hv_bus,
    channel: u32,
    vp: u32,
) -> c_int {
    // SAFETY: `storage` is null or points to zeros or a closed controller, by this function's contract; it has the size
    // and the alignment of the object, which is asserted above.
    let object: Result<&StorageObject, c_int> = unsafe { StorageObject::at(storage.cast()) };
    let object = match object {
        Ok(object) if size == size_of::<hv_storage>() => object,
        Ok(_) => return HV_E_SIZE,
        Err(error) => return error,
    };
    let open = |bus: &mut Entered<'static, Shared, Inner>, shared: &'static Shared| {
        let user = User::new(bus);
        // In its place from the beginning: a controller is large for a kernel's stack.
        let mut device =
            object.open(|_| (), |_| Ok::<_, Code>(StorageDevice { state: State::None, channel, user }))?;
        let opened = start(&mut device, bus, shared, vp);
        if opened.is_err() {
            device.close(|_| ());
        }
        opened.map(|()| 0)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    number(unsafe { with(bus, open) })
}

fn start(device: &mut StorageDevice, bus: &mut Inner, shared: &'static Shared, vp: u32) -> Result<(), Code> {
    let (dma, mut pause, client) = (KernelDma::new(shared), Pause::new(shared), &mut bus.client);
    let offer = find(client, device.channel, HV_DEVICE_STORAGE)?;
    let channel = client.open_channel(&offer, RING, Open::on(VpIndex(vp)), &dma, &mut pause);
    let channel = channel.map_err(|error| pause.code(error))?;
    device.state = State::Open(Scsi::new(channel, dma));
    let (scsi, _) = device.parts()?;
    let ready = scsi.wait_ready(&mut || pause.messages(client));
    ready.map_err(|error| {
        let code = pause.code(error);
        // The first error is the one to report. Rings that the host does not give back are leaked.
        let _ = close(device, client, &mut pause, |_| ());
        code
    })
}

/// Looks for the controller's disks, and writes them to `disks`, which has room for `room` of them. Waits. Returns how
/// many there are, which may be more, or an error.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use. `disks` is valid for
/// writes of `room` entries, or null if that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_disks(
    storage: *mut hv_storage,
    disks: *mut hv_disk,
    room: usize,
) -> c_int {
    if room > 0 && (disks.is_null() || !disks.is_aligned()) {
        return HV_E_ARGUMENT;
    }
    let look = |scsi: &mut Scsi, user: &User| {
        let (mut pause, mut count) = (Pause::new(user.shared()), 0);
        scsi.disks(&mut || pause.device(user.bus()), |disk| {
            if count < room {
                // SAFETY: `disks` is not null and aligned, as was just seen, and has room for more than `count`, by
                // this function's contract.
                let place = unsafe { disks.add(count) };
                // SAFETY: the place is one of the `room` entries that are valid for writes, by this function's
                // contract, and aligned, as the first one is.
                unsafe { place.write(disk.into()) };
            }
            count += 1;
        })
        .map_err(|error| pause.code(error))?;
        Ok(count as c_int)
    };
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, look) })
}

/// Returns the bytes of one request at most, or an error. Does not wait.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_max_transfer(storage: *mut hv_storage) -> c_int {
    let most = |scsi: &mut Scsi, _: &User| Ok(c_int::try_from(scsi.max_transfer()).unwrap_or(c_int::MAX));
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, most) })
}

/// Returns 1, once, if the host said since the last call that disks have come, gone or changed: look at all of them. 0
/// if not, or an error. Does not wait.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_changed(storage: *mut hv_storage) -> c_int {
    let changed = |scsi: &mut Scsi, _: &User| Ok(scsi.take_changed().into());
    // SAFETY: `storage` is null or points to a controller, by this function's contract.
    number(unsafe { enter(storage, changed) })
}

/// Closes a controller, whatever is in flight: `each` gets the tag of every request that has not been polled, which may
/// or may not have happened. All memory is the kernel's then. Waits; on the VP that connected. Returns 0, or an error,
/// and can be called again: HV_E_TIMED_OUT, HV_E_POST, HV_E_IN_USE, HV_E_WRONG_VP.
///
/// # Safety
///
/// `storage` is null or points to a `struct hv_storage` that was zeros before its first use; `bus` is null or points to
/// the bus that it was opened on. `each` is null or may be called with the context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hv_storage_close(
    storage: *mut hv_storage,
    bus: *mut hv_bus,
    each: Option<unsafe extern "C" fn(context: *mut c_void, tag: *mut c_void)>,
    context: *mut c_void,
) -> c_int {
    // SAFETY: `storage` is null or points to a controller, by this function's contract; it has the size and the
    // alignment of the object, which is asserted above.
    let object: Result<&StorageObject, c_int> = unsafe { StorageObject::at(storage.cast()) };
    let entered = object.and_then(Object::enter);
    let mut entered = match entered {
        Ok(entered) => entered,
        Err(error) => return error,
    };
    let tell = |tag: Tag| {
        if let Some(each) = each {
            // SAFETY: the caller vouches that the function may be called with the context, by this function's contract.
            unsafe { each(context, tag.tag) };
        }
    };
    let closing = |bus: &mut Entered<'static, Shared, Inner>, shared: &'static Shared| {
        entered.user.check(bus)?;
        close(&mut entered, &mut bus.client, &mut Pause::new(shared), tell)
    };
    // SAFETY: `bus` is null or points to a bus, by this function's contract.
    let closed = unsafe { with(bus, closing) };
    if closed.is_ok() {
        entered.close(|_| ());
    }
    number(closed.map(|()| 0))
}

fn close(
    device: &mut StorageDevice,
    client: &mut BusClient,
    pause: &mut Pause,
    tell: impl Fn(Tag),
) -> Result<(), Code> {
    // What has ended comes back as well: the controller would drop it.
    while let State::Open(scsi) = &mut device.state
        && let Ok(Some(done)) = scsi.poll()
    {
        tell(done.tag);
    }
    device.state.close(device.channel, client, pause, |flights| {
        flights.into_iter().flatten().for_each(|(tag, _)| tell(tag));
    })
}
