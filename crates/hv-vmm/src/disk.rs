//! A disk: a file, or a part of one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use hv_devices::storage::{Failure, Piece};
use hv_memory::{BadAddress, GuestMemory as _, VmMemory};
use rustix::fs::FallocateFlags;
use vm_memory::GuestMemoryMmap;

/// Bytes of a block.
const BLOCK: usize = 512;
/// Bytes that are written at a time where a block is written repeatedly.
const STEP: usize = 64 << 10;

/// A disk's bytes in a file.
pub(crate) struct Disk<'f> {
    file: &'f File,
    /// Where they begin.
    start: u64,
    size: u64,
}

impl<'f> Disk<'f> {
    /// Makes one of the bytes of a file from `start` on.
    pub(crate) const fn new(file: &'f File, start: u64, size: u64) -> Self {
        Self { file, start, size }
    }

    /// Carries out a piece of a command's work. `data` are addresses and lengths in guest memory.
    pub(crate) fn carry_out(
        &self,
        piece: &Piece,
        data: &[(u64, u64)],
        memory: &VmMemory<GuestMemoryMmap>,
    ) -> Result<(), Failure> {
        if piece.extent().is_some_and(|(_, end)| end > self.size) {
            return Err(Failure::Target);
        }
        let wanted = match *piece {
            Piece::Read { len, .. } | Piece::Write { len, .. } => len,
            Piece::Fill { .. } => BLOCK as u64,
            _ => 0,
        };
        if data.iter().map(|(_, len)| len).sum::<u64>() != wanted {
            return Err(Failure::Target);
        }
        let medium = |_: io::Error| Failure::Medium;
        let target = |_: BadAddress| Failure::Target;
        match *piece {
            Piece::Read { offset, .. } => {
                memory.read_file(self.file, self.start + offset, data).map_err(target)?.map_err(medium)
            }
            Piece::Write { offset, durable, .. } => {
                memory.write_file(self.file, self.start + offset, data).map_err(target)?.map_err(medium)?;
                if durable { self.file.sync_data().map_err(medium) } else { Ok(()) }
            }
            Piece::Flush => self.file.sync_data().map_err(medium),
            Piece::Fill { offset, len, .. } => {
                let mut block = [0; BLOCK];
                let mut rest = &mut block[..];
                for &(address, len) in data {
                    let (part, after) = rest.split_at_mut(len as usize);
                    memory.read(address, part).map_err(target)?;
                    rest = after;
                }
                if block.iter().all(|byte| *byte == 0) {
                    return self.clear(offset, len).map_err(medium);
                }
                self.fill(offset, len, &block.repeat(STEP / BLOCK)).map_err(medium)
            }
            Piece::Clear { offset, len } => self.clear(offset, len).map_err(medium),
            _ => Err(Failure::Target),
        }
    }

    /// Writes bytes repeatedly.
    fn fill(&self, mut offset: u64, mut len: u64, bytes: &[u8]) -> io::Result<()> {
        while len > 0 {
            let part = len.min(bytes.len() as u64);
            self.file.write_all_at(&bytes[..part as usize], self.start + offset)?;
            (offset, len) = (offset + part, len - part);
        }
        Ok(())
    }

    /// Makes a range read as zeros: without blocks, where the file system can.
    fn clear(&self, offset: u64, len: u64) -> io::Result<()> {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if len == 0 || rustix::fs::fallocate(self.file, hole, self.start + offset, len).is_ok() {
            return Ok(());
        }
        self.fill(offset, len, &[0; STEP])
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::GuestAddress;

    use super::*;

    const RAM: u64 = 0x4000_0000;
    const SIZE: u64 = 1 << 20;

    type Memory = VmMemory<GuestMemoryMmap>;

    /// Carries out a piece with data in two parts of guest memory.
    fn carry_out(disk: &Disk<'_>, piece: Piece, len: u64, memory: &Memory) -> Result<(), Failure> {
        let data = [(RAM + 0x800, len / 2), (RAM + 0x4000, len - len / 2)];
        disk.carry_out(&piece, if len == 0 { &[] } else { &data }, memory)
    }

    fn file() -> (File, Memory) {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SIZE).unwrap();
        (file, VmMemory(GuestMemoryMmap::from_ranges(&[(GuestAddress(RAM), 0x10000)]).unwrap()))
    }

