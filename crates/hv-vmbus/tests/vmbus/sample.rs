//! A sample device with requests, sub-channels and sockets, and a guest that has opened it.

use crate::common::{GuestPacket, GuestRing, Lock, PAGES, SPLIT, TestPort, contact, gpadl, header, open};
use hv_vmbus::protocol::{GpadlId, Guid, MessageType, PacketType, TransferPageRange, Version};
use hv_vmbus::{
    Backend, Bus, BusError, Channel, Config, Connect, Device, DeviceId, Done, Io, Message, Packet, Pages,
    PagesError, Refusal, Slot, Started, Taken, Token, Work,
};
use zerocopy::IntoBytes;

/// What the sample asks its back end for.
#[derive(Debug)]
pub(crate) struct Op {
    /// Number of times to continue with the same packet.
    again: u8,
}

impl Work for Op {
    type Outcome = u8;
}

impl Backend<Op> for TestPort {
    fn start(&self, _: DeviceId, token: Token, _: &Op, data: Pages<'_>) -> Started<u8> {
        let Some(left) = self.capacity.get().checked_sub(1) else { return Started::Full };
        self.capacity.set(left);
        let data = data.segments().map(|s| (s.gpa(), s.len())).collect();
        self.started.borrow_mut().push((token, data));
        if self.at_once { Started::Done(0) } else { Started::Pending }
    }
}

/// The sample. The first byte of a packet says what to do with it.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) closed: Vec<usize>,
    pub(crate) completed: Vec<u8>,
    pub(crate) channels: Vec<usize>,
    pub(crate) last: Option<PagesError>,
    /// The channel that it rescinds when its first one is closed.
    pub(crate) follower: Option<Channel>,
}

pub(crate) const REQUEST: u8 = 1;
pub(crate) const AGAIN: u8 = 2;
pub(crate) const SUBCHANNELS: u8 = 3;
pub(crate) const ATTACH: u8 = 4;
pub(crate) const LATER: u8 = 5;
pub(crate) const TRANSFER: u8 = 6;

impl Device for Sample {
    type Request = Op;

    const NAME: [u8; 4] = *b"test";
    const REPLY: u32 = 8;

    fn takes_connections(&self) -> bool {
        true
    }

    fn packet<P: Backend<Op>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Op>,
    ) -> Taken {
        self.channels.push(packet.channel().index());
        let bytes: [u8; 8] = packet.take().unwrap_or_default();
        self.last = io.pages(packet).err();
        match bytes[0] {
            _ if self.last.is_some() => {
                io.complete(packet, &[0xee; 8]).unwrap();
            }
            REQUEST | AGAIN => {
                let again = if bytes[0] == AGAIN { bytes[1] } else { 0 };
                io.request(packet, Op { again }).unwrap();
            }
            SUBCHANNELS => {
                let count = io.subchannels(bytes[1].into());
                io.complete(packet, &u64::from(count).to_le_bytes()).unwrap();
            }
            ATTACH => {
                let len = u64::from(bytes[2]) * 16;
                match io.attach(packet, GpadlId(bytes[1].into()), 8, len) {
                    Ok(()) => drop(io.request(packet, Op { again: 0 }).unwrap()),
                    Err(error) => {
                        self.last = Some(error);
                        io.complete(packet, &[0xee; 8]).unwrap();
                    }
                }
            }
            LATER => return Taken::Later,
            TRANSFER => {
                let ranges = [TransferPageRange { byte_count: 60, byte_offset: 1728 }];
                let message = Message { transaction: 77, wants_completion: true };
                io.send_transfer_pages(packet.channel(), message, 0xcafe, &ranges, &[7; 8]).unwrap();
            }
            _ => io.complete(packet, &bytes).unwrap(),
        }
        Taken::Done
    }

    fn completed<P: Backend<Op>>(&mut self, done: &mut Done<'_, Op>, outcome: u8, io: &mut Io<'_, P, Op>) {
        self.completed.push(outcome);
        match done.request.again.checked_sub(1) {
            Some(again) => drop(io.request(done, Op { again }).unwrap()),
            None => io.complete(done, &[outcome; 8]).unwrap(),
        }
    }

    fn closed<P: Backend<Op>>(&mut self, channel: Channel, io: &mut Io<'_, P, Op>) {
        self.closed.push(channel.index());
        if let Some(follower) = self.follower.filter(|_| channel == Channel::PRIMARY) {
            io.rescind(follower);
        }
    }

    fn connect<P: Backend<Op>>(
        &mut self,
        channel: Channel,
        connect: &Connect,
        io: &mut Io<'_, P, Op>,
    ) -> Result<(), Refusal> {
        if connect.service == Guid::ZERO {
            return Err(Refusal);
        }
        let offer = hv_vmbus::offer(connect.service, connect.endpoint);
        if io.offer(channel, &offer) { Ok(()) } else { Err(Refusal) }
    }

    fn reset(&mut self) {
        *self = Self::default();
    }
}

