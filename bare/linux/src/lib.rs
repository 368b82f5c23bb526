//! What the programs share: their start, system calls, the console, and the end.
//!
//! Each is an `/init` without a C library, and the only file in the initial file system but for `/dev/console`.
//!
//! Source of the numbers: Linux, include/uapi/asm-generic/unistd.h, include/uapi/linux/reboot.h.
#![no_std]
#![expect(unsafe_code, reason = "system calls")]

use core::arch::asm;
use core::fmt::{self, Write};
use core::panic::PanicInfo;

/// Numbers of system calls.
pub mod number {
    /// ioctl(2)
    pub const IOCTL: u64 = 29;
    /// read(2)
    pub const READ: u64 = 63;
    /// write(2)
    pub const WRITE: u64 = 64;
    /// reboot(2)
    pub const REBOOT: u64 = 142;
    /// mmap(2)
    pub const MMAP: u64 = 222;
    /// perf_event_open(2)
    pub const PERF_EVENT_OPEN: u64 = 241;
}

/// What [`reboot`] does: LINUX_REBOOT_CMD_POWER_OFF.
pub const POWER_OFF: u64 = 0x4321_fedc;

/// Makes a system call; a result below zero is an error number with its sign turned.
///
/// # Safety
///
/// As the call with these arguments demands: what it writes to memory must not be in use by Rust otherwise.
pub unsafe fn call(number: u64, [a, b, c, d, e, f]: [u64; 6]) -> i64 {
    let result: u64;
    // SAFETY: the kernel keeps all registers but X0; the rest is the caller's promise.
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
        // SAFETY: it reads the text.
        unsafe { call(number::WRITE, [1, text.as_ptr() as u64, text.len() as u64, 0, 0, 0]) };
        Ok(())
    }
}

/// Prints a line. A console that does not take it leaves nobody to tell.
#[macro_export]
macro_rules! say {
    ($($format:tt)*) => {{
        let _ = ::core::fmt::Write::write_fmt(&mut $crate::Console, ::core::format_args!("{}\n", ::core::format_args!($($format)*)));
    }};
}

/// Ends the kernel in one of its ways, once all output is sent.
pub fn reboot(how: u64) -> ! {
    const TCSBRK: u64 = 0x5409;
    const MAGIC: [u64; 2] = [0xfee1_dead, 672_274_793];
    // SAFETY: the call takes no memory.
    unsafe { call(number::IOCTL, [1, TCSBRK, 1, 0, 0, 0]) };
    loop {
        // SAFETY: the call takes numbers alone, and ends the kernel.
        unsafe { call(number::REBOOT, [MAGIC[0], MAGIC[1], how, 0, 0, 0]) };
    }
}

/// Names the program's main function: `fn(stack)`, where `stack` points to the argument count, arguments and environment
/// (System V ABI for the Arm 64-bit architecture, "Process initialization").
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
            $crate::reboot($crate::POWER_OFF)
        }
    };
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("{info}");
    reboot(POWER_OFF)
}
