//! Rules on VMBus's messages, page lists, channels and rings.

use hv_tlfs::vmbus::connection::MESSAGE_SINT;
use hv_tlfs::vmbus::{Guid, MessageHeader, MessageType, OfferFlags, TARGET_VP_NONE, guid};
use hv_vmbus::ring::RingError;
use hv_vmbus::{Event, Flaw, Reason};

use super::packets::Flight;
use super::{Found, Rule, balloon, keyboard, mouse, network, rules, services, sockets, storage, video};

/// SINT of messages and interrupts.
pub(super) const SINT: usize = MESSAGE_SINT as usize;

/// Number of channels that are followed, by their numbers.
const CHANNELS: usize = 128;
/// Number of packets that are followed until their completion.
const FLIGHTS: usize = 256;

const _: () = assert!(SINT < 16);

/// Rules of the device behind a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// None.
    Other = 0,
    Storage,
    Service,
    Keyboard,
    Balloon,
    Mouse,
    Video,
    Network,
    Socket,
}

impl Class {
    fn of(interface: &Guid, flags: OfferFlags) -> Self {
        // The interface of a socket is its service.
        match *interface {
            _ if flags.socket() => Self::Socket,
            guid::SCSI => Self::Storage,
            guid::NETWORK => Self::Network,
            guid::SHUTDOWN | guid::TIME_SYNC | guid::HEARTBEAT | guid::KVP | guid::VSS | guid::FILE_COPY => {
                Self::Service
            }
            guid::KEYBOARD => Self::Keyboard,
            guid::DYNAMIC_MEMORY => Self::Balloon,
            guid::MOUSE => Self::Mouse,
            guid::VIDEO => Self::Video,
            _ => Self::Other,
        }
    }
}

/// A channel. All zeros if the guest has no offer with this number.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel {
    pub(super) class: Class,
    pub(super) pipe: bool,
    /// Index of a sub-channel, or 0.
    pub(super) index: u16,
    /// Number of the first channel of its device.
    pub(super) first: u32,
    open: bool,
    /// VP that gets its interrupts.
    vp: u32,
    /// GPADL of its rings, until that is torn down, and that of an OPENCHANNEL without an outcome; 0 for none.
    rings: u32,
    asked_rings: u32,
    /// Packets of the guest whose completion is pending.
    pub(super) pending: u32,
    /// Packets of the host whose completion is pending, and for which there was no room in the table.
    pub(super) untracked: u32,
    pub(super) storage: storage::Driver,
    pub(super) service: services::Exchange,
    pub(super) network: network::Driver,
    pub(super) keyboard: keyboard::Driver,
    pub(super) mouse: mouse::Driver,
    pub(super) video: video::Driver,
    pub(super) balloon: balloon::Driver,
    pub(super) socket: sockets::Direction,
    /// Service and endpoint of a socket.
    ends: [Guid; 2],
}

impl Channel {
    const NONE: Self = Self {
        class: Class::Other,
        pipe: false,
        index: 0,
        first: 0,
        open: false,
        vp: 0,
        rings: 0,
        asked_rings: 0,
        pending: 0,
        untracked: 0,
        storage: storage::Driver::NEW,
        service: services::Exchange::NEW,
        network: network::Driver::NEW,
        keyboard: keyboard::Driver::NEW,
        mouse: mouse::Driver::NEW,
        video: video::Driver::NEW,
        balloon: balloon::Driver::NEW,
        socket: sockets::Direction::NEW,
        ends: [Guid::ZERO; 2],
    };
}

/// What is known about the bus. All zeros at first, so that a judge can be in a static that takes no room in an image.
#[derive(Clone, Debug)]
pub(super) struct State {
    connected: bool,
    /// The partition was restored: the state of its SynICs is not known.
    pub(super) restored: bool,
    /// The version that was refused last, or 0.
    refused: u32,
    pub(super) channels: [Channel; CHANNELS],
    pub(super) flights: [Flight; FLIGHTS],
}

