//! Saving a partition to bytes, and restoring it.
//!
//! An image holds what the partition knows; the guest's memory, its CPU registers and its interrupt controller are the
//! embedder's to save. It is little-endian, begins with a magic number and a version, and ends with a hash of all
//! before it. Restoring trusts nothing in it: a damaged or newer image is refused, and whatever passes gives a state
//! that the partition could have got into by itself.

use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};
use hv_tlfs::status::HvStatus;

use crate::event::Event;
use crate::host::Host;
use crate::partition::Partition;
use crate::vp::Power;

const MAGIC: [u8; 8] = *b"hv-part\0";
/// Version of the format. It goes up with every change of what is saved.
const VERSION: u32 = 3;

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

impl Partition<'_> {
    /// Writes an image of the partition to `sink`, piece by piece. No VP may be in a call of the partition meanwhile.
    /// VMBus's rings are in the guest's memory.
    pub fn save(&self, host: &impl Host, sink: &mut dyn FnMut(&[u8])) {
        let mut writer = Writer::begin(sink, MAGIC, VERSION);
        let w = &mut writer;
        w.u64(self.fingerprint());
        self.save_shared(host, w);
        for vp in self.vps() {
            vp.save(w);
        }
        self.save_vmbus(w);
        writer.finish();
    }

    /// Puts the partition into the state of an image. The guest's memory has to be restored before, and after it
    /// [`timer_expired`](Self::timer_expired) has to be called on every VP. The reference time goes on from where it
    /// was, with the counter frequency that it had; if that is another now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// The image is refused: see [`RestoreError`]. The partition is then as after [`reset`](Self::reset); if it was VMBus's
    /// part that was refused, channels that were offered by [`with_vmbus`](Self::with_vmbus) are gone.
    pub fn restore(&self, host: &impl Host, image: &[u8]) -> Result<(), RestoreError> {
        self.reset(host);
        let restored = self.restore_image(host, image);
        if restored.is_err() {
            self.reset(host);
        }
        restored
    }

    fn restore_image(&self, host: &impl Host, image: &[u8]) -> Result<(), RestoreError> {
        let r = &mut Reader::open(image, MAGIC, VERSION)?;
        if r.u64()? != self.fingerprint() {
            return Err(RestoreError::OtherPartition);
        }
        self.restore_shared(host, r)?;
        for vp in self.vps() {
            vp.restore(r, self.ports())?;
        }
        self.restore_vmbus(r)?;
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
            u64::from(config.vmbus),
        ])
    }
}
