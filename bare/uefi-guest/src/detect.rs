//! Whether this is a Hyper-V partition: by ACPI, and by the call that asks for the vendor.

use core::fmt;

use hv_tlfs::smccc::{VENDOR_HYP_UID, VENDOR_UID};

use crate::{acpi, machine};

/// The FADT's identity of Hyper-V (Linux, arch/arm64/hyperv/mshyperv.c).
const IDENTITY: [u8; 8] = *b"MsHyperV";

/// The findings.
#[derive(Clone, Copy)]
pub(crate) struct Finding {
    /// The exception level of the firmware.
    level: u64,
    /// The hypervisor vendor identity of the FADT, if it has one.
    identity: Option<[u8; 8]>,
    /// The answer to the vendor UID call; `None` if the instruction is undefined.
    uid: Option<[u32; 4]>,
}

/// Detects the hypervisor.
pub(crate) fn look() -> Finding {
    let level = machine::exception_level();
    let mut finding = Finding { level, identity: acpi::hypervisor_identity(), uid: None };
    if level == 1 {
        machine::freeze();
        let mut x = [0; 31];
        x[0] = VENDOR_HYP_UID.into();
        // SAFETY: the call returns four registers, and has no other effect.
        #[expect(unsafe_code, reason = "an SMCCC call")]
        let answer = unsafe { machine::hvc(0, &mut x) };
        if answer.is_ok() {
            finding.uid = Some([x[0], x[1], x[2], x[3]].map(|word| word as u32));
        }
        machine::thaw();
    }
    finding
}

impl Finding {
    /// Returns true in a partition.
    pub(crate) fn is_hyper_v(&self) -> bool {
        self.level == 1 && (self.identity == Some(IDENTITY) || self.uid == Some(VENDOR_UID))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.level != 1 {
            return write!(f, "no, the firmware runs at EL{}, so this is not a guest", self.level);
        }
        let identity = self.identity.unwrap_or_default();
        match identity.split(|&byte| byte == 0).next() {
            None | Some([]) => write!(f, "the FADT names no hypervisor")?,
            Some(name) => write!(f, "the FADT names the hypervisor {}", name.escape_ascii())?,
        }
        match self.uid {
            None => write!(f, "; hvc #0 is undefined"),
            Some(VENDOR_UID) => write!(f, "; the vendor UID call names Hyper-V"),
            Some(uid) => write!(f, "; the vendor UID call gives {uid:x?}"),
        }
    }
}
