//! The system table, and the services in it.
//!
//! Source: UEFI Specification 2.10, "EFI System Table", "Services - Boot Services", "Console Support",
//! "EFI Simple File System Protocol".
#![expect(unsafe_code, reason = "the application calls through pointers, and hands pointers over")]
#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a pointer of the application is an address and an access, with one proof"
)]

use core::cell::UnsafeCell;
use core::ffi::c_void;
use core::mem::MaybeUninit;
use core::ptr::{addr_of_mut, null_mut};
use core::sync::atomic::{AtomicUsize, Ordering};

use rt::{power, print, println};
use uefi_raw::protocol::console::SimpleTextOutputProtocol;
use uefi_raw::protocol::file_system::{FileAttribute, FileMode, FileProtocolV1, SimpleFileSystemProtocol};
use uefi_raw::protocol::loaded_image::LoadedImageProtocol;
use uefi_raw::table::boot::{BootServices, Tpl};
use uefi_raw::table::system::SystemTable;
use uefi_raw::table::{Header, Revision};
use uefi_raw::{Char16, Guid, Handle, Status};

use crate::pe::Image;

/// A structure of the interface, of which the application has a pointer.
struct Shared<T>(UnsafeCell<MaybeUninit<T>>);

// SAFETY: there is one CPU, and structures are written before the application starts.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::zeroed()))
    }

    const fn get(&self) -> *mut T {
        self.0.get().cast()
    }

    /// Lets every word be a function that says that it is not there.
    fn fill(&self) -> *mut T {
        for n in 0..size_of::<T>() / 8 {
            // SAFETY: inside the structure, before anybody else knows of it.
            unsafe { self.get().cast::<u64>().add(n).write(absent as *const () as u64) };
        }
        self.get()
    }
}

static TABLE: Shared<SystemTable> = Shared::new();
static SERVICES: Shared<BootServices> = Shared::new();
static CONSOLE: Shared<SimpleTextOutputProtocol> = Shared::new();
static IMAGE: Shared<LoadedImageProtocol> = Shared::new();
static VOLUME: Shared<SimpleFileSystemProtocol> = Shared::new();
static FILE: Shared<FileProtocolV1> = Shared::new();
static OPTIONS: Shared<[Char16; 256]> = Shared::new();

static VENDOR: [Char16; 5] = [b's' as u16, b'h' as u16, b'i' as u16, b'm' as u16, 0];
static PRIORITY: AtomicUsize = AtomicUsize::new(Tpl::APPLICATION.0);

extern "efiapi" fn absent() -> Status {
    panic!("the application called a service that the shim lacks")
}

unsafe extern "efiapi" fn raise_tpl(new: Tpl) -> Tpl {
    Tpl(PRIORITY.swap(new.0, Ordering::Relaxed))
}

unsafe extern "efiapi" fn restore_tpl(old: Tpl) {
    PRIORITY.store(old.0, Ordering::Relaxed);
}

unsafe extern "efiapi" fn handle_protocol(
    handle: Handle,
    guid: *const Guid,
    found: *mut *mut c_void,
) -> Status {
    // SAFETY: the application hands a GUID over.
    let guid = unsafe { guid.read_unaligned() };
    let interface = if handle == IMAGE.get().cast() && guid == LoadedImageProtocol::GUID {
        IMAGE.get().cast()
    } else if handle == VOLUME.get().cast() && guid == SimpleFileSystemProtocol::GUID {
        VOLUME.get().cast()
    } else {
        return Status::UNSUPPORTED;
    };
    // SAFETY: the place that the application gave for it.
    unsafe { found.write(interface) };
    Status::SUCCESS
}

unsafe extern "efiapi" fn exit(_image: Handle, status: Status, _size: usize, _data: *mut Char16) -> Status {
    println!("shim: the application left with {:#x}", status.0);
    power::off()
}

/// Prints text that ends with a zero.
///
/// # Safety
///
/// It does end with a zero.
unsafe fn show(mut text: *const Char16) {
    loop {
        // SAFETY: the promise of the caller.
        let character = unsafe { text.read() };
        match u8::try_from(character) {
            Ok(0) => return,
            Ok(b'\r') => {}
            Ok(byte) => print!("{}", char::from(byte)),
            Err(_) => print!("?"),
        }
        // SAFETY: the character was not the zero that ends the text, so the next one is part of it.
        text = unsafe { text.add(1) };
    }
}

