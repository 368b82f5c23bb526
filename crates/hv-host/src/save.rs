//! Saving a partition to bytes, and restoring it.
//!
//! Saved is the state of the partition; guest memory, CPU registers and the interrupt controller are saved by the
//! embedder. Restoring trusts nothing: any accepted state is one that the partition could have reached by itself.

use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};

use lock_api::RawMutex;

use crate::event::Event;
use crate::host::Host;
use crate::partition::Partition;

impl<R: RawMutex> Partition<'_, R> {
    /// Writes the state of the partition without a frame: magic number, version and hash are those of the image that
    /// contains it. Visible overlay pages are in guest memory; what they cover is in the image. No VP may be in a call
    /// of the partition meanwhile.
    pub fn save(&self, host: &impl Host, w: &mut Writer<'_>) {
        w.u64(self.fingerprint());
        self.save_shared(host, w);
        for vp in self.vps() {
            vp.save(w);
        }
    }

    /// Restores a saved state, and reads no further. Guest memory must be restored before; afterwards
    /// [`timer_expired`](Self::timer_expired) must be called for every VP. The reference time continues from where it
    /// was, with the saved counter frequency; if the frequency is different now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// The state is rejected. The partition is then as after [`reset`](Self::reset).
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

    /// Returns a hash of what an image must have in common with the partition that it is restored to.
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
