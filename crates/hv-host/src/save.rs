//! Saving a partition to bytes, and restoring it.
//!
//! Saved is what the partition knows; the guest's memory, its CPU registers and its interrupt controller are the
//! embedder's to save. Restoring trusts nothing: whatever passes gives a state that the partition could have got into by
//! itself.

use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};
use hv_tlfs::status::HvStatus;

use lock_api::RawMutex;

use crate::event::Event;
use crate::host::Host;
use crate::partition::Partition;
use crate::vp::Power;

impl From<Power> for u8 {
    fn from(power: Power) -> Self {
        match power {
            Power::Off => 0,
            Power::Starting => 1,
            Power::On => 2,
        }
    }
}

/// Makes an error of the status that a check of the guest's interface gives: the part is invalid in an image.
pub(crate) fn invalid(part: &'static str) -> impl Fn(HvStatus) -> RestoreError {
    move |_| RestoreError::Invalid(part)
}

impl<R: RawMutex> Partition<'_, R> {
    /// Writes the state of the partition, with nothing around it: its magic number, version and hash are those of the image
    /// that it becomes a part of. The overlay pages that the guest sees are in its memory; what they cover is in the
    /// image. No VP may be in a call of the partition meanwhile.
    pub fn save(&self, host: &impl Host, w: &mut Writer<'_>) {
        w.u64(self.fingerprint());
        self.save_shared(host, w);
        for vp in self.vps() {
            vp.save(w);
        }
    }

    /// Puts the partition into a saved state, and reads no further. The guest's memory has to be restored before, and after it
    /// [`timer_expired`](Self::timer_expired) has to be called for every VP. The reference time goes on from where it
    /// was, with the counter frequency that it had; if that is another now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// The state is refused. The partition is then as after [`reset`](Self::reset).
    pub fn restore(&self, host: &impl Host, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        self.reset(host);
        let restored = self.restore_parts(host, r);
        if restored.is_err() {
            self.reset(host);
        }
        restored
    }

    fn restore_parts(&self, host: &impl Host, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        if r.u64()? != self.fingerprint() {
            return Err(RestoreError::OtherPartition);
        }
        self.restore_shared(host, r)?;
        for vp in self.vps() {
            vp.restore(r, self.ports())?;
        }
        self.check_overlays(host.memory())?;
        host.observe(&Event::Restored);
        Ok(())
    }

    /// A hash of what an image must have in common with the partition that it is restored to.
    fn fingerprint(&self) -> u64 {
        let config = self.config();
        let features = config.profile.features;
        fingerprint(&[
            self.vp_count() as u64,
            self.ports().len() as u64,
            features.privileges.0,
            u64::from(features.c.0),
            u64::from(config.profile.enlightenments.hints.0),
            config.partition_id,
            u64::from(config.cluster),
        ])
    }
}
