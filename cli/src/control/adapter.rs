//! `hv ctl kvp addresses`: the network adapter whose addresses are asked for.

use crate::net::MAC;

/// Bytes of an address.
const BYTES: usize = 6;

/// Returns the name of an adapter, or of the machine's card: its address, in the capital letters that Linux's daemon
/// compares (tools/hv/hv_kvp_daemon.c, `kvp_mac_to_ip`). To set addresses, Linux would take a GUID instead.
///
/// # Errors
/// The text is not an address of Ethernet.
pub(super) fn name(adapter: Option<&str>) -> Result<String, String> {
    let Some(text) = adapter else { return Ok(MAC.map(|byte| format!("{byte:02X}")).join(":")) };
    let parts: Vec<&str> = text.split([':', '-']).collect();
    let is_byte = |part: &&str| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
    if parts.len() != BYTES || !parts.iter().all(is_byte) {
        return Err(format!("the adapter is {text:?}, expected an address, as 00:15:5d:48:56:01"));
    }
    Ok(parts.join(":").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_adapter_is_an_address_in_capitals() {
        assert_eq!(name(None).unwrap(), "00:15:5D:48:56:01");
        for text in ["00:15:5d:0a:0b:ff", "00-15-5D-0A-0B-FF"] {
            assert_eq!(name(Some(text)).unwrap(), "00:15:5D:0A:0B:FF");
        }
        for text in
            ["", "eth0", "00:15:5d:0a:0b", "00:15:5d:0a:0b:ff:00", "0:15:5d:0a:0b:fff", "00:15:5d:0a:0b:fg"]
        {
            assert!(name(Some(text)).unwrap_err().contains("expected an address"), "{text}");
        }
    }
}
