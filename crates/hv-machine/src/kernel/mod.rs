//! Kernel formats: the segments of a kernel and its entry point.

mod elf;
mod image;
mod zboot;

use std::ops::Range;

use super::Error;
use super::unpack::Format;

/// A kernel, ready to be put into memory.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Guest physical address and contents of each piece. They lie inside the footprint and do not overlap.
    pub(crate) segments: Vec<(u64, Vec<u8>)>,
    /// Memory occupied by the running kernel, including .bss; not empty, sorted, without overlaps. It starts in guest
    /// RAM, but may extend past its end.
    pub(crate) footprint: Vec<Range<u64>>,
    /// The entry point.
    pub(crate) entry: u64,
    /// The page size it was built for, if its header gives it.
    pub(crate) page_size: Option<u32>,
    /// Bytes of RAM needed to reach user space, besides the kernel and the initrd.
    pub(crate) headroom: u64,
}

/// Unpacks a compressed kernel, or the one in an EFI zboot image, of at most `limit` bytes. Unpacks one layer: no
/// kernel is shipped compressed twice.
///
/// # Errors
/// Damaged data, an unknown compression in an EFI zboot image, or more than `limit` bytes.
pub fn unpack(file: Vec<u8>, limit: u64) -> Result<Vec<u8>, Error> {
    let file = match Format::of(&file) {
        Some(format) => format.unpack(&file, "the kernel", limit)?,
        None => file,
    };
    match zboot::payload(&file)? {
        Some((format, payload)) => format.unpack(payload, "the EFI zboot kernel", limit),
        None => Ok(file),
    }
}

/// Returns the packing of the kernel in `file`: a compression, or `zboot`, the EFI program that unpacks itself. Returns
/// `None` if it is not packed.
#[must_use]
pub fn container(file: &[u8]) -> Option<&'static str> {
    let zboot = || zboot::payload(file).ok().flatten().map(|_| "zboot");
    Format::of(file).map(Format::name).or_else(zboot)
}

/// Reads the kernel in `file` and places it in `ram`.
pub(crate) fn load(file: Vec<u8>, ram: Range<u64>) -> Result<Kernel, Error> {
    let file = unpack(file, ram.end.saturating_sub(ram.start))?;
    if elf::is_elf(&file) {
        return elf::load(&file, ram);
    }
    if image::is_image(&file) {
        return image::load(file, ram);
    }
    Err(unknown(&file))
}

/// Describes the unsupported `file` as precisely as possible.
fn unknown(file: &[u8]) -> Error {
    let at = |offset: usize, magic: &[u8]| file.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    let foreign = |machine: &str| Error::ForeignKernel { machine: machine.to_owned() };
    if at(0x202, b"HdrS") {
        return foreign("x86");
    }
    if at(0x24, &0x016f_2818u32.to_le_bytes()) {
        return foreign("32-bit ARM");
    }
    if at(56, b"RSC\x05") {
        return foreign("RISC-V");
    }
    if at(0, b"MZ") {
        return match zboot::pe_machine(file) {
            Some(zboot::MACHINE_ARM64) | None => Error::EfiProgram,
            Some(0x8664 | 0x014c) => foreign("x86"),
            Some(machine) => foreign(&format!("PE machine {machine:#06x}")),
        };
    }
    let start = file.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    Error::NotAKernel { len: file.len(), start }
}

/// Returns true if `file` is a little-endian 64-bit ELF file for AArch64; checks no more than that.
#[must_use]
pub fn is_aarch64_elf(file: &[u8]) -> bool {
    elf::is_elf(file) && file.get(4) == Some(&2) && file.len() >= 64 && elf::foreign_machine(file).is_none()
}

/// Reads a little-endian number at `offset`; `None` outside the file.
fn u16_at(file: &[u8], offset: usize) -> Option<u16> {
    let bytes = file.get(offset..offset.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

/// Reads a little-endian number at `offset`; `None` outside the file.
fn u32_at(file: &[u8], offset: usize) -> Option<u32> {
    let bytes = file.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
pub(crate) mod test {
    pub(crate) use super::elf::test::elf;
    pub(crate) use super::image::test::image;
    pub(crate) use super::image::test::image_with_pe;
    pub(crate) use super::zboot::test::zboot;
    use super::*;

    #[test]
    fn kernels_of_other_machines_are_named() {
        let mut bzimage = vec![0; 0x300];
        bzimage[..2].copy_from_slice(b"MZ");
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        let text = load(bzimage, 0x4040_0000..0x5040_0000).unwrap_err().to_string();
        assert!(text.contains("x86"), "{text}");

        let mut riscv = vec![0; 64];
        riscv[56..60].copy_from_slice(b"RSC\x05");
        let text = load(riscv, 0x4040_0000..0x5040_0000).unwrap_err().to_string();
        assert!(text.contains("RISC-V"), "{text}");
    }

    #[test]
    fn an_unknown_file_is_described_and_the_formats_are_listed() {
        let text = load(b"#!/bin/sh\n".to_vec(), 0x4040_0000..0x5040_0000).unwrap_err().to_string();
        assert!(text.contains("23 21 2f 62"), "{text}");
        assert!(text.contains("Image") && text.contains("zboot") && text.contains("ELF"), "{text}");
        let text = load(Vec::new(), 0x4040_0000..0x5040_0000).unwrap_err().to_string();
        assert!(text.contains("an empty file"), "{text}");
    }

    #[test]
    fn an_efi_program_without_an_image_header_is_told_apart() {
        let mut efi = vec![0; 128];
        efi[..2].copy_from_slice(b"MZ");
        assert!(matches!(load(efi, 0x4040_0000..0x5040_0000), Err(Error::EfiProgram)));
    }
}
