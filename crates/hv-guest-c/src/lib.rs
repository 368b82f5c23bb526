//! `hv-guest` for kernels in C.
//!
//! The names are those of the 2018 patch ("arm64: hyperv: Add core Hyper-V include files"), the signatures too, with one
//! difference: where the patch would crash the machine on an error of the hypervisor, these return its status. What a
//! kernel has to give (where memory is, how interrupts are enabled) is in [`hv_guest_os`].
//!
//! C has no handles, so this crate has what `hv-guest` does not: global state, all of it in `os.rs`, `interrupts.rs` and `time.rs`.

#![no_std]

#[cfg(test)]
extern crate std;

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
#[expect(unexpected_cfgs, reason = "`hv_abi_header` is for cbindgen, which makes an #ifndef of it")]
mod types;

pub use types::*;
#[cfg(any(target_arch = "aarch64", test))]
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
