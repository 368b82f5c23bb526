//! What the suite learns about the host before the first case: its initial state and its features.

use hv_tlfs::features::{Enlightenments, Features, HypervisorVersion, ImplementationLimits};
use hv_tlfs::guest_id::{GuestOsId, OpenSourceOs};
use hv_tlfs::register::{RegisterName, RegisterValue};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::SINT_COUNT;
use hv_tlfs::timer::STIMER_COUNT;

use crate::cx::Cx;
use crate::env::MAX_VPS;

/// Guest OS id that the suite writes: open source, no known system, version 1.
pub(crate) const GUEST_ID: u64 =
    GuestOsId(0).with_open_source(true).with_os_type(OpenSourceOs(0x7f)).with_version(1).0;

/// The value of a register, or the status of the failed read.
pub(crate) type Read = Result<u64, HvStatus>;

const UNREAD: Read = Err(HvStatus::SUCCESS);

/// Facts about a VP.
#[derive(Clone, Copy)]
pub(crate) struct VpFacts {
    /// Its VP index.
    pub(crate) index: u32,
    /// Registers before the suite wrote any of this VP.
    pub(crate) control: Read,
    pub(crate) message_page: Read,
    pub(crate) event_page: Read,
    pub(crate) sints: [Read; SINT_COUNT],
    pub(crate) timers: [[Read; 2]; STIMER_COUNT],
}

/// Facts about the host.
pub(crate) struct Facts {
    /// Guest OS id before the suite wrote it.
    pub(crate) guest_id: Read,
    /// Reference TSC register before the suite wrote it.
    pub(crate) reference_tsc: Read,
    /// Crash parameters before the suite wrote them.
    pub(crate) crash: [Read; 5],
    pub(crate) version: HypervisorVersion,
    pub(crate) features: Features,
    pub(crate) enlightenments: Enlightenments,
    pub(crate) limits: ImplementationLimits,
    pub(crate) vps: [VpFacts; MAX_VPS],
}

impl VpFacts {
    const NEW: Self = Self {
        index: u32::MAX,
        control: UNREAD,
        message_page: UNREAD,
        event_page: UNREAD,
        sints: [UNREAD; SINT_COUNT],
        timers: [[UNREAD; 2]; STIMER_COUNT],
    };

    /// Reads the calling VP's registers.
    pub(crate) fn read(cx: &Cx<'_>) -> Self {
        Self {
            index: cx.get(RegisterName::VP_INDEX).map_or(u32::MAX, |index| index as u32),
            control: cx.get(RegisterName::SCONTROL),
            message_page: cx.get(RegisterName::SIMP),
            event_page: cx.get(RegisterName::SIEFP),
            sints: core::array::from_fn(|n| cx.get(RegisterName::sint(n as u8))),
            timers: core::array::from_fn(|n| {
                let n = n as u8;
                [cx.get(RegisterName::stimer_config(n)), cx.get(RegisterName::stimer_count(n))]
            }),
        }
    }
}

impl Default for VpFacts {
    fn default() -> Self {
        Self::NEW
    }
}

impl Facts {
    /// Facts of which none is read.
    pub(crate) const NEW: Self = Self {
        guest_id: UNREAD,
        reference_tsc: UNREAD,
        crash: [UNREAD; 5],
        version: HypervisorVersion::from_register(RegisterValue::from_u64(0)),
        features: Features::from_register(RegisterValue::from_u64(0)),
        enlightenments: Enlightenments::from_register(RegisterValue::from_u64(0)),
        limits: ImplementationLimits::from_register(RegisterValue::from_u64(0)),
        vps: [VpFacts::NEW; MAX_VPS],
    };
}
