//! The connection: contact, offers, the host's messages, and the end.

use core::fmt;
use core::task::Poll;

use hv_guest::conduit::Conduit;
use hv_guest::connection::{PostError, post_message};
use hv_guest::message::Message;
use hv_guest::page::{CallPage, Page};
use hv_guest::vmbus::MESSAGE_TYPE;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::ConnectionId;
use hv_tlfs::vmbus::connection::MAX_CHANNELS;
use hv_tlfs::vmbus::{
    ChannelId, ConnectionState, FeatureFlags, GpadlCreated, GpadlId, GpadlTorndown, Guid, MessageHeader,
    MessageType, ModifyChannelResponse, NtStatus, OfferChannel, OpenResult, RelIdReleased, RescindOffer,
    TlConnectRequest, TlConnectResult, Version, VersionResponse, VersionResponseFeatures,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::Error;
use crate::contact::{self, Contact, connection};
use crate::slots::{ChannelSlot, GpadlSlot, Lent, Offer};
use crate::wait::Wake;

/// What a message of the host changed: who waits for that looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// An answer to the contact: [`Client::poll_contact`].
    Contact,
    /// A channel is offered.
    Offered(ChannelId),
    /// All offers that existed were delivered: [`Client::has_all_offers`].
    AllOffers,
    /// A channel is gone: close it, then [`Client::release`] it.
    Rescinded(ChannelId),
    /// An answer about a GPADL: [`GpadlRequest::poll`](crate::GpadlRequest::poll),
    /// [`Teardown::poll`](crate::Teardown::poll).
    Gpadl(GpadlId),
    /// An answer to an open request: [`Opening::poll`](crate::Opening::poll).
    Opened(ChannelId),
    /// An answer to a modify request: [`Channel::poll_target`](crate::Channel::poll_target).
    Modified(ChannelId),
    /// The connection has ended: [`Client::poll_unload`].
    Unloaded,
    /// The host refused a socket; a channel is offered where it does not.
    SocketRefused {
        /// The guest's end.
        endpoint: Guid,
        /// The service.
        service: Guid,
        /// Why.
        status: NtStatus,
    },
    /// An offer was declined, since all slots are taken, or its channel is known already.
    Declined(ChannelId),
    /// The message changed nothing: it is malformed, of an unknown type, or an answer to nothing.
    Ignored(MessageType),
}

/// Progress of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No contact, or the connection has ended.
    Idle,
    /// The host has to answer, or the message has to be posted.
    Contacting { version: Version, posted: bool },
    /// It stands.
    Connected,
    /// The host has to answer UNLOAD.
    Unloading,
    /// The host refused.
    Failed(Error),
}

/// A guest's end of VMBus.
///
/// It takes the host's messages ([`take`](Self::take)) and posts the guest's; it waits for nothing. All that is to be
/// waited for has a function that returns [`Poll`]. The OS calls it with a lock of its own held, if more than one
/// context uses it. An open channel does not need it until it is closed.
pub struct Client<'t, C, W = ()> {
    conduit: C,
    page: CallPage<'t>,
    slots: Lent<'t>,
    wake: W,
    state: State,
    contact: Option<Contact>,
    version: Version,
    features: FeatureFlags,
    /// Features that the contact in flight asks for.
    asked: FeatureFlags,
    connection: u32,
    all_offers: bool,
    next_gpadl: u32,
}

impl<C, W> fmt::Debug for Client<'_, C, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("state", &self.state)
            .field("version", &self.version)
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

/// Returns true if the host does not have the connection that a message was posted to.
fn is_no_connection(error: Error) -> bool {
    matches!(error, Error::Post(PostError::Hypervisor(e)) if e.status() == HvStatus::INVALID_CONNECTION_ID)
}

/// Reads the front of a message.
fn parse<T: FromBytes>(message: &[u8]) -> Option<T> {
    T::read_from_prefix(message).ok().map(|(value, _)| value)
}

impl<'t, C: Conduit> Client<'t, C> {
    /// Makes a client for an OS that polls.
    ///
    /// # Safety
    ///
    /// As [`with_waker`](Self::with_waker).
    pub const unsafe fn new(conduit: C, page: CallPage<'t>, slots: Lent<'t>) -> Self {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { Self::with_waker(conduit, page, slots, ()) }
    }
}

