//! The file of a snapshot: a head, what the guest had printed and sent, QEMU's state, the pieces of RAM, and a digest
//! of it all.

use std::io::{Read, Write};

use anyhow::{Context as _, ensure};
use hv_wire::control::MAX_FRAME;
use hv_wire::platform::RAM_BASE;
use sha2::{Digest as _, Sha256};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

use super::Key;
use crate::interrupt;
use crate::machine::{CONSOLE_KEPT, LARGEST_STATE, PIECE, Ram, Saved};

/// Version of the file; a part of the key.
pub(super) const FORMAT: u32 = 1;
/// What the file begins with. Numbers are those of the host, on which it stays.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Head {
    magic: [u8; 8],
    key: [u8; 32],
    ram_size: u64,
    sent: u64,
    console: u64,
    state: u64,
}

impl Head {
    const MAGIC: [u8; 8] = *b"hv-snap\x01";
}

/// What stands before a piece of RAM. The last one has no bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Piece {
    address: u64,
    bytes: u64,
}

/// Writes the file of a stopped machine that uses up to `most` bytes of its RAM.
///
/// # Errors
/// It cannot be written, or is too large.
pub(super) fn write(to: &mut impl Write, key: &Key, machine: &Saved, most: u64) -> anyhow::Result<()> {
    let Saved { ram, state, console, sent } = machine;
    let mut to = Summed { inner: to, sum: Sha256::new() };
    let head = Head {
        magic: Head::MAGIC,
        key: key.0,
        ram_size: ram.size(),
        sent: sent.len() as u64,
        console: console.len() as u64,
        state: state.len() as u64,
    };
    to.put(head.as_bytes())?;
    for part in [sent, console, state] {
        to.put(part)?;
    }
    let mut total = 0;
    ram.pieces(|address, bytes| {
        total += bytes.len() as u64;
        ensure!(total <= most, "the machine uses more than {most} bytes of its RAM");
        to.put(Piece { address, bytes: bytes.len() as u64 }.as_bytes())?;
        to.put(bytes)
    })?;
    to.put(Piece::default().as_bytes())?;
    let sum = to.sum.finalize();
    Ok(to.inner.write_all(&sum)?)
}

/// Reads the file of a machine with this key and this much RAM.
///
/// # Errors
/// It cannot be read, or is truncated, or is another machine's.
pub(super) fn read(from: &mut impl Read, key: &Key, ram_size: u64) -> anyhow::Result<Saved> {
    let mut from = Summed { inner: from, sum: Sha256::new() };
    let mut head = Head::new_zeroed();
    from.fill(head.as_mut_bytes())?;
    ensure!(head.magic == Head::MAGIC, "it begins with {:x?}; expected {:x?}", head.magic, Head::MAGIC);
    ensure!(head.key == key.0 && head.ram_size == ram_size, "it is that of another machine");
    let sent = from.part(head.sent, MAX_FRAME as u64)?;
    let console = from.part(head.console, CONSOLE_KEPT as u64)?;
    let state = from.part(head.state, LARGEST_STATE)?;
    let ram = Ram::new(ram_size)?;
    let mut buffer = vec![0; PIECE];
    let mut next = RAM_BASE;
    loop {
        interrupt::check()?;
        let mut piece = Piece::default();
        from.fill(piece.as_mut_bytes())?;
        let Piece { address, bytes } = piece;
        if bytes == 0 {
            break;
        }
        // So there are no more pieces than RAM has room for.
        ensure!(
            bytes <= PIECE as u64 && address >= next,
            "a piece of RAM has {bytes} bytes at {address:#x}; expected up to {PIECE} at {next:#x} or above"
        );
        let bytes = &mut buffer[..bytes as usize];
        from.fill(bytes)?;
        ram.write(address, bytes)?;
        next = address + bytes.len() as u64;
    }
    let mut sum = [0; 32];
    from.inner.read_exact(&mut sum).context("it is truncated")?;
    ensure!(sum == *from.sum.finalize(), "its digest is another");
    Ok(Saved { ram, state, console, sent })
}

