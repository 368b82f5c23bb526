//! `hv-guest` for kernels in C.
//!
//! The names are those of the 2018 patch ("arm64: hyperv: Add core Hyper-V include files"), and so are the signatures,
//! with one difference: where the patch would crash the machine on a hypervisor error, these functions return the
//! status. What a kernel has to provide (address translation, interrupt control) is in [`hv_guest_os`].
//!
//! C has no handles, so unlike `hv-guest` this crate has global state, all of it in `os.rs`, `interrupts.rs` and
//! `time.rs`. VMBus and its devices (`vmbus/`, with a header of their own) live in the kernel's objects.

#![cfg_attr(not(test), no_std)]

#[cfg(any(target_arch = "aarch64", test))]
mod calls;
#[cfg(any(target_arch = "aarch64", test))]
mod crash;
/// cbindgen:ignore
#[cfg(all(feature = "measure", target_arch = "aarch64"))]
mod hot;
#[cfg(any(target_arch = "aarch64", test))]
mod interrupts;
#[cfg(not(test))]
#[cfg(target_arch = "aarch64")]
mod machine;
#[cfg(test)]
#[path = "tests/machine.rs"]
mod machine;
#[cfg(any(target_arch = "aarch64", test))]
mod os;
#[cfg(any(target_arch = "aarch64", test))]
mod registers;
#[cfg(any(target_arch = "aarch64", test))]
mod synic;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "aarch64", test))]
mod time;
#[expect(unexpected_cfgs, reason = "`hv_abi_header` is for cbindgen, which turns it into an #ifndef")]
mod types;
/// cbindgen:ignore
#[cfg(any(target_arch = "aarch64", test))]
mod vmbus;

pub use types::*;
#[cfg(any(target_arch = "aarch64", test))]
pub use {calls::*, crash::*, interrupts::*, os::*, registers::*, synic::*, time::*, vmbus::*};

/// Stops the CPU. The routines that a kernel calls often cannot panic (`cargo run -p hv-guest-c --example cost` checks
/// the object code); a panic anywhere else ends here.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}
