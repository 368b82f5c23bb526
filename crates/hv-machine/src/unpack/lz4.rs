//! The legacy frame of LZ4, written by `lz4 -l` and accepted by the kernel: independent blocks of 8 MiB.
//!
//! Source: lz4, doc/lz4_Frame_format.md, "Legacy frame".

use std::io::{Error, ErrorKind, Result};

/// First bytes of a legacy frame, and of a current frame.
pub(super) const LEGACY: [u8; 4] = 0x184c_2102u32.to_le_bytes();
pub(super) const FRAME: [u8; 4] = 0x184d_2204u32.to_le_bytes();

/// Uncompressed size of a block; the last one of a frame may be smaller.
const BLOCK: usize = 8 << 20;
/// Maximum size of an incompressible block (lz4.h, `LZ4_COMPRESSBOUND`).
const LONGEST: usize = BLOCK + BLOCK / 255 + 16;

/// Unpacks a frame to at most `limit` + 1 bytes.
pub(super) fn unpack(bytes: &[u8], limit: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut block = vec![0; BLOCK];
    let mut rest = bytes.strip_prefix(&LEGACY).ok_or_else(|| Error::other("not an LZ4 legacy frame"))?;
    while !rest.is_empty() && out.len() as u64 <= limit {
        let (size, behind) = rest.split_first_chunk().ok_or(ErrorKind::UnexpectedEof)?;
        let size = u32::from_le_bytes(*size) as usize;
        // Frames may follow each other. The kernel's build appends the unpacked size.
        if size == u32::from_le_bytes(LEGACY) as usize {
            rest = behind;
            continue;
        }
        if behind.is_empty() && size == out.len() {
            break;
        }
        if size > LONGEST {
            return Err(Error::other(format!("a block of {size} bytes, expected at most {LONGEST}")));
        }
        let (packed, behind) = behind.split_at_checked(size).ok_or(ErrorKind::UnexpectedEof)?;
        let size = lz4_flex::block::decompress_into(packed, &mut block).map_err(Error::other)?;
        out.extend_from_slice(&block[..size]);
        rest = behind;
    }
    Ok(out)
}
