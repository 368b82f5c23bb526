//! An /init for Linux that prints the counter when it starts, and powers off: with nothing else in the initramfs, that
//! is the time a kernel takes from its first instruction to user space.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls")]

use core::arch::{asm, global_asm};
use core::fmt::{self, Write};
use core::panic::PanicInfo;

/// System calls of arm64 Linux (include/uapi/asm-generic/unistd.h), and their arguments.
const IOCTL: u64 = 29;
const WRITE: u64 = 64;
const REBOOT: u64 = 142;
/// Waits until all output is sent, if the argument is not 0 (include/uapi/asm-generic/ioctls.h).
const TCSBRK: u64 = 0x5409;
/// The two magic numbers of reboot(2), and the command (include/uapi/linux/reboot.h).
const MAGIC: [u64; 2] = [0xfee1_dead, 672_274_793];
const POWER_OFF: u64 = 0x4321_fedc;
/// The console, which the kernel opens for /init.
const CONSOLE: u64 = 1;

global_asm!(
    ".global _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mrs x0, cntvct_el0",
    "b bench_init"
);

fn call(number: u64, [a, b, c]: [u64; 3]) {
    // SAFETY: none of the calls made here writes to memory.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a => _, in("x1") b, in("x2") c, options(nostack));
    }
}

struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        call(WRITE, [CONSOLE, text.as_ptr() as u64, text.len() as u64]);
        Ok(())
    }
}

#[unsafe(no_mangle)]
extern "C" fn bench_init(counter: u64) -> ! {
    let frequency: u64;
    // SAFETY: Linux lets programs read the counter.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) frequency, options(nostack, nomem, preserves_flags)) };
    let nanoseconds = u128::from(counter) * 1_000_000_000 / u128::from(frequency);
    // If the console fails, there is no one to tell.
    let _ = writeln!(Console, "bench: boot {nanoseconds}");
    end()
}

fn end() -> ! {
    call(IOCTL, [CONSOLE, TCSBRK, 1]);
    loop {
        call(REBOOT, [MAGIC[0], MAGIC[1], POWER_OFF]);
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    end()
}
