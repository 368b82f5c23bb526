//! Numbers under the names that C programmers know.

use std::collections::HashMap;
use std::sync::OnceLock;

use hv_tlfs::guest_id::{GuestOsId, MicrosoftOs, OpenSourceOs, Vendor};
use hv_tlfs::{abi, psci, smccc};

/// Returns the C name of a number, or the number in hexadecimal if it has none.
pub(crate) fn name(kind: &'static str, value: u64) -> String {
    known(kind, value).map_or_else(|| format!("{value:#x}"), str::to_owned)
}

/// Returns the C name of a number.
pub(crate) fn known(kind: &'static str, value: u64) -> Option<&'static str> {
    /// The first name of each number.
    static NAMES: OnceLock<HashMap<(&str, u64), &'static str>> = OnceLock::new();
    let names = NAMES.get_or_init(|| {
        let mut names = HashMap::new();
        for row in abi::constants() {
            names.entry((row.kind, row.value)).or_insert(row.name);
        }
        names
    });
    names.get(&(kind, value)).copied()
}

/// Formats a hypercall code.
pub(crate) fn hypercall(code: u32) -> String {
    name("hypercall", code.into())
}

/// Formats a VP register number.
pub(crate) fn register(number: u32) -> String {
    name("register", number.into())
}

/// Formats a hypercall status.
pub(crate) fn status(status: u32) -> String {
    name("status", status.into())
}

/// Well-known SMCCC functions: the function, whether it has a 64-bit form, and its name in the specification.
const FUNCTIONS: [(u32, bool, &str); 19] = [
    (psci::VERSION, false, "PSCI_VERSION"),
    (psci::CPU_SUSPEND, true, "CPU_SUSPEND"),
    (psci::CPU_OFF, false, "CPU_OFF"),
    (psci::CPU_ON, true, "CPU_ON"),
    (psci::AFFINITY_INFO, true, "AFFINITY_INFO"),
    (psci::MIGRATE, true, "MIGRATE"),
    (psci::MIGRATE_INFO_TYPE, false, "MIGRATE_INFO_TYPE"),
    (psci::SYSTEM_OFF, false, "SYSTEM_OFF"),
    (psci::SYSTEM_RESET, false, "SYSTEM_RESET"),
    (psci::FEATURES, false, "PSCI_FEATURES"),
    (psci::SYSTEM_SUSPEND, true, "SYSTEM_SUSPEND"),
    (psci::SYSTEM_RESET2, true, "SYSTEM_RESET2"),
    (smccc::TRNG_VERSION, false, "TRNG_VERSION"),
    (smccc::VERSION, false, "SMCCC_VERSION"),
    (smccc::ARCH_FEATURES, false, "SMCCC_ARCH_FEATURES"),
    (smccc::ARCH_SOC_ID, false, "SMCCC_ARCH_SOC_ID"),
    (smccc::ARCH_WORKAROUND_1, false, "SMCCC_ARCH_WORKAROUND_1"),
    (smccc::ARCH_WORKAROUND_2, false, "SMCCC_ARCH_WORKAROUND_2"),
    (smccc::ARCH_WORKAROUND_3, false, "SMCCC_ARCH_WORKAROUND_3"),
];

/// Returns the name of an SMCCC function that is well known.
///
/// Source: Arm PSCI (DEN0022), Arm SMCCC (DEN0028) and Arm TRNG Firmware Interface (DEN0098), function identifiers.
pub(crate) fn smccc_name(function: u32) -> Option<&'static str> {
    let is = |(id, wide, _): &&(u32, bool, &str)| *id == function || *wide && id | psci::SMC64 == function;
    FUNCTIONS.iter().find(is).map(|(_, _, name)| *name)
}

/// Formats an SMCCC function, with its name if it is well known.
pub(crate) fn smccc(function: u32) -> String {
    match smccc_name(function) {
        None => format!("{function:#010x}"),
        Some(known) => format!("{function:#010x} ({known})"),
    }
}

/// Formats a system register from the ISS of its trap.
///
/// Source: Arm Architecture Reference Manual, ISS encoding for an exception from MSR, MRS, or System instruction
/// execution in AArch64 state.
pub(crate) fn system_register(iss: u64) -> String {
    let field = |low: u32, width: u32| (iss >> low) & ((1 << width) - 1);
    let way = if iss & 1 == 1 { "read of" } else { "write to" };
    if let Some(name) = hv_cpu::sysreg::name(iss) {
        return format!("{way} system register {name}");
    }
    format!(
        "{way} system register S{}_{}_C{}_C{}_{}",
        field(20, 2),
        field(14, 3),
        field(10, 4),
        field(1, 4),
        field(17, 3)
    )
}

