//! A connection to the host half of VMBus, made by hand: its messages, without a client in between.

use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::connection::{
    MAX_MESSAGE_SIZE, MESSAGE_CONNECTION_ID, MESSAGE_CONNECTION_ID_4, MESSAGE_SINT,
};
use hv_tlfs::vmbus::{
    ChannelId, FeatureFlags, GpadlBody, GpadlCreated, GpadlHeader, GpadlId, GpadlTeardown, GpadlTorndown,
    Guid, InitiateContact, MessageHeader, MessageType, NtStatus, OfferChannel, TargetInfo, Version,
    VersionResponse, VersionResponseFeatures,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{Cx, Synic};
use crate::outcome::{Outcome, Stop, equal, fail};

/// SINT of the host's messages and of the channels' interrupts.
pub(crate) const SINT: u8 = MESSAGE_SINT as u8;

/// Type of a SynIC message that carries one of VMBus.
const MESSAGE: u32 = 1;

/// Messages of the host after which a missing one is no longer waited for.
const PATIENCE: usize = 300;

/// Versions before 6.0, newest first, as Linux asks for them.
const VERSIONS: [Version; 6] =
    [Version::V5_3, Version::V5_2, Version::V5_1, Version::V5_0, Version::V4_1, Version::V4_0];

/// A message of the host.
pub(crate) struct Said {
    /// Its kind.
    pub(crate) kind: MessageType,
    /// Type of the SynIC message around it.
    pub(crate) message_type: u32,
    /// Its length in bytes.
    pub(crate) len: usize,
    payload: [u8; MAX_MESSAGE_SIZE],
}

impl Said {
    /// Returns the message as a structure; fails if it has another kind, or is shorter.
    #[track_caller]
    pub(crate) fn get<T: FromBytes>(&self, kind: MessageType) -> Result<T, Stop> {
        equal(self.kind.0, kind.0, "the kind of the host's message")?;
        let read = T::read_from_prefix(&self.payload[..self.len]);
        read.map(|(message, _)| message).map_err(|_| fail("the host's message is whole"))
    }
}

/// What a guest asks of INITIATE_CONTACT.
#[derive(Clone, Copy)]
pub(crate) struct Contact {
    /// Connection to which it is posted.
    pub(crate) connection: u32,
    /// The version.
    pub(crate) version: Version,
    /// VP index that gets the host's messages.
    pub(crate) target_vp: u32,
    /// SINT, VTL and features, from version 5.0 on.
    pub(crate) target: TargetInfo,
    /// The monitor pages, or zeros.
    pub(crate) monitor: [u64; 2],
}

/// A connection to the host half of VMBus.
pub(crate) struct Bus<'a, 'e> {
    pub(crate) cx: &'a Cx<'e>,
    pub(crate) synic: Synic,
    /// Connection for the guest's messages.
    pub(crate) connection: u32,
    pub(crate) version: Version,
    /// The host's answer to the contact.
    pub(crate) response: VersionResponse,
    /// The features that it grants; none before version 6.0.
    pub(crate) features: FeatureFlags,
    monitor: [u64; 2],
    connected: bool,
}

impl<'e> Cx<'e> {
    /// Skips without VMBus; sets up the SynIC for it.
    pub(crate) fn vmbus(&self) -> Result<Synic, Stop> {
        skip_if!(
            !self.env.vmbus() && !self.env.fresh(),
            "the connection to VMBus of who used the partition before would break"
        );
        skip_if!(!self.env.vmbus(), "no VMBus");
        skip_if!(!self.facts.features.privileges.post_messages(), "the partition may not post messages");
        self.synic(&[SINT])
    }

    /// Takes the next message of VMBus, and waits for it.
    #[track_caller]
    pub(crate) fn next_said(&self, synic: &Synic) -> Result<Said, Stop> {
        self.soon("the host sends a message", || self.slot_type(synic, SINT) != 0)?;
        let message = self.take(synic, SINT)?;
        let kind = MessageHeader::read_from_prefix(&message.payload);
        Ok(Said {
            kind: kind.map_or(MessageType(0), |(header, _)| header.message_type),
            message_type: message.header.message_type.0,
            len: usize::from(message.header.payload_size).min(MAX_MESSAGE_SIZE),
            payload: message.payload,
        })
    }

    /// Asks for contact.
    #[track_caller]
    pub(crate) fn initiate(&self, contact: &Contact) -> Outcome {
        let message = InitiateContact {
            header: MessageHeader::new(MessageType::INITIATE_CONTACT),
            version: contact.version,
            target_vp: contact.target_vp,
            target_info: contact.target,
            monitor_page_in: contact.monitor[0],
            monitor_page_out: contact.monitor[1],
        };
        self.posted(contact.connection, MESSAGE, message.as_bytes())
    }

    /// Returns a usual contact of this version on the calling VP.
    pub(crate) fn contact(&self, version: Version) -> Result<Contact, Stop> {
        let named = version >= Version::V5_0;
        Ok(Contact {
            connection: if named { MESSAGE_CONNECTION_ID_4 } else { MESSAGE_CONNECTION_ID },
            version,
            target_vp: self.index(self.env.vp()),
            target: if named { TargetInfo(0).with_sint(SINT) } else { TargetInfo(0) },
            monitor: [self.page()?, self.page()?],
        })
    }

    /// Runs something on a connection of the newest version below 6.0, and ends the connection.
    pub(crate) fn connected(&self, work: impl FnOnce(&mut Bus<'_, 'e>) -> Outcome) -> Outcome {
        let synic = self.vmbus()?;
        let contact = self.contact(Version::V5_3)?;
        for version in VERSIONS {
            if let Some(bus) = Bus::connect(self, synic, &Contact { version, ..contact })? {
                return bus.run(work);
            }
        }
        Err(fail("the host speaks a version between 4.0 and 5.3"))
    }

    /// Runs something on a connection of this version, and ends the connection. Skips if the host does not speak it.
    pub(crate) fn connected_by(
        &self,
        version: Version,
        work: impl FnOnce(&mut Bus<'_, 'e>) -> Outcome,
    ) -> Outcome {
        let synic = self.vmbus()?;
        match Bus::connect(self, synic, &self.contact(version)?)? {
            Some(bus) => bus.run(work),
            None => Err(Stop::Skip("the host does not speak this version of VMBus")),
        }
    }
}

impl<'a, 'e> Bus<'a, 'e> {
    /// Makes contact; returns `None` if the host does not speak the version.
    #[track_caller]
    pub(crate) fn connect(cx: &'a Cx<'e>, synic: Synic, contact: &Contact) -> Result<Option<Self>, Stop> {
        let named = contact.version >= Version::V5_0;
        let connection = if named { MESSAGE_CONNECTION_ID_4 } else { MESSAGE_CONNECTION_ID };
        let target = if named { TargetInfo(contact.target.0).with_sint(SINT) } else { TargetInfo(0) };
        cx.initiate(&Contact { connection, target, ..*contact })?;
        let said = cx.next_said(&synic)?;
        let response: VersionResponse = said.get(MessageType::VERSION_RESPONSE)?;
        let features = said.get(MessageType::VERSION_RESPONSE);
        let features = features.map_or(FeatureFlags(0), |long: VersionResponseFeatures| long.features);
        if response.supported == 0 {
            return Ok(None);
        }
        let connection = if named { response.message_connection } else { connection };
        let (version, monitor) = (contact.version, contact.monitor);
        Ok(Some(Self { cx, synic, connection, version, response, features, monitor, connected: true }))
    }

    /// Runs something on the connection, and ends it whatever the outcome.
    pub(crate) fn run(mut self, work: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let outcome = work(&mut self);
        let ended = if self.connected { self.unload() } else { Ok(()) };
        outcome.and(ended)
    }

    /// Makes contact again, without having ended the connection.
    #[track_caller]
    pub(crate) fn reconnect(&mut self) -> Outcome {
        let contact = Contact {
            connection: 0,
            version: self.version,
            target_vp: self.cx.index(self.synic.vp),
            target: TargetInfo(0),
            monitor: self.monitor,
        };
        let bus = Self::connect(self.cx, self.synic, &contact)?;
        *self = bus.ok_or_else(|| fail("the host speaks the version again"))?;
        Ok(())
    }

    /// Posts a message.
    #[track_caller]
    pub(crate) fn say<T: IntoBytes + Immutable + ?Sized>(&self, message: &T) -> Outcome {
        self.cx.posted(self.connection, MESSAGE, message.as_bytes())
    }

    /// Posts a message that consists of its header.
    #[track_caller]
    pub(crate) fn say_plain(&self, kind: MessageType) -> Outcome {
        self.say(&MessageHeader::new(kind))
    }

    /// Takes the next message.
    #[track_caller]
    pub(crate) fn next(&self) -> Result<Said, Stop> {
        self.cx.next_said(&self.synic)
    }

    /// Takes the next message, which must be of this kind.
    #[track_caller]
    pub(crate) fn expect<T: FromBytes>(&self, kind: MessageType) -> Result<T, Stop> {
        self.next()?.get(kind)
    }

    /// Ends the connection; what is on its way is dropped.
    #[track_caller]
    pub(crate) fn unload(&mut self) -> Outcome {
        self.connected = false;
        self.say_plain(MessageType::UNLOAD)?;
        for _ in 0..PATIENCE {
            if self.next()?.kind == MessageType::UNLOAD_RESPONSE {
                return Ok(());
            }
        }
        Err(fail("an UNLOAD_RESPONSE comes"))
    }

    /// Ends the connection, and checks that the host says nothing before it confirms that: messages come in order.
    #[track_caller]
    pub(crate) fn unload_in_silence(&mut self) -> Outcome {
        self.connected = false;
        self.say_plain(MessageType::UNLOAD)?;
        let first = self.next()?.kind;
        if first != MessageType::UNLOAD_RESPONSE {
            // What follows is dropped, so that the next case finds no connection.
            for _ in 0..PATIENCE {
                if self.next()?.kind == MessageType::UNLOAD_RESPONSE {
                    break;
                }
            }
        }
        equal(
            first.0,
            MessageType::UNLOAD_RESPONSE.0,
            "the host says nothing else before its UNLOAD_RESPONSE",
        )
    }

    /// Checks that no message comes for a while.
    #[track_caller]
    pub(crate) fn silence(&self) -> Outcome {
        self.cx.pause(ReferenceTime(2_000));
        equal(self.cx.slot_type(&self.synic, SINT), 0, "the host says nothing")
    }

    /// Requests the offers, and calls a function with each of them. Returns their number.
    #[track_caller]
    pub(crate) fn offers(&self, mut each: impl FnMut(&OfferChannel) -> Outcome) -> Result<usize, Stop> {
        self.say_plain(MessageType::REQUEST_OFFERS)?;
        // All are taken even if one of them is wrong.
        let mut outcome = Ok(());
        for count in 0..PATIENCE {
            let said = self.next()?;
            if said.kind != MessageType::OFFER_CHANNEL {
                said.get::<MessageHeader>(MessageType::ALL_OFFERS_DELIVERED)?;
                return outcome.map(|()| count);
            }
            let offer = said.get(MessageType::OFFER_CHANNEL)?;
            outcome = outcome.and_then(|()| each(&offer));
        }
        Err(fail("the offers end"))
    }

    /// Requests the offers, and returns the first one that meets a condition.
    #[track_caller]
    fn first(&self, condition: impl Fn(&OfferChannel) -> bool) -> Result<Option<OfferChannel>, Stop> {
        let mut found = None;
        self.offers(|offer| {
            if found.is_none() && condition(offer) {
                found = Some(*offer);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// Requests the offers, and returns that of the first device of a kind. Skips without one.
    #[track_caller]
    pub(crate) fn find(&self, interface: Guid, absent: &'static str) -> Result<OfferChannel, Stop> {
        self.first(|offer| offer.offer.interface == interface)?.ok_or(Stop::Skip(absent))
    }

    /// Requests the offers, and returns the first one. Skips without one.
    #[track_caller]
    pub(crate) fn any(&self) -> Result<OfferChannel, Stop> {
        self.first(|_| true)?.ok_or(Stop::Skip("the host offers no device"))
    }

    /// Requests the offers, and returns the first two. Skips with fewer.
    #[track_caller]
    pub(crate) fn two(&self) -> Result<[OfferChannel; 2], Stop> {
        let mut found = [None; 2];
        self.offers(|offer| {
            if let Some(place) = found.iter_mut().find(|place| place.is_none()) {
                *place = Some(*offer);
            }
            Ok(())
        })?;
        match found {
            [Some(one), Some(other)] => Ok([one, other]),
            _ => Err(Stop::Skip("the host offers fewer than two devices")),
        }
    }

    /// Posts GPADL_HEADER with as many of these words as fit. Returns the rest.
    #[track_caller]
    pub(crate) fn gpadl_header<'w>(
        &self,
        channel: ChannelId,
        gpadl: GpadlId,
        [bytes, ranges]: [u16; 2],
        words: &'w [u64],
    ) -> Result<&'w [u64], Stop> {
        let header = GpadlHeader {
            header: MessageHeader::new(MessageType::GPADL_HEADER),
            channel,
            gpadl,
            range_buffer_len: bytes,
            range_count: ranges,
        };
        self.say_words(header.as_bytes(), words)
    }

    /// Posts GPADL_BODY with as many of these words as fit. Returns the rest.
    #[track_caller]
    pub(crate) fn gpadl_body<'w>(&self, gpadl: GpadlId, words: &'w [u64]) -> Result<&'w [u64], Stop> {
        let header =
            GpadlBody { header: MessageHeader::new(MessageType::GPADL_BODY), message_number: 0, gpadl };
        self.say_words(header.as_bytes(), words)
    }

    #[track_caller]
    fn say_words<'w>(&self, header: &[u8], words: &'w [u64]) -> Result<&'w [u64], Stop> {
        let mut message = [0; MAX_MESSAGE_SIZE];
        let (front, data) = message.split_at_mut(header.len());
        front.copy_from_slice(header);
        let (now, rest) = words.split_at(words.len().min(data.len() / 8));
        data[..size_of_val(now)].copy_from_slice(now.as_bytes());
        self.say(&message[..header.len() + size_of_val(now)])?;
        Ok(rest)
    }

    /// Describes memory by one range, in as many messages as it takes, and returns the status of the answer.
    #[track_caller]
    pub(crate) fn create(
        &self,
        channel: ChannelId,
        gpadl: GpadlId,
        ranges: u16,
        words: &[u64],
    ) -> Result<NtStatus, Stop> {
        let mut rest = self.gpadl_header(channel, gpadl, [size_of_val(words) as u16, ranges], words)?;
        while !rest.is_empty() {
            rest = self.gpadl_body(gpadl, rest)?;
        }
        self.created(channel, gpadl)
    }

    /// Takes the answer to a GPADL, and returns its status.
    #[track_caller]
    pub(crate) fn created(&self, channel: ChannelId, gpadl: GpadlId) -> Result<NtStatus, Stop> {
        let answer: GpadlCreated = self.expect(MessageType::GPADL_CREATED)?;
        equal(answer.gpadl.0, gpadl.0, "the GPADL that the answer names")?;
        equal(answer.channel.0, channel.0, "the channel that the answer names")?;
        Ok(answer.status)
    }

    /// Takes a GPADL back, and waits until the host has confirmed it.
    #[track_caller]
    pub(crate) fn teardown(&self, channel: ChannelId, gpadl: GpadlId) -> Outcome {
        self.say(&GpadlTeardown { header: MessageHeader::new(MessageType::GPADL_TEARDOWN), channel, gpadl })?;
        let answer: GpadlTorndown = self.expect(MessageType::GPADL_TORNDOWN)?;
        equal(answer.gpadl.0, gpadl.0, "the GPADL that is torn down")
    }
}
