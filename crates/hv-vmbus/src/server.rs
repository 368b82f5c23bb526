//! The host's end of a partition's VMBus.

use crate::channel::{Channel, State};
use crate::config::{Config, Offer};
use crate::event::{Event, Reason};
use crate::gpadl::Gpadls;
use crate::image;
use crate::outbox::{Encoded, Outbox, Owed};
use crate::port::{Port, Posted};
use crate::protocol::connection::MESSAGE_SINT;
use crate::protocol::{ChannelId, FeatureFlags, MessageHeader, MessageType, Version};
use core::fmt;
use zerocopy::FromBytes;

/// The SINT of messages and interrupts.
pub(crate) const SINT: u8 = MESSAGE_SINT as u8;

/// Why a message or signal was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No port of VMBus is behind that connection: `HV_STATUS_INVALID_CONNECTION_ID`.
    NoConnection,
    /// The server owes the guest too many messages that it does not take:
    /// `HV_STATUS_INSUFFICIENT_BUFFERS`. Guests try again later.
    Busy,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoConnection => "no such connection",
            Self::Busy => "too many messages wait for the guest",
        })
    }
}

impl core::error::Error for Refused {}

/// A standing connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) version: Version,
    pub(crate) features: FeatureFlags,
    pub(crate) offers_requested: bool,
}

/// The host's end of one partition's VMBus.
///
/// `CHANNELS` bounds the offers (at most 2047), `GPADLS` the page lists that the guest can have named at a time, and
/// `WORDS` the sum of their sizes: a word per page and one per range. A guest that wants more gets a failure.
#[derive(Clone, Debug)]
pub struct Server<const CHANNELS: usize = 8, const GPADLS: usize = 16, const WORDS: usize = 1024> {
    pub(crate) config: Config,
    pub(crate) connection: Option<Connection>,
    /// VP to which messages go.
    pub(crate) vp: u32,
    pub(crate) channels: [Option<Channel>; CHANNELS],
    pub(crate) gpadls: Gpadls<GPADLS, WORDS>,
    pub(crate) outbox: Outbox,
    /// Next channel of the offers being sent.
    pub(crate) cursor: usize,
    pub(crate) rejected: u64,
}

impl<const CHANNELS: usize, const GPADLS: usize, const WORDS: usize> Server<CHANNELS, GPADLS, WORDS> {
    /// A server that offers the channels of its configuration.
    ///
    /// # Panics
    /// If there are more of them than `CHANNELS`, or `CHANNELS` is more than 2047.
    #[must_use]
    pub const fn new(config: Config) -> Self {
        assert!(CHANNELS < 2048, "a channel's number is an event flag");
        assert!(config.offers.len() <= CHANNELS, "the server has not room for so many channels");
        let mut channels = [const { None }; CHANNELS];
        let mut index = 0;
        while index < config.offers.len() {
            channels[index] = Some(Channel::new(ChannelId(index as u32 + 1), config.offers[index]));
            index += 1;
        }
        Self {
            config,
            connection: None,
            vp: 0,
            channels,
            gpadls: Gpadls::new(),
            outbox: Outbox::new(),
            cursor: 0,
            rejected: 0,
        }
    }

    /// The state after [`new`](Self::new) and the same offers: for a reset of the partition.
    pub fn reset(&mut self) {
        self.disconnect();
        self.vp = 0;
        self.rejected = 0;
    }

