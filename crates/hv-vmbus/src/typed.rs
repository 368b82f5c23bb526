//! Devices without their types, so that the bus is compiled once, whatever the number of devices on it.
//!
//! [`Worker`](crate::worker::Worker) calls a [`Handler`]. [`Typed`] is the only one, and all that is compiled
//! for each type of device, besides the device itself: it adds the requests, whose type is the device's, to the context
//! of the call.

use crate::device::{Connect, Device, Head, Opening, Refusal, Taken};
use crate::id::{Channel, DeviceId};
use crate::io::{Context, Io};
use crate::optional::Optional;
use crate::packet::{Done, Packet, Ticket};
use crate::port::{Backend, BusPort, Started, Work};
use hv_tlfs::time::ReferenceTime;

/// A device as the bus calls it: [`Device`], with requests named by their numbers.
pub(crate) trait Handler<P: BusPort> {
    fn takes_connections(&self) -> bool;
    fn reply_len(&self, channel: Channel, head: &Head) -> Option<u32>;
    fn deadline(&self) -> Option<ReferenceTime>;
    fn opened(
        &mut self,
        channel: Channel,
        opening: &Opening<'_>,
        context: &mut Context<'_, P>,
    ) -> Result<(), Refusal>;
    fn live(&mut self, channel: Channel, context: &mut Context<'_, P>);
    fn packet(&mut self, packet: &mut Packet<'_, P::Memory>, context: &mut Context<'_, P>) -> Taken;
    fn corrupt(&mut self, channel: Channel, context: &mut Context<'_, P>);
    fn tick(&mut self, context: &mut Context<'_, P>);
    fn room(&mut self, channel: Channel, context: &mut Context<'_, P>);
    fn closed(&mut self, channel: Channel, context: &mut Context<'_, P>);
    fn released(&mut self, channel: Channel, context: &mut Context<'_, P>);
    fn connect(
        &mut self,
        channel: Channel,
        connect: &Connect,
        context: &mut Context<'_, P>,
    ) -> Result<(), Refusal>;
    fn reset(&mut self);
    fn renew(&mut self);
    /// Has the back end start a queued request. Returns false if it has no room for it.
    fn start(&mut self, at: usize, context: &mut Context<'_, P>) -> bool;
    /// Drops a request.
    fn forget(&mut self, at: usize);
}

/// A device, with what its requests are.
pub(crate) struct Typed<'d, D: Device> {
    pub(crate) device: &'d mut D,
    /// What is requested, by the number of the request.
    pub(crate) works: &'d mut [Optional<D::Request>],
}

impl<D: Device> Typed<'_, D> {
    /// Returns the device, and the context of a call of it.
    #[inline(always)]
    pub(crate) fn split<'s, P: BusPort>(
        &'s mut self,
        context: &'s mut Context<'_, P>,
    ) -> (&'s mut D, Io<'s, P, D::Request>) {
        (&mut *self.device, Io::new(context.reborrow(), &mut *self.works))
    }

    /// Returns a request to the device, or drops it if its channel has been closed since.
    pub(crate) fn finish<P: Backend<D::Request>>(
        &mut self,
        at: usize,
        outcome: <D::Request as Work>::Outcome,
        context: &mut Context<'_, P>,
    ) {
        let request = self.works.get_mut(at).and_then(Optional::as_mut);
        let Some(request) = request.filter(|_| context.is_current(at)) else {
            self.drop_work(at);
            context.release(at);
            return;
        };
        let (mut ticket, token) = context.land(at);
        let mut done = Done { ticket: &mut ticket, token, request };
        // There is no packet of which it could make another request.
        self.device.completed(&mut done, outcome, &mut Io::new(context.reborrow(), &mut []));
        context.landed(at);
        if self.carry_out(&mut ticket, at, context) {
            context.served(context.requests[at].since);
            context.requests[at].reserved = ticket.reserved;
            context.release(at);
        }
    }

    /// Has the back end start the request that was made with a ticket, if there is one: now, or when those before it
    /// are started. One that is done now never enters the table of requests, unless an earlier one of the same packet
    /// has. Returns true if no request is left.
    fn carry_out<P: Backend<D::Request>>(
        &mut self,
        ticket: &mut Ticket,
        at: usize,
        context: &mut Context<'_, P>,
    ) -> bool {
        while ticket.requested {
            let Some(request) = self.works.get_mut(at).and_then(Optional::as_mut) else { return false };
            let (port, id) = (context.env.port, DeviceId(context.env.place.device));
            let token = context.requests[at].token(at);
            let mut flies = false;
            if context.starts_at_once() {
                match port.start(id, token, request, context.part(at, &ticket.data)) {
                    Started::Done(outcome) => {
                        context.spend(ticket.data.len, request.cost());
                        context.requests[at].renew();
                        ticket.requested = false;
                        let mut done = Done { ticket: &mut *ticket, token, request };
                        let mut io = Io::new(context.reborrow(), &mut []);
                        self.device.completed(&mut done, outcome, &mut io);
                        continue;
                    }
                    Started::Pending => flies = true,
                    Started::Full => {}
                }
            }
            context.admit(ticket, at, request.begins());
            if flies {
                context.take_off(at);
            }
            return false;
        }
        self.drop_work(at);
        true
    }

    /// Drops a request, if that does anything: else the place is used again as it is.
    fn drop_work(&mut self, at: usize) {
        if core::mem::needs_drop::<D::Request>()
            && let Some(work) = self.works.get_mut(at)
        {
            *work = Optional::None;
        }
    }
}

impl<P: Backend<D::Request>, D: Device> Handler<P> for Typed<'_, D> {
    fn takes_connections(&self) -> bool {
        self.device.takes_connections()
    }

    fn reply_len(&self, channel: Channel, head: &Head) -> Option<u32> {
        self.device.reply_len(channel, head)
    }

    fn deadline(&self) -> Option<ReferenceTime> {
        self.device.deadline()
    }

    fn opened(
        &mut self,
        channel: Channel,
        opening: &Opening<'_>,
        context: &mut Context<'_, P>,
    ) -> Result<(), Refusal> {
        let (device, mut io) = self.split(context);
        device.opened(channel, opening, &mut io)
    }

    fn live(&mut self, channel: Channel, context: &mut Context<'_, P>) {
        let (device, mut io) = self.split(context);
        device.live(channel, &mut io);
    }

    fn packet(&mut self, packet: &mut Packet<'_, P::Memory>, context: &mut Context<'_, P>) -> Taken {
        let (device, mut io) = self.split(context);
        let taken = device.packet(packet, &mut io);
        if packet.ticket.requested
            && let Some(at) = packet.ticket.entry
            && self.carry_out(&mut packet.ticket, at, context)
        {
            context.served(context.env.now);
        }
        taken
    }

    fn corrupt(&mut self, channel: Channel, context: &mut Context<'_, P>) {
        let (device, mut io) = self.split(context);
        device.corrupt(channel, &mut io);
    }

    fn tick(&mut self, context: &mut Context<'_, P>) {
        let (device, mut io) = self.split(context);
        device.tick(&mut io);
    }

    fn room(&mut self, channel: Channel, context: &mut Context<'_, P>) {
        let (device, mut io) = self.split(context);
        device.room(channel, &mut io);
    }

    fn closed(&mut self, channel: Channel, context: &mut Context<'_, P>) {
        let (device, mut io) = self.split(context);
        device.closed(channel, &mut io);
    }

    fn released(&mut self, channel: Channel, context: &mut Context<'_, P>) {
        let (device, mut io) = self.split(context);
        device.released(channel, &mut io);
    }

    fn connect(
        &mut self,
        channel: Channel,
        connect: &Connect,
        context: &mut Context<'_, P>,
    ) -> Result<(), Refusal> {
        let (device, mut io) = self.split(context);
        device.connect(channel, connect, &mut io)
    }

    fn reset(&mut self) {
        self.device.reset();
    }

    fn renew(&mut self) {
        self.device.renew();
    }

    fn start(&mut self, at: usize, context: &mut Context<'_, P>) -> bool {
        let Some(request) = self.works.get(at).and_then(Optional::as_ref) else { return false };
        let (port, id) = (context.env.port, DeviceId(context.env.place.device));
        let (token, pages) = context.load_of(at);
        match port.start(id, token, request, pages) {
            Started::Full => return false,
            Started::Pending => context.take_off(at),
            Started::Done(outcome) => {
                context.spend(context.requests[at].data.len, request.cost());
                context.take_off(at);
                self.finish(at, outcome, context);
            }
        }
        true
    }

    fn forget(&mut self, at: usize) {
        self.drop_work(at);
    }
}
