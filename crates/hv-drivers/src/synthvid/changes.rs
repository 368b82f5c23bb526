//! Which parts of the screen have changed.

use hv_tlfs::vmbus::video::ScreenArea;

/// Rectangles that one message to the host has at most: a message may have 255, a screen's redraw has a few.
pub(super) const MOST: usize = 8;

/// What has changed since it was last reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    areas: [ScreenArea; MOST],
    count: usize,
}

impl Changes {
    pub(super) const NONE: Self = Self { areas: [ScreenArea::NONE; MOST], count: 0 };

    pub(super) fn areas(&self) -> &[ScreenArea] {
        self.areas.get(..self.count).unwrap_or(&self.areas)
    }

    /// Adds an area. If there are too many, one takes the place of all.
    pub(super) fn add(&mut self, area: ScreenArea) {
        if area.is_empty() || self.areas().iter().any(|known| known.with(area) == *known) {
            return;
        }
        if self.count == MOST {
            let all = self.areas.iter().fold(area, |all, known| all.with(*known));
            (self.areas[0], self.count) = (all, 1);
        } else if let Some(free) = self.areas.get_mut(self.count) {
            *free = area;
            self.count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_kept_apart_until_there_are_too_many() {
        let mut changes = Changes::NONE;
        changes.add(ScreenArea::new(5, 5, 0, 9));
        changes.add(ScreenArea { left: 9, top: 0, right: 8, bottom: 7 });
        assert!(changes.areas().is_empty());
        let spots: [ScreenArea; MOST] =
            std::array::from_fn(|n| ScreenArea::new(n as u32 * 10, n as u32 * 20, 4, 6));
        spots.into_iter().for_each(|spot| changes.add(spot));
        assert_eq!(changes.areas(), spots);
        // What lies in one of them is not added.
        changes.add(ScreenArea::new(11, 21, 3, 5));
        assert_eq!(changes.areas(), spots);
        changes.add(ScreenArea::new(300, 2, 1, 1));
        assert_eq!(changes.areas(), [ScreenArea { left: 0, top: 0, right: 301, bottom: 146 }]);
        changes.add(ScreenArea::new(300, 200, 1, 1));
        assert_eq!(changes.areas().len(), 2);
    }

    #[test]
    fn areas_end_at_the_screens_edge() {
        assert!(ScreenArea::new(u32::MAX, 3, 9, u32::MAX).within((10, 10)).is_empty());
        assert_eq!(ScreenArea::new(3, 4, u32::MAX, 2).within((10, 5)), ScreenArea::new(3, 4, 7, 1));
    }
}
