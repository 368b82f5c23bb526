//! An /init that starts `/kernel` with `/initrd` by kexec, and in the second kernel says how long it took.
//!
//! Source: Linux, kexec_file_load(2).
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls and the process's first stack")]

use core::ffi::CStr;

use linux::{call, milliseconds, number, say};

/// The second kernel's command line; what the kernel does not know it passes on in the environment.
const COMMAND_LINE: &CStr = c"console=ttyAMA0 nokaslr panic=-1 generation=2";

linux::entry!(main);

fn main(stack: *const u64) {
    let now = milliseconds();
    if environment(stack).any(|word| word == c"generation=2") {
        say!("kexec: second kernel up at {now} ms");
        return;
    }
    say!("kexec: first kernel up at {now} ms");
    let (kernel, initrd) = (open(c"/kernel"), open(c"/initrd"));
    let length = COMMAND_LINE.to_bytes_with_nul().len() as u64;
    // SAFETY: the kernel reads the files and the text.
    let result = unsafe {
        call(number::KEXEC_FILE_LOAD, [kernel, initrd, length, COMMAND_LINE.as_ptr() as u64, 0, 0])
    };
    say!("kexec: loaded: {result}, at {} ms", milliseconds());
    if result == 0 {
        linux::reboot(linux::KEXEC);
    }
}

fn open(path: &CStr) -> u64 {
    const CURRENT_FOLDER: u64 = -100i64 as u64;
    // SAFETY: the kernel reads the path.
    unsafe { call(number::OPENAT, [CURRENT_FOLDER, path.as_ptr() as u64, 0, 0, 0, 0]) as u64 }
}

/// The environment, behind the arguments.
fn environment(stack: *const u64) -> impl Iterator<Item = &'static CStr> {
    // SAFETY: the stack begins with the number of arguments, as many pointers, and a null.
    let arguments = unsafe { stack.read() } as usize;
    (arguments + 2..).map_while(move |n| {
        // SAFETY: pointers follow, up to a null, where this ends.
        let pointer = unsafe { stack.add(n).read() } as *const core::ffi::c_char;
        // SAFETY: each points to a text that ends with a zero byte and stays.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
    })
}
