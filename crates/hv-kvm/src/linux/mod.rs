//! KVM itself, behind the traits of `kvm`.
//!
//! Source: Linux, Documentation/virt/kvm/api.rst; Documentation/virt/kvm/devices/arm-vgic-v3.rst, devices/vm.rst.

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
