//! What only the processor can do: `hvc`, and reading the counter. Available on AArch64; on other targets this module
//! is empty.

#[cfg(target_arch = "aarch64")]
#[expect(unsafe_code, reason = "hvc and the counter need assembly")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub use aarch64::{Cntvct, Either, Hvc1, Smccc};