impl<'t, C, W> Client<'t, C, W> {
    /// Makes a client.
    ///
    /// # Safety
    ///
    /// The client gives memory back when a message says that the host's access has ended. So all that
    /// [`take`](Self::take) is given must be messages of the host that `conduit` leads to, as they arrived, in their
    /// order; and the memory of every [`Dma`](crate::Dma) that is used with the client must be memory of that
    /// partition. No other client of the partition makes contact while memory is shared through this one.
    pub const unsafe fn with_waker(conduit: C, page: CallPage<'t>, slots: Lent<'t>, wake: W) -> Self {
        Self {
            conduit,
            page,
            slots,
            wake,
            state: State::Idle,
            contact: None,
            version: Version(0),
            features: FeatureFlags(0),
            asked: FeatureFlags(0),
            connection: 0,
            all_offers: false,
            next_gpadl: 0xe1e10,
        }
    }

    /// Returns the version agreed on, while a connection stands.
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        (self.state == State::Connected).then_some(self.version)
    }

    /// Returns the features of version 6.0 agreed on.
    #[must_use]
    pub fn features(&self) -> FeatureFlags {
        self.features
    }

    /// Returns true if the host has delivered all offers that existed when they were requested. Later ones may come at
    /// any time.
    #[must_use]
    pub fn has_all_offers(&self) -> bool {
        self.all_offers
    }

    /// Iterates over the channels that are offered and not rescinded.
    pub fn offers(&self) -> impl Iterator<Item = Offer> + use<'t, C, W> {
        let channels: &'t [ChannelSlot] = self.slots.channels;
        channels.iter().filter(|slot| slot.is_live()).map(ChannelSlot::offered)
    }

    /// Returns the first channel of a device of this kind, the one with the lowest number.
    #[must_use]
    pub fn find(&self, interface: Guid) -> Option<Offer> {
        let of_kind = |offer: Offer| offer.offer.interface == interface && !offer.is_subchannel();
        let slots = self.slots.channels.iter().filter(|slot| slot.is_live() && of_kind(slot.offered()));
        slots.min_by_key(|slot| slot.id().0).map(ChannelSlot::offered)
    }

    #[inline(never)]
    pub(crate) fn slot(&self, channel: ChannelId) -> Option<&'t ChannelSlot> {
        self.slots.channels.iter().find(|slot| slot.is_known() && slot.id() == channel)
    }

    pub(crate) fn interrupt_page(&self) -> Option<&'static Page> {
        // From version 5.0 on the contact has no room for its address.
        let page = self.contact.and_then(|contact| contact.interrupt_page);
        page.filter(|_| self.version < Version::V5_0).map(|(page, _)| page)
    }

    /// Takes a free slot and an unused name for a GPADL.
    pub(crate) fn claim_gpadl(&mut self) -> Option<&'t GpadlSlot> {
        loop {
            // 0 means no GPADL to Linux; a name that is still in use after a wrap is passed over.
            self.next_gpadl = self.next_gpadl.wrapping_add(1).max(1);
            if self.gpadl(GpadlId(self.next_gpadl)).is_none() {
                break;
            }
        }
        self.slots.gpadls.iter().find(|slot| slot.claim(self.next_gpadl))
    }

    fn gpadl(&self, id: GpadlId) -> Option<&'t GpadlSlot> {
        self.slots.gpadls.iter().find(|slot| id.0 != 0 && slot.id() == id)
    }

    /// Ends the connection, after the host has closed it and no longer accesses guest memory.
    fn end(&mut self) {
        self.all_offers = false;
        for slot in self.slots.channels {
            slot.end();
        }
        for slot in self.slots.gpadls {
            slot.end();
        }
    }
}

impl<'t, C: Conduit, W: Wake> Client<'t, C, W> {
    pub(crate) fn conduit(&self) -> &C {
        &self.conduit
    }

    /// Posts a message of the connection that stands.
    pub(crate) fn post(&mut self, message: &[u8]) -> Result<(), Error> {
        if self.state != State::Connected {
            return Err(Error::NotConnected);
        }
        self.post_to(self.connection, message)
    }

    fn post_to(&mut self, connection: u32, message: &[u8]) -> Result<(), Error> {
        Ok(post_message(&self.conduit, &mut self.page, ConnectionId(connection), MESSAGE_TYPE, message)?)
    }

    /// Begins contact. A connection that stands, of this client or of a kernel that ran before, ends with it.
    ///
    /// A kernel that starts after a crash may [`unload`](Self::unload) first, as Linux does; the host takes the contact
    /// alone for the same.
    ///
    /// # Errors
    ///
    /// [`Error::Post`]; if it [may be retried](Error::may_retry), [`poll_contact`](Self::poll_contact) does that.
    /// [`Error::InUse`] while the host has to answer a contact or an unload: [`unload`](Self::unload) gives a contact
    /// up. [`Error::NoVersion`] if the contact allows none.
    pub fn contact(&mut self, contact: Contact) -> Result<(), Error> {
        if matches!(self.state, State::Contacting { posted: true, .. } | State::Unloading) {
            return Err(Error::InUse);
        }
        let version = contact.next(None).ok_or(Error::NoVersion)?;
        self.contact = Some(contact);
        self.state = State::Contacting { version, posted: false };
        self.drive()
    }

