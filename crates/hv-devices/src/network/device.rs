//! The card as a device of the bus.

use super::{Lost, Network, Request, note, state};
use hv_memory::save::{Reader, RestoreError, Writer};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::nvsp::{
    CONTROL_CHANNEL, DATA_CHANNEL, INVALID_INDEX, Init, MAX_PACKET_SIZE, MessageHeader, MessageType,
    NdisConfig, PACKET_SIZE_6_1, SUBCHANNEL_ALLOCATE, SendReceiveBuffer, SendRndisPacket,
    SendRndisPacketComplete, SendSendBuffer, Status, SubchannelComplete, SubchannelRequest, Version,
};
use hv_vmbus::{Answer, Backend, Channel, Device, Done, Io, Packet, Taken};
use zerocopy::FromBytes;

/// A message of NVSP, aligned so that it is copied by words.
#[repr(align(8))]
struct Message([u8; PACKET_SIZE_6_1]);

/// Reads the body of a message, which may be followed by more.
fn body_of<T: FromBytes>(bytes: &[u8]) -> Option<T> {
    T::read_from_prefix(bytes).ok().map(|(body, _)| body)
}

impl Device for Network {
    type Request = Request;

    const NAME: [u8; 4] = *b"net ";
    const REPLY: u32 = PACKET_SIZE_6_1 as u32;
    const PACKET_LIMIT: u32 = MAX_PACKET_SIZE as u32;

    fn packet<P: Backend<Request>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) -> Taken {
        if packet.kind() == PacketType::COMPLETION {
            self.returned(packet.channel(), packet.transaction(), io);
            return Taken::Done;
        }
        self.leaving.busy = true;
        // In one go. No message is longer.
        let mut bytes = Message([0; PACKET_SIZE_6_1]);
        let len = packet.read(&mut bytes.0);
        let message = bytes.0[..len].split_first_chunk::<{ size_of::<MessageHeader>() }>();
        match message.map(|(kind, body)| (MessageType(u32::from_le_bytes(*kind)), body)) {
            Some((MessageType::SEND_RNDIS_PACKET, body)) => self.rndis(body, packet, io),
            Some((kind, body)) if packet.channel() == Channel::PRIMARY => self.nvsp(kind, body, packet, io),
            _ => {
                let _ = io.complete(packet, &[]);
            }
        }
        Taken::Done
    }

    fn completed<P: Backend<Request>>(
        &mut self,
        done: &mut Done<'_, Request>,
        outcome: Result<(), Lost>,
        io: &mut Io<'_, P, Request>,
    ) {
        self.sent(done, outcome, io);
    }

    fn deadline(&self) -> Option<ReferenceTime> {
        // At the end of the call that has received them.
        if self.receive.batch.is_empty() { self.leaving.deadline() } else { Some(ReferenceTime::ZERO) }
    }

    fn tick<P: Backend<Request>>(&mut self, io: &mut Io<'_, P, Request>) {
        self.push_frames(io);
        self.look(io);
    }

    fn room<P: Backend<Request>>(&mut self, _: Channel, io: &mut Io<'_, P, Request>) {
        self.attend(io);
    }

    fn closed<P: Backend<Request>>(&mut self, channel: Channel, io: &mut Io<'_, P, Request>) {
        if channel == Channel::PRIMARY {
            self.disconnect();
            if core::mem::take(&mut self.leaving).is_under_way() {
                // The guest has closed it first.
                io.rescind(Channel::PRIMARY);
            }
        }
        self.wake(io);
    }

    fn corrupt<P: Backend<Request>>(&mut self, _: Channel, io: &mut Io<'_, P, Request>) {
        self.wake(io);
    }

    fn reset(&mut self) {
        *self = Self { mac: self.mac, address: self.mac, down: self.down, ..Self::new() };
    }

    fn save(&self, w: &mut Writer<'_>) {
        state::save(self, w);
    }

    fn restore(&mut self, r: &mut Reader<'_>) -> Result<(), RestoreError> {
        state::restore(self, r)
    }
}

