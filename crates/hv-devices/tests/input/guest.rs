//! A guest with the driver of one input device.

use hv_devices::ic::{Outcome, Refused};
use hv_memory::GuestMemory as _;
use hv_memory::testing::Memory;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{
    ChannelId, ChannelOffer, GpadlHeader, GpadlId, Guid, InitiateContact, MessageHeader, MessageType,
    OpenChannel, PacketType, TargetInfo, Version,
};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, Ring};
use hv_vmbus::{
    Backend, Bus, BusPort, Config, Device, DeviceId, Event, Io, Never, Pages, Posted, Slot, Started, Token,
};
use std::cell::{Cell, RefCell};
use zerocopy::{FromZeros, IntoBytes};

const MEMORY: u64 = 1 << 20;
/// Pages of the rings, half of them for each direction: smaller than Linux's, so that they are soon full.
const RINGS: [u64; 4] = [16, 17, 18, 19];
const SPLIT: usize = 2;
/// Bytes of data in a ring.
pub(crate) const RING: u32 = 4096;

/// The partition.
pub(crate) struct Host {
    pub(crate) memory: Memory,
    now: Cell<u64>,
    /// Interrupts.
    pub(crate) interrupts: Cell<usize>,
    /// What the device told the observer: note and value.
    pub(crate) notes: RefCell<Vec<(u32, u64)>>,
    /// Versions are refused, as by a fault on purpose.
    pub(crate) refuses: Cell<bool>,
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
        Posted::Queued
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

    fn refuses(&self, _: &Guid, _: u32) -> bool {
        self.refuses.get()
    }
}

impl Backend<Never> for Host {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

type Lock = spin::Mutex<()>;

/// A packet of the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) kind: PacketType,
    pub(crate) id: u64,
    pub(crate) payload: Vec<u8>,
}

/// What a test needs of a device.
pub(crate) trait Played: Device<Request = Never> {
    /// Hands over as many events as there may be, or one.
    fn ask(&mut self, io: &mut Io<'_, Host, Never>, many: bool) -> Result<(), Refused>;

    fn outcome(&mut self) -> Option<Outcome>;
}

/// A guest whose driver has the device's channel open.
pub(crate) struct Guest<D: Device> {
    pub(crate) bus: Bus<Lock, Slot<Lock, D>>,
    pub(crate) host: Host,
}

impl<D: Played> Guest<D> {
    /// A guest that knows of the offer and has not opened the channel.
    pub(crate) fn before_opening(device: D, offer: ChannelOffer) -> Self {
        let host = Host {
            memory: Memory::new(0, MEMORY),
            now: Cell::new(0),
            interrupts: Cell::new(0),
            notes: RefCell::default(),
            refuses: Cell::new(false),
        };
        let guest = Self { bus: Bus::new(Config::DEFAULT, Slot::offering(device, offer)), host };
        let mut contact = InitiateContact::new_zeroed();
        contact.header = MessageHeader::new(MessageType::INITIATE_CONTACT);
        contact.version = Version::V5_3;
        contact.target_info = TargetInfo(0).with_sint(2);
        guest.post(contact.as_bytes());
        guest.post(MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes());
        guest
    }

    pub(crate) fn opened(device: D, offer: ChannelOffer) -> Self {
        let guest = Self::before_opening(device, offer);
        guest.open();
        guest
    }

    fn post(&self, message: &[u8]) {
        self.bus.message(4, message, &self.host).unwrap();
    }

    /// Opens the channel, with empty rings.
    pub(crate) fn open(&self) {
        for page in [RINGS[0], RINGS[SPLIT]] {
            self.host.memory.write(page * 4096, &[0; 8]).unwrap();
        }
        let header = GpadlHeader {
            header: MessageHeader::new(MessageType::GPADL_HEADER),
            channel: ChannelId(1),
            gpadl: GpadlId(1),
            range_buffer_len: (RINGS.len() as u16 + 1) * 8,
            range_count: 1,
        };
        let range = RINGS.len() as u64 * 4096;
        let _ = self.bus.message(
            4,
            &[header.as_bytes(), range.as_bytes(), RINGS.as_bytes()].concat(),
            &self.host,
        );
        let open = OpenChannel {
            header: MessageHeader::new(MessageType::OPEN_CHANNEL),
            channel: ChannelId(1),
            open_id: 1,
            ring_gpadl: GpadlId(1),
            target_vp: 0,
            downstream_page_offset: SPLIT as u32,
            user_data: [0; 120],
        };
        self.post(open.as_bytes());
    }

