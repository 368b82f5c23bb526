//! Receive side scaling: which channel gets a frame.

use super::headers::{self, TCP};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::vmbus::ndis::{
    HASH_IPV4, HASH_IPV6, HASH_TCP_IPV4, HASH_TCP_IPV6, HASH_TOEPLITZ, OBJECT_RSS_PARAMETERS, RSS_DISABLE,
    RSS_HASH_INFO_UNCHANGED, RSS_KEY_SIZE, RSS_KEY_UNCHANGED, RSS_TABLE_ENTRIES, RSS_TABLE_UNCHANGED,
    RssParameters,
};
use hv_tlfs::vmbus::rndis::Status;
use zerocopy::FromBytes;

/// Its setup. A new one is off, and all zeros.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rss {
    on: bool,
    hashes: u32,
    /// Channel for each of the low values of the hash; the first `entries` count, a power of two.
    table: [u8; RSS_TABLE_ENTRIES],
    entries: u8,
    key: [u8; RSS_KEY_SIZE],
}

impl Rss {
    pub(super) const fn new() -> Self {
        Self { on: false, hashes: 0, table: [0; RSS_TABLE_ENTRIES], entries: 0, key: [0; RSS_KEY_SIZE] }
    }

    /// Sets it up as the guest requests. `channels`: number of the device's channels.
    pub(super) fn set(&mut self, info: &[u8], channels: usize) -> Status {
        let Ok((request, _)) = RssParameters::read_from_prefix(info) else { return Status::INVALID_LENGTH };
        if request.header.object_type != OBJECT_RSS_PARAMETERS {
            return Status::INVALID_DATA;
        }
        if request.flags & RSS_DISABLE != 0 || request.hash_information == 0 {
            self.on = false;
            return Status::SUCCESS;
        }
        let part = |offset: u32, size: u16| {
            let (offset, size) = (usize::try_from(offset).ok()?, usize::from(size));
            info.get(offset..offset.checked_add(size)?)
        };
        let mut new = *self;
        if request.flags & RSS_HASH_INFO_UNCHANGED == 0 {
            if request.hash_information & 0xff != HASH_TOEPLITZ {
                return Status::NOT_SUPPORTED;
            }
            new.hashes = request.hash_information;
        }
        if request.flags & RSS_TABLE_UNCHANGED == 0 {
            let Some(table) = part(request.table_offset, request.table_size) else {
                return Status::INVALID_LENGTH;
            };
            let entries = table.len() / 4;
            if !entries.is_power_of_two() || entries > RSS_TABLE_ENTRIES || !table.len().is_multiple_of(4) {
                return Status::INVALID_LENGTH;
            }
            for (to, from) in new.table.iter_mut().zip(table.chunks_exact(4)) {
                let channel = u32::from_le_bytes([from[0], from[1], from[2], from[3]]) as usize;
                if channel >= channels {
                    return Status::INVALID_DATA;
                }
                *to = channel as u8;
            }
            new.entries = entries as u8;
        }
        if request.flags & RSS_KEY_UNCHANGED == 0 {
            match part(request.key_offset, request.key_size).and_then(|key| key.try_into().ok()) {
                Some(key) => new.key = key,
                None => return Status::INVALID_LENGTH,
            }
        }
        *self = Self { on: new.entries > 0, ..new };
        Status::SUCCESS
    }

    /// Returns the hash of a frame's flow, and its channel; `None` if scaling is off or the frame has no flow.
    pub(super) fn pick(&self, frame: &[u8]) -> Option<(u32, u16)> {
        if !self.on {
            return None;
        }
        let ip = headers::ip(frame)?;
        let (addresses, len) = if ip.v6 { (ip.at + 8, 32) } else { (ip.at + 12, 8) };
        let (plain, tcp) = if ip.v6 { (HASH_IPV6, HASH_TCP_IPV6) } else { (HASH_IPV4, HASH_TCP_IPV4) };
        let mut input = [0; 36];
        input[..len].copy_from_slice(frame.get(addresses..addresses + len)?);
        let ports = frame.get(ip.next..ip.next + 4);
        let len = match ports {
            Some(ports) if self.hashes & tcp != 0 && ip.protocol == TCP && !ip.fragment => {
                input[len..len + 4].copy_from_slice(ports);
                len + 4
            }
            _ if self.hashes & plain != 0 => len,
            _ => return None,
        };
        let hash = toeplitz(&self.key, &input[..len]);
        let entry = hash as usize & usize::from(self.entries.saturating_sub(1));
        Some((hash, self.table.get(entry).copied()?.into()))
    }

    pub(super) fn save(&self, w: &mut Writer<'_>) {
        w.flag(self.on);
        w.u32(self.hashes);
        w.bytes(&self.table);
        w.u8(self.entries);
        w.bytes(&self.key);
    }

