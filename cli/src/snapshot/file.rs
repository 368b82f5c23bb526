//! The two files of a snapshot. One has a head, what the guest had printed and sent, QEMU's state, the pieces of RAM
//! that are the hypervisor's, and a digest of it all and of the other file. That is the guest's RAM, sparse: QEMU maps
//! it as it is, so that runs share it and each has the pages that it writes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail, ensure};
use hv_wire::control::MAX_FRAME;
use hv_wire::platform::{GUEST_RAM_BASE, RAM_BASE};
use sha2::{Digest as _, Sha256};
use zerocopy::{FromBytes, FromZeros as _, Immutable, IntoBytes, KnownLayout};

use super::Key;
use crate::interrupt;
use crate::machine::{CONSOLE_KEPT, LARGEST_STATE, Layout, PIECE, Ram, Saved};

/// Version of the file; a part of the key.
pub(super) const FORMAT: u32 = 2;
/// Names of the two files.
pub(super) const MACHINE: &str = "machine";
pub(super) const MEMORY: &str = "ram";
/// Bytes of a page of QEMU's memory, at most.
const PAGE: u64 = 64 << 10;

/// What the file begins with. Numbers are those of the host, on which it stays.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Head {
    magic: [u8; 8],
    key: [u8; 32],
    /// Bytes below the guest's RAM, of that, and behind it.
    ram: [u64; 3],
    sent: u64,
    console: u64,
    state: u64,
}

impl Head {
    const MAGIC: [u8; 8] = *b"hv-snap\x02";
}

/// What stands before a piece of RAM. The last one has no bytes.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Piece {
    address: u64,
    bytes: u64,
}

/// Writes the files of a stopped machine that uses up to `most` bytes of its RAM. Ends if `check` fails, which is
/// called for each piece.
///
/// # Errors
/// They cannot be written, or are too large.
pub(super) fn write(
    to: &mut impl Write,
    memory: &File,
    key: &Key,
    machine: &Saved,
    (most, check): (u64, &dyn Fn() -> anyhow::Result<()>),
) -> anyhow::Result<()> {
    let Saved { ram, state, console, sent } = machine;
    let Layout::Apart { sizes, .. } = ram.layout() else { bail!("the guest's RAM has no file of its own") };
    let mut to = Summed { inner: to, sum: Sha256::new() };
    let head = Head {
        magic: Head::MAGIC,
        key: key.0,
        ram: sizes,
        sent: sent.len() as u64,
        console: console.len() as u64,
        state: state.len() as u64,
    };
    to.put(head.as_bytes())?;
    for part in [sent, console, state] {
        to.put(part)?;
    }
    let guest = GUEST_RAM_BASE..GUEST_RAM_BASE + sizes[1];
    let (mut total, mut guests) = (0, Sha256::new());
    memory.set_len(sizes[1])?;
    ram.pieces(|address, bytes| {
        check()?;
        total += bytes.len() as u64;
        ensure!(total <= most, "the machine uses more than {most} bytes of its RAM");
        if guest.contains(&address) {
            let at = address - guest.start;
            add(&mut guests, at, bytes);
            return Ok(memory.write_all_at(bytes, at)?);
        }
        to.put(Piece { address, bytes: bytes.len() as u64 }.as_bytes())?;
        to.put(bytes)
    })?;
    to.put(Piece::default().as_bytes())?;
    to.put(&guests.finalize())?;
    let sum = to.sum.finalize();
    Ok(to.inner.write_all(&sum)?)
}

/// Adds a piece of the guest's RAM to its digest.
fn add(sum: &mut Sha256, at: u64, bytes: &[u8]) {
    sum.update(at.to_le_bytes());
    sum.update(bytes);
}

