//! The device's side towards the bus.

use super::stream::{Flags, State, Stream};
use super::{ACCEPT_TIMEOUT, MAX_PAYLOAD, Sockets, WINDOW, cost, note};
use hv_memory::save::{Reader, RestoreError};
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::{PacketDescriptor, PacketType, socket};
use hv_vmbus::{Backend, Channel, Connect, Device, Head, Io, Never, Opening, Packet, Refusal, Taken};

impl<const STREAMS: usize, const OUTPUT: usize> Device for Sockets<STREAMS, OUTPUT> {
    type Request = Never;

    const NAME: [u8; 4] = *b"sock";
    const PACKET_LIMIT: u32 =
        MAX_PAYLOAD + size_of::<PacketDescriptor>() as u32 + size_of::<PipeHeader>() as u32;

    fn takes_connections(&self) -> bool {
        self.served
    }

    /// Returns `None`, since no packet has an answer: all room of the ring can be granted to the host.
    fn reply_len(&self, _: Channel, _: &Head) -> Option<u32> {
        None
    }

    fn connect<P: Backend<Never>>(
        &mut self,
        channel: Channel,
        connect: &Connect,
        io: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        let port = socket::port(connect.service).ok_or(Refusal)?;
        let at = channel.index();
        let stream = self.streams.get_mut(at).filter(|stream| stream.is_idle()).ok_or(Refusal)?;
        let due = io.now().saturating_add(ACCEPT_TIMEOUT);
        stream.begin(State::Connecting { endpoint: connect.endpoint }, port, due);
        self.due = Some(self.due.map_or(due, |other| other.min(due)));
        self.flag(io, at, Flags::CONNECT);
        Ok(())
    }

    fn opened<P: Backend<Never>>(
        &mut self,
        channel: Channel,
        _: &Opening<'_>,
        _: &mut Io<'_, P, Never>,
    ) -> Result<(), Refusal> {
        let stream = self.streams.get(channel.index()).ok_or(Refusal)?;
        if matches!(stream.state, State::Offered { .. }) { Ok(()) } else { Err(Refusal) }
    }

    fn live<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        let at = channel.index();
        let Some(stream) = self.streams.get_mut(at) else { return };
        let State::Offered { request, .. } = stream.state else { return };
        stream.state = State::Open;
        stream.ring = io.free(channel);
        io.observe(channel, note::OPENED, u64::from(stream.port) | u64::from(request.is_some()) << 32);
        let ring = stream.ring;
        if request.is_some() {
            self.flag(io, at, Flags::OPENED);
        }
        if ring < cost(1) + cost(0) {
            // It can never carry a byte.
            return self.fail(io, at);
        }
        if self.streams[at].host_done {
            return self.send_end(io, at);
        }
        self.grant(io, at);
    }

    fn packet<P: Backend<Never>>(
        &mut self,
        packet: &mut Packet<'_, P::Memory>,
        io: &mut Io<'_, P, Never>,
    ) -> Taken {
        let at = packet.channel().index();
        let Some(stream) = self.streams.get_mut(at) else { return Taken::Fault };
        let len = packet.left();
        let valid = packet.kind() == PacketType::DATA_IN_BAND && !packet.is_malformed();
        if !valid || len > MAX_PAYLOAD as usize || stream.guest_done || stream.state != State::Open {
            if stream.state == State::Open {
                self.fail(io, at);
            }
            return Taken::Fault;
        }
        if len == 0 {
            stream.guest_done = true;
            let over = stream.host_done;
            self.flag(io, at, Flags::FINISHED);
            if over {
                self.end(io, at);
            }
            return Taken::Done;
        }
        if stream.used >= WINDOW {
            return Taken::Held;
        }
        if !self.output.has_room(len) {
            self.full = true;
            return Taken::Held;
        }
        if self.output.push(stream.id(at), len, |into| packet.read(into)) {
            stream.used += len as u32;
            stream.queued += len as u32;
            self.tell(io, at);
        }
        Taken::Done
    }

    fn corrupt<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        if self.streams.get(channel.index()).is_some_and(|stream| stream.state == State::Open) {
            self.fail(io, channel.index());
        }
    }

    fn room<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        if self.streams.get(channel.index()).is_some_and(|stream| stream.state == State::Open) {
            self.grant(io, channel.index());
        }
    }

    fn deadline(&self) -> Option<ReferenceTime> {
        self.due
    }

    /// Ends connections that have timed out, and those that were restored.
    fn tick<P: Backend<Never>>(&mut self, io: &mut Io<'_, P, Never>) {
        let now = io.now();
        self.due = None;
        for at in 0..STREAMS {
            let channel = Channel::new(at as u16);
            let Stream { state, due, .. } = self.streams[at];
            match state {
                State::Connecting { .. } if due <= now => {
                    self.turn_down(io, at);
                    self.flag(io, at, Flags::ENDED);
                }
                State::Offered { .. } if due <= now => {
                    self.lose(io, at);
                    self.leave(io, at);
                }
                State::Connecting { .. } | State::Offered { .. } => {
                    self.due = Some(self.due.map_or(due, |other| other.min(due)));
                }
                State::Restored => {
                    if io.refuse(channel) {
                        self.streams[at].free();
                    } else {
                        self.leave(io, at);
                    }
                }
                State::Free | State::Open | State::Closing => {}
            }
        }
    }

    fn closed<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        let at = channel.index();
        let Some(stream) = self.streams.get(at) else { return };
        if matches!(stream.state, State::Offered { .. } | State::Open) {
            self.lose(io, at);
            self.leave(io, at);
        }
    }

    fn released<P: Backend<Never>>(&mut self, channel: Channel, io: &mut Io<'_, P, Never>) {
        let at = channel.index();
        if at < STREAMS {
            self.lose(io, at);
            self.streams[at].free();
        }
    }

    /// Ends all connections. The back end hears of their ends.
    fn reset(&mut self) {
        for stream in &mut self.streams {
            let flag = stream.ending();
            stream.flags.add(flag);
            stream.free();
        }
        // The observer hears of it with the next news: the machine is being reset.
        self.due = None;
    }

    /// Marks all connections to be reset: nothing of them was saved, and the back end is another one.
    fn restore(&mut self, _: &mut Reader<'_>) -> Result<(), RestoreError> {
        for stream in &mut self.streams {
            stream.begin(State::Restored, 0, ReferenceTime::ZERO);
        }
        self.due = Some(ReferenceTime::ZERO);
        Ok(())
    }
}
