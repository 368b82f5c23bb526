//! Why a machine is not saved, or not restored.

use std::{error, fmt, io};

use hv_vmbus::BusError;

use crate::gic::GicRegister;
use crate::register::Register;

/// Reason why a machine could not be saved.
#[derive(Debug)]
#[non_exhaustive]
pub enum SaveError {
    /// It was not stopped.
    NotStopped,
    /// Requests of the partition's devices are in flight.
    Partition(BusError),
    /// KVM does not tell a part of its state.
    Kvm {
        /// The part.
        what: String,
        /// The error.
        source: io::Error,
    },
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotStopped => f.write_str("the machine was not stopped: a run must have ended as stopped"),
            Self::Partition(error) => error.fmt(f),
            Self::Kvm { what, source } => write!(f, "KVM does not tell {what}: {source}"),
        }
    }
}

impl error::Error for SaveError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NotStopped => None,
            Self::Partition(error) => Some(error),
            Self::Kvm { source, .. } => Some(source),
        }
    }
}

/// Reason why a machine could not be restored.
#[derive(Debug)]
#[non_exhaustive]
pub enum RestoreError {
    /// It has run, or was restored before.
    NotNew,
    /// It is no image, or one of its parts is invalid, or its partition has another configuration.
    Image(hv_memory::save::RestoreError),
    /// The saved machine had another number of VPs.
    Vps {
        /// The saved number.
        saved: usize,
        /// This machine's.
        here: usize,
    },
    /// The saved machine had its devices at other addresses.
    Layout,
    /// The saved machine's counter had another frequency, which its guest knows.
    Frequency {
        /// The saved one in Hz.
        saved: u64,
        /// This machine's.
        here: u64,
    },
    /// A virtual CPU has no such register.
    NoRegister {
        /// The VP.
        vp: usize,
        /// The register.
        register: Register,
    },
    /// A virtual CPU does not take a register's value.
    Register {
        /// The VP.
        vp: usize,
        /// The register.
        register: Register,
        /// The saved value, of which only the low half is told.
        saved: u64,
        /// The value here, which is expected unless the register can be written.
        here: Option<u64>,
        /// KVM's error; `None`: it may not be another value.
        source: Option<io::Error>,
    },
    /// The interrupt controller does not take a register's value.
    Gic {
        /// The register.
        register: GicRegister,
        /// The saved value.
        saved: u64,
        /// The value here.
        here: Option<u64>,
        /// KVM's error.
        source: io::Error,
    },
    /// KVM does not take a part of the state.
    Kvm {
        /// The part.
        what: &'static str,
        /// The error.
        source: io::Error,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = |f: &mut fmt::Formatter<'_>, here: &Option<u64>| {
            if let Some(here) = here {
                write!(f, "; expected, as here, {here:#x}")?;
            }
            f.write_str("; restore on a machine with the same CPU and kernel")
        };
        match self {
            Self::NotNew => f.write_str("the machine is not new: create one to restore"),
            Self::Image(error) => error.fmt(f),
            Self::Vps { saved, here } => write!(f, "a machine with {saved} VPs was saved; expected {here}"),
            Self::Layout => f.write_str("the saved machine has its devices at other addresses"),
            Self::Frequency { saved, here } => {
                write!(f, "the saved machine's counter runs at {saved} Hz; expected, as here, {here} Hz")
            }
            Self::NoRegister { vp, register } => {
                write!(f, "VP {vp} was saved with {register}, which KVM does not have here")?;
                expected(f, &None)
            }
            Self::Register { vp, register, saved, here, source } => {
                write!(f, "VP {vp} was saved with {saved:#x} in {register}, which KVM does not take")?;
                if let Some(source) = source {
                    write!(f, " ({source})")?;
                }
                expected(f, here)
            }
            Self::Gic { register, saved, here, source } => {
                write!(f, "{register} was saved with {saved:#x}, which KVM refuses ({source})")?;
                expected(f, here)
            }
            Self::Kvm { what, source } => write!(f, "KVM refuses {what}: {source}"),
        }
    }
}

impl error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Image(error) => Some(error),
            Self::Register { source, .. } => source.as_ref().map(|error| error as _),
            Self::Gic { source, .. } | Self::Kvm { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<hv_memory::save::RestoreError> for RestoreError {
    fn from(error: hv_memory::save::RestoreError) -> Self {
        Self::Image(error)
    }
}