    /// Posts the pending INITIATE_CONTACT. A connection that the host does not have is that of versions it does not
    /// speak.
    fn drive(&mut self) -> Result<(), Error> {
        while let (State::Contacting { version, posted: false }, Some(contact)) = (self.state, self.contact) {
            let (message, len, asked) = contact.message(version);
            self.asked = asked;
            let message = message.as_bytes();
            match self.post_to(connection(version), message.get(..len).unwrap_or(message)) {
                Ok(()) => self.state = State::Contacting { version, posted: true },
                Err(error) if is_no_connection(error) => self.try_older(version),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn try_older(&mut self, version: Version) {
        let next = self.contact.and_then(|contact| contact.next(Some(version)));
        self.state = match next {
            Some(version) => State::Contacting { version, posted: false },
            None => State::Failed(Error::NoVersion),
        };
    }

    /// Returns the version once the host has agreed to one.
    pub fn poll_contact(&mut self) -> Poll<Result<Version, Error>> {
        match self.drive() {
            Err(error) if !error.may_retry() => return Poll::Ready(Err(error)),
            _ => {}
        }
        match self.state {
            State::Contacting { .. } => Poll::Pending,
            State::Connected => Poll::Ready(Ok(self.version)),
            State::Failed(error) => Poll::Ready(Err(error)),
            State::Idle | State::Unloading => Poll::Ready(Err(Error::NotConnected)),
        }
    }

    /// Requests all offers. Later ones come without a request.
    ///
    /// # Errors
    ///
    /// [`Error::NotConnected`], [`Error::Post`].
    pub fn request_offers(&mut self) -> Result<(), Error> {
        self.post(MessageHeader::new(MessageType::REQUEST_OFFERS).as_bytes())
    }

    /// Ends the connection, whatever its state: before a kexec, or after a crash on behalf of the kernel that crashed.
    ///
    /// # Errors
    ///
    /// [`Error::Post`].
    pub fn unload(&mut self) -> Result<(), Error> {
        let message = MessageHeader::new(MessageType::UNLOAD);
        let mut connection = match self.state {
            State::Connected | State::Unloading => self.connection,
            // A kernel that starts after a crash does not know the version.
            _ => connection(Version::V5_0),
        };
        match self.post_to(connection, message.as_bytes()) {
            Err(error) if is_no_connection(error) && self.state != State::Connected => {
                connection = contact::connection(Version::V3_0);
                self.post_to(connection, message.as_bytes())?;
            }
            posted => posted?,
        }
        self.connection = connection;
        self.state = State::Unloading;
        Ok(())
    }

    /// Returns once the host has ended the connection. All memory that was shared with it can be taken back then.
    pub fn poll_unload(&self) -> Poll<()> {
        if self.state == State::Unloading { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Tells the host that a channel will not be used again: after it was rescinded, when it is closed and its GPADLs
    /// are torn down; or in place of ever using it.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`], [`Error::UnknownChannel`], [`Error::Post`].
    pub fn release(&mut self, channel: ChannelId) -> Result<(), Error> {
        let slot = self.slot(channel).ok_or(Error::UnknownChannel(channel))?;
        if slot.is_claimed() || slot.is_held() {
            return Err(Error::InUse);
        }
        self.post_release(channel)?;
        slot.free();
        Ok(())
    }

    fn post_release(&mut self, channel: ChannelId) -> Result<(), Error> {
        let header = MessageHeader::new(MessageType::RELID_RELEASED);
        self.post(RelIdReleased { header, channel }.as_bytes())
    }

    /// Requests a socket to a service of the host. Success is an offer with the socket flag and these ids as instance;
    /// else there is a [`Notice::SocketRefused`] from version 4.1 on.
    ///
    /// # Errors
    ///
    /// [`Error::NotConnected`], [`Error::Post`], [`Error::Version`] before 4.0.
    pub fn connect_socket(&mut self, endpoint: Guid, service: Guid) -> Result<(), Error> {
        if self.version < Version::V4_0 {
            return Err(Error::Version);
        }
        let header = MessageHeader::new(MessageType::TL_CONNECT_REQUEST);
        self.post(TlConnectRequest { header, endpoint, service }.as_bytes())
    }

    /// Takes a message of a SINT, and returns what it changed. Messages of other types than VMBus's change nothing.
    pub fn take_message(&mut self, message: &Message) -> Notice {
        if message.message_type() == MESSAGE_TYPE {
            self.take(message.payload())
        } else {
            Notice::Ignored(MessageType::INVALID)
        }
    }

    /// Takes the payload of a message of the host, and returns what it changed. It may post: copy the message and end
    /// it first, or the host's next one waits longer.
    // Each loop that waits would have all of it.
    #[inline(never)]
    pub fn take(&mut self, message: &[u8]) -> Notice {
        let notice = match parse::<MessageHeader>(message) {
            None => Notice::Ignored(MessageType::INVALID),
            Some(header) => {
                self.judge(header.message_type, message).unwrap_or(Notice::Ignored(header.message_type))
            }
        };
        self.wake.wake(&notice);
        notice
    }

    /// Judges a message. `None`: it changes nothing.
    fn judge(&mut self, kind: MessageType, message: &[u8]) -> Option<Notice> {
        match (self.state, kind) {
            (State::Contacting { version, posted: true }, MessageType::VERSION_RESPONSE) => {
                self.version_response(version, message)
            }
            (State::Unloading, MessageType::UNLOAD_RESPONSE) => {
                self.state = State::Idle;
                self.end();
                Some(Notice::Unloaded)
            }
            (State::Connected, _) => self.connected(kind, message),
            // What a connection that has ended had left.
            _ => None,
        }
    }

    fn version_response(&mut self, version: Version, message: &[u8]) -> Option<Notice> {
        let response: VersionResponse = parse(message)?;
        // The answer tells as well that a connection that stood before has ended.
        self.end();
        if response.supported == 0 {
            self.try_older(version);
            // A port without a free buffer: `poll_contact` posts it again.
            let _ = self.drive();
            return Some(Notice::Contact);
        }
        self.state = if response.connection_state != ConnectionState::SUCCESSFUL {
            State::Failed(Error::Contact(response.connection_state))
        } else if version >= Version::V5_0 && response.message_connection == 0 {
            State::Failed(Error::Malformed)
        } else {
            State::Connected
        };
        self.version = version;
        let given = parse::<VersionResponseFeatures>(message).filter(|_| version >= Version::V6_0);
        self.features = FeatureFlags(given.map_or(0, |given| given.features.0) & self.asked.0);
        self.connection =
            if version >= Version::V5_0 { response.message_connection } else { connection(version) };
        Some(Notice::Contact)
    }

    /// Judges a message of a connection that stands.
    fn connected(&mut self, kind: MessageType, message: &[u8]) -> Option<Notice> {
        match kind {
            MessageType::OFFER_CHANNEL => self.offer(&parse(message)?),
            MessageType::ALL_OFFERS_DELIVERED => {
                self.all_offers = true;
                Some(Notice::AllOffers)
            }
            MessageType::RESCIND_OFFER => {
                let RescindOffer { channel, .. } = parse(message)?;
                self.slot(channel)?.rescind();
                Some(Notice::Rescinded(channel))
            }
            MessageType::GPADL_CREATED => {
                let GpadlCreated { gpadl, status, .. } = parse(message)?;
                self.gpadl(gpadl)?.created().arrive(status).then_some(Notice::Gpadl(gpadl))
            }
            MessageType::GPADL_TORNDOWN => {
                let GpadlTorndown { gpadl, .. } = parse(message)?;
                self.gpadl(gpadl)?.torn_down().arrive(NtStatus::SUCCESS).then_some(Notice::Gpadl(gpadl))
            }
            MessageType::OPEN_RESULT => {
                let OpenResult { channel, status, .. } = parse(message)?;
                self.slot(channel)?.opened().arrive(status).then_some(Notice::Opened(channel))
            }
            MessageType::MODIFY_CHANNEL_RESPONSE => {
                let ModifyChannelResponse { channel, status, .. } = parse(message)?;
                self.slot(channel)?.modified().arrive(status).then_some(Notice::Modified(channel))
            }
            MessageType::TL_CONNECT_RESULT => {
                let TlConnectResult { endpoint, service, status, .. } = parse(message)?;
                Some(Notice::SocketRefused { endpoint, service, status })
            }
            _ => None,
        }
    }

    fn offer(&mut self, message: &OfferChannel) -> Option<Notice> {
        let channel = message.channel;
        if channel.0 == 0 || channel.0 >= MAX_CHANNELS {
            return None;
        }
        // A number that the guest has not released is not a new channel's.
        if self.slot(channel).is_some() {
            return Some(Notice::Declined(channel));
        }
        match self.slots.channels.iter().find(|slot| slot.is_free()) {
            Some(slot) => {
                slot.offer(message);
                Some(Notice::Offered(channel))
            }
            None => {
                // So that the host does not wait for this guest. A failed post loses nothing.
                let _ = self.post_release(channel);
                Some(Notice::Declined(channel))
            }
        }
    }
}
