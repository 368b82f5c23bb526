//! The arm64 Image: a header of 64 bytes, then the kernel as in memory, without .bss.
//!
//! Source: Linux, Documentation/arch/arm64/booting.rst, "Call the kernel image".

use std::ops::Range;

use zerocopy::{FromBytes, Immutable, KnownLayout, LE, U32, U64};

use super::super::Error;
use super::super::layout::ALIGN_2M;
use super::{Kernel, zboot};

#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    code: [U32<LE>; 2],
    text_offset: U64<LE>,
    image_size: U64<LE>,
    flags: U64<LE>,
    reserved: [U64<LE>; 3],
    magic: [u8; 4],
    pe_offset: U32<LE>,
}

const _: () = assert!(size_of::<Header>() == 64);

/// Flags, bit 0.
const BIG_ENDIAN: u64 = 1 << 0;

/// The text_offset of kernels before 3.17, which leave image_size 0.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;
/// Room for .bss after such a kernel.
const OLD_BSS: u64 = 16 << 20;
/// Memory that Linux needs to reach user space besides its image and the initrd, measured with Debian's kernels on 8
/// VPs. 64 MiB of it are the kernel's CMA region, which cannot hold its own data.
const LINUX_HEADROOM: u64 = 96 << 20;

/// Returns true if `file` has the magic number of an arm64 Image.
pub(super) fn is_image(file: &[u8]) -> bool {
    file.get(56..60) == Some(b"ARM\x64")
}

/// Places the Image at the first 2 MiB boundary of `ram`, plus its text_offset. The caller checks whether it ends
/// inside `ram`, since it knows what else must fit.
pub(super) fn load(file: Vec<u8>, ram: Range<u64>) -> Result<Kernel, Error> {
    let len = file.len() as u64;
    let Ok((header, _)) = Header::read_from_prefix(&file) else {
        return Err(Error::Truncated { what: "the Image header", need: 64, len });
    };
    let flags = header.flags.get();
    if flags & BIG_ENDIAN != 0 {
        return Err(Error::BigEndian);
    }
    let (text_offset, size) = match header.image_size.get() {
        0 => (OLD_TEXT_OFFSET, len.saturating_add(OLD_BSS)),
        size => (header.text_offset.get(), size),
    };
    if text_offset >= ALIGN_2M || text_offset % 0x1000 != 0 {
        return Err(Error::BadHeader {
            field: "text_offset",
            value: text_offset,
            expected: "a multiple of 4 KiB below 2 MiB",
        });
    }
    // image_size includes .bss, which is not in the file: the file may be shorter than image_size, never longer.
    if len > size {
        return Err(Error::BadHeader {
            field: "image_size",
            value: size,
            expected: "at least the file's length",
        });
    }
    // The EFI header, present in every distribution's kernel, gives the minimum length of the file.
    if let Some(need) = zboot::pe_end(&file).filter(|&need| need > len) {
        return Err(Error::Truncated { what: "the last section", need, len });
    }

    let start = ram.start.next_multiple_of(ALIGN_2M) + text_offset;
    let end = start.checked_add(size).ok_or(Error::BadHeader {
        field: "image_size",
        value: size,
        expected: "an end within the address space",
    })?;
    let page_size = match flags >> 1 & 3 {
        1 => Some(4 << 10),
        2 => Some(16 << 10),
        3 => Some(64 << 10),
        _ => None,
    };
    Ok(Kernel {
        segments: vec![(start, file)],
        footprint: std::iter::once(start..end).collect(),
        entry: start,
        page_size,
        headroom: LINUX_HEADROOM,
    })
}

#[cfg(test)]
pub(crate) mod test {
    use super::super::super::unpack::test::gzip;
    use super::super::load;
    use super::*;

    const RAM: Range<u64> = 0x4040_0000..0x5040_0000;

