//! LZO1X in the container of `lzop`. No crate for it is well kept, safe on damaged data and suitably licensed.
//!
//! Sources: Linux, Documentation/staging/lzo.rst, "Byte sequences"; lib/decompress_unlzo.c and the lzop package's
//! documentation for the container's fields.

use std::io::{Error, ErrorKind, Result};

/// First bytes of a file.
pub(super) const MAGIC: [u8; 9] = [0x89, b'L', b'Z', b'O', 0, 0x0d, 0x0a, 0x1a, 0x0a];

/// Version from which the header has a level field.
const HAS_LEVEL: u16 = 0x0940;
/// Header flags: checksums of each block, before and after compression, and optional header fields.
const ADLER32_UNPACKED: u32 = 1 << 0;
const ADLER32_PACKED: u32 = 1 << 1;
const EXTRA_FIELD: u32 = 1 << 6;
const CRC32_UNPACKED: u32 = 1 << 8;
const CRC32_PACKED: u32 = 1 << 9;
const FILTER: u32 = 1 << 11;
/// Maximum size of a block; lzop makes none that is longer.
const LONGEST: usize = 64 << 20;

/// A reader of numbers and bytes.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ErrorKind::UnexpectedEof)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    /// Reads a big-endian number, as in the container.
    fn u16(&mut self) -> Result<u16> {
        Ok(self.take(2)?.iter().fold(0, |number, &byte| number << 8 | u16::from(byte)))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self.take(4)?.iter().fold(0, |number, &byte| number << 8 | u32::from(byte)))
    }
}

/// Unpacks a file to about `limit` bytes: no block is started beyond it.
pub(super) fn unpack(bytes: &[u8], limit: u64) -> Result<Vec<u8>> {
    let mut reader = Reader(bytes);
    let flags = header(&mut reader)?;
    let mut out = Vec::new();
    loop {
        let size = reader.u32()? as usize;
        if size == 0 || out.len() as u64 > limit {
            return Ok(out);
        }
        if size > LONGEST {
            return Err(Error::other(format!("a block of {size} bytes, expected at most {LONGEST}")));
        }
        let packed_size = reader.u32()? as usize;
        let sum = if flags & ADLER32_UNPACKED != 0 { Some(reader.u32()?) } else { None };
        if flags & CRC32_UNPACKED != 0 {
            reader.u32()?;
        }
        // An incompressible block is stored, and has no checksum of the compressed form.
        if packed_size < size {
            for flag in [ADLER32_PACKED, CRC32_PACKED] {
                if flags & flag != 0 {
                    reader.u32()?;
                }
            }
        }
        let packed = reader.take(packed_size)?;
        let start = out.len();
        if packed_size == size {
            out.extend_from_slice(packed);
        } else {
            block(packed, size, &mut out)?;
        }
        if sum.is_some_and(|sum| sum != adler32(&out[start..])) {
            return Err(Error::other("a block's checksum does not match"));
        }
    }
}

/// Reads the header and returns its flags.
fn header(reader: &mut Reader<'_>) -> Result<u32> {
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(Error::other("not an lzop file"));
    }
    let version = reader.u16()?;
    reader.u16()?;
    if version >= HAS_LEVEL {
        reader.u16()?;
    }
    let method = reader.byte()?;
    if !(1..=3).contains(&method) {
        return Err(Error::other(format!("method {method}, expected 1 to 3 (LZO1X)")));
    }
    if version >= HAS_LEVEL {
        reader.byte()?;
    }
    let flags = reader.u32()?;
    if flags & FILTER != 0 {
        return Err(Error::other("it was filtered; pack it without --filter"));
    }
    // Mode and timestamp of the file, and its original name.
    reader.take(if version >= HAS_LEVEL { 12 } else { 8 })?;
    let name = reader.byte()?;
    reader.take(name.into())?;
    reader.u32()?;
    if flags & EXTRA_FIELD != 0 {
        let length = reader.u32()?;
        reader.take(length as usize)?;
        reader.u32()?;
    }
    Ok(flags)
}

/// Computes the checksum of RFC 1950, "Adler-32 checksum".
fn adler32(bytes: &[u8]) -> u32 {
    let (mut low, mut high) = (1u32, 0u32);
    // Chunk size for which no sum overflows.
    for chunk in bytes.chunks(5552) {
        for &byte in chunk {
            low += u32::from(byte);
            high += low;
        }
        (low, high) = (low % 65521, high % 65521);
    }
    high << 16 | low
}

/// What the last instruction was: how many literals it copied, or a run of literals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    NoLiterals,
    FewLiterals,
    Run,
}

/// A block being unpacked.
struct Block<'a, 'o> {
    input: Reader<'a>,
    out: &'o mut Vec<u8>,
    start: usize,
    end: usize,
}

/// Unpacks a block of `size` bytes to the end of `out`.
fn block(packed: &[u8], size: usize, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    let end = start + size;
    let mut block = Block { input: Reader(packed), out, start, end };
    block.run()?;
    if block.out.len() != end {
        return Err(Error::other("a block is shorter than its header says"));
    }
    Ok(())
}

