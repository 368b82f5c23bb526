//! GUIDs, and those that identify devices on VMBus.

use core::fmt;

structs! {
    table STRUCTS, from "Linux 6.12, include/linux/uuid.h; Linux 6.12, include/uapi/linux/hyperv.h";

    /// A GUID in its memory layout: the first three groups of its text form little-endian, the rest as written.
    pub struct Guid = "guid_t", size 16, debug custom {
        /// The bytes.
        bytes: [u8; 16] = 0 "b",
    }
}

impl Guid {
    /// All zero: no GUID.
    pub const ZERO: Self = Self { bytes: [0; 16] };

    /// Creates the GUID with these groups: `{a-b-c-d[0..2]-d[2..8]}`.
    #[must_use]
    pub const fn new(a: u32, b: u16, c: u16, d: [u8; 8]) -> Self {
        let (a, b, c) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes());
        Self {
            bytes: [
                a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], d[0], d[1], d[2], d[3], d[4], d[5], d[6],
                d[7],
            ],
        }
    }
}

/// Prints the name of an interface of this module, else the text form: `Guid(HEARTBEAT)`.
///
/// ```
/// use hv_tlfs::vmbus::guid;
///
/// assert_eq!(format!("{:?}", guid::HEARTBEAT), "Guid(HEARTBEAT)");
/// assert_eq!(format!("{:?}", guid::Guid::ZERO), "Guid(00000000-0000-0000-0000-000000000000)");
/// ```
impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(guid, _)| guid == self) {
            Some((_, name)) => write!(f, "Guid({name})"),
            None => write!(f, "Guid({self})"),
        }
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ORDER: [u8; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
        for (i, at) in ORDER.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.bytes[usize::from(*at)])?;
        }
        Ok(())
    }
}

