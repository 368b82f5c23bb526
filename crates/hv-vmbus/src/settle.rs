//! Work that waits for the guest, or for requests in flight, done as soon as possible.
//!
//! Answers to messages are in a queue. Everything else is recorded in the state of a channel or a page list, and found
//! by iterating over them; so it needs no queue that could be full, and a guest that does not take its messages costs
//! nothing.

use crate::bus::Bus;
use crate::control::{Control, Ending};
use crate::devices::{DeviceSet, Devices, Part};
use crate::event::Event;
use crate::gpadl::Fate;
use crate::io::Position;
use crate::line::Stage;
use crate::outbox::{Encoded, Pending};
use crate::port::{BusPort, Posted};
use crate::protocol::{
    ChannelOffer, MessageHeader, MessageType, NtStatus, RescindOffer, TlConnectResult, Version,
};
use crate::worker::SINT;
use core::sync::atomic::Ordering;
use lock_api::RawMutex;

impl<R: RawMutex, D: DeviceSet, const GPADLS: usize, const WORDS: usize> Bus<R, D, GPADLS, WORDS> {
    /// Does what is possible now.
    pub(crate) fn settle<P: BusPort>(&self, control: &mut Control, port: &P)
    where
        D: Devices<P>,
    {
        // Later requests are handled later.
        control.changes |= self.shared.called();
        self.end_connection(control);
        let done = self.send_answers(control, port)
            && (!control.changes || {
                control.changes = !self.send_changes(control, port);
                !control.changes
            });
        // While messages wait, the bus has no deadline.
        if self.shared.waiting.swap(!done, Ordering::AcqRel) == done {
            self.shared.moves();
        }
    }

    /// Sends the answer to the message that ended the connection, once nothing is in flight.
    fn end_connection(&self, control: &mut Control) {
        if control.ending.is_none() || !self.shared.is_idle() {
            return;
        }
        let Some(ending) = control.ending.take() else { return };
        self.shared.ending.store(false, Ordering::Release);
        self.gpadls.pool().clear();
        match ending {
            Ending::Contact(answer, next) => {
                control.connection = next.into();
                let chosen = next.is_some_and(|c| c.features.guest_specified_signal());
                self.shared.chosen_connections.store(chosen, Ordering::Release);
                control.outbox.push(Pending::Contact(answer));
            }
            Ending::Unload => {
                control.outbox.push(Pending::UnloadResponse);
            }
        }
    }

    /// Sends the queued answers; returns false if some are left.
    fn send_answers<P: BusPort>(&self, control: &mut Control, port: &P) -> bool
    where
        D: Devices<P>,
    {
        while let Some(answer) = control.outbox.front() {
            let (vp, sint) = match answer {
                Pending::Contact(answer) => (answer.vp, answer.sint),
                _ => (control.vp, SINT),
            };
            if !post(port, vp, sint, answer.kind(), &answer.encode()) {
                return false;
            }
            control.outbox.pop();
            if let Pending::OpenResult(channel, _, NtStatus::SUCCESS) = answer {
                let _ = self.part(channel, port, |part, line| part.live(line));
            }
        }
        true
    }

    /// Handles the channels and page lists; returns false if a message did not fit.
    fn send_changes<P: BusPort>(&self, control: &mut Control, port: &P) -> bool
    where
        D: Devices<P>,
    {
        let Some(connection) = control.connection.get() else { return true };
        let (mut room, mut count) = (true, 0);
        let sender =
            Sender { port, vp: control.vp, version: connection.version, offers: connection.offers_requested };
        self.parts_in_use(port, |part, at| self.leave(part, at, port));
        if !self.send_torndown(control.vp, port) {
            return false;
        }
        self.parts_in_use(port, |part, at| {
            room = room && sender.channels(part, at);
            let reach = part.reach();
            count += part.lines()[..reach].iter().filter(|line| line.is_known()).count();
        });
        if room && control.offers_end {
            let done = Encoded::header(MessageType::ALL_OFFERS_DELIVERED);
            room = post(port, control.vp, SINT, MessageType::ALL_OFFERS_DELIVERED, &done);
            if room {
                control.offers_end = false;
                port.observe(Event::OffersDelivered { count: u32::try_from(count).unwrap_or(u32::MAX) });
            }
        }
        room
    }