unsafe extern "efiapi" fn output_string(_this: *mut SimpleTextOutputProtocol, text: *const Char16) -> Status {
    // SAFETY: what the protocol asks of the application.
    unsafe { show(text) };
    Status::SUCCESS
}

unsafe extern "efiapi" fn open_volume(
    _this: *mut SimpleFileSystemProtocol,
    root: *mut *mut FileProtocolV1,
) -> Status {
    // SAFETY: the place that the application gave for it.
    unsafe { root.write(FILE.get()) };
    Status::SUCCESS
}

unsafe extern "efiapi" fn open(
    _this: *mut FileProtocolV1,
    file: *mut *mut FileProtocolV1,
    name: *const Char16,
    mode: FileMode,
    _attributes: FileAttribute,
) -> Status {
    if !mode.contains(FileMode::CREATE) {
        return Status::NOT_FOUND;
    }
    print!("shim: file ");
    // SAFETY: what the protocol asks of the application, for both.
    unsafe {
        show(name);
        file.write(FILE.get());
    }
    println!();
    Status::SUCCESS
}

unsafe extern "efiapi" fn write(
    _this: *mut FileProtocolV1,
    size: *mut usize,
    bytes: *const c_void,
) -> Status {
    // SAFETY: what the protocol asks of the application.
    let bytes = unsafe { core::slice::from_raw_parts(bytes.cast::<u8>(), size.read()) };
    let text = core::str::from_utf8(bytes).expect("the report is text");
    text.lines().for_each(|line| println!("{line}"));
    println!("shim: end of file");
    Status::SUCCESS
}

unsafe extern "efiapi" fn close(_this: *mut FileProtocolV1) -> Status {
    Status::SUCCESS
}

/// Fills the structures.
fn prepare(image: &Image, tables: u64, options: &str) {
    // SAFETY: the tool has put its system table here, whose configuration tables are right for the application too; our
    // structures are not shared yet, and every field that is written is one that the application may read.
    unsafe {
        let services = SERVICES.fill();
        addr_of_mut!((*services).raise_tpl).write(raise_tpl);
        addr_of_mut!((*services).restore_tpl).write(restore_tpl);
        addr_of_mut!((*services).handle_protocol).write(handle_protocol);
        addr_of_mut!((*services).exit).write(exit);
        addr_of_mut!((*CONSOLE.fill()).output_string).write(output_string);
        addr_of_mut!((*VOLUME.fill()).open_volume).write(open_volume);
        let file = FILE.fill();
        addr_of_mut!((*file).open).write(open);
        addr_of_mut!((*file).write).write(write);
        addr_of_mut!((*file).close).write(close);

        let text = OPTIONS.get().cast::<Char16>();
        let length = options.len().min(255);
        for (n, byte) in options.bytes().take(length).enumerate() {
            text.add(n).write(byte.into());
        }
        let loaded = IMAGE.get();
        addr_of_mut!((*loaded).device_handle).write(VOLUME.get().cast());
        addr_of_mut!((*loaded).image_base).write(image.base as *const c_void);
        addr_of_mut!((*loaded).image_size).write(image.size);
        addr_of_mut!((*loaded).load_options).write(text.cast());
        addr_of_mut!((*loaded).load_options_size).write(2 * length as u32);

        let tools = tables as *const SystemTable;
        TABLE.get().write(SystemTable {
            header: Header {
                signature: SystemTable::SIGNATURE,
                revision: Revision::EFI_2_100,
                size: size_of::<SystemTable>() as u32,
                ..Header::default()
            },
            firmware_vendor: VENDOR.as_ptr(),
            stdout: CONSOLE.get(),
            boot_services: SERVICES.get(),
            number_of_configuration_table_entries: (*tools).number_of_configuration_table_entries,
            configuration_table: (*tools).configuration_table,
            stdin_handle: null_mut(),
            ..SystemTable::default()
        });
    }
}

/// Starts the application, and gives what it returns.
pub(crate) fn start(image: &Image, tables: u64, options: &str) -> Status {
    prepare(image, tables, options);
    // SAFETY: the entry of a UEFI application has this type.
    let entry: unsafe extern "efiapi" fn(Handle, *mut SystemTable) -> Status =
        unsafe { core::mem::transmute(image.entry as *const ()) };
    // SAFETY: the application was loaded and gets what it needs; it runs on our stack, with FP and SIMD on.
    unsafe { entry(IMAGE.get().cast(), TABLE.get()) }
}
