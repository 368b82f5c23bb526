//! Parts of the screen, and which of them have changed.

/// Rectangles that one message to the host has at most: a message may have 255, a screen's redraw has a few.
pub(super) const MOST: usize = 8;

/// A part of the screen: first column and row, and those after the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// First column.
    pub left: u32,
    /// First row.
    pub top: u32,
    /// First column after the last.
    pub right: u32,
    /// First row after the last.
    pub bottom: u32,
}

impl Area {
    /// Makes an area of a corner and a size.
    #[must_use]
    pub const fn new(left: u32, top: u32, width: u32, height: u32) -> Self {
        Self { left, top, right: left.saturating_add(width), bottom: top.saturating_add(height) }
    }

    /// Returns true if it has no pixel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.left >= self.right || self.top >= self.bottom
    }

    /// Returns the part of it that lies in a screen of this size.
    pub(super) fn within(self, (width, height): (u32, u32)) -> Self {
        Self { right: self.right.min(width), bottom: self.bottom.min(height), ..self }
    }

    /// Returns the smallest area that has both.
    pub(super) fn with(self, other: Self) -> Self {
        match (self.is_empty(), other.is_empty()) {
            (_, true) => self,
            (true, _) => other,
            _ => Self {
                left: self.left.min(other.left),
                top: self.top.min(other.top),
                right: self.right.max(other.right),
                bottom: self.bottom.max(other.bottom),
            },
        }
    }

    fn has(self, other: Self) -> bool {
        self.with(other) == self
    }
}

/// What has changed since it was last reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Changes {
    areas: [Area; MOST],
    count: usize,
}

impl Changes {
    pub(super) const NONE: Self = Self { areas: [Area::new(0, 0, 0, 0); MOST], count: 0 };

    pub(super) fn areas(&self) -> &[Area] {
        self.areas.get(..self.count).unwrap_or(&self.areas)
    }

    /// Adds an area. If there are too many, one takes the place of all.
    pub(super) fn add(&mut self, area: Area) {
        if area.is_empty() || self.areas().iter().any(|known| known.has(area)) {
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
        changes.add(Area::new(5, 5, 0, 9));
        changes.add(Area { left: 9, top: 0, right: 8, bottom: 7 });
        assert!(changes.areas().is_empty());
        let spots: [Area; MOST] = std::array::from_fn(|n| Area::new(n as u32 * 10, n as u32 * 20, 4, 6));
        spots.into_iter().for_each(|spot| changes.add(spot));
        assert_eq!(changes.areas(), spots);
        // What lies in one of them is not added.
        changes.add(Area::new(11, 21, 3, 5));
        assert_eq!(changes.areas(), spots);
        changes.add(Area::new(300, 2, 1, 1));
        assert_eq!(changes.areas(), [Area { left: 0, top: 0, right: 301, bottom: 146 }]);
        changes.add(Area::new(300, 200, 1, 1));
        assert_eq!(changes.areas().len(), 2);
    }

    #[test]
    fn areas_end_at_the_screens_edge() {
        assert!(Area::new(u32::MAX, 3, 9, u32::MAX).within((10, 10)).is_empty());
        assert_eq!(Area::new(3, 4, u32::MAX, 2).within((10, 5)), Area::new(3, 4, 7, 1));
    }
}
