//! The firmware's services. Every call is made while the firmware runs, not while it is frozen.
#![expect(unsafe_code, reason = "the firmware's tables are pointers to functions")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a call through a table of the firmware is a read and a call, with one proof"
)]

use core::ffi::c_void;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use uefi_raw::protocol::file_system::{FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::Tpl;
use uefi_raw::table::system::SystemTable;
use uefi_raw::{Guid, Handle, Status};

use crate::report::note;

static TABLE: AtomicPtr<SystemTable> = AtomicPtr::new(null_mut());
static IMAGE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());

/// Maximum length of a line, path or set of options that the firmware is given or asked for; the rest is dropped.
const LINE: usize = 240;

/// The firmware, from the two arguments of the application's entry.
pub(crate) struct Firmware;

impl Firmware {
    /// Stores the entry's arguments.
    pub(crate) fn init(image: Handle, table: *mut SystemTable) {
        IMAGE.store(image, Ordering::Relaxed);
        TABLE.store(table, Ordering::Relaxed);
    }
}

fn table() -> *mut SystemTable {
    TABLE.load(Ordering::Relaxed)
}

fn image() -> Handle {
    IMAGE.load(Ordering::Relaxed)
}

/// Calls a boot service.
macro_rules! service {
    ($name:ident($($argument:expr),*)) => {
        // SAFETY: the entry's table and its services stay valid until ExitBootServices, which this program never calls;
        // the arguments are what the UEFI Specification asks of this service.
        unsafe { ((*(*table()).boot_services).$name)($($argument),*) }
    };
}

/// Converts a line to the firmware's text format, with an end of line if it is for the console. Characters outside
/// ASCII become `?`.
fn wide(text: &str, end: &str) -> [u16; LINE + 3] {
    let mut line = [0; LINE + 3];
    let ascii = |byte: u8| if byte.is_ascii() { byte } else { b'?' };
    let bytes = text.bytes().take(LINE).chain(end.bytes());
    for (to, byte) in line.iter_mut().zip(bytes) {
        *to = ascii(byte).into();
    }
    line
}

/// Shows a line on the console.
pub(crate) fn show(line: &str) {
    // SAFETY: the table is valid before ExitBootServices, which this program does not call; an absent console is null.
    let console = unsafe { (*table()).stdout };
    if !console.is_null() {
        // SAFETY: the console's protocol, and a string that ends with a zero. Characters that it cannot show are
        // dropped.
        let _ = unsafe { ((*console).output_string)(console, wide(line, "\r\n").as_ptr()) };
    }
}

/// Shows a line with a status after it.
pub(crate) fn show_status(line: &str, status: Status) {
    show(line);
    // An error has the top bit set; the number below is that of the specification's table.
    let number = status.0 & 0xff;
    let digits =
        [b' ', b' ', b'E', b'F', b'I', b' ', b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8];
    show(core::str::from_utf8(&digits).unwrap_or_default());
}

/// Prints which firmware this is.
pub(crate) fn describe() {
    let mut name = [0u8; 64];
    // SAFETY: the table is valid, and its vendor a string that ends with a zero.
    let (vendor, revision, uefi) =
        unsafe { ((*table()).firmware_vendor, (*table()).firmware_revision, (*table()).header.revision.0) };
    let name = if vendor.is_null() {
        ""
    } else {
        // SAFETY: the vendor is a string that ends with a zero, and not null.
        unsafe { narrow(vendor, usize::MAX, &mut name) }
    };
    note!("firmware: {name}, revision {revision:#x}, UEFI {}.{}", uefi >> 16, (uefi & 0xffff) / 10);
}

/// Copies the firmware's text: ASCII, anything else as `?`.
///
/// # Safety
///
/// `text` points to `length` characters, or to fewer followed by a zero.
unsafe fn narrow(text: *const u16, length: usize, into: &mut [u8]) -> &str {
    let mut count = 0;
    for place in into.iter_mut().take(length) {
        // SAFETY: the caller promises `length` characters or a zero before that; nothing behind a zero is read.
        let character = unsafe { text.add(count).read_unaligned() };
        if character == 0 {
            break;
        }
        *place = u8::try_from(character).ok().filter(u8::is_ascii).unwrap_or(b'?');
        count += 1;
    }
    core::str::from_utf8(&into[..count]).unwrap_or_default()
}

