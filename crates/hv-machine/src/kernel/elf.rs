//! AArch64 ELF programs, loaded by their program headers and started like a Linux Image: EL1, MMU off, X0 = device
//! tree.

use std::ops::Range;

use elf::ElfBytes;
use elf::abi::{EM_386, EM_AARCH64, EM_ARM, EM_RISCV, EM_X86_64, PT_LOAD};
use elf::endian::AnyEndian;
use elf::segment::ProgramHeader;

use super::super::Error;
use super::Kernel;

/// Returns true if `file` is an ELF file.
pub(super) fn is_elf(file: &[u8]) -> bool {
    file.starts_with(b"\x7fELF")
}

/// Returns the machine of a 32-bit, big-endian or foreign ELF file; `None` for little-endian AArch64. The fields are
/// read by hand, because a parser for 64-bit files rejects others without naming the machine.
pub(super) fn foreign_machine(file: &[u8]) -> Option<String> {
    let big = file.get(5) == Some(&2);
    let machine = match (file.get(18), file.get(19)) {
        (Some(&a), Some(&b)) if big => u16::from_be_bytes([a, b]),
        (Some(&a), Some(&b)) => u16::from_le_bytes([a, b]),
        _ => return None,
    };
    match machine {
        EM_AARCH64 if big => Some("big-endian AArch64".to_owned()),
        EM_AARCH64 => None,
        EM_X86_64 | EM_386 => Some("x86".to_owned()),
        EM_ARM => Some("32-bit ARM".to_owned()),
        EM_RISCV => Some("RISC-V".to_owned()),
        other => Some(format!("ELF machine {other}")),
    }
}

/// Places the loadable segments of `file` at their physical addresses.
pub(super) fn load(file: &[u8], ram: Range<u64>) -> Result<Kernel, Error> {
    if let Some(machine) = foreign_machine(file) {
        return Err(Error::ForeignKernel { machine });
    }
    let parse = |error: elf::ParseError| Error::Elf { reason: error.to_string() };
    let elf = ElfBytes::<AnyEndian>::minimal_parse(file).map_err(parse)?;
    let mut pieces: Vec<(Range<u64>, ProgramHeader)> = Vec::new();
    for header in elf.segments().into_iter().flatten().filter(|h| h.p_type == PT_LOAD && h.p_memsz != 0) {
        let (start, end) = (header.p_paddr, header.p_paddr.saturating_add(header.p_memsz));
        if start < ram.start || end > ram.end {
            return Err(outside("segment", start, end, &ram));
        }
        if header.p_filesz > header.p_memsz {
            let (field, expected) = ("p_filesz", "at most p_memsz");
            return Err(Error::BadHeader { field, value: header.p_filesz, expected });
        }
        pieces.push((start..end, header));
    }
    if pieces.is_empty() {
        return Err(Error::ElfEmpty);
    }
    // Checked before anything is copied, so that many headers for one big piece of the file cannot exhaust memory.
    pieces.sort_by_key(|(range, _)| range.start);
    if let Some(pair) = pieces.windows(2).find(|pair| pair[0].0.end > pair[1].0.start) {
        return Err(Error::ElfOverlap { gpa: pair[1].0.start });
    }
    let entry = elf.ehdr.e_entry;
    if !pieces.iter().any(|(range, _)| range.contains(&entry)) {
        return Err(outside("entry point", entry, entry.saturating_add(4), &ram));
    }
    // Linkers make segments share at most a page of the file; headers that all refer to the same bytes would multiply
    // it.
    let sum = pieces.iter().fold(0u64, |sum, (_, header)| sum.saturating_add(header.p_filesz));
    if sum > 2 * file.len() as u64 {
        let (field, expected) = ("the sum of all p_filesz", "at most twice the file's length");
        return Err(Error::BadHeader { field, value: sum, expected });
    }
    // .bss is not written: guest RAM outside the segments is zero at the start.
    let mut segments = Vec::new();
    for (range, header) in pieces.iter().filter(|(_, header)| header.p_filesz != 0) {
        let need = header.p_offset.saturating_add(header.p_filesz);
        let truncated = |_| Error::Truncated { what: "a segment", need, len: file.len() as u64 };
        segments.push((range.start, elf.segment_data(header).map_err(truncated)?.to_vec()));
    }
    let footprint = pieces.into_iter().map(|(range, _)| range).collect();
    Ok(Kernel { segments, footprint, entry, page_size: None, headroom: 0 })
}

fn outside(what: &'static str, start: u64, end: u64, ram: &Range<u64>) -> Error {
    Error::ElfOutsideRam { what, start, end, ram_start: ram.start, ram_end: ram.end }
}

#[cfg(test)]
pub(crate) mod test {
    use super::super::load;
    use super::*;

    const RAM: Range<u64> = 0x4040_0000..0x5040_0000;

    /// A program header: physical address, bytes in the file, bytes in memory.
    pub(crate) type Segment = (u64, u64, u64);

