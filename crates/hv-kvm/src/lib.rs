//! A Hyper-V partition for ARM64 guests over Linux KVM: `hv-partition` behind KVM's virtual CPUs, in user space.
//!
//! It builds on Linux on ARM64; elsewhere the crate is empty. The kernel must be 6.4 or later (KVM's SMCCC filter), the
//! machine must have a GICv3.
//!
//! 1. [`KvmVm::create`] makes a virtual machine from guest memory: its virtual CPUs, the GIC, the filter.
//! 2. [`Machine::new`] joins it with an [`Observer`] of the embedder's: the console's output, and what happens.
//! 3. [`enter_sandbox`] confines the process to the system calls of a run. [`Machine::restore`] comes before it.
//! 4. [`Machine::run`] runs a [`Partition`](hv_partition::Partition) in it: a thread for each VP, until the guest
//!    powers off, resets, or [`Machine::stop`] is called.
//! 5. [`Machine::save`] writes a stopped machine, but for its memory, as one image. [`Machine::restore`] gives it to a
//!    new machine; [`Machine::resume`] goes on with either.
//!
//! How a VP's exits are served, file by file:
//!
//! | file | what |
//! |---|---|
//! | `kvm` | the traits over KVM, which `linux` implements, and tests by a model |
//! | `layout` | the addresses of the machine's devices |
//! | `register` | KVM's numbers of registers |
//! | `call` | the registers of a call, read and written one by one, and its calling convention |
//! | `inject` | exceptions and repeated calls |
//! | `helper` | a virtual CPU that makes interrupts pending and flushes TLBs |
//! | `pl011` | the console |
//! | `slot` | what other threads ask of a VP: to start, to look at its deadline, to stop |
//! | `host` | `hv-host`'s embedder |
//! | `vp` | a VP's thread |
//! | `observer` | what the embedder hears |
//! | `machine`, `outcome` | all of it, and how a run ends |
//! | `gic` | the registers of the interrupt controller that are its state |
//! | `save` | a stopped machine as an image, and back |
//!
//! # Interrupts
//!
//! KVM's PPIs are level-sensitive: a pulse of KVM_IRQ_LINE is lost, and a level is taken again and again. The SynIC's
//! interrupts are edges. So each thread has one more virtual CPU, invisible to the guest, that executes a few
//! instructions (`helper`): it writes GICR_ISPENDR0 of the target, which latches one interrupt, whatever the target
//! does meanwhile. The same virtual CPU flushes the TLBs, for which KVM has no call.
//!
//! # Saved machines
//!
//! An image has all registers that KVM lists of the virtual CPUs of VPs that are on, the interrupt controller, the
//! console, the counter and the partition. The machine that restores it has the same number of VPs, the same
//! [`Layout`], a counter of the same frequency, and a KVM that takes the registers: one of the same CPU and kernel
//! does. The counter goes on from its value, so the guest does not see how long it did not run. An image is not
//! trusted; its hash detects damage alone.
//!
//! # Calling conventions
//!
//! KVM forwards the function id of a call, not the immediate of the instruction. `hvc #1` is told from `hvc #0` by that
//! value: a control word has bit 31 clear, and bits 29:24 other than 6. KVM answers the functions 0x8000_0000 to
//! 0x8000_ffff itself, and says SMCCC 1.1.
// Elsewhere the text above is all that is left of the crate. In front of `cfg`, which drops what follows it.
#![cfg_attr(
    not(all(target_os = "linux", target_arch = "aarch64")),
    allow(rustdoc::broken_intra_doc_links, reason = "what it links to is not built")
)]
#![cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]

mod call;
#[cfg(test)]
mod fake;
mod gic;
mod helper;
mod host;
mod inject;
mod kvm;
mod layout;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod linux;
mod machine;
mod observer;
mod outcome;
mod pl011;
mod register;
mod save;
mod slot;
#[cfg(test)]
mod tests;
mod vp;

pub use call::immediate;
pub use gic::GicRegister;
pub use host::Embedder;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use hv_memory::VmMemory;
pub use kvm::{Exit, Parts, SError, Vcpu, Vm, Waker};
pub use layout::Layout;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use linux::{Error, KvmThread, KvmVcpu, KvmVm, KvmWaker, enter_sandbox};
pub use machine::Machine;
pub use observer::{Guest, Observer};
pub use outcome::RunOutcome;
pub use register::Register;
pub use save::{RestoreError, SaveError};
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use vm_memory;
