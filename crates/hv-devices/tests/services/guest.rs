//! A guest with the driver of one integration service.

use crate::single::{self, Host, Left, OneBus};
use hv_memory::GuestMemory as _;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ChannelOffer;
use hv_tlfs::vmbus::ic::{Header, MessageType, Negotiate, PipeHeader, Status, Version as IcVersion};
use hv_vmbus::{Device, Io, Never};
use zerocopy::{FromBytes, IntoBytes};

/// Pages of the rings: as many as Linux's KVP driver takes, half of them for each direction.
const RINGS: [u64; 8] = [16, 17, 18, 19, 20, 21, 22, 23];
const SPLIT: usize = 4;
const RING: u32 = (SPLIT as u32 - 1) * 4096;
/// Bytes of pipe header and message header.
const HEADERS: usize = size_of::<PipeHeader>() + size_of::<Header>();

/// A message of an integration service: what follows the pipe header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) header: Header,
    pub(crate) body: [u8; 8192],
}

impl Request {
    pub(crate) fn body(&self) -> &[u8] {
        &self.body[..usize::from(self.header.message_size)]
    }
}

/// A guest whose driver has the service's channel open.
pub(crate) struct Guest<D: Device<Request = Never>> {
    pub(crate) bus: OneBus<D>,
    pub(crate) host: Host,
}

impl<D: Device<Request = Never>> Guest<D> {
    /// Creates a guest that knows of the offer and has not opened the channel.
    pub(crate) fn before_opening(device: D, offer: ChannelOffer) -> Self {
        let (bus, host) = single::before_opening(device, offer);
        Self { bus, host }
    }

    /// Creates a guest whose driver has opened the channel, and was offered versions.
    pub(crate) fn opened(device: D, offer: ChannelOffer) -> Self {
        let guest = Self::before_opening(device, offer);
        guest.open();
        guest
    }

    /// Creates a guest whose driver has chosen these versions of framework and service.
    pub(crate) fn new(device: D, offer: ChannelOffer, framework: IcVersion, version: IcVersion) -> Self {
        let guest = Self::opened(device, offer);
        guest.choose(&[framework], &[version]);
        guest
    }

    /// Opens the channel, with empty rings.
    pub(crate) fn open(&self) {
        single::open(&self.bus, &self.host, &RINGS, SPLIT);
    }

    pub(crate) fn close(&self) {
        single::close(&self.bus, &self.host);
    }

    /// Advances the time to this, in 100 ns.
    pub(crate) fn at(&self, now: u64) {
        self.host.now.set(ReferenceTime(now));
        self.bus.flush(&self.host);
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut D, &mut Io<'_, Host, Never>) -> T) -> T {
        self.bus.with(self.bus.devices(), &self.host, work).unwrap()
    }

    fn word(&self, page: u64, offset: u64) -> u32 {
        self.host.memory.load_acquire(page * 4096 + offset).unwrap()
    }

    /// Receives the host's next message.
    pub(crate) fn receive(&self) -> Option<Request> {
        let ring = RINGS[SPLIT];
        let (write, read) = (self.word(ring, 0), self.word(ring, 4));
        if write == read {
            return None;
        }
        let byte = |at: u32| {
            let mut byte = [0];
            self.host.memory.read((ring + 1) * 4096 + u64::from((read + at) % RING), &mut byte).unwrap();
            byte[0]
        };
        let half = |at: u32| u16::from_le_bytes([byte(at), byte(at + 1)]);
        let (offset, total) = (u32::from(half(2)) * 8, u32::from(half(4)) * 8);
        let bytes: Vec<u8> = (offset..total).map(byte).collect();
        self.host.memory.store_release(ring * 4096 + 4, (read + total + 8) % RING).unwrap();
        let (pipe, rest) = PipeHeader::read_from_prefix(&bytes).unwrap();
        let (header, body) = Header::read_from_prefix(rest).unwrap();
        assert_eq!((half(0), pipe.packet_type), (6, 1));
        assert_eq!(pipe.message_size as usize, size_of::<Header>() + usize::from(header.message_size));
        assert_eq!((header.flags, header.transaction_id, header.status), (3, 0, Status::SUCCESS));
        let mut request = Request { header, body: [0; 8192] };
        let len = usize::from(header.message_size);
        request.body[..len].copy_from_slice(&body[..len]);
        Some(request)
    }

    /// Sends bytes after a pipe header that says they are `claimed`.
    pub(crate) fn send_raw(&self, message: &[u8], claimed: usize) {
        let pipe = PipeHeader { packet_type: 1, message_size: claimed as u32 };
        let mut payload = [pipe.as_bytes(), message].concat();
        payload.resize(payload.len().next_multiple_of(8), 0);
        let mut bytes = Vec::new();
        for half in [6, 2, (16 + payload.len()) as u16 / 8, 0] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(payload);
        let write = self.word(RINGS[0], 0);
        bytes.extend((u64::from(write) << 32).to_le_bytes());
        for (at, byte) in bytes.iter().enumerate() {
            let gpa = (RINGS[1] * 4096) + u64::from((write + at as u32) % RING);
            self.host.memory.write(gpa, &[*byte]).unwrap();
        }
        self.host.memory.store_release(RINGS[0] * 4096, (write + bytes.len() as u32) % RING).unwrap();
        self.bus.signal(0x2001, &self.host).unwrap();
    }

    /// Sends a message with this header and body.
    pub(crate) fn send(&self, header: &Header, body: &[u8]) {
        let message = [header.as_bytes(), body].concat();
        self.send_raw(&message, message.len());
    }

    /// Answers a request as Linux does: its own bytes, with other flags and a status.
    pub(crate) fn answer(&self, request: &Request, status: Status, body: &[u8]) {
        let mut header = request.header;
        header.flags = 5;
        header.status = status;
        self.send(&header, body);
    }

    /// Takes the offer of versions and leaves these.
    pub(crate) fn choose(&self, frameworks: &[IcVersion], versions: &[IcVersion]) {
        let request = self.receive().expect("an offer of versions");
        assert_eq!(request.header.message_type, MessageType::NEGOTIATE);
        let negotiate = Negotiate {
            framework_versions: frameworks.len() as u16,
            message_versions: versions.len() as u16,
            reserved: 0,
        };
        let body = [negotiate.as_bytes(), frameworks.as_bytes(), versions.as_bytes()].concat();
        let mut header = request.header;
        header.message_size = 0x10;
        header.flags = 5;
        self.send(&header, &body);
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
        single::hostile_images(&self.bus, &self.host, 4000);
    }
}

pub(crate) const fn version(major: u16, minor: u16) -> IcVersion {
    IcVersion { major, minor }
}

/// Encodes a text as it lies in a message: UTF-16 with its terminating zero.
pub(crate) fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

const _: () = assert!(HEADERS == 28);
