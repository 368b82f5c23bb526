//! The sizes that a screen can have.

use hv_tlfs::vmbus::video::{DEPTH, MAX_RESOLUTIONS};

/// Size of a screen whose host names none, and the largest such one (Linux 6.12, hyperv_drm_proto.c,
/// `SYNTHVID_WIDTH_WIN8`).
pub(super) const DEFAULT: (u32, u32) = (1024, 768);
const LARGEST: (u32, u32) = (1600, 1200);
/// Bytes of a pixel.
pub(super) const PIXEL: u32 = DEPTH as u32 / 8;

/// Sizes that the host names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    list: [(u32, u32); MAX_RESOLUTIONS],
    count: usize,
    pub(super) default: Option<(u32, u32)>,
}

impl Sizes {
    pub(super) const NONE: Self = Self { list: [(0, 0); MAX_RESOLUTIONS], count: 0, default: None };

    /// Adds one, if there is room. No screen has no pixels.
    pub(super) fn add(&mut self, width: u32, height: u32, is_default: bool) {
        if width == 0 || height == 0 {
            return;
        }
        if let Some(free) = self.list.get_mut(self.count) {
            *free = (width, height);
            self.count += 1;
        }
        if is_default {
            self.default = Some((width, height));
        }
    }

    /// Drops those that the device's memory is too small for.
    pub(super) fn fit(&mut self, bytes: u64) {
        let all = core::mem::replace(self, Self::NONE);
        for (width, height) in all.list.into_iter().take(all.count) {
            if picture(width, height) <= bytes {
                self.add(width, height, all.default == Some((width, height)));
            }
        }
    }

    pub(super) fn named(&self) -> &[(u32, u32)] {
        self.list.get(..self.count).unwrap_or(&self.list)
    }

    /// Returns the greatest width and the greatest height.
    pub(super) fn largest(&self) -> (u32, u32) {
        let larger = |(a, b): (u32, u32), (width, height): &(u32, u32)| (a.max(*width), b.max(*height));
        if self.count == 0 { LARGEST } else { self.named().iter().fold((0, 0), larger) }
    }
}

/// Returns the bytes of a picture.
pub(super) fn picture(width: u32, height: u32) -> u64 {
    u64::from(width).saturating_mul(height.into()).saturating_mul(PIXEL.into())
}
