//! Guest crash reporting.

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables { constants: &[FLAGS], structs: &[CONTROL] };

constants! {
    table FLAGS, kind "crash", from "TLFS, HV_CRASH_CTL_REG_CONTENTS; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch", impl CrashControl;

    /// [`Self::crash_message`] alone.
    CRASH_NOTIFY_MSG = 1 << 62, "HV_CRASH_CTL_CRASH_NOTIFY_MSG";
    /// [`Self::crash_notify`] alone.
    CRASH_NOTIFY = 1 << 63, "HV_CRASH_CTL_CRASH_NOTIFY";
}

bits! {
    table CONTROL, from "TLFS, HV_CRASH_CTL_REG_CONTENTS";

    /// The register [`GUEST_CRASH_CTL`](crate::register::RegisterName::GUEST_CRASH_CTL). A read returns what the
    /// hypervisor supports; a write reports the crash with the parameters written before it.
    pub struct CrashControl(u64) = "HV_CRASH_CTL_REG_CONTENTS" {
        /// Identifies the pre-OS environment that crashed; 0 for an OS.
        pre_os_id / with_pre_os_id: u8 @ 60:58 = "PreOSId";
        /// No crash dump will be captured.
        no_crash_dump / with_no_crash_dump: bool @ 61 = "NoCrashDump";
        /// P3 is the guest physical address of a message, P4 its length in bytes.
        crash_message / with_crash_message: bool @ 62 = "CrashMessage";
        /// Reports the crash.
        crash_notify / with_crash_notify: bool @ 63 = "CrashNotify";
    }
    also {
        "AsUINT64" @ 0, 8;
        "Reserved" @ 0, 8, bits 57:0;
    }
}
