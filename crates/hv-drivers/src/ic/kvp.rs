//! Key-value pairs: host and guest tell each other about themselves.
//!
//! The OS has the pairs, in whatever form it likes: it implements [`Pairs`]. On the bus text is UTF-16 with a
//! terminating zero, which [`Text`] reads and [`Room`] writes.
//!
//! Addresses of network adapters (KVP_OP_GET_IP_INFO, KVP_OP_SET_IP_INFO) are refused.
//!
//! Sources: Linux 6.12, drivers/hv/hv_kvp.c and tools/hv/hv_kvp_daemon.c.

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::ic::{MessageType, Status, Version};
use hv_tlfs::vmbus::kvp::{
    Delete, Enumerate, Header, Operation, Pool, VALUE_TEXT, VALUE_U32, VALUE_U64, Value,
};
use hv_vmbus_client::{Dma, Error, FLOOD};
use zerocopy::{FromBytes, IntoBytes};

use super::{Request, Service};

/// Versions of the service, the newest first (Linux 6.12, `kvp_versions`).
const VERSIONS: &[Version] =
    &[Version { major: 4, minor: 0 }, Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];
/// Bytes of the longest message: the headers and an `IpMessage`, rounded up.
const BUFFER: usize = 7552;

/// Text of the host: UTF-16, up to its terminating zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// Takes the first `size` bytes; `None` if there are fewer, or half a unit is left over.
    fn new(bytes: &'a [u8], size: u32) -> Option<Self> {
        let bytes = bytes.get(..usize::try_from(size).ok()?)?;
        let end = bytes.chunks_exact(2).position(|unit| unit == [0, 0]).map_or(bytes.len(), |at| at * 2);
        bytes.len().is_multiple_of(2).then_some(Self(bytes.get(..end)?))
    }

    /// Returns the characters. Half a surrogate pair is U+FFFD.
    pub fn chars(self) -> impl Iterator<Item = char> + use<'a> {
        let units = self.0.chunks_exact(2).map(|unit| unit.try_into().map_or(0, u16::from_le_bytes));
        char::decode_utf16(units).map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.chars().eq(other.chars())
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.chars().try_for_each(|char| fmt::Write::write_char(f, char))
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let escaped = self.chars().flat_map(char::escape_debug);
        fmt::Write::write_char(f, '"')?;
        escaped.into_iter().try_for_each(|char| fmt::Write::write_char(f, char))?;
        fmt::Write::write_char(f, '"')
    }
}

/// A value of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Given<'a> {
    /// Text.
    Text(Text<'a>),
    /// A number of 32 bits.
    U32(u32),
    /// A number of 64 bits.
    U64(u64),
}

/// Room for text of the guest: 255 units of a key, 1,023 of a value.
#[derive(Debug)]
pub struct Room<'a> {
    bytes: &'a mut [u8],
    size: usize,
}

impl<'a> Room<'a> {
    fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, size: 0 }
    }

    /// Returns the number of bytes with the terminating zero.
    fn finish(self) -> u32 {
        let end = self.size + 2;
        self.bytes.get_mut(self.size..end).unwrap_or(&mut []).fill(0);
        end as u32
    }
}

impl fmt::Write for Room<'_> {
    /// Adds text. It fails, and adds a part of it, if there is no room.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for unit in text.encode_utf16() {
            let place = self.bytes.get_mut(self.size..).and_then(|rest| rest.split_first_chunk_mut::<2>());
            // The terminating zero needs room, too.
            let (place, _) = place.filter(|(_, rest)| rest.len() >= 2).ok_or(fmt::Error)?;
            *place = unit.to_le_bytes();
            self.size += 2;
        }
        Ok(())
    }
}

/// The guest's pairs. Each method has an answer that refuses.
pub trait Pairs {
    /// Writes the value of a key. Returns false if there is no such key.
    fn get(&mut self, pool: Pool, key: Text<'_>, value: &mut Room<'_>) -> bool {
        let _ = (pool, key, value);
        false
    }

    /// Writes the pair with this index, from 0 on. Returns false after the last one.
    fn nth(&mut self, pool: Pool, index: u32, key: &mut Room<'_>, value: &mut Room<'_>) -> bool {
        let _ = (pool, index, key, value);
        false
    }

    /// Takes a value of the host. Returns false if it is refused.
    fn set(&mut self, pool: Pool, key: Text<'_>, value: Given<'_>) -> bool {
        let _ = (pool, key, value);
        false
    }

    /// Removes a key. Returns false if there is no such key.
    fn remove(&mut self, pool: Pool, key: Text<'_>) -> bool {
        let _ = (pool, key);
        false
    }
}

/// The service of key-value pairs.
#[derive(Debug)]
pub struct Kvp<'t, D: Dma, C> {
    service: Service<'t, D, C, BUFFER>,
}

service!(Kvp, VERSIONS, BUFFER);