/// Words of a message, as far as they are there.
struct Words<'m>(&'m [u8]);

impl Words<'_> {
    fn at(&self, offset: usize) -> u32 {
        let bytes = self.0.get(offset..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

impl State {
    pub(super) const NEW: Self = Self {
        connected: false,
        restored: false,
        refused: 0,
        channels: [Channel::NONE; CHANNELS],
        flights: [Flight::NONE; FLIGHTS],
    };

    pub(super) fn reset(&mut self) {
        (self.connected, self.refused) = (false, 0);
        self.channels.fill(Channel::NONE);
        self.flights.fill(Flight::NONE);
    }

    pub(super) fn channel(&mut self, number: u32) -> Option<&mut Channel> {
        self.channels.get_mut(number as usize)
    }

    /// Checks a message before the server handles it. `takes` tells whether a VP takes events.
    pub(super) fn message(
        &mut self,
        kept: &[u8],
        length: usize,
        takes: &dyn Fn(u32) -> bool,
        found: &mut Found<'_>,
    ) {
        let words = Words(kept);
        let kind = MessageType(words.at(0));
        found.add_if(words.at(4) != 0, &rules::VMBUS_PADDING, kind.0);
        found.add_if(!is_exact(kind, length), &rules::VMBUS_LENGTH, kind.0);
        let number = words.at(8);
        match kind {
            MessageType::GPADL_HEADER => gpadl(&words, number, found),
            MessageType::GPADL_TEARDOWN => {
                let id = words.at(12);
                let early = self.channel(number).is_some_and(|c| c.open && c.rings == id);
                found.add_if(early, &rules::GPADL_EARLY, id);
                let torn = self.channel(number).is_some_and(|c| c.open && c.network.has(id));
                found.add_if(torn, &rules::NETWORK_TORN, id);
            }
            MessageType::OPEN_CHANNEL => {
                let (rings, vp) = (words.at(16), words.at(20));
                let Some(channel) = self.channel(number) else { return };
                (channel.asked_rings, channel.vp) = if channel.open { (0, channel.vp) } else { (rings, vp) };
                let (index, first) = (channel.index, channel.first);
                let early = index > 0 && !self.channel(first).is_some_and(|first| first.open);
                found.add_if(early, &rules::SUBCHANNEL_EARLY, number);
            }
            MessageType::CLOSE_CHANNEL => self.closing(number, found),
            MessageType::MODIFY_CHANNEL => {
                let vp = words.at(12);
                if let Some(channel) = self.channel(number).filter(|channel| channel.open) {
                    channel.vp = vp;
                    found.add_if(!takes(vp), &rules::CHANNEL_TARGET, vp);
                }
            }
            MessageType::TL_CONNECT_REQUEST => self.connecting(kept, found),
            _ => {}
        }
    }

    /// Checks the close of a channel by the guest.
    fn closing(&mut self, number: u32, found: &mut Found<'_>) {
        let Some(channel) = self.channel(number).filter(|channel| channel.open) else { return };
        let (index, pending) = (channel.index, channel.pending);
        found.add_if(pending > 0, &rules::CHANNEL_PENDING, pending);
        let sub = |channel: &&Channel| channel.open && channel.index > 0 && channel.first == number;
        let late = index == 0 && self.channels.iter().find(sub).is_some();
        found.add_if(late, &rules::SUBCHANNEL_LATE, number);
    }

    /// Checks the guest's request for a connection of sockets.
    fn connecting(&self, kept: &[u8], found: &mut Found<'_>) {
        let Some(ends) = kept.get(size_of::<MessageHeader>()..).and_then(|ends| ends.first_chunk::<32>())
        else {
            return;
        };
        let (endpoint, service) = ends.split_at(16);
        let same = |channel: &Channel| {
            channel.class == Class::Socket
                && channel.ends[0].bytes == *service
                && channel.ends[1].bytes == *endpoint
        };
        if let Some((number, _)) = (0u32..).zip(&self.channels).find(|(_, channel)| same(channel)) {
            found.add(&rules::SOCKET_TWICE, number);
        }
    }

    /// Records that a VP goes offline.
    pub(super) fn offline(&mut self, vp: usize, found: &mut Found<'_>) {
        for (number, channel) in (0u32..).zip(&self.channels) {
            found.add_if(channel.open && channel.vp as usize == vp, &rules::CHANNEL_OFFLINE, number);
        }
    }

    /// Checks an event of the server.
    pub(super) fn event(&mut self, event: &Event, takes: &dyn Fn(u32) -> bool, found: &mut Found<'_>) {
        match *event {
            Event::Contact { version, accepted, .. } => {
                found.add_if(self.connected, &rules::VMBUS_AGAIN, version.0);
                let newer = self.refused != 0 && version.0 >= self.refused;
                found.add_if(newer, &rules::VMBUS_VERSION, version.0);
                self.reset();
                (self.connected, self.refused) = (accepted, if accepted { 0 } else { version.0 });
            }
            Event::Unloaded => self.reset(),
            Event::Offered { channel, first, index, flags, interface, instance } => {
                let class = Class::of(&interface, flags);
                if let Some(place) = self.channel(channel.0) {
                    let (pipe, first) = (flags.named_pipe(), first.0);
                    let ends = [interface, instance];
                    *place = Channel { class, pipe, index, first, ends, ..Channel::NONE };
                }
            }
            Event::GpadlTorndown { gpadl } => {
                self.channels.iter_mut().filter(|c| c.rings == gpadl.0 && !c.open).for_each(|c| c.rings = 0);
            }
            Event::GpadlFlaw { gpadl, flaw, .. } => found.add(flaw_rule(flaw), gpadl.0),
            Event::Opened { channel, vp } => {
                let Some(place) = self.channel(channel.0) else { return };
                let left = place.rings != 0 && place.rings != place.asked_rings;
                found.add_if(left, &rules::GPADL_LEFT, place.rings);
                place.storage = storage::Driver::NEW;
                place.service = services::Exchange::NEW;
                place.keyboard = keyboard::Driver::NEW;
                place.mouse = mouse::Driver::NEW;
                place.video = video::Driver::NEW;
                place.balloon = balloon::Driver::NEW;
                place.network = network::Driver::NEW;
                place.socket = sockets::Direction::NEW;
                (place.open, place.rings, place.vp) = (true, place.asked_rings, vp);
                (place.pending, place.untracked) = (0, 0);
                found.add_if(vp != TARGET_VP_NONE && !takes(vp), &rules::CHANNEL_TARGET, vp);
            }
            Event::Closed { channel } => {
                if let Some(place) = self.channel(channel.0) {
                    (place.open, place.pending, place.untracked) = (false, 0, 0);
                    place.network = network::Driver::NEW;
                }
                self.forget(channel.0);
            }
            // A guest has no use for the page lists of a channel that was taken away.
            Event::Rescinded { channel } | Event::Released { channel } => {
                if let Some(place) = self.channel(channel.0) {
                    *place = Channel::NONE;
                }
                self.forget(channel.0);
            }
            Event::RingCorrupt { channel, error } => found.add(ring_rule(error), channel.0),
            Event::Fault { channel } => found.add(&rules::VMBUS_DEVICE, channel.0),
            Event::Rejected { message, reason } => {
                if let Some(rule) = rule_of(message, reason) {
                    found.add(rule, message.0);
                }
            }
            _ => {}
        }
    }

    /// Forgets the packets of a channel whose completion is pending.
    fn forget(&mut self, channel: u32) {
        self.flights.iter_mut().filter(|f| f.channel == channel).for_each(|f| *f = Flight::NONE);
    }
}

/// Checks the beginning of a page list: its header, and its first range if it has one only.
fn gpadl(words: &Words<'_>, channel: u32, found: &mut Found<'_>) {
    let (id, sizes) = (words.at(12), words.at(16));
    found.add_if(id == 0, &rules::GPADL_ZERO, channel);
    let (bytes, ranges) = (sizes & 0xffff, sizes >> 16);
    let (len, offset) = (u64::from(words.at(20)), u64::from(words.at(24)));
    let needed = 8 + (len + offset).div_ceil(4096) * 8;
    // Shorter lists are rejected.
    found.add_if(ranges == 1 && words.0.len() >= 28 && u64::from(bytes) > needed, &rules::GPADL_LENGTH, id);
}

/// Returns false for a message that is longer than its type, if that has a fixed length. Shorter ones are rejected.
fn is_exact(kind: MessageType, length: usize) -> bool {
    let lengths: &[usize] = match kind {
        MessageType::REQUEST_OFFERS | MessageType::UNLOAD => &[8],
        MessageType::CLOSE_CHANNEL | MessageType::RELID_RELEASED => &[12],
        MessageType::GPADL_TEARDOWN | MessageType::MODIFY_CHANNEL => &[16],
        MessageType::INITIATE_CONTACT | MessageType::TL_CONNECT_REQUEST => &[40, 56],
        MessageType::OPEN_CHANNEL => &[148, 156],
        _ => return true,
    };
    lengths.iter().all(|least| length < *least) || lengths.contains(&length)
}

const fn flaw_rule(flaw: Flaw) -> &'static Rule {
    match flaw {
        Flaw::Repeated => &rules::GPADL_REPEATED,
        _ => &rules::GPADL_OUTSIDE,
    }
}

const fn ring_rule(error: RingError) -> &'static Rule {
    match error {
        RingError::Length { .. } => &rules::RING_LENGTH,
        RingError::DataOffset { .. } => &rules::RING_OFFSET,
        RingError::Memory | RingError::Size { .. } => &rules::RING_MEMORY,
        _ => &rules::VMBUS_RING_DATA,
    }
}