/// Returns a table of the firmware's configuration, by its GUID.
pub(crate) fn configuration(guid: Guid) -> Option<u64> {
    // SAFETY: the table is valid, and its list has this number of entries.
    let list = unsafe {
        let (list, count) =
            ((*table()).configuration_table, (*table()).number_of_configuration_table_entries);
        if list.is_null() { &[] } else { core::slice::from_raw_parts(list, count) }
    };
    list.iter().find(|entry| entry.vendor_guid == guid).map(|entry| entry.vendor_table as u64)
}

/// Asks a handle for a protocol.
fn protocol<T>(handle: Handle, guid: &Guid) -> Result<*mut T, Status> {
    let mut found: *mut c_void = null_mut();
    let status = service!(handle_protocol(handle, guid, &mut found));
    if status.is_success() && !found.is_null() { Ok(found.cast()) } else { Err(status) }
}

/// Returns the value of `name=value` among the load options.
pub(crate) fn option(name: &str) -> Option<&'static str> {
    static OPTIONS: spin::Once<([u8; LINE], usize)> = spin::Once::new();
    let (bytes, length) = OPTIONS.call_once(|| {
        let mut bytes = [0; LINE];
        let Ok(image) = protocol::<LoadedImageProtocol>(image(), &LoadedImageProtocol::GUID) else {
            return (bytes, 0);
        };
        // SAFETY: the protocol's structure is the firmware's, which does not change it now.
        let (options, size) = unsafe { ((*image).load_options, (*image).load_options_size) };
        if options.is_null() {
            return (bytes, 0);
        }
        // SAFETY: this number of bytes is there. They may not be text: anything else is not one of our options.
        let length = unsafe { narrow(options.cast(), size as usize / 2, &mut bytes) }.len();
        (bytes, length)
    });
    let text = core::str::from_utf8(&bytes[..*length]).unwrap_or_default();
    text.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// Turns an error status into an error.
fn ok(status: Status) -> Result<(), Status> {
    if status.is_success() { Ok(()) } else { Err(status) }
}

/// Writes a file on the volume that the application came from, replacing one of that name.
pub(crate) fn write_file(path: &str, bytes: &[u8]) -> Result<(), Status> {
    let image = protocol::<LoadedImageProtocol>(image(), &LoadedImageProtocol::GUID)?;
    // SAFETY: the protocol's structure is the firmware's.
    let device = unsafe { (*image).device_handle };
    let volume = protocol::<SimpleFileSystemProtocol>(device, &SimpleFileSystemProtocol::GUID)?;
    let mut root: *mut FileProtocolV1 = null_mut();
    // SAFETY: the protocol that the firmware gave.
    ok(unsafe { ((*volume).open_volume)(volume, &mut root) })?;
    let path = wide(path, "");
    let open = |mode: FileMode| {
        let mut file: *mut FileProtocolV1 = null_mut();
        // SAFETY: the root is open, and the path ends with a zero.
        let status = unsafe { ((*root).open)(root, &mut file, path.as_ptr(), mode, FileAttribute::empty()) };
        ok(status).map(|()| file)
    };
    if let Ok(old) = open(FileMode::READ | FileMode::WRITE) {
        // SAFETY: an open file; this closes it too. If it stays, its end may stay behind the new text.
        let _ = unsafe { ((*old).delete)(old) };
    }
    let result = open(FileMode::READ | FileMode::WRITE | FileMode::CREATE).and_then(|file| {
        let mut size = bytes.len();
        // SAFETY: an open file, and a buffer of this length.
        let written = ok(unsafe { ((*file).write)(file, &mut size, bytes.as_ptr().cast()) });
        // SAFETY: an open file, which is not used afterwards.
        let closed = ok(unsafe { ((*file).close)(file) });
        written.and(closed)
    });
    // SAFETY: an open directory, which is not used afterwards.
    let closed = ok(unsafe { ((*root).close)(root) });
    result.and(closed)
}

/// Raises the task priority to the highest: the firmware handles no event. Returns the previous one.
pub(crate) fn raise_priority() -> usize {
    service!(raise_tpl(Tpl::HIGH_LEVEL)).0
}

/// Lowers the task priority again. Events that are due are handled at once.
pub(crate) fn restore_priority(before: usize) {
    service!(restore_tpl(Tpl(before)));
}

/// Exits the application.
pub(crate) fn exit(status: Status) -> ! {
    // If the firmware refuses, nothing else is left to do.
    let _ = service!(exit(image(), status, 0, null_mut()));
    loop {
        core::hint::spin_loop();
    }
}
