//! Pictures as PNG files: 8 bits each of red, green and blue.
//!
//! Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", sections 5, 10 and 11.

use std::io::{self, Write as _};

use flate2::write::ZlibEncoder;
use flate2::{Compression, Crc};

/// The first bytes of a file.
const SIGNATURE: [u8; 8] = *b"\x89PNG\r\n\x1a\n";
/// Depth 8, colour type RGB, and the only methods of compression, filters and interlacing.
const FORM: [u8; 5] = [8, 2, 0, 0, 0];
/// Bytes of a pixel.
const PIXEL: usize = 3;

/// Returns the file of a picture with rows of `width` pixels. Each pixel is red, green and blue.
pub(super) fn encode(width: u32, rows: &[u8]) -> io::Result<Vec<u8>> {
    let row = width as usize * PIXEL;
    let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
    let mut height = 0_u32;
    for pixels in rows.chunks_exact(row.max(1)) {
        // Its filter: none.
        packed.write_all(&[0])?;
        packed.write_all(pixels)?;
        height += 1;
    }
    let mut file = SIGNATURE.to_vec();
    chunk(&mut file, b"IHDR", &[&width.to_be_bytes()[..], &height.to_be_bytes(), &FORM].concat())?;
    chunk(&mut file, b"IDAT", &packed.finish()?)?;
    chunk(&mut file, b"IEND", &[])?;
    Ok(file)
}

/// Adds a chunk: length, kind, contents, and a sum over the last two.
fn chunk(file: &mut Vec<u8>, kind: &[u8; 4], contents: &[u8]) -> io::Result<()> {
    let length = u32::try_from(contents.len()).map_err(io::Error::other)?;
    let mut sum = Crc::new();
    sum.update(kind);
    sum.update(contents);
    for part in [&length.to_be_bytes()[..], kind, contents, &sum.sum().to_be_bytes()] {
        file.extend_from_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of a file: kinds and contents.
    fn chunks(file: &[u8]) -> Vec<(&[u8], &[u8])> {
        let mut rest = file.strip_prefix(&SIGNATURE).unwrap();
        let mut found = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let (kind, behind) = behind.split_at(4);
            let (contents, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
            found.push((kind, contents));
            rest = &behind[4..];
        }
        found
    }

    #[test]
    fn a_picture_is_a_file_of_three_chunks() {
        let pixels: Vec<u8> = (0..2 * 3 * 3).collect();
        let file = encode(2, &pixels).unwrap();
        let chunks = chunks(&file);
        assert_eq!(chunks[0], (&b"IHDR"[..], &[0, 0, 0, 2, 0, 0, 0, 3, 8, 2, 0, 0, 0][..]));
        assert_eq!(chunks[2], (&b"IEND"[..], &[][..]));
        // The sum of that chunk is in every PNG file.
        assert!(file.ends_with(&[0xae, 0x42, 0x60, 0x82]));
        let mut rows = Vec::new();
        flate2::write::ZlibDecoder::new(&mut rows).write_all(chunks[1].1).unwrap();
        let expected: Vec<u8> = pixels.chunks(6).flat_map(|row| [&[0], row].concat()).collect();
        assert_eq!((chunks[1].0, chunks.len(), rows), (&b"IDAT"[..], 3, expected));
    }
}
