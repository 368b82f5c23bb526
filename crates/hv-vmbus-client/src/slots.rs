//! What the client knows of channels and GPADLs, in memory that the OS lends.
//!
//! A slot is written by the client when a message arrives, and read by whoever holds the [`Channel`](crate::Channel) or
//! [`Gpadl`](crate::Gpadl) that it belongs to, on any CPU and without the client's lock.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use hv_tlfs::vmbus::{ChannelId, ChannelOffer, GpadlId, NtStatus, OfferChannel};
use zerocopy::{FromZeros, IntoBytes};

/// Words of an offer's message.
const OFFER_WORDS: usize = size_of::<OfferChannel>() / 4;

/// The word with the channel's number.
const CHANNEL_WORD: usize = core::mem::offset_of!(OfferChannel, channel) / 4;
const _: () = assert!(core::mem::offset_of!(OfferChannel, channel).is_multiple_of(4));

/// Places for channels and GPADLs. Make it a static:
///
/// ```
/// use hv_vmbus_client::Slots;
/// /// 64 offers, each with its rings, and two more GPADLs for each of four network cards.
/// static SLOTS: Slots<64, 72> = Slots::new();
/// ```
#[derive(Debug)]
pub struct Slots<const CHANNELS: usize, const GPADLS: usize> {
    lent: AtomicBool,
    channels: [ChannelSlot; CHANNELS],
    gpadls: [GpadlSlot; GPADLS],
}

impl<const CHANNELS: usize, const GPADLS: usize> Default for Slots<CHANNELS, GPADLS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const CHANNELS: usize, const GPADLS: usize> Slots<CHANNELS, GPADLS> {
    /// Makes free places.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lent: AtomicBool::new(false),
            channels: [const { ChannelSlot::new() }; CHANNELS],
            gpadls: [const { GpadlSlot::new() }; GPADLS],
        }
    }

    /// Lends the places to a client; `None` if they were lent before.
    #[must_use]
    pub fn lend(&self) -> Option<Lent<'_>> {
        let free = !self.lent.swap(true, Ordering::AcqRel);
        free.then_some(Lent { channels: &self.channels, gpadls: &self.gpadls })
    }
}

/// Places that were lent to a client.
#[derive(Debug)]
pub struct Lent<'t> {
    pub(crate) channels: &'t [ChannelSlot],
    pub(crate) gpadls: &'t [GpadlSlot],
}

/// The channel is offered.
const OFFERED: u32 = 1;
/// It is open, or is being opened or closed.
const CLAIMED: u32 = 2;
/// The host has rescinded it.
const RESCINDED: u32 = 4;
/// The connection has ended.
const ENDED: u32 = 8;

/// An answer that is awaited.
#[derive(Debug)]
pub(crate) struct Answer {
    stage: AtomicU32,
    status: AtomicU32,
}

const NOTHING: u32 = 0;
const AWAITED: u32 = 1;
const ANSWERED: u32 = 2;

impl Answer {
    const fn new() -> Self {
        Self { stage: AtomicU32::new(NOTHING), status: AtomicU32::new(0) }
    }

    /// Awaits the answer to a message that is about to be posted.
    pub(crate) fn expect(&self) {
        self.stage.store(AWAITED, Ordering::Release);
    }

    /// Awaits none: the message was not posted.
    pub(crate) fn forget(&self) {
        self.stage.store(NOTHING, Ordering::Release);
    }

    /// Notes the answer. Returns false if none is awaited.
    pub(crate) fn arrive(&self, status: NtStatus) -> bool {
        let awaited = self.stage.load(Ordering::Acquire) == AWAITED;
        if awaited {
            self.status.store(status.0, Ordering::Relaxed);
            self.stage.store(ANSWERED, Ordering::Release);
        }
        awaited
    }

    /// Takes the answer, if it has come.
    pub(crate) fn take(&self) -> Option<NtStatus> {
        if self.stage.load(Ordering::Acquire) != ANSWERED {
            return None;
        }
        let status = NtStatus(self.status.load(Ordering::Relaxed));
        self.stage.store(NOTHING, Ordering::Release);
        Some(status)
    }
}

/// What is known of a channel.
#[derive(Debug)]
pub(crate) struct ChannelSlot {
    state: AtomicU32,
    /// GPADLs that refer to it.
    holders: AtomicU32,
    opened: Answer,
    modified: Answer,
    /// The offer's message, written before the state says that there is one.
    offer: [AtomicU32; OFFER_WORDS],
}

impl ChannelSlot {
    const fn new() -> Self {
        Self {
            state: AtomicU32::new(0),
            holders: AtomicU32::new(0),
            opened: Answer::new(),
            modified: Answer::new(),
            offer: [const { AtomicU32::new(0) }; OFFER_WORDS],
        }
    }

    fn is(&self, bits: u32) -> bool {
        self.state.load(Ordering::Acquire) & bits != 0
    }

    pub(crate) fn is_free(&self) -> bool {
        self.state.load(Ordering::Acquire) == 0 && self.holders.load(Ordering::Acquire) == 0
    }

    /// Returns true if the channel can be used.
    pub(crate) fn is_live(&self) -> bool {
        self.state.load(Ordering::Acquire) & (OFFERED | RESCINDED | ENDED) == OFFERED
    }

    /// Returns true if the channel is known to guest and host, rescinded or not.
    pub(crate) fn is_known(&self) -> bool {
        self.state.load(Ordering::Acquire) & (OFFERED | ENDED) == OFFERED
    }