hv_vmbus::devices! {
    /// One line for each device.
    pub(crate) struct MachineDevices {
        pub(crate) sample: Slot<Lock, Sample, 4, 3, 8>,
    }
}

pub(crate) const OFFER: Guid = Guid::new(1, 2, 3, [4; 8]);

pub(crate) struct Guest {
    pub(crate) bus: Bus<Lock, MachineDevices>,
    pub(crate) port: TestPort,
    pub(crate) out: GuestRing,
    pub(crate) back: GuestRing,
}

impl Guest {
    pub(crate) fn new() -> Self {
        let sample = Slot::offering(sample(), hv_vmbus::offer(OFFER, OFFER));
        let bus = Bus::new(Config::DEFAULT, MachineDevices { sample });
        let (out, back) = PAGES.split_at(SPLIT as usize);
        let mut guest =
            Self { bus, port: TestPort::new(), out: GuestRing::new(out), back: GuestRing::new(back) };
        guest.post(contact(Version::V5_3).as_bytes());
        guest.post(header(MessageType::REQUEST_OFFERS).as_bytes());
        for message in gpadl(1, 9, &PAGES) {
            guest.post(&message);
        }
        guest.post(open(1, 9, 1, SPLIT).as_bytes());
        guest.port.take();
        guest
    }

    pub(crate) fn post(&mut self, message: &[u8]) {
        self.bus.message(4, message, &self.port).unwrap();
    }

    pub(crate) fn kinds(&mut self) -> Vec<MessageType> {
        self.port.take().iter().map(crate::common::Received::kind).collect()
    }

    /// Sends a command, and signals.
    pub(crate) fn send(&mut self, id: u64, payload: [u8; 8]) {
        let packet = GuestPacket { kind: 6, flags: 1, transaction: id, payload: payload.to_vec() };
        self.out.send(&self.port.memory, &packet).expect("the ring has room");
        self.bus.signal(0x2001, &self.port).unwrap();
    }

    /// Sends a packet with ranges: (length, offset, pages).
    pub(crate) fn direct(&mut self, id: u64, payload: [u8; 8], ranges: &[(u32, u32, &[u64])]) {
        let mut head = vec![0; 4];
        head.extend((ranges.len() as u32).to_le_bytes());
        for (len, offset, pages) in ranges {
            head.extend(len.to_le_bytes());
            head.extend(offset.to_le_bytes());
            pages.iter().for_each(|pfn| head.extend(pfn.to_le_bytes()));
        }
        let at = self.out.word(&self.port.memory, 0);
        let len = 16 + head.len() + payload.len();
        let mut bytes = Vec::new();
        for word in [9, (16 + head.len()) as u16 / 8, len as u16 / 8, 1] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(id.to_le_bytes());
        bytes.extend(head);
        bytes.extend(payload);
        bytes.extend((u64::from(at) << 32).to_le_bytes());
        self.out.poke(&self.port.memory, at, &bytes);
        self.out.set_word(&self.port.memory, 0, (at + bytes.len() as u32) % self.out.size());
        self.bus.signal(0x2001, &self.port).unwrap();
    }

    pub(crate) fn receive(&mut self) -> Option<(u64, u8)> {
        let (packet, signal) = self.back.receive(&self.port.memory)?;
        if signal {
            self.bus.signal(0x2001, &self.port).unwrap();
        }
        assert_eq!(packet.kind, PacketType::COMPLETION.0);
        Some((packet.transaction, packet.payload.first().copied().unwrap_or_default()))
    }

    pub(crate) fn started(&self) -> Vec<(Token, Vec<(u64, u64)>)> {
        self.port.started.take()
    }

    pub(crate) fn complete(&self, token: Token, outcome: u8) -> Result<(), BusError> {
        self.bus.completed(&self.bus.devices().sample, token, outcome, &self.port)
    }

    pub(crate) fn state<T>(&self, look: impl FnOnce(&mut Sample) -> T) -> T {
        self.bus.with(&self.bus.devices().sample, &self.port, |sample, _| look(sample)).unwrap()
    }
}

pub(crate) const fn sample() -> Sample {
    Sample { closed: Vec::new(), completed: Vec::new(), channels: Vec::new(), last: None, follower: None }
}

pub(crate) fn command(kind: u8, first: u8, second: u8) -> [u8; 8] {
    [kind, first, second, 0, 0, 0, 0, 0]
}