/// Reads the files of a machine with this key and this much RAM.
///
/// # Errors
/// They cannot be read, or are truncated, or another machine's.
pub(super) fn read(from: &mut impl Read, memory: File, key: &Key, ram_size: u64) -> anyhow::Result<Saved> {
    let mut from = Summed { inner: from, sum: Sha256::new() };
    let mut head = Head::new_zeroed();
    from.fill(head.as_mut_bytes())?;
    ensure!(head.magic == Head::MAGIC, "it begins with {:x?}; expected {:x?}", head.magic, Head::MAGIC);
    let size = head.ram.iter().try_fold(0_u64, |size, part| size.checked_add(*part));
    let is_of_parts = head.ram[0] == GUEST_RAM_BASE - RAM_BASE
        && head.ram.iter().all(|part| *part != 0 && part.is_multiple_of(PAGE));
    ensure!(head.key == key.0 && size == Some(ram_size) && is_of_parts, "it is that of another machine");
    let length = memory.metadata()?.len();
    ensure!(length == head.ram[1], "its file {MEMORY} has {length} bytes, expected {}", head.ram[1]);
    let sent = from.part(head.sent, MAX_FRAME as u64)?;
    let console = from.part(head.console, CONSOLE_KEPT as u64)?;
    let state = from.part(head.state, LARGEST_STATE)?;
    let ram = Ram::of_saved(head.ram, memory)?;
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
    let (mut guests, mut sum) = ([0; 32], [0; 32]);
    from.fill(&mut guests)?;
    from.inner.read_exact(&mut sum).context("it is truncated")?;
    ensure!(sum == *from.sum.finalize(), "its digest is another");
    let mut read = Sha256::new();
    ram.guest_pieces(|at, bytes| {
        add(&mut read, at, bytes);
        Ok(())
    })?;
    ensure!(guests == *read.finalize(), "the digest of its file {MEMORY} is another");
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
    const WHOLE: (u64, &dyn Fn() -> anyhow::Result<()>) = (u64::MAX, &|| Ok(()));
    const BELOW: u64 = GUEST_RAM_BASE - RAM_BASE;
    const GUEST: u64 = 4 << 20;
    const SIZE: u64 = BELOW + GUEST + (1 << 20);
    /// Places in the hypervisor's memory, in the guest's, and in the hypervisor's again.
    const PLACES: [(u64, &[u8; 4]); 3] =
        [(RAM_BASE + 100, b"some"), (GUEST_RAM_BASE + GUEST - 4, b"gues"), (RAM_BASE + SIZE - 4, b"last")];

    fn machine() -> Saved {
        let ram = Ram::of(Layout::apart(SIZE, GUEST)).unwrap();
        PLACES.iter().for_each(|(address, bytes)| ram.write(*address, *bytes).unwrap());
        Saved { ram, state: b"state".to_vec(), console: b"login:".to_vec(), sent: b"connect".to_vec() }
    }

    /// Returns both files of a machine.
    fn files() -> (Vec<u8>, File) {
        let (mut bytes, memory) = (Vec::new(), tempfile::tempfile().unwrap());
        write(&mut bytes, &memory, &KEY, &machine(), WHOLE).unwrap();
        (bytes, memory)
    }

    fn read(mut bytes: &[u8], memory: &File, key: Key, size: u64) -> anyhow::Result<Saved> {
        super::read(&mut bytes, memory.try_clone().unwrap(), &key, size)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, memory) = files();
        let saved = read(&bytes, &memory, KEY, SIZE).unwrap();
        for (address, bytes) in PLACES {
            let mut got = [9; 5];
            saved.ram.read_into(address - 1, &mut got).unwrap();
            assert_eq!((got[0], &got[1..]), (0, &bytes[..]), "{address:#x}");
        }
        assert_eq!(saved.ram.size(), SIZE);
        assert_eq!(
            (&saved.state[..], &saved.console[..], &saved.sent[..]),
            (&b"state"[..], &b"login:"[..], &b"connect"[..])
        );
    }

    #[test]
    fn the_guests_memory_stays_in_its_file_and_is_not_written() {
        let (bytes, memory) = files();
        let [first, second] = [(); 2].map(|()| read(&bytes, &memory, KEY, SIZE).unwrap());
        first.ram.write(RAM_BASE, b"own").unwrap();
        assert_eq!(*second.ram.read::<[u8; 3]>(RAM_BASE).unwrap(), [0; 3]);
        let refused = first.ram.write(GUEST_RAM_BASE - 1, b"both").unwrap_err().to_string();
        assert!(refused.contains("QEMU's own"), "{refused}");
        first.ram.discard(GUEST_RAM_BASE, GUEST).unwrap();
        let (again, other) = (&mut Vec::new(), tempfile::tempfile().unwrap());
        write(again, &other, &KEY, &second, WHOLE).unwrap();
        assert!(*again == bytes);
        assert!(read(again, &other, KEY, SIZE).is_ok());
    }

    #[test]
    fn a_file_of_another_machine_is_refused() {
        let (bytes, memory) = files();
        let refused = |key, size| read(&bytes, &memory, key, size).unwrap_err().to_string();
        assert!(refused(Key([8; 32]), SIZE).contains("another machine"));
        assert!(refused(KEY, SIZE * 2).contains("another machine"));
        let whole = Saved { ram: Ram::new(SIZE).unwrap(), ..machine() };
        assert!(write(&mut Vec::new(), &memory, &KEY, &whole, WHOLE).is_err());
        assert!(write(&mut Vec::new(), &memory, &KEY, &machine(), (2 * PIECE as u64, WHOLE.1)).is_err());
    }

    #[test]
    fn a_file_that_is_not_whole_or_was_changed_is_refused() {
        let (bytes, memory) = files();
        for end in (0..bytes.len()).filter(|end| *end < 300 || end % 4096 == 0 || *end > bytes.len() - 120) {
            assert!(read(&bytes[..end], &memory, KEY, SIZE).is_err(), "{end}");
        }
        for at in (0..bytes.len()).filter(|at| *at < 300 || at % 4096 == 0 || *at > bytes.len() - 120) {
            for bit in [0, 7] {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&changed, &memory, KEY, SIZE).is_err(), "{at}");
            }
        }
        for at in [0, GUEST / 2, GUEST - 1] {
            let mut byte = [0];
            memory.read_exact_at(&mut byte, at).unwrap();
            memory.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let why = read(&bytes, &memory, KEY, SIZE).unwrap_err().to_string();
            assert!(why.contains("the digest of its file ram"), "{at}: {why}");
            memory.write_all_at(&byte, at).unwrap();
        }
        // The same contents at another place.
        memory.write_all_at(b"gues", GUEST - 4 - PIECE as u64).unwrap();
        memory.write_all_at(&[0; 4], GUEST - 4).unwrap();
        assert!(read(&bytes, &memory, KEY, SIZE).is_err());
        memory.set_len(GUEST - 1).unwrap();
        assert!(read(&bytes, &memory, KEY, SIZE).unwrap_err().to_string().contains("expected 4194304"));
    }

    #[test]
    fn lengths_and_places_of_a_hostile_file_are_judged() {
        let ram = [BELOW, GUEST, 1 << 20];
        let head = Head { magic: Head::MAGIC, key: KEY.0, ram, sent: 0, console: 0, state: 0 };
        let (_, memory) = files();
        let refused = |head: Head, rest: &[Piece]| {
            let bytes = [head.as_bytes(), rest.as_bytes(), &[1; 8192]].concat();
            read(&bytes, &memory, KEY, SIZE).unwrap_err().to_string()
        };
        for head in [
            Head { sent: u64::MAX, ..head },
            Head { console: 1 << 40, ..head },
            Head { state: 1 << 30, ..head },
        ] {
            assert!(refused(head, &[]).starts_with("a part of it has"));
        }
        for ram in [
            [BELOW, GUEST - 4096, (1 << 20) + 4096],
            [BELOW - (1 << 20), GUEST + (1 << 20), 1 << 20],
            [BELOW, SIZE - BELOW, 0],
            [u64::MAX, GUEST, 1],
        ] {
            assert!(refused(Head { ram, ..head }, &[]).contains("another machine"), "{ram:?}");
        }
        let piece = |address, bytes| Piece { address, bytes };
        assert!(refused(head, &[piece(RAM_BASE, u64::MAX)]).contains("a piece of RAM"));
        assert!(refused(head, &[piece(0, 16)]).contains("a piece of RAM"));
        assert!(refused(head, &[piece(RAM_BASE + SIZE, 16)]).contains("outside the machine's RAM"));
        assert!(refused(head, &[piece(u64::MAX, 16)]).contains("outside the machine's RAM"));
        assert!(refused(head, &[piece(GUEST_RAM_BASE, 16)]).contains("QEMU's own"));
    }
}
