//! The overlays of a partition: which one covers a guest page.
//!
//! Source: TLFS 6.0b, section 5.2.1, "GPA Overlay Pages".

use hv_memory::GuestMemory;
use hv_memory::save::RestoreError;
use hv_tlfs::page;
use lock_api::RawMutex;

use crate::host::Host;
use crate::overlay::{Overlay, PART, Place, Placed, base};
use crate::partition::Partition;
use crate::power::Power;

/// An overlay of the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OverlayId {
    /// The message page of a VP.
    Messages(usize),
    /// The event flags page of a VP.
    Events(usize),
    /// The assist page of a VP.
    Assist(usize),
    /// The reference TSC page.
    Time,
}

impl OverlayId {
    /// Returns the overlays of a VP.
    const fn of(vp: usize) -> [Self; 3] {
        [Self::Messages(vp), Self::Events(vp), Self::Assist(vp)]
    }
}

impl<R: RawMutex> Partition<'_, R> {
    fn overlay_ids(&self) -> impl Iterator<Item = OverlayId> + use<R> {
        (0..self.vp_count()).flat_map(OverlayId::of).chain([OverlayId::Time])
    }

    /// Calls a function with an overlay, under its owner's lock, and records its location. The caller holds `overlays`.
    /// Returns `None` if there is no such VP.
    fn with_overlay<T>(&self, id: OverlayId, work: impl FnOnce(&mut Overlay) -> T) -> Option<T> {
        let (OverlayId::Messages(vp) | OverlayId::Events(vp) | OverlayId::Assist(vp)) = id else {
            return Some(self.time().with_page_overlay(work));
        };
        let state = self.vps().get(vp)?;
        let synic = &mut *state.synic();
        let overlay = match id {
            OverlayId::Messages(_) => &mut synic.message_page,
            OverlayId::Events(_) => &mut synic.event_page,
            _ => &mut synic.assist_page,
        };
        let result = work(overlay);
        self.place(id)?.note(overlay);
        Some(result)
    }

    /// Returns the location of an overlay; `None` if there is no such VP.
    fn place(&self, id: OverlayId) -> Option<&Place> {
        match id {
            OverlayId::Messages(vp) => Some(&self.vps().get(vp)?.places()[0]),
            OverlayId::Events(vp) => Some(&self.vps().get(vp)?.places()[1]),
            OverlayId::Assist(vp) => Some(&self.vps().get(vp)?.places()[2]),
            OverlayId::Time => Some(self.time().place()),
        }
    }

    fn placed(&self, id: OverlayId) -> Placed {
        self.place(id).map_or(Placed(0), Place::get)
    }

    /// Writes an overlay's register: shows, hides or moves the overlay. A page beyond guest memory is not an error
    /// (TLFS: it will not be accessible to the guest).
    ///
    /// Locations change only under the lock `overlays`. It is taken before the owners' locks, of which no two are held
    /// at a time, and at most five are taken, however many VPs there are.
    #[inline(never)]
    pub(crate) fn set_overlay(&self, host: &impl Host, id: OverlayId, register: u64) {
        let _guard = self.overlays().lock();
        self.move_overlay(host.memory(), id, register);
    }

    /// Does the same as [`Self::set_overlay`]. The caller holds `overlays`.
    fn move_overlay(&self, memory: &impl GuestMemory, id: OverlayId, register: u64) {
        let uncovered = self.with_overlay(id, |overlay| overlay.leave(memory, register)).flatten();
        if let Some(page) = uncovered {
            let next = self.overlay_ids().find(|&other| self.placed(other).waits_at(page));
            if let Some(next) = next {
                self.with_overlay(next, |overlay| overlay.show(memory));
            }
        }
        if id == OverlayId::Time {
            self.time().renew_page(memory);
        }
        let page = base(register);
        if memory.contains(page, page::SIZE as u64) && self.shown_at(page) == 0 {
            self.with_overlay(id, |overlay| {
                if overlay.waits_at(page) {
                    overlay.show(memory);
                }
            });
        }
    }

    /// Returns true if every other VP is off.
    pub(crate) fn runs_alone(&self, vp: usize) -> bool {
        self.vps().iter().enumerate().all(|(other, state)| other == vp || state.power() == Power::Off)
    }

    /// Disables all overlays that the previous guest left enabled, and leaves its pages as they are visible.
    ///
    /// According to the TLFS an overlay stays until it is disabled, and then its page gets its previous bytes back.
    /// Stock ARM64 Linux leaves the boot CPU's SynIC enabled over kexec (6.12 has no `machine_shutdown` hook there),
    /// and the next kernel treats the page as ordinary memory: its own bytes would be lost when it moves the overlay,
    /// and would appear in message slots until then. So a kernel that writes its guest OS id over another one, while
    /// only one VP is running, starts without overlays.
    #[cold]
    #[inline(never)]
    pub(crate) fn let_go_of_overlays(&self) {
        let _guard = self.overlays().lock();
        for id in self.overlay_ids().filter(|&id| self.placed(id).enabled()) {
            self.with_overlay(id, Overlay::let_go);
        }
    }

    /// Counts the overlays visible at a page.
    fn shown_at(&self, page: u64) -> usize {
        self.overlay_ids().filter(|&id| self.placed(id).shown_at(page)).count()
    }

    /// Disables a VP's overlays and resets all its registers, in one step: a page that another VP enabled in between
    /// would be lost.
    pub(crate) fn reset_vp(&self, host: &impl Host, vp: usize) {
        let Some(state) = self.vps().get(vp) else { return };
        let _guard = self.overlays().lock();
        for id in OverlayId::of(vp).into_iter().filter(|&id| self.placed(id).enabled()) {
            self.move_overlay(host.memory(), id, 0);
        }
        state.reset_registers(self.ports());
    }

    /// Checks that restored overlays are consistent: of those on one guest page exactly one is visible, and none
    /// elsewhere. No VP is running.
    pub(crate) fn check_overlays(&self, memory: &impl GuestMemory) -> Result<(), RestoreError> {
        for placed in self.overlay_ids().map(|id| self.placed(id)).filter(|placed| placed.enabled()) {
            let page = base(placed.0);
            let inside = memory.contains(page, page::SIZE as u64);
            let fits = if inside { self.shown_at(page) == 1 } else { !placed.shown() };
            if !fits {
                return Err(PART);
            }
        }
        Ok(())
    }
}