    pub(crate) fn close(&self) {
        let mut message = MessageHeader::new(MessageType::CLOSE_CHANNEL).as_bytes().to_vec();
        message.extend(1_u32.to_le_bytes());
        self.post(&message);
    }

    /// Time goes on by this, in 100 ns.
    pub(crate) fn wait(&self, ticks: u64) {
        self.host.now.set(self.host.now.get() + ticks);
        self.bus.flush(&self.host);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut D, &mut Io<'_, Host, Never>) -> T) -> T {
        self.bus.with(self.bus.devices(), &self.host, work).unwrap()
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.with(|device, _| device.outcome())
    }

    /// Takes the next packet of the host's, and leaves the signal that the host may wait for to the caller.
    fn pull(&self) -> Option<(Packet, bool)> {
        let ring = Ring::new(&self.host.memory, &RINGS[SPLIT..]).ok()?;
        let mut consumer = Consumer::attach(&ring).ok()?;
        let raw = consumer.next(&ring).ok()??;
        let mut payload = vec![0; raw.payload_len() as usize];
        raw.read(&ring, 0, &mut payload).ok()?;
        let (kind, id) = (raw.descriptor.packet_type, raw.descriptor.transaction_id);
        let signal = consumer.commit(&ring).ok()?;
        Some((Packet { kind, id, payload }, signal))
    }

    /// Takes the next packet of the host's, without a signal if it waits for room.
    pub(crate) fn receive_quietly(&self) -> Option<Packet> {
        self.pull().map(|(packet, _)| packet)
    }

    /// Takes the next packet of the host's.
    pub(crate) fn receive(&self) -> Option<Packet> {
        let (packet, signal) = self.pull()?;
        if signal {
            self.signal();
        }
        Some(packet)
    }

    /// Takes every packet of the host's.
    pub(crate) fn receive_all(&self) -> Vec<Packet> {
        std::iter::from_fn(|| self.receive()).collect()
    }

    /// Writes a word of the header of a ring: the one from the host, or the one to it.
    pub(crate) fn write(&self, from_host: bool, word: u8, value: u32) {
        let page = RINGS[if from_host { SPLIT } else { 0 }];
        self.host.memory.store_release(page * 4096 + u64::from(word) * 4, value).unwrap();
    }

    pub(crate) fn signal(&self) {
        let _ = self.bus.signal(0x2001, &self.host);
    }

    /// Puts a packet into the ring to the host; returns false if that is full or corrupt.
    pub(crate) fn send(&self, packet_type: PacketType, flags: u16, id: u64, payload: &[u8]) -> bool {
        let ring = Ring::new(&self.host.memory, &RINGS[..SPLIT]).unwrap();
        let Ok(mut producer) = Producer::attach(&ring) else { return false };
        let packet = Outgoing { packet_type, flags, transaction_id: id, len: payload.len() as u32 };
        let sent = producer.push_bytes(&ring, &packet, payload).is_ok();
        self.signal();
        sent
    }

    /// Sends a message as Linux does: in-band, with an address as the id, and with a completion.
    pub(crate) fn say(&self, id: u64, payload: &[u8]) {
        assert!(self.send(PacketType::DATA_IN_BAND, 1, id, payload));
    }

    /// Saves the bus and restores it into itself.
    pub(crate) fn saved_and_restored(&self) {
        let image = self.image();
        self.bus.restore(&self.host, &mut hv_memory::save::Reader::new(&image)).unwrap();
    }

    fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        self.bus
            .save(&self.host, &mut hv_memory::save::Writer::new(&mut |bytes| image.extend(bytes)))
            .unwrap();
        image
    }

    /// Restores every image that differs from the device's in one byte, or ends before its end. Nothing may panic.
    pub(crate) fn hostile_images(&self) {
        let image = self.image();
        for at in 0..image.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut other = image.clone();
                other[at] = value;
                let _ = self.bus.restore(&self.host, &mut hv_memory::save::Reader::new(&other));
                self.bus.flush(&self.host);
            }
            let _ = self.bus.restore(&self.host, &mut hv_memory::save::Reader::new(&image[..at]));
        }
        self.bus.restore(&self.host, &mut hv_memory::save::Reader::new(&image)).unwrap();
    }
}

/// Words as a payload.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
