//! The parts that the programs share: start, system calls, the console, and the end.
//!
//! Each is an `/init` without a C library; the initramfs contains `/dev/console`, and what the program itself needs.
//!
//! Source of the numbers: Linux, include/uapi/asm-generic/unistd.h, include/uapi/linux/reboot.h.
#![no_std]
#![expect(unsafe_code, reason = "system calls")]

use core::arch::asm;
use core::ffi::CStr;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

/// Numbers of system calls.
pub mod number {
    /// ioctl(2)
    pub const IOCTL: u64 = 29;
    /// mount(2)
    pub const MOUNT: u64 = 40;
    /// openat(2)
    pub const OPENAT: u64 = 56;
    /// close(2)
    pub const CLOSE: u64 = 57;
    /// read(2)
    pub const READ: u64 = 63;
    /// write(2)
    pub const WRITE: u64 = 64;
    /// pread64(2)
    pub const PREAD64: u64 = 67;
    /// pwrite64(2)
    pub const PWRITE64: u64 = 68;
    /// sync(2)
    pub const SYNC: u64 = 81;
    /// fsync(2)
    pub const FSYNC: u64 = 82;
    /// exit(2)
    pub const EXIT: u64 = 93;
    /// nanosleep(2)
    pub const NANOSLEEP: u64 = 101;
    /// kexec_load(2)
    pub const KEXEC_LOAD: u64 = 104;
    /// init_module(2)
    pub const INIT_MODULE: u64 = 105;
    /// syslog(2)
    pub const SYSLOG: u64 = 116;
    /// sched_setaffinity(2)
    pub const SCHED_SETAFFINITY: u64 = 122;
    /// sched_getaffinity(2)
    pub const SCHED_GETAFFINITY: u64 = 123;
    /// reboot(2)
    pub const REBOOT: u64 = 142;
    /// socket(2)
    pub const SOCKET: u64 = 198;
    /// sendto(2)
    pub const SENDTO: u64 = 206;
    /// recvfrom(2)
    pub const RECVFROM: u64 = 207;
    /// clone(2)
    pub const CLONE: u64 = 220;
    /// mmap(2)
    pub const MMAP: u64 = 222;
    /// perf_event_open(2)
    pub const PERF_EVENT_OPEN: u64 = 241;
    /// wait4(2)
    pub const WAIT4: u64 = 260;
    /// getrandom(2)
    pub const GETRANDOM: u64 = 278;
}

/// The command of [`reboot`] that powers off: LINUX_REBOOT_CMD_POWER_OFF.
pub const POWER_OFF: u64 = 0x4321_fedc;
/// The command of [`reboot`] that starts the loaded kernel: LINUX_REBOOT_CMD_KEXEC.
pub const KEXEC: u64 = 0x4558_4543;

/// Makes a system call; a negative result is an error number negated.
///
/// # Safety
///
/// As the call with these arguments requires: Rust code must not use the memory that it writes in any other way.
pub unsafe fn call(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> i64 {
    let result: u64;
    // SAFETY: the kernel preserves all registers but X0; the caller promises that no memory in use is written.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d, in("x4") e,
            in("x5") f, options(nostack));
    }
    result as i64
}

/// The console, which the kernel opens for /init.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the kernel reads the text only.
        unsafe { call(number::WRITE, [1, text.as_ptr() as u64, text.len() as u64, 0, 0, 0]) };
        Ok(())
    }
}

/// Prints a line. If the console fails, there is no one to tell.
#[macro_export]
macro_rules! say {
    ($($format:tt)*) => {{
        let _ = ::core::fmt::Write::write_fmt(&mut $crate::Console, ::core::format_args!("{}\n", ::core::format_args!($($format)*)));
    }};
}

/// Converts a negative result to its error number.
pub const fn error(result: i64) -> Result<u64, i64> {
    if result < 0 { Err(-result) } else { Ok(result as u64) }
}

/// Mounts one of the kernel's own file systems.
pub fn mount(kind: &CStr, place: &CStr) -> Result<(), i64> {
    let (kind, place) = (kind.as_ptr() as u64, place.as_ptr() as u64);
    // SAFETY: the kernel reads the strings only.
    error(unsafe { call(number::MOUNT, [kind, place, kind, 0, 0, 0]) }).map(drop)
}

/// Allocates zeroed memory, which is never freed.
pub fn memory(size: usize) -> Result<&'static mut [u8], i64> {
    const READ_WRITE: u64 = 3;
    const PRIVATE_ANONYMOUS: u64 = 0x22;
    // SAFETY: the kernel maps new pages.
    let start =
        error(unsafe { call(number::MMAP, [0, size as u64, READ_WRITE, PRIVATE_ANONYMOUS, u64::MAX, 0]) })?;
    // SAFETY: the pages are new, so mapped and zeroed, and nothing else refers to them.
    Ok(unsafe { core::slice::from_raw_parts_mut(start as *mut u8, size) })
}

/// Reads a file, of `most` bytes at most.
pub fn read(path: &CStr, most: usize) -> Result<&'static mut [u8], i64> {
    const HERE: u64 = -100i64 as u64;
    // SAFETY: the kernel reads the path only.
    let file = error(unsafe { call(number::OPENAT, [HERE, path.as_ptr() as u64, 0, 0, 0, 0]) })?;
    let buffer = memory(most)?;
    let mut length = 0;
    while length < most {
        let rest = &mut buffer[length..];
        let arguments = [file, rest.as_mut_ptr() as u64, rest.len() as u64, 0, 0, 0];
        // SAFETY: the kernel writes to the rest of the buffer, which is borrowed mutably.
        match error(unsafe { call(number::READ, arguments) })? {
            0 => break,
            count => length += count as usize,
        }
    }
    Ok(&mut buffer[..length])
}

/// Ends the kernel with one of these commands, once all output is sent. Returns only with an error.
pub fn reboot(how: u64) -> i64 {
    const TCSBRK: u64 = 0x5409;
    const MAGIC: [u64; 2] = [0xfee1_dead, 672_274_793];
    // SAFETY: the call accesses no memory.
    unsafe { call(number::IOCTL, [1, TCSBRK, 1, 0, 0, 0]) };
    // SAFETY: the call takes numbers only, and ends the kernel.
    unsafe { call(number::REBOOT, [MAGIC[0], MAGIC[1], how, 0, 0, 0]) }
}

/// Powers off.
pub fn power_off() -> ! {
    loop {
        reboot(POWER_OFF);
    }
}

/// Names the program's main function: `fn(stack)`, where `stack` points to the argument count, arguments and
/// environment (System V ABI for the Arm 64-bit architecture, "Process initialization").
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        ::core::arch::global_asm!(
            ".global _start",
            "_start:",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, sp",
            "b linux_main"
        );

        #[unsafe(no_mangle)]
        extern "C" fn linux_main(stack: *const u64) -> ! {
            let main: fn(*const u64) = $main;
            main(stack);
            $crate::power_off()
        }
    };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("{info}");
    power_off()
}
