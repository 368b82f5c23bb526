//! A guest with the driver of one input device.

use crate::single::{self, Host, Left, OneBus};
use hv_devices::ic::{Outcome, Refused};
use hv_memory::GuestMemory as _;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::{ChannelOffer, PacketType};
use hv_vmbus::ring::{Consumer, Outgoing, Producer, Ring};
use hv_vmbus::{Device, Io, Never};

/// Pages of the rings, half of them for each direction: smaller than Linux's, so that they are soon full.
const RINGS: [u64; 4] = [16, 17, 18, 19];
const SPLIT: usize = 2;
/// Bytes of data in a ring.
pub(crate) const RING: u32 = 4096;

/// A packet from the host.
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
pub(crate) struct Guest<D: Device<Request = Never>> {
    pub(crate) bus: OneBus<D>,
    pub(crate) host: Host,
}

impl<D: Played> Guest<D> {
    /// Creates a guest that knows of the offer and has not opened the channel.
    pub(crate) fn before_opening(device: D, offer: ChannelOffer) -> Self {
        let (bus, host) = single::before_opening(device, offer);
        Self { bus, host }
    }

    pub(crate) fn opened(device: D, offer: ChannelOffer) -> Self {
        let guest = Self::before_opening(device, offer);
        guest.open();
        guest
    }

    /// Opens the channel, with empty rings.
    pub(crate) fn open(&self) {
        single::open(&self.bus, &self.host, &RINGS, SPLIT);
    }

    pub(crate) fn close(&self) {
        single::close(&self.bus, &self.host);
    }

    /// Advances the time by this, in 100 ns.
    pub(crate) fn wait(&self, ticks: u64) {
        self.host.now.set(ReferenceTime(self.host.now.get().0 + ticks));
        self.bus.flush(&self.host);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut D, &mut Io<'_, Host, Never>) -> T) -> T {
        self.bus.with(self.bus.devices(), &self.host, work).unwrap()
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.with(|device, _| device.outcome())
    }

    /// Takes the next packet from the host, and leaves the signal that the host may wait for to the caller.
    fn pull(&self) -> Option<(Packet, bool)> {
        let ring = Ring::new(&self.host.memory, &RINGS[SPLIT..]).ok()?;
        let mut consumer = Consumer::attach(&ring).ok()?;
        let raw = consumer.next(&ring).ok()??;
        let mut payload = vec![0; raw.payload_len() as usize];
        raw.read(&ring, 0, &mut payload).ok()?;
        let (kind, id) = (raw.descriptor.packet_type, raw.descriptor.transaction_id);
        let signal = consumer.commit(&ring).ok()?.signal;
        Some((Packet { kind, id, payload }, signal))
    }

    /// Takes the next packet from the host, without a signal if it waits for room.
    pub(crate) fn receive_quietly(&self) -> Option<Packet> {
        self.pull().map(|(packet, _)| packet)
    }

    /// Takes the next packet from the host.
    pub(crate) fn receive(&self) -> Option<Packet> {
        let (packet, signal) = self.pull()?;
        if signal {
            self.signal();
        }
        Some(packet)
    }

    /// Takes every packet from the host.
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

    /// Opens or closes the channel, unless it is so already.
    pub(crate) fn set_open(&self, open: &mut bool, wanted: bool) {
        match (*open, wanted) {
            (false, true) => self.open(),
            (true, false) => self.close(),
            _ => {}
        }
        *open = wanted;
    }

    /// Returns what a run leaves.
    pub(crate) fn left(&self) -> Left {
        single::left(&self.bus, &self.host)
    }

    /// Saves the bus and restores it into itself.
    pub(crate) fn saved_and_restored(&self) {
        single::saved_and_restored(&self.bus, &self.host);
    }

    /// Restores every image that differs from the device's in one byte, or ends before its end.
    pub(crate) fn hostile_images(&self) {
        single::hostile_images(&self.bus, &self.host, usize::MAX);
    }
}

/// Converts words to a payload.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}
