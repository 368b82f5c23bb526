//! PNG files as the tool writes them, and what they show.
//!
//! Source: W3C, "Portable Network Graphics (PNG) Specification (Third Edition)", sections 5, 9 and 11.

use std::io::Read as _;

use anyhow::{Context as _, bail, ensure};
use flate2::Crc;
use flate2::read::ZlibDecoder;

use super::CELL;

/// A picture: red, green and blue of each pixel.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads a file with 8 bits of red, green and blue, and no filters.
    pub(super) fn read(file: &[u8]) -> anyhow::Result<Self> {
        let mut rest = file.strip_prefix(b"\x89PNG\r\n\x1a\n").context("no PNG file")?;
        let (mut size, mut packed) = (None, Vec::new());
        loop {
            let (kind, contents);
            (kind, contents, rest) = chunk(rest)?;
            match kind {
                b"IHDR" => {
                    let (numbers, form) = contents.split_at_checked(8).context("a short header")?;
                    ensure!(form == [8, 2, 0, 0, 0], "another form: {form:?}");
                    let (width, height) = numbers.split_at(4);
                    size = Some((number(width)?, number(height)?));
                }
                b"IDAT" => packed.extend_from_slice(contents),
                b"IEND" => break,
                _ => bail!("a chunk of kind {kind:?}"),
            }
        }
        ensure!(rest.is_empty(), "{} bytes behind the last chunk", rest.len());
        let (width, height) = size.context("no header")?;
        let mut rows = Vec::new();
        ZlibDecoder::new(&*packed).read_to_end(&mut rows)?;
        ensure!(rows.len() == height * (1 + width * 3), "{} bytes of rows", rows.len());
        let mut pixels = Vec::new();
        for row in rows.chunks(1 + width * 3) {
            ensure!(row[0] == 0, "a row has filter {}", row[0]);
            pixels.extend_from_slice(row[1..].as_chunks().0);
        }
        Ok(Self { width, height, pixels })
    }

    /// Returns a pixel.
    pub(crate) fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        self.pixels[y * self.width + x]
    }

    /// Returns the rows of a character: a bit for each pixel that is not black.
    pub(super) fn glyph(&self, column: usize, row: usize) -> [u8; CELL.1] {
        let lit = |x: usize, y: usize| self.pixel(column * CELL.0 + x, row * CELL.1 + y) != [0; 3];
        std::array::from_fn(|y| (0..CELL.0).fold(0, |bits, x| bits << 1 | u8::from(lit(x, y))))
    }

    /// Returns true if a place for a character is black.
    pub(super) fn is_blank(&self, column: usize, row: usize) -> bool {
        self.glyph(column, row) == [0; CELL.1]
    }

    /// Returns the pixels that are not the same in another picture of this size.
    pub(crate) fn differences(&self, other: &Self) -> Vec<(usize, usize)> {
        let places = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        places.filter(|(x, y)| self.pixel(*x, *y) != other.pixel(*x, *y)).collect()
    }
}

fn number(bytes: &[u8]) -> anyhow::Result<usize> {
    Ok(u32::from_be_bytes(bytes.try_into()?) as usize)
}

/// Takes the first chunk: its kind and contents, and what follows it.
fn chunk(bytes: &[u8]) -> anyhow::Result<(&[u8; 4], &[u8], &[u8])> {
    let (length, bytes) = bytes.split_first_chunk::<4>().context("the file ends within a chunk")?;
    let length = u32::from_be_bytes(*length) as usize;
    let (kind, rest) = bytes.split_first_chunk().context("the file ends within a chunk")?;
    let (contents, rest) = rest.split_at_checked(length).context("the file ends within a chunk")?;
    let (sum, rest) = rest.split_first_chunk().context("the file ends within a chunk")?;
    let mut expected = Crc::new();
    expected.update(kind);
    expected.update(contents);
    ensure!(expected.sum() == u32::from_be_bytes(*sum), "a chunk's sum is wrong");
    Ok((kind, contents, rest))
}
