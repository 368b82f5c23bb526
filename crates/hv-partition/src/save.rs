//! A partition saved as one image, and restored.
//!
//! An image begins with a magic number and a version, and ends with a hash of everything before it. Guest memory with
//! VMBus's rings, CPU registers and the interrupt controller are saved by the embedder.

use hv_host::{Host, RawMutex};
use hv_memory::save::{Reader, RestoreError, Writer, fingerprint};
use hv_vmbus::BusError;

use crate::event::BusObserver;
use crate::partition::Partition;
use crate::served::{AnyBus, Served};

const MAGIC: [u8; 8] = *b"hv-part\0";
/// Version of the format. It increases with every change of what is saved.
const VERSION: u32 = 9;

impl<R: RawMutex, B> Partition<'_, R, B> {
    /// Writes an image of the partition to `sink`, piece by piece. No VP may be in a call of the partition meanwhile,
    /// and no request of a device in flight: [pause](crate::Vmbus::pause) VMBus, stop the VPs, and wait until the
    /// embedder has completed all. A partition restored from the image takes packets again by itself; to continue with
    /// this one, [unpause](crate::Vmbus::unpause) it.
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

    /// Restores the partition from an image. Guest memory must be restored before; afterwards
    /// [`timer_expired`](Self::timer_expired) must be called for every VP. The reference time continues from where it
    /// was, with the saved counter frequency; if the frequency is different now, call [`migrate`](Self::migrate).
    ///
    /// # Errors
    /// [`RestoreError::InFlight`]: requests of devices are in flight, as for [`save`](Self::save), and nothing has
    /// changed. Otherwise the image is rejected: see [`RestoreError`]. The partition is then as after
    /// [`reset`](Self::reset); if VMBus's part was rejected, channels that were offered by
    /// [`with_vmbus`](Self::with_vmbus) are gone.
    pub fn restore<'h, H>(&'h self, host: &'h H, image: &[u8]) -> Result<(), RestoreError>
    where
        H: Host + BusObserver,
        B: Served<'h, R, H>,
    {
        if !self.bus().is_idle() {
            return Err(RestoreError::InFlight);
        }
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