impl Block<'_, '_> {
    fn run(&mut self) -> Result<()> {
        let mut state = State::NoLiterals;
        if let Some(&first) = self.input.0.first().filter(|&&first| first > 17) {
            self.input.byte()?;
            let count = usize::from(first - 17);
            self.literals(count)?;
            state = if count < 4 { State::FewLiterals } else { State::Run };
        }
        loop {
            let code = usize::from(self.input.byte()?);
            let (distance, length, literals) = match (code, state) {
                (0..=15, State::NoLiterals) => {
                    let count = self.length(code, 15)? + 3;
                    self.literals(count)?;
                    state = State::Run;
                    continue;
                }
                (0..=15, State::FewLiterals) => {
                    (1 + (code >> 2) + (usize::from(self.input.byte()?) << 2), 2, code & 3)
                }
                (0..=15, State::Run) => {
                    (0x801 + (code >> 2) + (usize::from(self.input.byte()?) << 2), 3, code & 3)
                }
                (16..=31, _) => {
                    let length = self.length(code & 7, 7)? + 2;
                    let word = self.word()?;
                    let distance = ((code & 8) << 11) + (word >> 2);
                    if distance == 0 {
                        return Ok(());
                    }
                    (distance + 0x4000, length, word & 3)
                }
                (32..=63, _) => {
                    let length = self.length(code & 31, 31)? + 2;
                    let word = self.word()?;
                    (1 + (word >> 2), length, word & 3)
                }
                _ => {
                    let distance = 1 + (code >> 2 & 7) + (usize::from(self.input.byte()?) << 3);
                    (distance, (code >> 5) + 1, code & 3)
                }
            };
            self.copy(distance, length)?;
            self.literals(literals)?;
            state = if literals == 0 { State::NoLiterals } else { State::FewLiterals };
        }
    }

    /// Reads a length whose first part is in the instruction: 0 there means that it continues, each zero byte adding
    /// 255.
    fn length(&mut self, first: usize, base: usize) -> Result<usize> {
        if first != 0 {
            return Ok(first);
        }
        let mut length = base;
        loop {
            match self.input.byte()? {
                0 => length += 255,
                last => return Ok(length + usize::from(last)),
            }
        }
    }

    /// Reads distance and number of literals, little-endian.
    fn word(&mut self) -> Result<usize> {
        Ok(usize::from(self.input.byte()?) | usize::from(self.input.byte()?) << 8)
    }

    /// Checks that the block has room for this many bytes.
    fn room(&self, count: usize) -> Result<()> {
        if count > self.end - self.out.len() {
            return Err(Error::other("a block is longer than its header says"));
        }
        Ok(())
    }

    fn literals(&mut self, count: usize) -> Result<()> {
        self.room(count)?;
        self.out.extend_from_slice(self.input.take(count)?);
        Ok(())
    }

    /// Copies bytes of the block from `distance` back; source and destination may overlap.
    fn copy(&mut self, distance: usize, length: usize) -> Result<()> {
        self.room(length)?;
        if distance > self.out.len() - self.start {
            return Err(Error::other("a block refers to bytes before its start"));
        }
        for _ in 0..length {
            self.out.push(self.out[self.out.len() - distance]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn unpacked(packed: &[u8], size: usize) -> Result<Vec<u8>> {
        let mut out = b"before".to_vec();
        block(packed, size, &mut out).map(|()| out.split_off(6))
    }

    const END: [u8; 3] = [0x11, 0, 0];

    #[test]
    fn each_instruction_does_what_is_written() {
        let with = |codes: &[u8], size| unpacked(&[codes, &END].concat(), size);
        assert_eq!(with(&[17 + 5, b'a', b'b', b'c', b'd', b'e'], 5).unwrap(), b"abcde");
        // Four literals, then 3 bytes from 2 back (code 0b010_001_00), then 1 literal with it.
        assert_eq!(with(&[21, 1, 2, 3, 4, 0b0100_0101, 0, 9], 8).unwrap(), [1, 2, 3, 4, 3, 4, 3, 9]);
        // One literal, then two bytes from 1 back.
        assert_eq!(with(&[18, 7, 0, 0], 3).unwrap(), [7, 7, 7]);
        // A run with an extended length: 3 + 15 + 255 + 1.
        let run = [&[0, 0, 1][..], &[5; 274]].concat();
        assert_eq!(with(&run, 274).unwrap(), [5; 274]);
        // A long match: 2 + 31 + 1 bytes from 1 back.
        assert_eq!(with(&[21, 1, 2, 3, 4, 32, 1, 0, 0], 38).unwrap()[4..], [4; 34]);
        // 0x4001 back.
        let mut far = [&[0, 0][..], &[0; 64], &[5]].concat();
        far.extend(vec![6; 3 + 15 + 255 * 65 + 5]);
        far.extend([17, 4, 0]);
        let size = 3 + 15 + 255 * 65 + 5;
        assert_eq!(with(&far, size + 3).unwrap().len(), size + 3);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let with = |codes: &[u8], size| unpacked(&[codes, &END].concat(), size);
        assert!(with(&[21, 1, 2, 3, 4], 3).is_err(), "more literals than announced");
        assert!(with(&[21, 1, 2, 3, 4], 5).is_err(), "fewer bytes than announced");
        assert!(with(&[21, 1, 2, 3, 4, 32, 1, 0, 0], 37).is_err(), "a longer match than announced");
        assert!(with(&[18, 7, 4, 0], 3).is_err(), "2 back of 1");
        assert!(unpacked(&[18, 7], 1).is_err(), "no end");
        assert!(unpacked(&[0, 0, 0, 0], usize::MAX >> 1).is_err(), "a length without an end");
        assert!(unpacked(&[], 1).is_err());
    }

    #[test]
    fn sums_are_checked() {
        let good = include_bytes!("samples/text.lzo");
        assert!(unpack(good, 1 << 20).is_ok());
        let mut bad = good.to_vec();
        let last = bad.len() - 12;
        bad[last] ^= 1;
        assert!(unpack(&bad, 1 << 20).is_err());
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }
}
