//! Why there is no virtual machine.

use std::io;

/// An error of [`KvmVm::create`](crate::KvmVm::create).
///
/// Its text has what the system says, so that is not its source: where sources are shown as well, it is shown once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `/dev/kvm` cannot be opened.
    #[error(
        "cannot open /dev/kvm: {0}; it needs a kernel with KVM that has started at EL2, and read and write permission \
         (the group kvm)"
    )]
    Open(io::Error),
    /// The kernel has no SMCCC filter.
    #[error("this kernel's KVM has no SMCCC filter: expected Linux 6.4 or later; boot a newer kernel")]
    NoFilter,
    /// The machine has no GICv3.
    #[error("KVM cannot give a guest a GICv3 ({0}): this machine's GIC is older, and GICv3 is required")]
    NoGic(io::Error),
    /// The number of VPs is invalid.
    #[error("{vps} virtual processors: expected 1 to {max}")]
    Vps {
        /// The requested number.
        vps: usize,
        /// The maximum.
        max: usize,
    },
    /// Guest memory is where a device is.
    #[error("guest memory at {start:#x} to {end:#x} overlaps a device; begin it at 0x40000000")]
    Memory {
        /// First address.
        start: u64,
        /// Last address.
        end: u64,
    },
    /// The page of the helpers' program cannot be allocated.
    #[error("cannot allocate the helpers' page: {0}")]
    Page(vm_memory::mmap::FromRangesError),
    /// The kernel refuses a seccomp filter.
    #[error("cannot confine this process with seccomp: {0}; it needs a kernel with CONFIG_SECCOMP_FILTER")]
    Sandbox(io::Error),
    /// An ioctl that KVM is expected to have failed.
    #[error("KVM refuses {what}: {error}")]
    Ioctl {
        /// What it was for.
        what: &'static str,
        /// The error.
        error: io::Error,
    },
}

/// Says what an ioctl was for.
pub(super) fn ioctl(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |error| Error::Ioctl { what, error: error.into() }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::{Error, io};

    #[test]
    fn what_the_system_says_is_shown_once() {
        let error = || io::Error::from_raw_os_error(2);
        for error in [
            Error::Open(error()),
            Error::NoGic(error()),
            Error::Sandbox(error()),
            Error::Ioctl { what: "it", error: error() },
        ] {
            assert!(error.to_string().contains("No such file") && error.source().is_none(), "{error}");
        }
    }
}
