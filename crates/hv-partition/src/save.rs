//! A partition saved as one image, and restored.
//!
//! An image begins with a magic number and a version, and ends with a hash of all before it. The guest's memory with VMBus's
//! rings, the CPU registers and the interrupt controller are the embedder's to save.

use hv_host::{Host, RawMutex};
use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};
use hv_vmbus::BusError;

use crate::event::BusObserver;
use crate::partition::Partition;
use crate::served::{AnyBus, Served};

const MAGIC: [u8; 8] = *b"hv-part\0";
/// Version of the format. It goes up with every change of what is saved.
const VERSION: u32 = 7;

impl<R: RawMutex, B> Partition<'_, R, B> {
    /// Writes an image of the partition to `sink`, piece by piece. No VP may be in a call of the partition meanwhile, and no
    /// request of a device in flight: [pause](crate::Vmbus::pause) VMBus, stop the VPs, and wait until the embedder has
    /// completed all. A partition that is restored from the image takes packets again by itself; to go on with this one,
    /// [unpause](crate::Vmbus::unpause) it.
    ///
    /// # Errors
    /// [`BusError::InFlight`]: requests are in flight, and nothing was written.
    pub fn save<'h, H>(&'h self, host: &'h H, sink: &mut dyn FnMut(&[u8])) -> Result<(), BusError>
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        if !self.bus().is_idle() {
            return Err(BusError::InFlight);
        }
        let port = &self.port(host);
        let mut writer = Writer::begin(sink, MAGIC, VERSION);
        writer.u64(self.fingerprint());
        self.hypervisor().save(&port.0, &mut writer);
        self.bus().save(port, &mut writer)?;
        writer.finish();
        Ok(())
    }

    /// Puts the partition into the state of an image. The guest's memory has to be restored before, and after it
    /// [`timer_expired`](Self::timer_expired) has to be called for every VP. The reference time goes on from where it
    /// was, with the counter frequency that it had; if that is another now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// The image is refused: see [`RestoreError`]. The partition is then as after [`reset`](Self::reset); if it was VMBus's
    /// part that was refused, channels that were offered by [`with_vmbus`](Self::with_vmbus) are gone.
    pub fn restore<'h, H>(&'h self, host: &'h H, image: &[u8]) -> Result<(), RestoreError>
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        self.reset(host);
        let restored = self.restore_parts(host, image);
        if restored.is_err() {
            self.reset(host);
        }
        restored
    }

    fn restore_parts<'h, H>(&'h self, host: &'h H, image: &[u8]) -> Result<(), RestoreError>
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        let port = &self.port(host);
        let mut reader = Reader::open(image, MAGIC, VERSION)?;
        if reader.u64()? != self.fingerprint() {
            return Err(RestoreError::OtherPartition);
        }
        self.hypervisor().restore(&port.0, &mut reader)?;
        self.bus().restore(port, &mut reader)
    }

    fn fingerprint(&self) -> u64
    where
        B: AnyBus,
    {
        fingerprint(&[u64::from(self.bus().exists())])
    }
}
