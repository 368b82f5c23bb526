//! The machine that `hv` runs over KVM: a process of its own, as QEMU is one.
//!
//! It is told of its guest and tells of it in the same way as the hypervisor at EL2: by the boot information and the
//! reports in the machine's RAM, which is a file that the tool holds open. So all that the tool does before a run,
//! beside it and after it is the same; and the process confines itself to the system calls of a run before the guest's
//! first instruction.
//!
//! | file | what |
//! |---|---|
//! | `accounts` | the report, from the partition's events |
//! | `console`, `keyboard` | the guest's output; what is typed |
//! | `rings` | the trace, in rings that the tool reads |
//! | `hearer` | what hears of the guest: those two, the strict mode's judge, injected faults |
//! | `devices`, `disks`, `disk` | VMBus's devices; the disks among them, and the file of one |
//! | `jobs` | the requests of disks that wait, and the workers that take them |
//! | `ports`, `network` | the ports to the tool; passt behind the guest's card |
//! | `pipe` | a socket that makes no VP wait |
//! | `handed` | the descriptors that the tool hands over |
//! | `faults` | injected faults that have a time |
//! | `loopback` | connections that lead back to the guest |
//! | `machine` | the process: memory, partition, console, the end |
//!
//! It is a crate of its own, apart from the tool, because it is compiled for speed: each hypercall of the guest comes
//! through here.
#![forbid(unsafe_code)]

#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod accounts;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod console;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod devices;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod disk;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod disks;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod faults;
mod handed;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod hearer;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod jobs;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod keyboard;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod loopback;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod machine;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod network;
#[cfg(any(test, all(target_os = "linux", target_arch = "aarch64")))]
mod pipe;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod ports;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod rings;

pub use handed::Handed;
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub use machine::run;

/// Checks that KVM of this machine can run a partition.
///
/// # Errors
/// What is missing, and what to do.
#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
pub fn probe() -> anyhow::Result<()> {
    Ok(hv_kvm::KvmVm::probe()?)
}

/// Checks that KVM of this machine can run a partition: it cannot.
///
/// # Errors
/// What is missing.
#[cfg(not(all(target_os = "linux", target_arch = "aarch64")))]
pub fn probe() -> anyhow::Result<()> {
    let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
    anyhow::bail!("KVM runs ARM64 guests on ARM64 Linux alone, and this is {processor} {system}")
}