/// Returns the rule that a rejected message breaks.
fn rule_of(message: MessageType, reason: Reason) -> Option<&'static Rule> {
    Some(match reason {
        Reason::TooShort => &rules::VMBUS_MESSAGE,
        Reason::Unknown => &rules::VMBUS_TYPE,
        Reason::NotConnected => &rules::VMBUS_ORDER,
        Reason::OffersAlreadySent => &rules::VMBUS_OFFERS,
        Reason::WrongSint | Reason::WrongVtl => &rules::VMBUS_CONTACT,
        Reason::OneMonitorPage => &rules::VMBUS_MONITOR,
        Reason::UnknownChannel => &rules::VMBUS_CHANNEL,
        Reason::AlreadyOpen if message == MessageType::RELID_RELEASED => &rules::CHANNEL_RELEASE,
        Reason::AlreadyOpen => &rules::CHANNEL_TWICE,
        Reason::NotOpen => &rules::CHANNEL_CLOSED,
        Reason::UnknownGpadl => &rules::GPADL_UNKNOWN,
        Reason::DuplicateGpadl => &rules::GPADL_TWICE,
        Reason::GpadlBusy => &rules::GPADL_BUSY,
        Reason::BadRange => &rules::VMBUS_GPADL,
        Reason::BadRing => &rules::VMBUS_RING,
        Reason::UnknownVp => &rules::VMBUS_TARGET,
        Reason::BadFlag | Reason::BadConnection => &rules::CHANNEL_FLAG,
        Reason::NoInterrupt => &rules::CHANNEL_SILENT,
        // A guest cannot know yet that its channel is rescinded. The host's limits are not its fault, nor is a missing
        // service or device, or one that accepts no channel.
        Reason::Rescinded | Reason::NoRoom | Reason::Unsupported | Reason::DeviceRefused => return None,
        // A reason from a newer server.
        _ => return None,
    })
}