    /// Returns true if the host has ended all access to the memory of the channel.
    pub(crate) fn is_over(&self) -> bool {
        self.is(RESCINDED | ENDED)
    }

    /// Puts an offer into a free slot.
    pub(crate) fn offer(&self, message: &OfferChannel) {
        let mut words = [0_u32; OFFER_WORDS];
        words.as_mut_bytes().copy_from_slice(message.as_bytes());
        for (to, from) in self.offer.iter().zip(words) {
            to.store(from, Ordering::Relaxed);
        }
        self.opened.forget();
        self.modified.forget();
        self.state.store(OFFERED, Ordering::Release);
    }

    /// Returns the offer.
    #[inline(never)]
    pub(crate) fn offered(&self) -> Offer {
        let mut message = OfferChannel::new_zeroed();
        for (to, from) in message.as_mut_bytes().chunks_exact_mut(4).zip(&self.offer) {
            to.copy_from_slice(&from.load(Ordering::Relaxed).to_ne_bytes());
        }
        Offer {
            offer: message.offer,
            channel: message.channel,
            is_dedicated: message.dedicated_interrupt & 1 != 0,
            connection: message.connection,
        }
    }

    /// Claims the channel for opening; false if it is claimed, rescinded or not offered. The GPADL of its rings holds
    /// it.
    pub(crate) fn claim(&self) -> bool {
        let claimed = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state & (OFFERED | CLAIMED | RESCINDED | ENDED) == OFFERED).then_some(state | CLAIMED)
        });
        claimed.is_ok()
    }

    pub(crate) fn unclaim(&self) {
        self.state.fetch_and(!CLAIMED, Ordering::AcqRel);
    }

    pub(crate) fn is_claimed(&self) -> bool {
        self.is(CLAIMED)
    }

    pub(crate) fn hold(&self) {
        self.holders.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn let_go(&self) {
        self.holders.fetch_sub(1, Ordering::AcqRel);
        self.free_if_over();
    }

    pub(crate) fn is_held(&self) -> bool {
        self.holders.load(Ordering::Acquire) != 0
    }

    pub(crate) fn rescind(&self) {
        self.state.fetch_or(RESCINDED, Ordering::AcqRel);
    }

    /// Ends the connection for a slot: one that is held stays until it is released.
    pub(crate) fn end(&self) {
        if self.is(OFFERED) {
            self.state.fetch_or(ENDED, Ordering::AcqRel);
            self.free_if_over();
        }
    }

    /// Frees the slot after the end of the connection, unless it is held.
    fn free_if_over(&self) {
        if !self.is_held() {
            let free = |state| (state & ENDED != 0).then_some(0);
            let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, free);
        }
    }

    /// Forgets the channel, which is not held.
    pub(crate) fn free(&self) {
        self.state.store(0, Ordering::Release);
    }

    pub(crate) fn opened(&self) -> &Answer {
        &self.opened
    }

    pub(crate) fn modified(&self) -> &Answer {
        &self.modified
    }

    pub(crate) fn id(&self) -> ChannelId {
        // The words of an offer are those of the message, as they are in memory.
        let word = self.offer.get(CHANNEL_WORD).map_or(0, |word| word.load(Ordering::Relaxed));
        ChannelId(u32::from_le(word))
    }
}

/// What is known of a GPADL.
#[derive(Debug)]
pub(crate) struct GpadlSlot {
    /// The name; 0 is none.
    id: AtomicU32,
    created: Answer,
    torn_down: Answer,
    /// Its owner was dropped: the name is used until the connection ends.
    abandoned: AtomicBool,
}

impl GpadlSlot {
    const fn new() -> Self {
        Self {
            id: AtomicU32::new(0),
            created: Answer::new(),
            torn_down: Answer::new(),
            abandoned: AtomicBool::new(false),
        }
    }

    /// Takes a free slot for this name.
    pub(crate) fn claim(&self, id: u32) -> bool {
        self.id.compare_exchange(0, id, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    pub(crate) fn id(&self) -> GpadlId {
        GpadlId(self.id.load(Ordering::Acquire))
    }

    pub(crate) fn created(&self) -> &Answer {
        &self.created
    }

    pub(crate) fn torn_down(&self) -> &Answer {
        &self.torn_down
    }

    pub(crate) fn free(&self) {
        self.created.forget();
        self.torn_down.forget();
        self.abandoned.store(false, Ordering::Relaxed);
        self.id.store(0, Ordering::Release);
    }

    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }

    /// Ends the connection: names whose owners were dropped are free.
    pub(crate) fn end(&self) {
        if self.abandoned.load(Ordering::Acquire) {
            self.free();
        }
    }
}

/// A channel that the host offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    pub(crate) offer: ChannelOffer,
    pub(crate) channel: ChannelId,
    pub(crate) is_dedicated: bool,
    pub(crate) connection: u32,
}

impl Offer {
    /// Returns the channel's number, which is also its event flag: 1 to 2047.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Returns what the host says of the device: interface, instance, flags, user-defined bytes, sub-channel index.
    #[must_use]
    pub fn device(&self) -> &ChannelOffer {
        &self.offer
    }

    /// Returns true for a sub-channel of a device that has an own offer for its first channel.
    #[must_use]
    pub fn is_subchannel(&self) -> bool {
        self.offer.subchannel_index != 0
    }

    /// Returns true if this is a channel of the same device.
    #[must_use]
    pub fn is_of_same_device(&self, other: &Self) -> bool {
        (self.offer.interface, self.offer.instance) == (other.offer.interface, other.offer.instance)
    }
}