macro_rules! interfaces {
    ($($(#[doc = $doc:literal])+ $NAME:ident = $a:literal $b:literal $c:literal $d:expr, $text:literal, $cname:literal;)+) => {
        $(
            $(#[doc = $doc])+
            #[doc = ""]
            #[doc = concat!("C name: `", $cname, "`. Sources: Linux 6.12, include/linux/hyperv.h.")]
            #[doc(alias = $cname)]
            pub const $NAME: Guid = Guid::new($a, $b, $c, $d);
        )+

        /// All interface GUIDs of this module: value, text form and C name. Traces name a class by its place here: new
        /// ones are appended.
        pub const INTERFACES: &[(Guid, &str, &str)] = &[$(($NAME, $text, $cname)),+];

        pub(crate) const CLASSES: &[crate::abi::Class] = &[$(crate::abi::Class {
            name: $cname,
            guid: $text,
            doc: crate::abi::Doc(&[$($doc),+]),
            sources: crate::abi::Sources("Linux 6.12, include/linux/hyperv.h"),
        }),+];

        /// The names of the constants, for `Debug`.
        const NAMES: &[(Guid, &str)] = &[$(($NAME, stringify!($NAME))),+];
    };
}

interfaces! {
    /// Heartbeat: every two seconds the host asks whether the guest is alive.
    HEARTBEAT = 0x5716_4f39 0x9115 0x4e78 [0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d],
        "57164f39-9115-4e78-ab55-382f3bd5422d", "HV_HEART_BEAT_GUID";
    /// Shutdown: the host asks the guest to power off or restart.
    SHUTDOWN = 0x0e0b_6031 0x5213 0x4934 [0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed, 0x39, 0xdb],
        "0e0b6031-5213-4934-818b-38d90ced39db", "HV_SHUTDOWN_GUID";
    /// Time synchronisation.
    TIME_SYNC = 0x9527_e630 0xd0ae 0x497b [0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17, 0x5c, 0xaf],
        "9527e630-d0ae-497b-adce-e80ab0175caf", "HV_TS_GUID";
    /// Key-value pairs between host and guest.
    KVP = 0xa9a0_f4e7 0x5a45 0x4d96 [0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03, 0xe6],
        "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6", "HV_KVP_GUID";
    /// Volume shadow copies: back-up and restore.
    VSS = 0x35fa_2e29 0xea23 0x4236 [0x96, 0xae, 0x3a, 0x6e, 0xba, 0xcb, 0xa4, 0x40],
        "35fa2e29-ea23-4236-96ae-3a6ebacba440", "HV_VSS_GUID";
    /// File copy from host to guest.
    FILE_COPY = 0x34d1_4be3 0xdee4 0x41c8 [0x9a, 0xe7, 0x6b, 0x17, 0x49, 0x77, 0xc1, 0x92],
        "34d14be3-dee4-41c8-9ae7-6b174977c192", "HV_FCOPY_GUID";
    /// Dynamic memory.
    DYNAMIC_MEMORY = 0x5250_74dc 0x8985 0x46e2 [0x80, 0x57, 0xa3, 0x07, 0xdc, 0x18, 0xa5, 0x02],
        "525074dc-8985-46e2-8057-a307dc18a502", "HV_DM_GUID";
    /// Network card.
    NETWORK = 0xf861_5163 0xdf3e 0x46c5 [0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e],
        "f8615163-df3e-46c5-913f-f2d2f965ed0e", "HV_NIC_GUID";
    /// IDE controller.
    IDE = 0x3241_2632 0x86cb 0x44a2 [0x9b, 0x5c, 0x50, 0xd1, 0x41, 0x73, 0x54, 0xf5],
        "32412632-86cb-44a2-9b5c-50d1417354f5", "HV_IDE_GUID";
    /// SCSI controller.
    SCSI = 0xba61_63d9 0x04a1 0x4d29 [0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f],
        "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f", "HV_SCSI_GUID";
    /// Fibre Channel controller.
    FIBRE_CHANNEL = 0x2f9b_cc4a 0x0069 0x4af3 [0xb7, 0x6b, 0x6f, 0xd0, 0xbe, 0x52, 0x8c, 0xda],
        "2f9bcc4a-0069-4af3-b76b-6fd0be528cda", "HV_SYNTHFC_GUID";
    /// NetworkDirect: RDMA for the guest.
    NETWORK_DIRECT = 0x8c2e_af3d 0x32a7 0x4b09 [0xab, 0x99, 0xbd, 0x1f, 0x1c, 0x86, 0xb5, 0x01],
        "8c2eaf3d-32a7-4b09-ab99-bd1f1c86b501", "HV_ND_GUID";
    /// PCI Express pass-through.
    PCIE = 0x44c4_f61d 0x4444 0x4400 [0x9d, 0x52, 0x80, 0x2e, 0x27, 0xed, 0xe1, 0x9f],
        "44c4f61d-4444-4400-9d52-802e27ede19f", "HV_PCIE_GUID";
    /// Mouse.
    MOUSE = 0xcfa8_b69e 0x5b4a 0x4cc0 [0xb9, 0x8b, 0x8b, 0xa1, 0xa1, 0xf3, 0xf9, 0x5a],
        "cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a", "HV_MOUSE_GUID";
    /// Keyboard.
    KEYBOARD = 0xf912_ad6d 0x2b17 0x48ea [0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c, 0x76, 0x84],
        "f912ad6d-2b17-48ea-bd65-f927a61c7684", "HV_KBD_GUID";
    /// Synthetic video.
    VIDEO = 0xda0a_7802 0xe377 0x4aac [0x8e, 0x77, 0x05, 0x58, 0xeb, 0x10, 0x73, 0xf8],
        "da0a7802-e377-4aac-8e77-0558eb1073f8", "HV_SYNTHVID_GUID";
    /// Activation of the guest by the host; Linux has no driver.
    ACTIVATION_1 = 0xf8e6_5716 0x3cb3 0x4a06 [0x9a, 0x60, 0x18, 0x89, 0xc5, 0xcc, 0xca, 0xb5],
        "f8e65716-3cb3-4a06-9a60-1889c5cccab5", "HV_AVMA1_GUID";
    /// Activation of the guest by the host; Linux has no driver.
    ACTIVATION_2 = 0x3375_baf4 0x9e15 0x4b30 [0xb7, 0x65, 0x67, 0xac, 0xb1, 0x0d, 0x60, 0x7b],
        "3375baf4-9e15-4b30-b765-67acb10d607b", "HV_AVMA2_GUID";
    /// Remote desktop; Linux has no driver.
    REMOTE_DESKTOP = 0x276a_acf4 0xac15 0x426c [0x98, 0xdd, 0x75, 0x21, 0xad, 0x3f, 0x01, 0xfe],
        "276aacf4-ac15-426c-98dd-7521ad3f01fe", "HV_RDV_GUID";
    /// Initial machine configuration of Windows guests.
    INITIAL_CONFIGURATION = 0xc376_c1c3 0xd276 0x48d2 [0x90, 0xa9, 0xc0, 0x47, 0x48, 0x07, 0x2c, 0x60],
        "c376c1c3-d276-48d2-90a9-c04748072c60", "HV_IMC_GUID";
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_text_form_of_every_interface_is_that_of_its_bytes() {
        for (guid, text, name) in INTERFACES {
            assert_eq!(&guid.to_string(), text, "{name}");
        }
    }

    #[test]
    fn the_first_three_groups_lie_little_endian() {
        assert_eq!(HEARTBEAT.bytes[..8], [0x39, 0x4f, 0x16, 0x57, 0x15, 0x91, 0x78, 0x4e]);
        assert_eq!(HEARTBEAT.bytes[8..], [0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5, 0x42, 0x2d]);
    }
}
