//! A bus with one device, and what every guest does to have its channel open.

use hv_memory::GuestMemory as _;
use hv_memory::save::{Reader, Writer};
use hv_memory::testing::Memory;
use hv_tlfs::vmbus::{ChannelOffer, Guid};
use hv_vmbus::testing::{self, Extra, Partition};
use hv_vmbus::{Backend, Bus, BusFaults, Config, Contents, Device, Slot};
use std::cell::{Cell, RefCell};

const MEMORY: u64 = 1 << 18;

pub(crate) type Lock = spin::Mutex<()>;
pub(crate) type OneBus<D, const REQUESTS: usize = 0> = Bus<Lock, Slot<Lock, D, 1, REQUESTS>>;

/// The partition.
pub(crate) type Host = Partition<Surroundings>;

/// A part of a packet's data as an observer is shown it: whether the guest has sent it, its number, its length, and its
/// first bytes.
pub(crate) type Shown = (bool, u8, u32, Vec<u8>);

/// Injected faults, and an observer.
#[derive(Default)]
pub(crate) struct Surroundings {
    /// Versions are refused.
    pub(crate) refuses: Cell<bool>,
    /// What was shown, if there is an observer.
    pub(crate) shown: RefCell<Option<Vec<Shown>>>,
}

impl BusFaults for Surroundings {
    fn refuses(&self, _: &Guid, _: u32) -> bool {
        self.refuses.get()
    }
}

impl Extra for Surroundings {
    fn sees_packets(&self) -> bool {
        self.shown.borrow().is_some()
    }

    fn contents(&self, contents: &Contents<'_>) {
        let Contents { from_guest, part, len, bytes, .. } = *contents;
        if let Some(shown) = &mut *self.shown.borrow_mut() {
            shown.push((from_guest, part, len, bytes.to_vec()));
        }
    }
}

/// Posts a message from the guest.
pub(crate) fn post<D: Device, const REQUESTS: usize>(bus: &OneBus<D, REQUESTS>, host: &Host, message: &[u8])
where
    Host: Backend<D::Request>,
{
    bus.message(4, message, host).unwrap();
}

/// Creates a bus whose guest knows of the offer and has not opened the channel.
pub(crate) fn before_opening<D: Device, const REQUESTS: usize>(
    device: D,
    offer: ChannelOffer,
) -> (OneBus<D, REQUESTS>, Host)
where
    Host: Backend<D::Request>,
{
    let host = Partition::new(Memory::new(0, MEMORY), 1, Surroundings::default());
    let bus = Bus::new(Config::DEFAULT, Slot::offering(device, offer));
    post(&bus, &host, &testing::contact());
    post(&bus, &host, &testing::request_offers());
    (bus, host)
}

/// Opens the channel with empty rings in these pages, of which those from `split` on are the ring from the host.
pub(crate) fn open<D: Device, const REQUESTS: usize>(
    bus: &OneBus<D, REQUESTS>,
    host: &Host,
    rings: &[u64],
    split: usize,
) where
    Host: Backend<D::Request>,
{
    for page in [rings[0], rings[split]] {
        host.memory.write(page * 4096, &[0; 8]).unwrap();
    }
    post(bus, host, &testing::gpadl(1, 1, rings));
    post(bus, host, &testing::open(1, 1, split as u32));
}

/// Closes the channel.
pub(crate) fn close<D: Device, const REQUESTS: usize>(bus: &OneBus<D, REQUESTS>, host: &Host)
where
    Host: Backend<D::Request>,
{
    post(bus, host, &testing::close(1));
}

/// Returns the saved state of a bus.
fn image<D: Device, const REQUESTS: usize>(bus: &OneBus<D, REQUESTS>, host: &Host) -> Vec<u8>
where
    Host: Backend<D::Request>,
{
    let mut image = Vec::new();
    bus.save(host, &mut Writer::new(&mut |bytes| image.extend(bytes))).unwrap();
    image
}

/// What a run leaves: the bus's state as it is saved, and the guest's memory with all packets of its rings.
pub(crate) type Left = (Vec<u8>, Vec<u8>);

/// Returns what a run leaves.
pub(crate) fn left<D: Device, const REQUESTS: usize>(bus: &OneBus<D, REQUESTS>, host: &Host) -> Left
where
    Host: Backend<D::Request>,
{
    let mut memory = vec![0; MEMORY as usize];
    host.memory.read(0, &mut memory).unwrap();
    (image(bus, host), memory)
}

/// Saves a bus and restores it into itself.
pub(crate) fn saved_and_restored<D: Device, const REQUESTS: usize>(bus: &OneBus<D, REQUESTS>, host: &Host)
where
    Host: Backend<D::Request>,
{
    bus.restore(host, &mut Reader::new(&image(bus, host))).unwrap();
}

/// Restores every image that differs from the device's in one of its first `most` bytes, or ends before its end.
/// Nothing may panic.
pub(crate) fn hostile_images<D: Device, const REQUESTS: usize>(
    bus: &OneBus<D, REQUESTS>,
    host: &Host,
    most: usize,
) where
    Host: Backend<D::Request>,
{
    let image = image(bus, host);
    for at in 0..image.len().min(most) {
        for value in [0, 1, 0x7f, 0xff] {
            let mut other = image.clone();
            other[at] = value;
            let _ = bus.restore(host, &mut Reader::new(&other));
            bus.flush(host);
        }
        let _ = bus.restore(host, &mut Reader::new(&image[..at]));
    }
    bus.restore(host, &mut Reader::new(&image)).unwrap();
}
