//! The application's file: a PE32+ image, loaded at the end of RAM. No crate reads one without an allocator.
//!
//! Source: Microsoft, "PE Format": "Optional Header (Image Only)", "Section Table", "The .reloc Section".
#![expect(unsafe_code, reason = "code is loaded to an address")]

use core::arch::asm;
use core::ops::Range;

/// Bytes of the COFF header with its signature, and of an entry of the section table.
const COFF: usize = 24;
const SECTION: usize = 40;
/// Offset of the directory of base relocations in the optional header of PE32+.
const RELOCATIONS: usize = 112 + 5 * 8;
/// Type of a relocation that adds to 64 bits.
const DIR64: u16 = 10;

/// An application in memory.
pub(crate) struct Image {
    /// Its first byte.
    pub(crate) base: u64,
    /// Its bytes.
    pub(crate) size: u64,
    /// Its entry.
    pub(crate) entry: u64,
}

/// Reads the little-endian number of `N` bytes at an offset.
fn number<const N: usize>(bytes: &[u8], offset: usize) -> u64 {
    let mut wide = [0; 8];
    wide[..N].copy_from_slice(&bytes[offset..offset + N]);
    u64::from_le_bytes(wide)
}

fn word(bytes: &[u8], offset: usize) -> usize {
    number::<4>(bytes, offset) as usize
}

/// Loads the application in the file, as high below `end` as it goes.
pub(crate) fn load(file: Range<u64>, end: u64) -> Image {
    // SAFETY: the tool has put the file here, and nothing overwrites it: the image is loaded above it.
    let data =
        unsafe { core::slice::from_raw_parts(file.start as *const u8, (file.end - file.start) as usize) };
    assert!(data.starts_with(b"MZ"), "the initrd is not a PE image");
    let header = word(data, 0x3c);
    let optional = header + COFF;
    assert!(
        &data[header..header + 4] == b"PE\0\0" && number::<2>(data, optional) == 0x20b,
        "the initrd is not a PE32+ image"
    );
    let size = word(data, optional + 56) as u64;
    let base = (end - size) & !0xffff;
    assert!(base >= file.end, "there is too little RAM for the application");
    // SAFETY: this number of bytes of RAM, which nothing else uses.
    let memory = unsafe { core::slice::from_raw_parts_mut(base as *mut u8, size as usize) };
    memory.fill(0);
    let sections = optional + number::<2>(data, header + 20) as usize;
    for section in data[sections..].chunks(SECTION).take(number::<2>(data, header + 6) as usize) {
        let (room, at) = (word(section, 8), word(section, 12));
        let (bytes, from) = (word(section, 16).min(room), word(section, 20));
        memory[at..at + bytes].copy_from_slice(&data[from..from + bytes]);
    }
    let relocations = word(data, optional + RELOCATIONS);
    let shift = base.wrapping_sub(number::<8>(data, optional + 24));
    relocate(memory, relocations..relocations + word(data, optional + RELOCATIONS + 4), shift);
    publish(memory);
    Image { base, size, entry: base + word(data, optional + 16) as u64 }
}

/// Adds `shift` to every address in the image: blocks of a page's address, a length, and 16 bits for each place.
fn relocate(memory: &mut [u8], blocks: Range<usize>, shift: u64) {
    let mut block = blocks.start;
    while block < blocks.end {
        let (page, length) = (word(memory, block), word(memory, block + 4));
        for entry in (block + 8..block + length).step_by(2) {
            let entry = number::<2>(memory, entry) as u16;
            if entry >> 12 == DIR64 {
                let at = page + usize::from(entry & 0xfff);
                let value = number::<8>(memory, at).wrapping_add(shift);
                memory[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        block += length.max(8);
    }
}

/// Lets instructions be fetched from what was written.
fn publish(memory: &[u8]) {
    for line in memory.chunks(16) {
        // SAFETY: cache maintenance by address (Arm ARM, "Synchronization and coherency issues between data and
        // instruction accesses").
        unsafe { asm!("dc cvau, {}", in(reg) line.as_ptr(), options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers, and maintenance of the instruction cache, which changes no memory.
    unsafe { asm!("dsb ish", "ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
}