    /// The version agreed on, while a connection stands.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        self.connection.map(|c| c.version)
    }

    /// How many messages of the guest were wrong.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.rejected
    }

    /// Adds a channel. A guest that has asked for offers hears of it at the next [`flush`](Self::flush). Returns the
    /// channel's number, or `None` if all are taken.
    pub fn offer(&mut self, offer: Offer) -> Option<ChannelId> {
        let announce = self.connection.is_some_and(|c| c.offers_requested);
        if announce && self.outbox.room() == 0 {
            return None;
        }
        let index = self.channels.iter().position(Option::is_none)?;
        let id = ChannelId(u32::try_from(index).ok()? + 1);
        self.channels[index] = Some(Channel::new(id, offer));
        if announce {
            self.outbox.push(Owed::Offer(id));
        }
        Some(id)
    }

    /// Takes a channel away; it is closed at once. A guest that knows of it hears of that at the next
    /// [`flush`](Self::flush), and the number is free when the guest has released it. Returns false if there is no such
    /// channel, or if the server cannot tell the guest now.
    pub fn rescind(&mut self, id: ChannelId) -> bool {
        let room = self.outbox.room();
        let Some(slot) = Self::index(id).and_then(|i| self.channels.get_mut(i)) else { return false };
        match slot {
            None => false,
            Some(channel) if channel.is_rescinded() => false,
            Some(channel) if channel.offered => {
                if room < 2 {
                    return false;
                }
                channel.state = State::Rescinded;
                self.release_rings(id);
                self.outbox.push(Owed::Rescind(id))
            }
            Some(_) => {
                *slot = None;
                true
            }
        }
    }

    /// Takes a message that the guest has posted to `connection`. The answers go to `port` before this returns.
    ///
    /// # Errors
    /// The status with which the hypercall fails; nothing has changed. A message that is wrong in itself is no error
    /// here, as Hyper-V takes it too: it is counted, observed, and answered where the protocol has an answer.
    pub fn message<P: Port>(&mut self, connection: u32, payload: &[u8], port: &mut P) -> Result<(), Refused> {
        if !self.config.has_connection(connection) {
            return Err(Refused::NoConnection);
        }
        self.send_owed(port);
        let kind =
            MessageHeader::read_from_prefix(payload).map_or(MessageType::INVALID, |(h, _)| h.message_type);
        let ends = matches!(kind, MessageType::INITIATE_CONTACT | MessageType::UNLOAD);
        // A message has one answer at most, but a close may end a teardown that waited for it.
        if !ends && self.outbox.room() < 2 {
            return Err(Refused::Busy);
        }
        if let Err(reason) = self.dispatch(connection, kind, payload, port) {
            self.rejected += 1;
            port.observe(Event::Rejected { message: kind, reason });
        }
        self.flush(port);
        Ok(())
    }

    fn dispatch<P: Port>(
        &mut self,
        connection: u32,
        kind: MessageType,
        payload: &[u8],
        port: &mut P,
    ) -> Result<(), Reason> {
        if payload.len() < size_of::<MessageHeader>() {
            return Err(Reason::TooShort);
        }
        match kind {
            MessageType::INITIATE_CONTACT => return self.contact(connection, payload, port),
            MessageType::UNLOAD => {
                self.unload(port);
                return Ok(());
            }
            _ => {}
        }
        let Some(Connection { version, features, .. }) = self.connection else {
            return Err(Reason::NotConnected);
        };
        match kind {
            MessageType::REQUEST_OFFERS => self.request_offers(),
            MessageType::GPADL_HEADER => self.gpadl_header(payload, port),
            MessageType::GPADL_BODY => self.gpadl_body(payload, port),
            MessageType::GPADL_TEARDOWN => self.gpadl_teardown(payload, port),
            MessageType::OPEN_CHANNEL => self.open_channel(payload, features, port),
            MessageType::CLOSE_CHANNEL => self.close_channel(payload, port),
            MessageType::MODIFY_CHANNEL if version >= Version::V4_1 => {
                self.modify_channel(payload, version, port)
            }
            MessageType::RELID_RELEASED => self.relid_released(payload, port),
            MessageType::TL_CONNECT_REQUEST => self.connect_request(payload, version),
            MessageType::OPEN_RESERVED_CHANNEL | MessageType::CLOSE_RESERVED_CHANNEL => {
                Err(Reason::Unsupported)
            }
            _ => Err(Reason::Unknown),
        }
    }

    /// Sends what the server owes the guest, as far as the port takes it, and then lets the devices run whose time has
    /// come. Call it when a message slot of VMBus was freed, at the [`deadline`](Self::deadline), and after
    /// [`offer`](Self::offer) and [`rescind`](Self::rescind).
    pub fn flush<P: Port>(&mut self, port: &mut P) {
        self.send_owed(port);
        self.run_due(port);
    }

    fn send_owed<P: Port>(&mut self, port: &mut P) {
        while let Some(owed) = self.outbox.front() {
            let done = match owed {
                Owed::Offers => self.send_offers(port),
                Owed::Offer(id) => self.send_offer(id, port),
                Owed::Contact(answer) => self.send(owed, answer.vp, answer.sint, port),
                Owed::Rescind(channel) => {
                    let done = self.send(owed, self.vp, SINT, port);
                    if done {
                        port.observe(Event::Rescinded { channel });
                    }
                    done
                }
                _ => self.send(owed, self.vp, SINT, port),
            };
            if !done {
                break;
            }
            self.outbox.pop();
        }
    }

    /// True while messages wait for [`flush`](Self::flush).
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.outbox.is_empty()
    }

    fn send<P: Port>(&self, owed: Owed, vp: u32, sint: u8, port: &mut P) -> bool {
        match owed.encode() {
            Some(message) => post(port, vp, sint, owed.kind(), &message),
            None => true,
        }
    }

    fn send_offer<P: Port>(&mut self, id: ChannelId, port: &mut P) -> bool {
        let vp = self.vp;
        let Some(channel) = self.channel_slot(id) else { return true };
        if channel.offered || channel.is_rescinded() {
            return true;
        }
        let done = post(port, vp, SINT, MessageType::OFFER_CHANNEL, &Encoded::new(&channel.message()));
        channel.offered = done;
        done
    }

    fn send_offers<P: Port>(&mut self, port: &mut P) -> bool {
        while let Some(slot) = self.channels.get(self.cursor) {
            if let Some(id) = slot.as_ref().map(|c| c.id) {
                if !self.send_offer(id, port) {
                    return false;
                }
            }
            self.cursor += 1;
        }
        let done = Encoded::header(MessageType::ALL_OFFERS_DELIVERED);
        if !post(port, self.vp, SINT, MessageType::ALL_OFFERS_DELIVERED, &done) {
            return false;
        }
        let count = self.channels.iter().flatten().filter(|c| c.offered).count();
        port.observe(Event::OffersDelivered { count: u32::try_from(count).unwrap_or(u32::MAX) });
        true
    }

    fn request_offers(&mut self) -> Result<(), Reason> {
        let again =
            self.connection.as_mut().is_some_and(|c| core::mem::replace(&mut c.offers_requested, true));
        if again {
            // No offer is sent twice, since Linux warns of that; but a guest that waits for the end of them gets it.
            self.cursor = CHANNELS;
            self.outbox.push(Owed::Offers);
            return Err(Reason::OffersAlreadySent);
        }
        self.cursor = 0;
        self.outbox.push(Owed::Offers);
        Ok(())
    }

    /// Ends the connection: closes all channels and forgets all GPADLs and all that the guest was owed.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
        self.outbox.clear();
        self.gpadls.clear();
        self.cursor = 0;
        for slot in &mut self.channels {
            let Some(channel) = slot else { continue };
            if channel.is_rescinded() {
                *slot = None;
            } else {
                channel.offered = false;
                channel.state = State::Closed;
            }
        }
    }

    pub(crate) fn index(id: ChannelId) -> Option<usize> {
        usize::try_from(id.0.checked_sub(1)?).ok()
    }

    pub(crate) fn channel_slot(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(Self::index(id)?)?.as_mut()
    }

    /// The channel, if the guest knows of it.
    pub(crate) fn channel(&mut self, id: ChannelId) -> Result<&mut Channel, Reason> {
        self.channel_slot(id).filter(|c| c.offered).ok_or(Reason::UnknownChannel)
    }

    pub(crate) fn free_channel(&mut self, id: ChannelId) {
        if let Some(slot) = Self::index(id).and_then(|i| self.channels.get_mut(i)) {
            *slot = None;
        }
    }
}

fn post<P: Port>(port: &mut P, vp: u32, sint: u8, kind: MessageType, message: &Encoded) -> bool {
    match port.post(vp, sint, message.bytes()) {
        Posted::Queued => true,
        Posted::Full => false,
        Posted::Undeliverable => {
            port.observe(Event::Undeliverable { message: kind, vp });
            true
        }
    }
}

/// Reads a message of fixed length; guests may post more bytes than it has.
pub(crate) fn parse<T: FromBytes>(payload: &[u8]) -> Result<T, Reason> {
    T::read_from_prefix(payload).map(|(message, _)| message).map_err(|_| Reason::TooShort)
}

image::fields!(Connection { version, features, offers_requested });
