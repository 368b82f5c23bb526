//! KVM itself, behind the traits of `kvm`.
//!
//! Source: Linux, Documentation/virt/kvm/api.rst; Documentation/virt/kvm/devices/arm-vgic-v3.rst, devices/vm.rst.

// Registers and attributes of fewer than 8 bytes are read into numbers of 8.
const _: () = assert!(cfg!(target_endian = "little"), "hv-kvm is for little-endian hosts");

mod board;
mod counter;
mod create;
mod error;
mod gic;
mod sandbox;
mod thread;
mod vcpu;
mod vm;

pub use error::Error;
pub use sandbox::enter_sandbox;
pub use thread::{KvmThread, KvmWaker};
pub use vcpu::KvmVcpu;
pub use vm::KvmVm;
