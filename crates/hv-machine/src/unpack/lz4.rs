//! The legacy frame of LZ4, which `lz4 -l` writes and the kernel takes: blocks of 8 MiB, each by itself.
//!
//! Source: lz4, doc/lz4_Frame_format.md, "Legacy frame".

use std::io::{Error, ErrorKind, Result};

/// First bytes of a legacy frame, and of a frame as other programs write it.
pub(super) const LEGACY: [u8; 4] = 0x184c_2102u32.to_le_bytes();
pub(super) const FRAME: [u8; 4] = 0x184d_2204u32.to_le_bytes();

/// Bytes of a block before its compression; the last one of a frame may have fewer.
const BLOCK: usize = 8 << 20;
/// Most bytes of a block that does not compress (lz4.h, `LZ4_COMPRESSBOUND`).
const LONGEST: usize = BLOCK + BLOCK / 255 + 16;

/// Unpacks a frame to at most `limit` bytes and one more.
pub(super) fn unpack(bytes: &[u8], limit: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut block = vec![0; BLOCK];
    let mut rest =
        bytes.strip_prefix(&LEGACY).ok_or_else(|| Error::other("it does not begin a legacy frame"))?;
    while !rest.is_empty() && out.len() as u64 <= limit {
        let (size, behind) = rest.split_first_chunk().ok_or(ErrorKind::UnexpectedEof)?;
        let size = u32::from_le_bytes(*size) as usize;
        // Frames may follow one another. The kernel's build appends the unpacked size.
        if size == u32::from_le_bytes(LEGACY) as usize {
            rest = behind;
            continue;
        }
        if behind.is_empty() && size == out.len() {
            break;
        }
        if size > LONGEST {
            return Err(Error::other(format!("a block of {size} bytes, {LONGEST} is the most")));
        }
        let (packed, behind) = behind.split_at_checked(size).ok_or(ErrorKind::UnexpectedEof)?;
        let size = lz4_flex::block::decompress_into(packed, &mut block).map_err(Error::other)?;
        out.extend_from_slice(&block[..size]);
        rest = behind;
    }
    Ok(out)
}
