//! A bus with one device, and what every guest does to have its channel open.

use hv_memory::GuestMemory as _;
use hv_memory::save::{Reader, Writer};
use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{
    ChannelId, ChannelOffer, GpadlHeader, GpadlId, Guid, InitiateContact, MessageHeader, MessageType,
    OpenChannel, TargetInfo, Version,
};
use hv_vmbus::{
    Backend, Bus, BusFaults, BusPort, Config, Device, DeviceId, Event, Never, Pages, Posted, Slot, Started,
    Token,
};
use std::cell::{Cell, RefCell};
use zerocopy::{FromZeros, IntoBytes};

const MEMORY: u64 = 1 << 20;

pub(crate) type Lock = spin::Mutex<()>;
pub(crate) type OneBus<D, const REQUESTS: usize = 0> = Bus<Lock, Slot<Lock, D, 1, REQUESTS>>;

/// The partition.
pub(crate) struct Host {
    pub(crate) memory: Memory,
    pub(crate) now: Cell<u64>,
    /// Interrupts.
    pub(crate) interrupts: Cell<usize>,
    /// What the device told the observer: note and value.
    pub(crate) notes: RefCell<Vec<(u32, u64)>>,
    /// Versions are refused, as by an injected fault.
    pub(crate) refuses: Cell<bool>,
    /// The guest has not taken its last message.
    pub(crate) full: Cell<bool>,
}

impl BusPort for Host {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn reference_time(&self) -> ReferenceTime {
        ReferenceTime(self.now.get())
    }

    fn post(&self, _: u32, _: u8, _: &[u8]) -> Posted {
        if self.full.get() { Posted::Full } else { Posted::Queued }
    }

    fn interrupt(&self, _: u32, _: u8, _: u16) {
        self.interrupts.set(self.interrupts.get() + 1);
    }

    fn has_vp(&self, vp: u32) -> bool {
        vp == 0
    }

    fn observe(&self, event: Event) {
        if let Event::Device { note, value, .. } = event {
            self.notes.borrow_mut().push((note, value));
        }
    }

    fn faults(&self) -> impl BusFaults {
        self
    }
}

impl BusFaults for Host {
    fn refuses(&self, _: &Guid, _: u32) -> bool {
        self.refuses.get()
    }
}

impl Backend<Never> for Host {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
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
    let host = Host {
        memory: Memory::new(0, MEMORY),
        now: Cell::new(0),
        interrupts: Cell::new(0),
        notes: RefCell::default(),
        refuses: Cell::new(false),
        full: Cell::new(false),
    };
    let bus = Bus::new(Config::DEFAULT, Slot::offering(device, offer));
    let mut contact = InitiateContact::new_zeroed();
    contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
    contact.version = Version::V5_3;
    contact.target_info = TargetInfo(0).with_sint(2);
    post(&bus, &host, contact.as_bytes());
    post(&bus, &host, MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes());
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
    let header = GpadlHeader {
        header: MessageHeader::new(MessageType::GPADL_HEADER),
        channel: ChannelId(1),
        gpadl: GpadlId(1),
        range_buffer_len: (rings.len() as u16 + 1) * 8,
        range_count: 1,
    };
    let range = rings.len() as u64 * 4096;
    post(bus, host, &[header.as_bytes(), range.as_bytes(), rings.as_bytes()].concat());
    let open = OpenChannel {
        header: MessageHeader::new(MessageType::OPEN_CHANNEL),
        channel: ChannelId(1),
        open_id: 1,
        ring_gpadl: GpadlId(1),
        target_vp: 0,
        downstream_page_offset: split as u32,
        user_data: [0; 120],
    };
    post(bus, host, open.as_bytes());
}

/// Closes the channel.
pub(crate) fn close<D: Device, const REQUESTS: usize>(bus: &OneBus<D, REQUESTS>, host: &Host)
where
    Host: Backend<D::Request>,
{
    let mut message = MessageHeader::new(MessageType::CLOSE_CHANNEL).as_bytes().to_vec();
    message.extend(1_u32.to_le_bytes());
    post(bus, host, &message);
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
