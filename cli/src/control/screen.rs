//! `hv ctl screenshot`: what the guest's screen shows, from the video memory in the machine's RAM.
//!
//! The guest draws while the pixels are read: each is read once, and a picture may have parts of two.

use std::path::Path;

use anyhow::{Context as _, ensure};
use hv_tlfs::vmbus::video::ScreenArea;
use hv_wire::platform::VIDEO_BYTES;

use super::lines::{AreaLine, Failure, PictureLine, Reason};
use super::memory::Memory;
use super::png;
use crate::output;

/// Location of the picture, as the hypervisor reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Place of the first pixel in the video memory.
    pub(super) offset: u64,
    /// Bits of a pixel.
    pub(super) depth: u8,
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bytes from one row to the next.
    pub(super) pitch: u32,
    /// What has changed since the last picture.
    pub(super) changed: ScreenArea,
}

impl Picture {
    /// Writes the picture to a file.
    pub(super) fn write(&self, memory: &Memory, file: &Path) -> Result<PictureLine, Failure> {
        let refused = |error: anyhow::Error| Failure::new(Reason::Refused, format!("{error:#}"));
        let pixels = self.read(memory).map_err(refused)?;
        let bytes = png::encode(self.width, &pixels).context("cannot encode the picture").map_err(refused)?;
        output::write("picture", file, &bytes).map_err(refused)?;
        Ok(PictureLine { width: self.width, height: self.height, changed: self.changed() })
    }

    /// Returns what has changed, if anything has.
    fn changed(&self) -> Option<AreaLine> {
        let ScreenArea { left, top, right, bottom } = self.changed;
        let width = right.checked_sub(left).filter(|width| *width > 0)?;
        let height = bottom.checked_sub(top).filter(|height| *height > 0)?;
        Some(AreaLine { x: left, y: top, width, height })
    }

    /// Returns the pixels: red, green and blue of each.
    fn read(&self, memory: &Memory) -> anyhow::Result<Vec<u8>> {
        let Self { offset, depth, width, height, pitch, .. } = *self;
        let row = u64::from(width) * u64::from(depth / 8);
        // All of them, before a length sizes anything.
        let rows = u64::from(height.saturating_sub(1)) * u64::from(pitch);
        let end = rows.checked_add(row).and_then(|bytes| bytes.checked_add(offset));
        ensure!(
            matches!(depth, 16 | 32) && row > 0 && height > 0 && row <= pitch.into(),
            "{width} by {height} pixels of {depth} bits in rows of {pitch} bytes are not a picture"
        );
        ensure!(
            end.is_some_and(|end| end <= VIDEO_BYTES),
            "{height} rows of {pitch} bytes at {offset:#x} are outside the video memory"
        );
        let (mut bytes, mut pixels) = (vec![0; row as usize], Vec::new());
        for number in 0..u64::from(height) {
            memory.pixels(offset + number * u64::from(pitch), &mut bytes)?;
            match depth {
                32 => pixels.extend(bytes.as_chunks().0.iter().flat_map(|&[b, g, r, _]: &[u8; 4]| [r, g, b])),
                _ => pixels.extend(bytes.as_chunks().0.iter().flat_map(|pixel| of_16_bits(*pixel))),
            }
        }
        Ok(pixels)
    }
}

/// Returns red, green and blue of a pixel with 5, 6 and 5 bits of them.
fn of_16_bits(pixel: [u8; 2]) -> [u8; 3] {
    let word = u16::from_le_bytes(pixel);
    let full = |value: u16, most: u16| (value * 255 / most) as u8;
    [full(word >> 11, 31), full(word >> 5 & 63, 63), full(word & 31, 31)]
}

#[cfg(test)]
mod tests {
    use hv_wire::platform::{GUEST_RAM_BASE, RAM_BASE};

    use super::*;
    use crate::machine::Ram;

    /// Video memory that begins with these bytes.
    fn memory(bytes: &[u8]) -> Memory {
        let ram = Ram::new(GUEST_RAM_BASE - RAM_BASE + VIDEO_BYTES).unwrap();
        ram.write(GUEST_RAM_BASE, bytes).unwrap();
        Memory::new(ram, 0, Some(GUEST_RAM_BASE))
    }

    const SMALL: Picture =
        Picture { offset: 0, depth: 32, width: 2, height: 2, pitch: 12, changed: ScreenArea::NONE };

    #[test]
    fn pixels_are_red_green_and_blue() {
        let rows = [1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 11, 12, 13, 14, 15, 16, 17, 18];
        let pixels = SMALL.read(&memory(&rows)).unwrap();
        assert_eq!(pixels, [3, 2, 1, 7, 6, 5, 13, 12, 11, 17, 16, 15]);
        let moved = Picture { offset: 4, height: 1, ..SMALL };
        assert_eq!(moved.read(&memory(&rows)).unwrap(), [7, 6, 5, 9, 9, 9]);
        let words: [u16; 4] = [0xf800, 0x07e0, 0x001f, 0x8410];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let narrow = Picture { depth: 16, width: 2, pitch: 4, ..SMALL };
        assert_eq!(narrow.read(&memory(&bytes)).unwrap(), [255, 0, 0, 0, 255, 0, 0, 0, 255, 131, 129, 131]);
    }

    #[test]
    fn a_picture_outside_the_video_memory_is_refused() {
        let memory = memory(&[]);
        let last = Picture { offset: VIDEO_BYTES - 20, ..SMALL };
        assert!(last.read(&memory).is_ok());
        for bad in [
            Picture { offset: VIDEO_BYTES - 19, ..SMALL },
            Picture { offset: u64::MAX, ..SMALL },
            Picture { height: 0, ..SMALL },
            Picture { width: 0, ..SMALL },
            Picture { width: 4, ..SMALL },
            Picture { depth: 24, ..SMALL },
            Picture { width: u32::MAX, height: u32::MAX, pitch: u32::MAX, ..SMALL },
            Picture { height: u32::MAX, ..SMALL },
        ] {
            assert!(bad.read(&memory).is_err(), "{bad:?}");
        }
        assert!(Memory::new(Ram::new(1 << 22).unwrap(), 0, None).pixels(0, &mut [0]).is_err());
    }

    #[test]
    fn what_has_changed_is_an_area_with_pixels() {
        let changed = |left, top, right, bottom| {
            Picture { changed: ScreenArea { left, top, right, bottom }, ..SMALL }.changed()
        };
        assert_eq!(changed(3, 4, 10, 6), Some(AreaLine { x: 3, y: 4, width: 7, height: 2 }));
        assert_eq!(changed(3, 4, 3, 6), None);
        assert_eq!(changed(3, 4, 2, 6), None);
        assert_eq!(changed(3, 7, 4, 6), None);
    }
}
