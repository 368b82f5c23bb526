//! `hv-guest` for kernels in C.
//!
//! The names are those of the 2018 patch ("arm64: hyperv: Add core Hyper-V include files"), the signatures too, with one
//! difference: where the patch would crash the machine on an error of the hypervisor, these return its status. What a
//! kernel has to give (where memory is, how interrupts are enabled) is in [`hv_guest_os`].
//!
//! C has no handles, so this crate has what `hv-guest` does not: global state, all of it in `os.rs`, `interrupts.rs` and `time.rs`.

#![no_std]

#[cfg(target_arch = "aarch64")]
mod calls;
#[cfg(target_arch = "aarch64")]
mod crash;
/// cbindgen:ignore
#[cfg(all(feature = "measure", target_arch = "aarch64"))]
mod hot;
#[cfg(target_arch = "aarch64")]
mod interrupts;
#[cfg(target_arch = "aarch64")]
mod os;
#[cfg(target_arch = "aarch64")]
mod registers;
#[cfg(target_arch = "aarch64")]
mod synic;
#[cfg(target_arch = "aarch64")]
mod time;
mod types;

pub use types::*;
#[cfg(target_arch = "aarch64")]
pub use {calls::*, crash::*, interrupts::*, os::*, registers::*, synic::*, time::*};

/// Nothing in this library panics that a kernel calls often (`cargo run -p hv-guest-c --example cost` looks at the object); what is left
/// stops the CPU.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