    /// Closes rescinded channels, with the sub-channels of a first channel.
    fn leave<P: BusPort>(&self, part: &mut dyn Part, at: Position, port: &P) {
        let first = part.lines().first().is_some_and(|line| line.is_rescinded());
        for line in (0..part.reach()).rev() {
            let this = &mut part.lines()[line];
            let sub = this.offer.subchannel_index > 0;
            if first && sub {
                match this.stage {
                    Stage::Known => this.stage = Stage::Leaving,
                    Stage::Hidden | Stage::Declined => part.release(line),
                    _ => {}
                }
            }
            let this = &part.lines()[line];
            if this.stage == Stage::Leaving && this.open.is_some() {
                self.close(part, line);
                port.observe(Event::Closed { channel: at.id(line) });
            }
        }
    }

    /// Removes the page lists that the guest tears down and nothing uses.
    fn send_torndown<P: BusPort>(&self, vp: u32, port: &P) -> bool {
        let pool = self.gpadls.pool();
        for (at, gpadl) in pool.iter() {
            if !gpadl.is_over() {
                continue;
            }
            if gpadl.fate == Fate::TearDown {
                let message = Pending::GpadlTorndown(gpadl.id);
                if !post(port, vp, SINT, message.kind(), &message.encode()) {
                    return false;
                }
                port.observe(Event::GpadlTorndown { gpadl: gpadl.id });
            }
            pool.remove(at);
        }
        true
    }
}

/// Sender of the notifications of offered and rescinded channels to the guest.
struct Sender<'a, P> {
    port: &'a P,
    vp: u32,
    version: Version,
    /// The guest has requested offers.
    offers: bool,
}

impl<P: BusPort> Sender<'_, P> {
    /// Returns false if a message did not fit.
    fn channels(&self, part: &mut dyn Part, at: Position) -> bool {
        self.demand(part);
        // Sub-channels are rescinded before the channel to which they belong, and offered after it.
        for line in (0..part.reach()).rev() {
            if !self.farewell(part, at, line) {
                return false;
            }
        }
        (0..part.reach()).all(|line| self.announce(part, at, line))
    }

    /// Creates the sub-channels that the device requests, in free places.
    fn demand(&self, part: &mut dyn Part) {
        let wanted = usize::from(part.subchannels());
        if wanted == 0 || !part.lines()[0].is_opened() {
            return;
        }
        let mut offer = part.lines()[0].offer;
        for index in 1..=wanted {
            let Some(line) = part.lines().get(index) else { return };
            if line.stage == Stage::Vacant && line.in_flight == 0 {
                offer.subchannel_index = index as u16;
                part.fill(index, &offer, false);
            }
        }
    }

    fn announce(&self, part: &mut dyn Part, at: Position, line: usize) -> bool {
        let id = at.id(line);
        let this = &mut part.lines()[line];
        if this.stage != Stage::Hidden || !self.offers || this.in_flight > 0 {
            return true;
        }
        let done =
            post(self.port, self.vp, SINT, MessageType::OFFER_CHANNEL, &Encoded::new(&this.message(id)));
        if done {
            this.stage = Stage::Known;
            let ChannelOffer { interface, instance, flags, subchannel_index: index, .. } = this.offer;
            let first = if index > 0 { at.id(0) } else { id };
            self.port.observe(Event::Offered { channel: id, first, index, flags, interface, instance });
        }
        done
    }

    fn farewell(&self, part: &mut dyn Part, at: Position, line: usize) -> bool {
        let this = &mut part.lines()[line];
        let (endpoint, service) = (this.offer.instance, this.offer.interface);
        match this.stage {
            // One that a device rescinded as another was closed is closed first.
            Stage::Leaving if this.in_flight == 0 && this.open.is_none() => {
                let channel = at.id(line);
                let message =
                    RescindOffer { header: MessageHeader::new(MessageType::RESCIND_OFFER), channel };
                let kind = MessageType::RESCIND_OFFER;
                if !post(self.port, self.vp, SINT, kind, &Encoded::new(&message)) {
                    return false;
                }
                this.stage = Stage::Gone;
                self.port.observe(Event::Rescinded { channel });
            }
            Stage::Refused => {
                let kind = MessageType::TL_CONNECT_RESULT;
                let status = NtStatus::CONNECTION_REFUSED;
                let message = TlConnectResult { header: MessageHeader::new(kind), endpoint, service, status };
                let told = self.version < Version::V4_1
                    || post(self.port, self.vp, SINT, kind, &Encoded::new(&message));
                if !told {
                    return false;
                }
                this.vacate();
            }
            _ => {}
        }
        true
    }
}

/// Posts a message; returns false if it does not fit now.
fn post<P: BusPort>(port: &P, vp: u32, sint: u8, kind: MessageType, message: &Encoded) -> bool {
    match port.post(vp, sint, message.bytes()) {
        Posted::Queued => true,
        Posted::Full => false,
        Posted::Undeliverable => {
            port.observe(Event::Undeliverable { message: kind, vp });
            true
        }
    }
}
