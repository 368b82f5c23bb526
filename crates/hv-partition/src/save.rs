//! A partition saved as one image, and restored.
//!
//! An image begins with a magic number and a version, and ends with a hash of all before it. The guest's memory with VMBus's
//! rings, the CPU registers and the interrupt controller are the embedder's to save.

use hv_host::{Host, RawMutex};
use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};

use crate::event::BusObserver;
use crate::partition::Partition;

const MAGIC: [u8; 8] = *b"hv-part\0";
/// Version of the format. It goes up with every change of what is saved.
const VERSION: u32 = 5;

impl<R: RawMutex> Partition<'_, R> {
    /// Writes an image of the partition to `sink`, piece by piece. No VP may be in a call of the partition meanwhile.
    pub fn save(&self, host: &(impl Host + BusObserver), sink: &mut dyn FnMut(&[u8])) {
        let mut writer = Writer::begin(sink, MAGIC, VERSION);
        writer.u64(self.fingerprint());
        self.hypervisor().save(&self.joined(host), &mut writer);
        self.bus().save(&self.joined(host), &mut writer);
        writer.finish();
    }

    /// Puts the partition into the state of an image. The guest's memory has to be restored before, and after it
    /// [`timer_expired`](Self::timer_expired) has to be called for every VP. The reference time goes on from where it
    /// was, with the counter frequency that it had; if that is another now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// The image is refused: see [`RestoreError`]. The partition is then as after [`reset`](Self::reset); if it was VMBus's
    /// part that was refused, channels that were offered by [`with_vmbus`](Self::with_vmbus) are gone.
    pub fn restore(&self, host: &(impl Host + BusObserver), image: &[u8]) -> Result<(), RestoreError> {
        self.reset(host);
        let restored = self.restore_parts(host, image);
        if restored.is_err() {
            self.reset(host);
        }
        restored
    }

    fn restore_parts(&self, host: &(impl Host + BusObserver), image: &[u8]) -> Result<(), RestoreError> {
        let mut reader = Reader::open(image, MAGIC, VERSION)?;
        if reader.u64()? != self.fingerprint() {
            return Err(RestoreError::OtherPartition);
        }
        self.hypervisor().restore(&self.joined(host), &mut reader)?;
        self.bus().restore(&self.joined(host), &mut reader)
    }

    fn fingerprint(&self) -> u64 {
        fingerprint(&[u64::from(self.bus().exists())])
    }
}