impl<D: Dma, C: Conduit> Kvp<'_, D, C> {
    /// Answers what the host has asked, by the guest's pairs. Returns the number of requests: if it is
    /// [`FLOOD`], there may be more, so call it again.
    ///
    /// # Errors
    ///
    /// As of [`Service::poll`].
    pub fn poll(&mut self, pairs: &mut impl Pairs) -> Result<u32, Error> {
        for answered in 0..FLOOD as u32 {
            if self.service.poll(|request| serve(request, pairs))?.is_none() {
                return Ok(answered);
            }
        }
        Ok(FLOOD as u32)
    }
}

/// Answers a request in its place; `None`: it is none of this service.
fn serve(request: &mut Request<'_>, pairs: &mut impl Pairs) -> Option<()> {
    if request.message_type() != MessageType::KVP_EXCHANGE {
        return None;
    }
    let (header, body) = request.body_mut().split_first_chunk_mut::<{ size_of::<Header>() }>()?;
    let header = Header::read_from_bytes(header).ok()?;
    // What lacks a part, or has sizes that no part has, is refused: the host waits for an answer.
    let status = match header.operation {
        Operation::GET => get(header.pool, body, pairs),
        Operation::SET => set(header.pool, body, pairs),
        Operation::DELETE => remove(header.pool, body, pairs),
        Operation::ENUMERATE => nth(header.pool, body, pairs),
        _ => None,
    };
    request.set_status(status.unwrap_or(Status::FAIL));
    Some(())
}

fn successful(done: bool) -> Option<Status> {
    done.then_some(Status::SUCCESS)
}

fn get(pool: Pool, body: &mut [u8], pairs: &mut impl Pairs) -> Option<Status> {
    let (mut pair, _) = Value::read_from_prefix(body).ok()?;
    let mut value = Room::new(&mut pair.value);
    let found = pairs.get(pool, Text::new(&pair.key, pair.key_size)?, &mut value);
    (pair.value_type, pair.value_size) = (VALUE_TEXT, value.finish());
    pair.write_to_prefix(body).ok()?;
    successful(found)
}

fn set(pool: Pool, body: &mut [u8], pairs: &mut impl Pairs) -> Option<Status> {
    let (pair, _) = Value::read_from_prefix(body).ok()?;
    let value = match pair.value_type {
        VALUE_TEXT => Given::Text(Text::new(&pair.value, pair.value_size)?),
        VALUE_U32 => Given::U32(u32::from_le_bytes(*pair.value.first_chunk()?)),
        VALUE_U64 => Given::U64(u64::from_le_bytes(*pair.value.first_chunk()?)),
        _ => return None,
    };
    successful(pairs.set(pool, Text::new(&pair.key, pair.key_size)?, value))
}

fn remove(pool: Pool, body: &mut [u8], pairs: &mut impl Pairs) -> Option<Status> {
    let (head, _) = Delete::read_from_prefix(body).ok()?;
    successful(pairs.remove(pool, Text::new(&head.key, head.key_size)?))
}

fn nth(pool: Pool, body: &mut [u8], pairs: &mut impl Pairs) -> Option<Status> {
    let (mut entry, _) = Enumerate::read_from_prefix(body).ok()?;
    let (index, pair) = (entry.index, &mut entry.data);
    let (mut key, mut value) = (Room::new(&mut pair.key), Room::new(&mut pair.value));
    if !pairs.nth(pool, index, &mut key, &mut value) {
        return Some(Status::CONTINUE);
    }
    (pair.value_type, pair.key_size, pair.value_size) = (VALUE_TEXT, key.finish(), value.finish());
    entry.write_to_prefix(body).ok()?;
    Some(Status::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write as _;
    use std::string::ToString as _;
    use std::vec::Vec;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn text_ends_at_its_zero_or_its_size_and_inside_its_room() {
        let bytes = utf16("a\u{1f600}b\0c");
        for (size, text) in
            [(0, Some("")), (2, Some("a")), (6, Some("a\u{1f600}")), (10, Some("a\u{1f600}b"))]
        {
            assert_eq!(Text::new(&bytes, size).map(|text| text.to_string()).as_deref(), text);
        }
        assert_eq!(Text::new(&bytes, 12).unwrap().to_string(), "a\u{1f600}b");
        assert!(Text::new(&bytes, 12).unwrap() == "a\u{1f600}b" && Text::new(&bytes, 6).unwrap() != "a");
        // Half a pair.
        assert_eq!(Text::new(&bytes, 4).unwrap().to_string(), "a\u{fffd}");
        for size in [1, 11, 13, 14, u32::MAX] {
            assert!(Text::new(&bytes, size).is_none(), "{size}");
        }
    }

    #[test]
    fn room_keeps_a_place_for_the_zero() {
        let mut bytes = [0xff; 8];
        let mut room = Room::new(&mut bytes);
        room.write_str("ab").unwrap();
        room.write_str("c").unwrap();
        room.write_str("d").unwrap_err();
        assert_eq!(room.finish(), 8);
        assert_eq!(bytes, *utf16("abc\0"));
        assert_eq!(Room::new(&mut bytes).finish(), 2);
    }
}
