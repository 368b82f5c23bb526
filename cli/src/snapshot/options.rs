//! The options of a machine that a snapshot keeps.

use clap::ValueEnum;
use hv_machine::Firmware;
use hv_tlfs::rules::Severity;
use serde::{Deserialize, Serialize};

use crate::net::Back;

/// What a machine was started with, as far as a run that resumes it must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) vps: u32,
    pub(crate) memory: u64,
    pub(crate) cpu: String,
    pub(crate) firmware: FirmwareKind,
    /// Bits of its services.
    pub(crate) devices: u32,
    /// What is behind its network card, if it has one.
    pub(crate) network: Option<Back>,
    pub(crate) strict: Option<Strict>,
    pub(crate) inject: Option<String>,
    pub(crate) hotplug_room: u64,
    pub(crate) uuid: Option<uuid::Uuid>,
}

/// The level from which a broken rule is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strict {
    /// Violations of the interface's rules
    Error,
    /// Also what works here but may fail elsewhere
    Warning,
    /// Also what is allowed but not what a careful guest does
    Note,
    /// No level: broken rules are only reported
    #[value(hide = true)]
    Report,
}

impl Strict {
    /// Returns the lowest severity that counts as a failure.
    pub(crate) const fn fails_from(self) -> Option<Severity> {
        match self {
            Self::Error => Some(Severity::Error),
            Self::Warning => Some(Severity::Warning),
            Self::Note => Some(Severity::Note),
            Self::Report => None,
        }
    }
}

/// The description of the machine for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum FirmwareKind {
    /// ACPI tables with Hyper-V's identity and the VMBus device
    Acpi,
    /// A device tree with a VMBus node, as supported by Linux 7.0 and later
    Dt,
    /// Both: a device tree that also leads to the ACPI tables, for programs that start another one
    Both,
}

impl From<FirmwareKind> for Firmware {
    fn from(kind: FirmwareKind) -> Self {
        match kind {
            FirmwareKind::Acpi => Self::Acpi,
            FirmwareKind::Dt => Self::DeviceTree,
            FirmwareKind::Both => Self::Both,
        }
    }
}
