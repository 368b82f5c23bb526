//! Messages: one slot per SINT, filled by the hypervisor and freed by the guest.
//!
//! # The end of a message
//!
//! The guest frees a slot, then checks whether another message is pending. The hypervisor, if it has a message and
//! finds the slot full, marks the slot, then checks again whether it is free:
//!
//! | guest | hypervisor |
//! |---|---|
//! | type := none | flags := pending |
//! | *full barrier* | *full barrier* |
//! | if flags say pending: write EOM | if type is none: deliver |
//!
//! Without the guest's barrier both may check before either has seen the other's store; the message then stays queued
//! and nothing triggers its delivery. This is a store before a *load*, the one order that acquire and release do not
//! guarantee.
//!
//! The review of the 2018 patch raised two questions about it. The patch did `cmpxchg(); mb(); if (msg_pending) eom()`.
//!
//! * *Is `mb()` needed after `cmpxchg()`?* Not in Linux, whose `cmpxchg()` is fully ordered whenever it succeeds: STLXR
//!   and then DMB ISH, or CASAL, which the architecture orders before everything that follows. Here the barrier is
//!   explicit, because in the C++ and Rust memory model even a sequentially consistent exchange is not ordered before a
//!   relaxed load.
//! * *Would `cmpxchg_acquire()` do?* No, for two reasons. Acquire orders the exchange's load, not its store, before
//!   what follows: the flags may be read while the freed slot is still on its way to memory (LDAXR/STXR: the STXR is a
//!   plain store), which loses the message as above. And without release, reads of the payload are not ordered before
//!   the slot is freed, so the hypervisor may overwrite the payload while it is being copied.
//!
//! So the end of a message is an exchange with release, a full barrier (DMB ISH), and a read of the flags. `tests/loom`
//! explores all interleavings of the two columns; with only an acquire exchange it finds the lost message. (It cannot
//! show the second problem: loom does not let a store pass an earlier load.)
//!
//! An exchange is used instead of a plain store because of crashes: another CPU then polls this slot as well, and the
//! second one must not free a message that arrived after the first. It can still free one of the same type; a CPU that
//! polls after a crash waits for a type that is sent only once.

use core::marker::PhantomData;

use hv_tlfs::synic::{
    MESSAGE_PAYLOAD_SIZE, MESSAGE_PAYLOAD_WORDS, MessageFlags, MessageType, TimerMessagePayload,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::sync::{AtomicU32, AtomicU64, Ordering, fence};

/// A slot of the message page.
///
/// Source: TLFS, `HV_MESSAGE` and "SIM Page".
#[doc(alias = "hv_message")]
#[repr(C)]
pub(crate) struct Slot {
    pub(crate) message_type: AtomicU32,
    /// Payload size, flags, two reserved bytes.
    pub(crate) info: AtomicU32,
    pub(crate) sender: AtomicU64,
    pub(crate) payload: [AtomicU64; MESSAGE_PAYLOAD_WORDS],
}

/// A message in its slot. [`read`](Self::read) copies it; [`Synic::end`](crate::synic::Synic::end) frees the slot.
///
/// Dropping it does neither: the message stays, and no further message is delivered to this SINT.
#[must_use = "a message blocks its SINT until its end"]
pub struct Pending<'a> {
    slot: &'a Slot,
    message_type: MessageType,
    /// Belongs to the CPU of its SynIC: a VP can write only its own EOM register.
    not_send: PhantomData<*const ()>,
}

/// A validated copy of a message: its payload is no longer than a message can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    message_type: MessageType,
    flags: MessageFlags,
    size: u8,
    sender: u64,
    payload: [u64; MESSAGE_PAYLOAD_WORDS],
}

/// The hypervisor gave a payload size above the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malformed {
    /// The type of the message.
    pub message_type: MessageType,
    /// The size: more than 240.
    pub size: u8,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "message of {} with a payload of {} bytes, expected at most 240",
            self.message_type, self.size
        )
    }
}

impl core::error::Error for Malformed {}

/// Outcome of freeing a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// Another CPU freed it first; the slot is not ours.
    NotOurs,
    /// Freed, and no message is pending for it.
    Quiet,
    /// Freed, and a message is pending: write EOM.
    MoreWait,
}

impl Slot {
    /// Returns the message in the slot, if there is one.
    #[inline]
    pub(crate) fn pending(&self) -> Option<Pending<'_>> {
        // Acquire: the hypervisor stores the type last, with release.
        let message_type = MessageType(self.message_type.load(Ordering::Acquire));
        (message_type != MessageType::NONE).then_some(Pending {
            slot: self,
            message_type,
            not_send: PhantomData,
        })
    }

    /// Frees the slot if it still holds a message of this type, and returns whether more are pending. The module
    /// documentation explains the memory order.
    #[inline]
    pub(crate) fn free(&self, seen: MessageType) -> Freed {
        let exchanged = self.message_type.compare_exchange(
            seen.0,
            MessageType::NONE.0,
            Ordering::Release,
            Ordering::Relaxed,
        );
        if exchanged.is_err() {
            return Freed::NotOurs;
        }
        fence(Ordering::SeqCst);
        if self.flags().message_pending() { Freed::MoreWait } else { Freed::Quiet }
    }

    fn flags(&self) -> MessageFlags {
        MessageFlags::from_bits((self.info.load(Ordering::Relaxed) >> 8) as u8)
    }
}

impl core::fmt::Debug for Pending<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pending").field("message_type", &self.message_type).finish_non_exhaustive()
    }
}

impl<'a> Pending<'a> {
    /// Returns the type of the message, as read when the slot was found full.
    #[inline]
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// Copies the message, reading each word once.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the hypervisor gave a payload size above 240. The slot must be freed even then.
    pub fn read(&self) -> Result<Message, Malformed> {
        let info = self.slot.info.load(Ordering::Relaxed);
        let (size, flags) = (info as u8, MessageFlags::from_bits((info >> 8) as u8));
        if usize::from(size) > MESSAGE_PAYLOAD_SIZE {
            return Err(Malformed { message_type: self.message_type, size });
        }
        let mut payload = [0; MESSAGE_PAYLOAD_WORDS];
        let words = usize::from(size).div_ceil(8);
        for (to, from) in payload.iter_mut().zip(&self.slot.payload).take(words) {
            *to = from.load(Ordering::Relaxed);
        }
        let sender = self.slot.sender.load(Ordering::Relaxed);
        Ok(Message { message_type: self.message_type, flags, size, sender, payload })
    }

    /// Returns the slot, to be freed.
    pub(crate) fn into_slot(self) -> (&'a Slot, MessageType) {
        (self.slot, self.message_type)
    }
}

impl Message {
    /// Returns the type of the message.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// Returns the flags at the time of the copy; the end of the message reads them again.
    #[must_use]
    pub fn flags(&self) -> MessageFlags {
        self.flags
    }

    /// Returns the port of a posted message, the partition of an intercept, 0 for a timer message.
    #[must_use]
    pub fn sender(&self) -> u64 {
        self.sender
    }

    /// Returns the payload: at most 240 bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.payload.as_bytes();
        bytes.get(..usize::from(self.size)).unwrap_or(bytes)
    }

    /// Returns the payload of a timer message; `None` if it is another message, or too short.
    #[must_use]
    pub fn timer(&self) -> Option<TimerMessagePayload> {
        if self.message_type != MessageType::TIMER_EXPIRED {
            return None;
        }
        TimerMessagePayload::read_from_prefix(self.payload()).ok().map(|(payload, _)| payload)
    }
}