    /// Builds a 4 KiB Image that takes `image_size` bytes in memory, built for 4K pages.
    pub(crate) fn image(image_size: u64) -> Vec<u8> {
        let mut file = vec![0x5a; 0x1000];
        file[..64].fill(0);
        file[16..24].copy_from_slice(&image_size.to_le_bytes());
        file[24..32].copy_from_slice(&0xau64.to_le_bytes());
        file[56..60].copy_from_slice(b"ARM\x64");
        file
    }

    /// Builds the same with a PE header whose only section ends at `end`.
    pub(crate) fn image_with_pe(image_size: u64, end: u32) -> Vec<u8> {
        let mut file = image(image_size);
        file[..2].copy_from_slice(b"MZ");
        file[60..64].copy_from_slice(&0x40u32.to_le_bytes());
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x44..0x46].copy_from_slice(&zboot::MACHINE_ARM64.to_le_bytes());
        file[0x46..0x48].copy_from_slice(&1u16.to_le_bytes());
        file[0x54..0x56].copy_from_slice(&0u16.to_le_bytes());
        file[0x58 + 16..0x58 + 20].copy_from_slice(&(end - 0x200).to_le_bytes());
        file[0x58 + 20..0x58 + 24].copy_from_slice(&0x200u32.to_le_bytes());
        file
    }

    #[test]
    fn the_image_starts_at_the_ram_start_and_takes_image_size_bytes() {
        let kernel = load(image(0x20_1000), RAM).expect("load");
        assert_eq!(kernel.entry, RAM.start);
        assert_eq!(kernel.segments, [(RAM.start, image(0x20_1000))]);
        assert_eq!(kernel.footprint.first(), Some(&(RAM.start..RAM.start + 0x20_1000)));
        assert_eq!(kernel.page_size, Some(4096));
    }

    #[test]
    fn a_gzipped_image_is_the_same_as_a_raw_one() {
        let kernel = load(gzip(&image(0x20_1000)), RAM).expect("load");
        assert_eq!(kernel.segments, [(RAM.start, image(0x20_1000))]);
    }

    #[test]
    fn text_offset_is_added_to_a_2_mib_boundary() {
        let mut file = image(0x20_1000);
        file[8..16].copy_from_slice(&0x8_0000u64.to_le_bytes());
        assert_eq!(load(file, RAM).expect("load").entry, RAM.start + 0x8_0000);
        // Before 3.17 the fields were zero.
        let mut file = image(0);
        file[8..16].fill(0);
        assert_eq!(load(file, RAM).expect("load").entry, RAM.start + 0x8_0000);
    }

    #[test]
    fn the_page_size_is_that_of_the_flags() {
        for (flags, size) in [(0x8, None), (0xa, Some(0x1000)), (0xc, Some(0x4000)), (0xe, Some(0x1_0000))] {
            let mut file = image(0x1000);
            file[24] = flags;
            assert_eq!(load(file, RAM).expect("load").page_size, size);
        }
    }

    #[test]
    fn a_big_endian_image_is_refused() {
        let mut file = image(0x1000);
        file[24] = 0xb;
        assert!(matches!(load(file, RAM), Err(Error::BigEndian)));
    }

    #[test]
    fn a_truncated_image_is_noticed_by_its_pe_sections() {
        assert!(load(image_with_pe(0x10000, 0x1000), RAM).is_ok());
        let error = load(image_with_pe(0x10000, 0x1001), RAM).unwrap_err();
        assert!(matches!(error, Error::Truncated { need: 0x1001, len: 0x1000, .. }), "{error}");
    }

    #[test]
    fn damaged_header_fields_are_named() {
        let text = load(image(0xfff), RAM).unwrap_err().to_string();
        assert!(text.contains("image_size is 0xfff"), "{text}");
        let mut file = image(0x1000);
        file[8..16].copy_from_slice(&0x20_0000u64.to_le_bytes());
        let text = load(file, RAM).unwrap_err().to_string();
        assert!(text.contains("text_offset is 0x200000"), "{text}");
        assert!(load(image(u64::MAX), RAM).is_err());
        assert!(load(image(0x1000)[..60].to_vec(), RAM).is_err());
    }
}