/// Decodes a guest OS id: vendor, system, version.
pub(super) fn guest_os(raw: u64) -> (String, String, String) {
    let id = GuestOsId(raw);
    let Some(own) = id.proprietary() else {
        let os = match id.os_type() {
            OpenSourceOs::LINUX => "Linux".to_owned(),
            OpenSourceOs::FREEBSD => "FreeBSD".to_owned(),
            OpenSourceOs::XEN => "Xen".to_owned(),
            OpenSourceOs::ILLUMOS => "Illumos".to_owned(),
            OpenSourceOs(other) => format!("type {other:#x}"),
        };
        let version = id.version();
        let version = match id.os_type() {
            // KERNEL_VERSION(a, b, c)
            OpenSourceOs::LINUX => format!("{}.{}.{}", version >> 16, (version >> 8) & 0xff, version & 0xff),
            _ => format!("{version:#x}"),
        };
        return ("open source".to_owned(), os, version);
    };
    let vendor = match own.vendor() {
        Vendor::MICROSOFT => "Microsoft".to_owned(),
        Vendor::HPE => "HPE".to_owned(),
        Vendor::BLACKBERRY => "BlackBerry".to_owned(),
        Vendor::LANCOM => "LANCOM".to_owned(),
        Vendor(other) => format!("vendor {other:#x}"),
    };
    let os = match (own.vendor(), MicrosoftOs(own.os_id())) {
        (Vendor::MICROSOFT, MicrosoftOs::MSDOS) => "MS-DOS".to_owned(),
        (Vendor::MICROSOFT, MicrosoftOs::WINDOWS_3X) => "Windows 3.x".to_owned(),
        (Vendor::MICROSOFT, MicrosoftOs::WINDOWS_9X) => "Windows 9x".to_owned(),
        (Vendor::MICROSOFT, MicrosoftOs::WINDOWS_NT) => "Windows NT".to_owned(),
        (Vendor::MICROSOFT, MicrosoftOs::WINDOWS_CE) => "Windows CE".to_owned(),
        (_, MicrosoftOs(other)) => format!("system {other:#x}"),
    };
    let version = format!("{}.{}.{}", own.major_version(), own.minor_version(), own.build());
    (vendor, os, version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_todays_headers() {
        assert_eq!(hypercall(0x5c), "HVCALL_POST_MESSAGE");
        assert_eq!(hypercall(0x50), "HVCALL_GET_VP_REGISTERS");
        assert_eq!(register(0xa_0013), "HV_REGISTER_SIMP");
        assert_eq!(register(0x9_0002), "HV_REGISTER_GUEST_OS_ID");
        assert_eq!(register(0x9_0003), "HV_REGISTER_VP_INDEX");
        assert_eq!(register(0x77_7777), "0x777777");
        assert_eq!(status(2), "HV_STATUS_INVALID_HYPERCALL_CODE");
        assert_eq!(smccc(0x8400_0008), "0x84000008 (SYSTEM_OFF)");
        assert_eq!(smccc(0x8600_1234), "0x86001234");
    }

    #[test]
    fn guest_os_ids_are_decoded_by_their_bit_63() {
        let text = |raw| {
            let (vendor, os, version) = guest_os(raw);
            format!("{vendor}/{os}/{version}")
        };
        assert_eq!(text(0x8100_0006_0c75_0000), "open source/Linux/6.12.117");
        assert_eq!(text(0x8200_0000_0d01_0000), "open source/FreeBSD/0xd01");
        assert_eq!(text(0x0001_040a_0000_4f7c), "Microsoft/Windows NT/10.0.20348");
        assert_eq!(text(0x0042_0102_0300_0001), "vendor 0x42/system 0x1/2.3.1");
    }

    #[test]
    fn a_trapped_register_is_named_by_its_encoding() {
        // MRS of S3_0_C1_C0_3 (TRFCR_EL1 is S3_0_C1_C2_1; this one is unallocated).
        let iss = (3 << 20) | (3 << 17) | (1 << 10) | 1;
        assert_eq!(system_register(iss), "read of system register S3_0_C1_C0_3");
        // MSR TRFCR_EL1.
        let iss = (3 << 20) | (1 << 17) | (1 << 10) | (2 << 1);
        assert_eq!(system_register(iss), "write to system register TRFCR_EL1");
    }
}
