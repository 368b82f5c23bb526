//! The GPADLs saved and restored.

use super::{Fate, Gpadl, Pool, State, validate};
use crate::protocol::GpadlId;
use core::sync::atomic::Ordering::Relaxed;
use hv_memory::save::{Reader, RestoreError, Writer};

impl Pool<'_> {
    /// Saves the lists in the order of their positions, which a restored pool assigns again. None is held.
    pub(crate) fn save(self, w: &mut Writer<'_>) {
        w.count(self.iter().count());
        for g in self.ordered().iter().filter_map(|at| self.get(usize::from(at.load(Relaxed)))) {
            w.u32(g.id.0);
            w.u32(g.channel);
            w.u8(g.state as u8);
            w.u8(g.fate as u8);
            w.u32(g.ranges);
            w.count(g.start);
            w.count(g.len);
            w.count(g.filled);
            self.words(&g).iter().take(g.filled).for_each(|word| w.u64(word.load(Relaxed)));
        }
    }

    pub(crate) fn load(self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        const PART: RestoreError = RestoreError::Invalid("page list of VMBus");
        self.clear();
        for _ in 0..r.count()? {
            let (id, channel) = (GpadlId(r.u32()?), r.u32()?);
            let state = match r.u8()? {
                1 => State::Filling,
                2 => State::Ready,
                3 => State::Rings,
                _ => return Err(PART),
            };
            let fate = match r.u8()? {
                0 => Fate::Stay,
                1 => Fate::TearDown,
                2 => Fate::Drop,
                _ => return Err(PART),
            };
            let (ranges, place, len, filled) = (r.u32()?, r.count()?, r.count()?, r.count()?);
            let complete = filled == len;
            if channel == 0 || len == 0 || filled > len || complete == (state == State::Filling) {
                return Err(PART);
            }
            if self.slot(id).is_some() || (state == State::Filling && fate == Fate::TearDown) {
                return Err(PART);
            }
            let at = self.entries.iter().position(|e| !e.is_used()).ok_or(RestoreError::NoRoom)?;
            // A smaller pool has them at other positions.
            let start = if self.is_free(place, len) { Some(place) } else { self.gap(len) };
            let start = start.ok_or(RestoreError::NoRoom)?;
            let gpadl = Gpadl { id, channel, state, fate, ranges, start, len, filled, holds: 0 };
            self.insert(at, &gpadl);
            for word in &self.words(&gpadl)[..filled] {
                word.store(r.u64()?, Relaxed);
            }
            if complete && validate(ranges, self.words(&gpadl)).is_err() {
                return Err(PART);
            }
        }
        Ok(())
    }
}
