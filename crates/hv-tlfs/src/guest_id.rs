//! The guest OS id: what a guest writes to [`GUEST_OS_ID`](crate::register::RegisterName::GUEST_OS_ID) before anything
//! else.

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables {
    constants: &[LINUX, OPEN_OS_TYPES, VENDORS, MICROSOFT_OS],
    structs: &[WORDS, OS_TYPE, VENDOR, MICROSOFT_OS_TYPE],
};

open_enum! {
    table OS_TYPE, from "TLFS, Hypercall Interface, Reporting the Guest OS Identity";
    names [OPEN_OS_TYPES];
    /// Type of an open-source system (7 bits).
    pub struct OpenSourceOs(u8) = "HV_GUEST_OS_OPEN_SOURCE_TYPE";
}

open_enum! {
    table VENDOR, from "TLFS, Hypercall Interface, Reporting the Guest OS Identity";
    names [VENDORS];
    /// Vendor of a proprietary system (15 bits).
    pub struct Vendor(u16) = "HV_GUEST_OS_VENDOR";
}

open_enum! {
    table MICROSOFT_OS_TYPE, from "TLFS, Hypercall Interface, Reporting the Guest OS Identity";
    names [MICROSOFT_OS];
    /// Identifier of a Microsoft system.
    pub struct MicrosoftOs(u8) = "HV_GUEST_OS_MICROSOFT_IDS";
}

constants! {
    table OPEN_OS_TYPES, kind "guest-os-type", from "TLFS, Hypercall Interface, Reporting the Guest OS Identity", impl OpenSourceOs;

    /// Linux. (The 2018 patch's comment says 0x100, which does not fit into seven bits; its constant is right.)
    LINUX = 1, "HV_GUEST_OS_LINUX";
    /// FreeBSD.
    FREEBSD = 2, "HV_GUEST_OS_FREEBSD";
    /// Xen.
    XEN = 3, "HV_GUEST_OS_XEN";
    /// Illumos.
    ILLUMOS = 4, "HV_GUEST_OS_ILLUMOS";
}

constants! {
    table VENDORS, kind "guest-os-vendor", from "TLFS, Hypercall Interface, Reporting the Guest OS Identity", impl Vendor;

    /// Microsoft.
    MICROSOFT = 0x0001, "HV_GUEST_OS_VENDOR_MICROSOFT";
    /// HPE.
    HPE = 0x0002, "HV_GUEST_OS_VENDOR_HPE";
    /// BlackBerry.
    BLACKBERRY = 0x0003, "HV_GUEST_OS_VENDOR_BLACKBERRY";
    /// LANCOM.
    LANCOM = 0x0200, "HV_GUEST_OS_VENDOR_LANCOM";
}

constants! {
    table MICROSOFT_OS, kind "guest-os-microsoft", from "TLFS, Hypercall Interface, Reporting the Guest OS Identity", impl MicrosoftOs;

    /// Undefined.
    UNDEFINED = 0, "HV_GUEST_OS_MICROSOFT_UNDEFINED";
    /// MS-DOS.
    MSDOS = 1, "HV_GUEST_OS_MICROSOFT_MSDOS";
    /// Windows 3.x.
    WINDOWS_3X = 2, "HV_GUEST_OS_MICROSOFT_WINDOWS3X";
    /// Windows 9x.
    WINDOWS_9X = 3, "HV_GUEST_OS_MICROSOFT_WINDOWS9X";
    /// Windows NT and its successors.
    WINDOWS_NT = 4, "HV_GUEST_OS_MICROSOFT_WINDOWSNT";
    /// Windows CE.
    WINDOWS_CE = 5, "HV_GUEST_OS_MICROSOFT_WINDOWSCE";
}

constants! {
    table LINUX, kind "guest-os", from "Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Bits 63:48 of Linux's id: open source, type 1, no distribution.
    pub const LINUX_VENDOR_ID: u16 = 0x8100, "HV_LINUX_VENDOR_ID";
}

bits! {
    table WORDS, from "TLFS, Hypercall Interface, Reporting the Guest OS Identity";

    /// A guest OS id in the open-source layout; bit 63 distinguishes the two layouts.
    ///
    /// ```
    /// use hv_tlfs::guest_id::{GuestOsId, OpenSourceOs};
    /// let id = GuestOsId::linux(0x06_0c_75);
    /// assert_eq!(id.bits(), 0x8100_0006_0c75_0000);
    /// assert_eq!(id.os_type(), OpenSourceOs::LINUX);
    /// ```
    pub struct GuestOsId(u64) = "HV_GUEST_OS_OPEN_SOURCE" ["HV_GUEST_OS_ID_CONTENTS"] {
        /// Free for the distribution.
        build / with_build: u16 @ 15:0 = "BuildNumber";
        /// Version of the upstream kernel.
        version / with_version: u32 @ 47:16 = "Version";
        /// More about the vendor or distribution.
        os_id / with_os_id: u8 @ 55:48 = "OsId";
        /// The system.
        os_type / with_os_type: OpenSourceOs(u8) @ 62:56 = "OsType";
        /// Set for open source; otherwise the word is a [`ProprietaryOsId`].
        open_source / with_open_source: bool @ 63 = "OpenSource";
    }

    /// A guest OS id in the proprietary layout: bit 63 is zero.
    pub struct ProprietaryOsId(u64) = "HV_GUEST_OS_MICROSOFT" {
        /// Build number.
        build / with_build: u16 @ 15:0 = "BuildNumber";
        /// Service version, such as the number of a service pack.
        service_version / with_service_version: u8 @ 23:16 = "ServiceVersion";
        /// Minor version.
        minor_version / with_minor_version: u8 @ 31:24 = "MinorVersion";
        /// Major version.
        major_version / with_major_version: u8 @ 39:32 = "MajorVersion";
        /// Identifier of the vendor's system; [`MicrosoftOs`] names Microsoft's.
        os_id / with_os_id: u8 @ 47:40 = "OsId";
        /// Who made it.
        vendor / with_vendor: Vendor(u16) @ 62:48 = "VendorId";
        /// Open source: then the word is a [`GuestOsId`].
        open_source / with_open_source: bool @ 63 = "OsType";
    }
}

impl GuestOsId {
    /// Returns the id that Linux writes for its `LINUX_VERSION_CODE`.
    #[doc(alias = "generate_guest_id")]
    #[doc(alias = "hv_generate_guest_id")]
    #[must_use]
    pub const fn linux(version_code: u32) -> Self {
        Self((LINUX_VENDOR_ID as u64) << 48).with_version(version_code)
    }

    /// Returns the same word in the proprietary layout, if bit 63 says so.
    #[must_use]
    pub const fn proprietary(self) -> Option<ProprietaryOsId> {
        if self.open_source() { None } else { Some(ProprietaryOsId(self.0)) }
    }
}