impl Network {
    /// Handles a message of NVSP other than RNDIS.
    fn nvsp<P: Backend<Request>>(
        &mut self,
        kind: MessageType,
        body: &[u8],
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) {
        match kind {
            MessageType::INIT => {
                if let Some(request) = body_of::<Init>(body) {
                    let answer = self.init(request.version, io);
                    return self.reply(io, packet, MessageType::INIT_COMPLETE, &answer);
                }
            }
            MessageType::SEND_NDIS_CONFIG if self.version >= Version::V2 => {
                if let Some(config) = body_of::<NdisConfig>(body) {
                    self.configure(&config);
                }
            }
            MessageType::SEND_RECEIVE_BUFFER => {
                if let Some(request) = body_of::<SendReceiveBuffer>(body) {
                    let answer = self.take_receive_buffer(&request, io);
                    return self.reply(io, packet, MessageType::SEND_RECEIVE_BUFFER_COMPLETE, &answer);
                }
            }
            MessageType::REVOKE_RECEIVE_BUFFER => {
                self.receive.end();
                self.wake(io);
            }
            MessageType::SEND_SEND_BUFFER => {
                if let Some(request) = body_of::<SendSendBuffer>(body) {
                    let answer = self.take_send_buffer(&request, io);
                    return self.reply(io, packet, MessageType::SEND_SEND_BUFFER_COMPLETE, &answer);
                }
            }
            MessageType::REVOKE_SEND_BUFFER => self.send = super::SendBuffer::default(),
            MessageType::SUBCHANNEL if self.version >= Version::V5 => {
                if let Some(request) = body_of::<SubchannelRequest>(body) {
                    let answer = subchannels(&request, io);
                    return self.reply(io, packet, MessageType::SUBCHANNEL, &answer);
                }
            }
            // The version of the guest's stack, the data path without a virtual function, and what is unknown: nothing
            // depends on them, and a guest that waits for the end of the packet gets it.
            _ => {}
        }
        let _ = io.complete(packet, &[]);
    }

    /// Handles a packet with RNDIS messages.
    fn rndis<P: Backend<Request>>(
        &mut self,
        body: &[u8],
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Request>,
    ) {
        let message = body_of::<SendRndisPacket>(body).filter(|message| self.attach(packet, message, io));
        let channel = packet.channel();
        let status = match message.map(|message| message.channel_type) {
            Some(DATA_CHANNEL) => return self.send(packet, channel, 0, io),
            Some(CONTROL_CHANNEL) if channel == Channel::PRIMARY => self.control(packet, io),
            _ => Status::INVALID_RNDIS_PACKET,
        };
        if status != Status::SUCCESS {
            self.counts.send_errors += 1;
            io.observe(channel, note::REFUSED, status.0.into());
        }
        self.reply(io, packet, MessageType::SEND_RNDIS_PACKET_COMPLETE, &SendRndisPacketComplete { status });
    }

    /// Puts the section that a message names before the packet's own data. Returns false if it is invalid.
    fn attach<P: Backend<Request>>(
        &self,
        packet: &mut impl Answer,
        message: &SendRndisPacket,
        io: &mut Io<'_, P, Request>,
    ) -> bool {
        if message.section_index == INVALID_INDEX {
            return true;
        }
        let len = message.section_size;
        let section = self.section(message.section_index, len);
        section.is_some_and(|(gpadl, offset)| io.attach(packet, gpadl, offset, len.into()).is_ok())
    }
}

/// Handles [`MessageType::SUBCHANNEL`].
fn subchannels<P: Backend<Request>>(
    request: &SubchannelRequest,
    io: &mut Io<'_, P, Request>,
) -> SubchannelComplete {
    if request.operation != SUBCHANNEL_ALLOCATE || request.count == 0 {
        return SubchannelComplete { status: Status::FAIL, count: 0 };
    }
    let wanted = u16::try_from(request.count).unwrap_or(u16::MAX);
    SubchannelComplete { status: Status::SUCCESS, count: io.subchannels(wanted).into() }
}