    fn bytes(file: &File, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    #[test]
    fn data_goes_between_the_file_and_its_parts_in_memory() {
        let (file, memory) = file();
        let disk = Disk::new(&file, 0, SIZE);
        memory.write(RAM + 0x800, &[1; 512]).unwrap();
        memory.write(RAM + 0x4000, &[2; 512]).unwrap();
        assert!(
            carry_out(&disk, Piece::Write { offset: 4096, len: 1024, durable: true }, 1024, &memory).is_ok()
        );
        assert_eq!(bytes(&file, 4096, 1024), [[1; 512], [2; 512]].concat());
        file.write_all_at(&[3; 1024], 0).unwrap();
        assert!(carry_out(&disk, Piece::Read { offset: 0, len: 1024 }, 1024, &memory).is_ok());
        let mut part = [0; 513];
        memory.read(RAM + 0x4000, &mut part).unwrap();
        assert_eq!((part[0], part[511], part[512]), (3, 3, 0));
        assert!(carry_out(&disk, Piece::Flush, 0, &memory).is_ok());
    }

    #[test]
    fn blocks_are_written_repeatedly_and_cleared() {
        let (file, memory) = file();
        let disk = Disk::new(&file, 0, SIZE);
        memory.write(RAM + 0x800, &[7; 256]).unwrap();
        memory.write(RAM + 0x4000, &[8; 256]).unwrap();
        let len = 3 * STEP as u64 + 512;
        assert!(carry_out(&disk, Piece::Fill { offset: 512, len, unmap: false }, 512, &memory).is_ok());
        let found = bytes(&file, 0, len as usize + 1024);
        assert_eq!((found[511], found[512], found[1023], found[512 + len as usize - 1]), (0, 7, 8, 8));
        assert_eq!(found[512 + len as usize], 0);
        assert!(carry_out(&disk, Piece::Clear { offset: 1024, len: 512 }, 0, &memory).is_ok());
        assert_eq!(bytes(&file, 1023, 514), [vec![8], vec![0; 512], vec![7]].concat());
        disk.fill(0, SIZE, &[9; STEP]).unwrap();
        memory.write(RAM + 0x800, &[0; 256]).unwrap();
        memory.write(RAM + 0x4000, &[0; 256]).unwrap();
        assert!(carry_out(&disk, Piece::Fill { offset: 0, len: SIZE, unmap: true }, 512, &memory).is_ok());
        assert!(bytes(&file, 0, SIZE as usize).iter().all(|byte| *byte == 0));
        assert_eq!(file.metadata().unwrap().len(), SIZE);
    }

    #[test]
    fn nothing_behind_the_end_and_nothing_outside_memory_is_reached() {
        let (file, memory) = file();
        let disk = Disk::new(&file, 0, SIZE);
        file.set_len(2 * SIZE).unwrap();
        for piece in [
            Piece::Read { offset: SIZE - 512, len: 1024 },
            Piece::Write { offset: SIZE, len: 1024, durable: false },
            Piece::Read { offset: u64::MAX, len: 1024 },
            // Fewer bytes than the request has data.
            Piece::Read { offset: 0, len: 512 },
        ] {
            assert_eq!(carry_out(&disk, piece, 1024, &memory), Err(Failure::Target), "{piece:?}");
        }
        let outside = [(RAM + 0xfe00, 1024)];
        let read = Piece::Read { offset: 0, len: 1024 };
        assert_eq!(disk.carry_out(&read, &outside, &memory), Err(Failure::Target));
        file.set_len(512).unwrap();
        assert_eq!(carry_out(&disk, read, 1024, &memory), Err(Failure::Medium));
    }

    #[test]
    fn a_part_of_a_file_is_a_disk_and_what_is_around_it_stays() {
        let (file, memory) = file();
        file.write_all_at(&[5; SIZE as usize], 0).unwrap();
        let disk = Disk::new(&file, 4096, 8192);
        memory.write(RAM + 0x800, &[1; 4096]).unwrap();
        memory.write(RAM + 0x4000, &[2; 4096]).unwrap();
        let write = Piece::Write { offset: 0, len: 8192, durable: false };
        assert!(carry_out(&disk, write, 8192, &memory).is_ok());
        assert_eq!(bytes(&file, 4095, 8194), [vec![5], vec![1; 4096], vec![2; 4096], vec![5]].concat());
        assert!(carry_out(&disk, Piece::Clear { offset: 4096, len: 4096 }, 0, &memory).is_ok());
        assert_eq!(bytes(&file, 8191, 4098), [vec![1], vec![0; 4096], vec![5]].concat());
        let behind = Piece::Read { offset: 4096, len: 8192 };
        assert_eq!(carry_out(&disk, behind, 8192, &memory), Err(Failure::Target));
        assert!(carry_out(&disk, Piece::Read { offset: 0, len: 8192 }, 8192, &memory).is_ok());
        let mut read = [0; 2];
        memory.read(RAM + 0x800, &mut read).unwrap();
        assert_eq!(read, [1; 2]);
    }
}
