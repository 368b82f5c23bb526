//! The layout of guest RAM.

use std::ops::Range;

/// Size of a level 2 block with 4K pages, the alignment of a kernel Image's base.
pub const ALIGN_2M: u64 = 2 << 20;
/// The largest page size of a guest. Regions of different memory types do not share such a page, since a kernel rounds
/// them to its own page size.
pub(crate) const ALIGN_64K: u64 = 64 << 10;

/// Converts `bytes` to MiB, rounded up.
pub(crate) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Places pieces in RAM, each in the lowest hole that is large enough.
#[derive(Debug)]
pub(crate) struct Layout {
    ram: Range<u64>,
    used: Vec<Range<u64>>,
}

impl Layout {
    /// Creates a layout of `ram` with `used` taken; both are guest physical addresses, `used` inside `ram`.
    pub(crate) fn new(ram: Range<u64>, used: &[Range<u64>]) -> Self {
        let mut used = used.to_vec();
        used.sort_by_key(|range| range.start);
        Self { ram, used }
    }

    /// Takes the lowest free `size` bytes at a multiple of 64 KiB, rounded up to a multiple of 64 KiB. Returns `None`
    /// if there is no such hole.
    pub(crate) fn place(&mut self, size: u64) -> Option<Range<u64>> {
        let size = size.checked_next_multiple_of(ALIGN_64K)?;
        let mut start = self.ram.start.checked_next_multiple_of(ALIGN_64K)?;
        let mut index = 0;
        for (i, used) in self.used.iter().enumerate() {
            if start.checked_add(size)? <= used.start {
                break;
            }
            start = start.max(used.end.checked_next_multiple_of(ALIGN_64K)?);
            index = i + 1;
        }
        let end = start.checked_add(size).filter(|&end| end <= self.ram.end)?;
        self.used.insert(index, start..end);
        Some(start..end)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn pieces_go_to_the_lowest_hole_that_holds_them() {
        let mut layout = Layout::new(0x40_0000..0x80_0000, &[0x44_0000..0x44_1001, 0x7f_ffff..0x80_0000]);
        assert_eq!(layout.place(0x5_0000), Some(0x45_0000..0x4a_0000));
        assert_eq!(layout.place(0x4_0000), Some(0x40_0000..0x44_0000));
        assert_eq!(layout.place(1), Some(0x4a_0000..0x4b_0000));
    }

    #[test]
    fn nothing_is_placed_past_the_end_of_ram() {
        let mut layout = Layout::new(0x40_0000..0x42_0000, &[]);
        assert_eq!(layout.place(0x2_0001), None);
        assert_eq!(layout.place(u64::MAX), None);
        assert_eq!(layout.place(0x2_0000), Some(0x40_0000..0x42_0000));
        assert_eq!(layout.place(1), None);
    }

    #[test]
    fn pieces_never_overlap() {
        let taken = [0x10_0000..0x20_0001, 0x30_0000..0x30_0001];
        let mut layout = Layout::new(0..0x100_0000, &taken);
        while layout.place(0x9_0000).is_some() {}
        assert!(layout.used.windows(2).all(|pair| pair[0].end <= pair[1].start), "{layout:x?}");
        assert!(layout.used.len() > 20);
    }
}