    pub(super) fn load(r: &mut Reader<'_>) -> Result<Self, RestoreError> {
        let mut this = Self { on: r.flag("receive side scaling")?, hashes: r.u32()?, ..Self::new() };
        this.table.copy_from_slice(r.bytes(RSS_TABLE_ENTRIES)?);
        this.entries = r.u8()?;
        this.key.copy_from_slice(r.bytes(RSS_KEY_SIZE)?);
        let entries = usize::from(this.entries);
        if entries > RSS_TABLE_ENTRIES
            || (entries != 0 && !entries.is_power_of_two())
            || (this.on && entries == 0)
        {
            return Err(RestoreError::Invalid("receive side scaling"));
        }
        Ok(this)
    }
}

/// Returns the hash of Toeplitz. The key is longer than the input by 4 bytes at least.
fn toeplitz(key: &[u8; RSS_KEY_SIZE], input: &[u8]) -> u32 {
    let mut window = u64::from_be_bytes([key[0], key[1], key[2], key[3], key[4], key[5], key[6], key[7]]);
    let (mut hash, mut next) = (0, 8);
    for byte in input {
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= (window >> 32) as u32;
            }
            window <<= 1;
        }
        // Eight bits have left the window, and the next byte of the key has come.
        window |= u64::from(key.get(next).copied().unwrap_or(0));
        next += 1;
    }
    hash
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    /// The key and the results of Microsoft, "Verifying the RSS Hash Calculation".
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    #[test]
    fn hashes_are_those_of_the_specification() {
        let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6];
        assert_eq!(toeplitz(&KEY, &input[..8]), 0x323e_8fc2);
        assert_eq!(toeplitz(&KEY, &input), 0x51cc_c178);
        let input =
            [199, 92, 111, 2, 65, 69, 140, 83, 14230_u16.to_be_bytes()[0], 14230_u16.to_be_bytes()[1]];
        let input: Vec<u8> = input.into_iter().chain(4739_u16.to_be_bytes()).collect();
        assert_eq!(toeplitz(&KEY, &input[..8]), 0xd718_262a);
        assert_eq!(toeplitz(&KEY, &input), 0xc626_b0ea);
    }

    fn parameters(flags: u16, entries: &[u32], key: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = std::vec![0x89, 2, 40, 0];
        bytes.extend(flags.to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend((HASH_TOEPLITZ | HASH_IPV4 | HASH_TCP_IPV4).to_le_bytes());
        let size = entries.len() as u32 * 4;
        for word in [size, 40, key.len() as u32, 40 + size, 0, 0, 0] {
            bytes.extend(word.to_le_bytes());
        }
        entries.iter().for_each(|entry| bytes.extend(entry.to_le_bytes()));
        bytes.extend(key);
        bytes
    }

    #[test]
    fn flows_are_spread_by_the_table() {
        let mut rss = Rss::new();
        let mut frame = std::vec![0_u8; 60];
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[23] = TCP;
        frame[26..38].copy_from_slice(&[66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6]);
        assert_eq!(rss.pick(&frame), None);
        assert_eq!(rss.set(&parameters(0, &[3, 2, 1, 0], &KEY), 4), Status::SUCCESS);
        assert_eq!(rss.pick(&frame), Some((0x51cc_c178, 3)));
        frame[23] = 17;
        assert_eq!(rss.pick(&frame), Some((0x323e_8fc2, 1)));
        assert_eq!(rss.set(&parameters(RSS_DISABLE, &[0], &KEY), 4), Status::SUCCESS);
        assert_eq!(rss.pick(&frame), None);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut rss = Rss::new();
        assert_eq!(rss.set(&parameters(0, &[0, 1], &KEY), 2), Status::SUCCESS);
        let before = std::format!("{rss:?}");
        let wrong = [
            (parameters(0, &[0, 2], &KEY), Status::INVALID_DATA),
            (parameters(0, &[0, 1, 0], &KEY), Status::INVALID_LENGTH),
            (parameters(0, &[], &KEY), Status::INVALID_LENGTH),
            (parameters(0, &[0; 256], &KEY), Status::INVALID_LENGTH),
            (parameters(0, &[0, 1], &KEY[1..]), Status::INVALID_LENGTH),
            (parameters(0, &[0, 1], &KEY)[..60].to_vec(), Status::INVALID_LENGTH),
            (Vec::new(), Status::INVALID_LENGTH),
        ];
        for (bytes, status) in wrong {
            assert_eq!(rss.set(&bytes, 2), status);
            assert_eq!(std::format!("{rss:?}"), before);
        }
    }
}
