//! Drawing: rows of pixels, and areas of one colour.

use hv_vmbus_client::Dma;
use zerocopy::IntoBytes;

use super::sizes::PIXEL;
use super::{Screen, ScreenArea};
use crate::aligned::Aligned;

/// Pixels that are written at a time.
const PIECE: usize = 64;

impl<D: Dma, C> Screen<'_, '_, D, C> {
    /// Writes pixels into a row, from a column on, as far as they lie on the screen. [`flush`](Self::flush) tells the
    /// host.
    pub fn write(&mut self, column: u32, row: u32, pixels: &[u32]) {
        let width = u32::try_from(pixels.len()).unwrap_or(u32::MAX);
        let area = ScreenArea::new(column, row, width, 1).within(self.size());
        if !area.is_empty() {
            let pixels = pixels.get(..(area.right - area.left) as usize).unwrap_or(pixels);
            self.put(column, row, pixels);
            self.changes.add(area);
        }
    }

    /// Reads pixels of a row, from a column on. Those that lie beyond the screen stay as they are.
    pub fn read(&self, column: u32, row: u32, pixels: &mut [u32]) {
        let width = u32::try_from(pixels.len()).unwrap_or(u32::MAX);
        let area = ScreenArea::new(column, row, width, 1).within(self.size());
        if !area.is_empty() {
            let pixels = pixels.split_at_mut((area.right - area.left) as usize).0;
            self.window.read(self.place(column, row), pixels.as_mut_bytes());
            pixels.iter_mut().for_each(|pixel| *pixel = u32::from_le(*pixel));
        }
    }

    /// Fills an area with a colour, as far as it lies on the screen. [`flush`](Self::flush) tells the host.
    pub fn fill(&mut self, area: ScreenArea, colour: u32) {
        let area = area.within(self.size());
        if area.is_empty() {
            return;
        }
        let piece = Aligned([colour; PIECE]);
        for row in area.top..area.bottom {
            let mut column = area.left;
            while column < area.right {
                // Pairs of pixels are words of the memory, which are written faster.
                let most = if column.is_multiple_of(2) { PIECE as u32 } else { 1 };
                let count = most.min(area.right - column);
                self.put(column, row, piece.0.get(..count as usize).unwrap_or(&piece.0));
                column += count;
            }
        }
        self.changes.add(area);
    }

    /// Returns the place of a pixel of the screen. The picture lies in the window, whose bytes a `usize` counts.
    fn place(&self, column: u32, row: u32) -> usize {
        let pixel = u64::from(row) * u64::from(self.size().0) + u64::from(column);
        (pixel * u64::from(PIXEL)) as usize
    }

    /// Writes pixels of the screen.
    pub(super) fn put(&self, column: u32, row: u32, pixels: &[u32]) {
        let place = self.place(column, row);
        if cfg!(target_endian = "little") {
            self.window.write(place, pixels.as_bytes());
        } else {
            let places = (place..).step_by(PIXEL as usize);
            places.zip(pixels).for_each(|(place, pixel)| self.window.write(place, &pixel.to_le_bytes()));
        }
    }
}