/// Bytes on their way to a file or from one, with their digest.
struct Summed<'f, F> {
    inner: &'f mut F,
    sum: Sha256,
}

impl<F: Write> Summed<'_, F> {
    fn put(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        self.sum.update(bytes);
        Ok(self.inner.write_all(bytes)?)
    }
}

impl<F: Read> Summed<'_, F> {
    fn fill(&mut self, bytes: &mut [u8]) -> anyhow::Result<()> {
        self.inner.read_exact(bytes).context("it is truncated")?;
        self.sum.update(bytes);
        Ok(())
    }

    /// Reads a part of a length that the file names.
    fn part(&mut self, bytes: u64, most: u64) -> anyhow::Result<Vec<u8>> {
        ensure!(bytes <= most, "a part of it has {bytes} bytes; expected up to {most}");
        let mut part = vec![0; bytes as usize];
        self.fill(&mut part)?;
        Ok(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key([7; 32]);
    const SIZE: u64 = 4 << 20;

    fn machine() -> Saved {
        let ram = Ram::new(SIZE).unwrap();
        ram.write(RAM_BASE + 100, b"somewhere").unwrap();
        ram.write(RAM_BASE + SIZE - 3, b"end").unwrap();
        Saved { ram, state: b"state".to_vec(), console: b"login:".to_vec(), sent: b"connect".to_vec() }
    }

    fn bytes() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, &KEY, &machine(), u64::MAX).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let saved = read(&mut &bytes()[..], &KEY, SIZE).unwrap();
        let mut got = [0; 9];
        saved.ram.read_into(RAM_BASE + 100, &mut got).unwrap();
        assert_eq!(&got, b"somewhere");
        saved.ram.read_into(RAM_BASE + SIZE - 9, &mut got).unwrap();
        assert_eq!(&got, b"\0\0\0\0\0\0end");
        assert_eq!(saved.ram.size(), SIZE);
        assert_eq!(
            (&saved.state[..], &saved.console[..], &saved.sent[..]),
            (&b"state"[..], &b"login:"[..], &b"connect"[..])
        );
    }

    #[test]
    fn a_file_of_another_machine_is_refused() {
        let refused = |key, size| read(&mut &bytes()[..], &key, size).unwrap_err().to_string();
        assert!(refused(Key([8; 32]), SIZE).contains("another machine"));
        assert!(refused(KEY, SIZE * 2).contains("another machine"));
    }

    #[test]
    fn a_file_that_is_not_whole_or_was_changed_is_refused() {
        let bytes = bytes();
        for end in (0..bytes.len()).filter(|end| *end < 300 || end % 4096 == 0 || *end > bytes.len() - 80) {
            assert!(read(&mut &bytes[..end], &KEY, SIZE).is_err(), "{end}");
        }
        for at in (0..bytes.len()).filter(|at| *at < 300 || at % 4096 == 0 || *at > bytes.len() - 80) {
            for bit in [0, 7] {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&mut &changed[..], &KEY, SIZE).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn lengths_and_places_of_a_hostile_file_are_judged() {
        let head = Head { magic: Head::MAGIC, key: KEY.0, ram_size: SIZE, sent: 0, console: 0, state: 0 };
        let refused = |head: Head, rest: &[Piece]| {
            let bytes = [head.as_bytes(), rest.as_bytes(), &[1; 8192]].concat();
            read(&mut &bytes[..], &KEY, SIZE).unwrap_err().to_string()
        };
        for head in [
            Head { sent: u64::MAX, ..head },
            Head { console: 1 << 40, ..head },
            Head { state: 1 << 30, ..head },
        ] {
            assert!(refused(head, &[]).starts_with("a part of it has"));
        }
        let piece = |address, bytes| Piece { address, bytes };
        assert!(refused(head, &[piece(RAM_BASE, u64::MAX)]).contains("a piece of RAM"));
        assert!(refused(head, &[piece(0, 16)]).contains("a piece of RAM"));
        assert!(refused(head, &[piece(RAM_BASE + SIZE, 16)]).contains("outside the machine's RAM"));
        assert!(refused(head, &[piece(u64::MAX, 16)]).contains("outside the machine's RAM"));
    }
}
