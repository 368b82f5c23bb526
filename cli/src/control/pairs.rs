//! Key-value pairs and addresses as text: UTF-16 on the wire, UTF-8 here.

use hv_tlfs::vmbus::kvp::{IpAddress, Pool, VALUE_TEXT, VALUE_U32, VALUE_U64};
use serde::{Deserialize, Serialize};
use zerocopy::FromBytes as _;

/// Pool that a pair belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PoolName {
    /// What the host writes for the guest
    External,
    /// What the guest writes for the host
    Guest,
    /// What the guest's service knows: names, versions, addresses
    Auto,
    /// What the host reports about itself
    AutoExternal,
}

impl PoolName {
    pub(super) fn pool(self) -> Pool {
        match self {
            Self::External => Pool::EXTERNAL,
            Self::Guest => Pool::GUEST,
            Self::Auto => Pool::AUTO,
            Self::AutoExternal => Pool::AUTO_EXTERNAL,
        }
    }
}

/// A pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
}

/// Addresses of a network adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Addresses {
    pub(super) dhcp: bool,
    pub(super) addresses: Vec<String>,
    pub(super) masks: Vec<String>,
    pub(super) gateways: Vec<String>,
    pub(super) name_servers: Vec<String>,
}

/// Encodes text as the guest expects it: UTF-16 with a terminating zero.
pub(super) fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Decodes the guest's text, up to its terminating zero. What is not UTF-16 becomes replacement characters.
fn narrow(text: &[u8]) -> String {
    let units: Vec<u16> = text
        .chunks_exact(2)
        .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16_lossy(&units)
}

impl Pair {
    /// Decodes a pair of the guest's.
    pub(super) fn read(key: &[u8], value_type: u32, value: &[u8]) -> Self {
        let number = |len: usize| {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(value.get(..len)?);
            Some(u64::from_le_bytes(bytes).to_string())
        };
        let value = match value_type {
            VALUE_TEXT => Some(narrow(value)),
            VALUE_U32 => number(4),
            VALUE_U64 => number(8),
            _ => None,
        };
        let value = value.unwrap_or_else(|| format!("(value of type {value_type}, which is unknown)"));
        Self { key: narrow(key), value }
    }
}

impl Addresses {
    /// Decodes addresses of the guest's; `None` if they do not have the protocol's form.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let value = IpAddress::read_from_bytes(bytes).ok()?;
        let list = |text: &[u8]| {
            let text = narrow(text);
            text.split(';').filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        Some(Self {
            dhcp: value.dhcp != 0,
            addresses: list(&value.addresses),
            masks: list(&value.masks),
            gateways: list(&value.gateways),
            name_servers: list(&value.name_servers),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_go_to_utf_16_and_back() {
        assert_eq!(wide("ä"), [0xe4, 0, 0, 0]);
        for text in ["", "OSName", "Büro 🖥"] {
            assert_eq!(narrow(&wide(text)), text);
        }
        assert_eq!(narrow(&[0x00, 0xd8, 0x41, 0x00]), "\u{fffd}A");
        assert_eq!(narrow(&[0x41]), "");
    }

    #[test]
    fn values_have_types() {
        let value = |kind, bytes: &[u8]| Pair::read(&wide("k"), kind, bytes).value;
        assert_eq!(value(VALUE_TEXT, &wide("v")), "v");
        assert_eq!(value(VALUE_U32, &[1, 2, 0, 0]), "513");
        assert_eq!(value(VALUE_U64, &[0xff; 8]), u64::MAX.to_string());
        assert!(value(VALUE_U64, &[0xff; 7]).contains("unknown"));
        assert!(value(9, &[]).contains("type 9"));
    }
}