    /// Builds an AArch64 executable with these segments, each filled with its number.
    pub(crate) fn elf(entry: u64, segments: &[Segment]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend_from_slice(&2u16.to_le_bytes());
        file.extend_from_slice(&EM_AARCH64.to_le_bytes());
        file.extend_from_slice(&1u32.to_le_bytes());
        file.extend_from_slice(&entry.to_le_bytes());
        file.extend_from_slice(&64u64.to_le_bytes());
        file.extend_from_slice(&[0; 12]);
        for half in [64, 56, segments.len() as u16, 64, 0, 0] {
            file.extend_from_slice(&half.to_le_bytes());
        }
        let mut offset = 64 + 56 * segments.len() as u64;
        for &(paddr, filesz, memsz) in segments {
            file.extend_from_slice(&PT_LOAD.to_le_bytes());
            file.extend_from_slice(&5u32.to_le_bytes());
            for word in [offset, paddr.wrapping_add(0xffff_0000_0000_0000), paddr, filesz, memsz, 0x1000] {
                file.extend_from_slice(&word.to_le_bytes());
            }
            offset += filesz;
        }
        for (number, &(_, filesz, _)) in segments.iter().enumerate() {
            file.resize(file.len() + filesz as usize, number as u8);
        }
        file
    }

    #[test]
    fn segments_go_to_their_physical_addresses() {
        let file =
            elf(0x4050_0010, &[(0x4060_0000, 16, 0x2000), (0x4050_0000, 32, 32), (0x4070_0000, 0, 64)]);
        let kernel = load(file, RAM).expect("load");
        assert_eq!(kernel.entry, 0x4050_0010);
        assert_eq!(kernel.segments, [(0x4050_0000, vec![1; 32]), (0x4060_0000, vec![0; 16])]);
        let footprint = [0x4050_0000..0x4050_0020, 0x4060_0000..0x4060_2000, 0x4070_0000..0x4070_0040];
        assert_eq!(kernel.footprint, footprint);
    }

    #[test]
    fn a_segment_or_entry_outside_ram_is_refused() {
        for (entry, segment) in [
            (0x4020_0000, (0x4020_0000, 16, 16)),
            (0x503f_fff0, (0x503f_fff0, 16, 17)),
            (0xffff_8000_0000_0000, (0xffff_8000_0000_0000, 16, u64::MAX)),
            (0x4050_0010, (0x4050_0000, 16, 16)),
        ] {
            let error = load(elf(entry, &[segment]), RAM).unwrap_err();
            assert!(matches!(error, Error::ElfOutsideRam { ram_start: 0x4040_0000, .. }), "{error}");
        }
    }

    #[test]
    fn files_that_cannot_run_are_refused() {
        assert!(matches!(load(elf(0, &[]), RAM), Err(Error::ElfEmpty)));
        let overlap = elf(0x4050_0000, &[(0x4050_0000, 16, 32), (0x4050_0010, 16, 16)]);
        assert!(matches!(load(overlap, RAM), Err(Error::ElfOverlap { gpa: 0x4050_0010 })));
        let more_file_than_memory = elf(0x4050_0000, &[(0x4050_0000, 16, 8)]);
        assert!(matches!(load(more_file_than_memory, RAM), Err(Error::BadHeader { field: "p_filesz", .. })));
        let mut truncated = elf(0x4050_0000, &[(0x4050_0000, 16, 16)]);
        truncated.pop();
        assert!(matches!(load(truncated, RAM), Err(Error::Truncated { .. })));
        assert!(matches!(load(b"\x7fELF".to_vec(), RAM), Err(Error::Elf { .. })));
    }

    /// Checks that segments sharing the same bytes do not turn a small file into a big guest.
    #[test]
    fn segments_that_share_the_files_bytes_are_refused() {
        let size = 0x1_0000;
        let segments: Vec<Segment> = (0..256).map(|n| (0x4050_0000 + n * size, size, size)).collect();
        let mut file = elf(0x4050_0000, &segments);
        file.truncate(64 + 56 * segments.len() + size as usize);
        let offset = file.len() as u64 - size;
        for header in 0..segments.len() {
            let at = 64 + 56 * header + 8;
            file[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        }
        let error = load(file, RAM).unwrap_err();
        assert!(matches!(error, Error::BadHeader { value: 0x100_0000, .. }), "{error}");
    }

    #[test]
    fn other_machines_are_named() {
        let mut file = elf(0x4050_0000, &[(0x4050_0000, 16, 16)]);
        file[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
        let text = load(file.clone(), RAM).unwrap_err().to_string();
        assert!(text.contains("x86"), "{text}");
        file[5] = 2;
        file[18..20].copy_from_slice(&EM_AARCH64.to_be_bytes());
        let text = load(file, RAM).unwrap_err().to_string();
        assert!(text.contains("big-endian"), "{text}");
    }
}
