//! A screen as a target of embedded-graphics.

use core::convert::Infallible;

use embedded_graphics_core::Pixel;
use embedded_graphics_core::draw_target::DrawTarget;
use embedded_graphics_core::geometry::{OriginDimensions, Size};
use embedded_graphics_core::pixelcolor::{Rgb888, RgbColor};
use embedded_graphics_core::primitives::Rectangle;
use hv_vmbus_client::Dma;

use super::{Screen, ScreenArea};

/// Returns a colour as the screen's memory has it.
fn word(colour: Rgb888) -> u32 {
    u32::from_be_bytes([0, colour.r(), colour.g(), colour.b()])
}

impl<D: Dma, C> OriginDimensions for Screen<'_, '_, D, C> {
    fn size(&self) -> Size {
        let (width, height) = self.size();
        Size::new(width, height)
    }
}

/// What lies beyond the screen is not drawn; nothing is, until the screen is ready.
impl<D: Dma, C> DrawTarget for Screen<'_, '_, D, C> {
    type Color = Rgb888;
    type Error = Infallible;

    fn draw_iter<I: IntoIterator<Item = Pixel<Rgb888>>>(&mut self, pixels: I) -> Result<(), Infallible> {
        let mut all = ScreenArea::default();
        for Pixel(point, colour) in pixels {
            let (Ok(column), Ok(row)) = (u32::try_from(point.x), u32::try_from(point.y)) else { continue };
            let area = ScreenArea::new(column, row, 1, 1).within(Self::size(self));
            if !area.is_empty() {
                self.put(column, row, &[word(colour)]);
                all = all.with(area);
            }
        }
        // One area for all of them: their number has no end.
        self.changes.add(all);
        Ok(())
    }

    fn fill_solid(&mut self, area: &Rectangle, colour: Rgb888) -> Result<(), Infallible> {
        // A corner may lie before the first column or row.
        let span = |start: i32, len: u32| {
            let end = i64::from(start) + i64::from(len);
            (start.max(0) as u32, u32::try_from(end.max(0)).unwrap_or(u32::MAX))
        };
        let (left, right) = span(area.top_left.x, area.size.width);
        let (top, bottom) = span(area.top_left.y, area.size.height);
        self.fill(ScreenArea { left, top, right, bottom }, word(colour));
        Ok(())
    }
}
