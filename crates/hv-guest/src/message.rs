//! Messages: a slot per SINT that the hypervisor fills and the guest frees.
//!
//! # The end of a message
//!
//! The guest frees a slot and then looks whether another message waits; the hypervisor, with a message that finds the
//! slot full, marks the slot and then looks whether it is free after all:
//!
//! | guest | hypervisor |
//! |---|---|
//! | type := none | flags := pending |
//! | *full barrier* | *full barrier* |
//! | if flags say pending: write EOM | if type is none: deliver |
//!
//! Without the guest's barrier both may look before either has seen the other's store, and the message stays in the
//! queue with nobody to fetch it. That is a store before a *load*, the one order that acquire and release do not keep.
//!
//! The review of the 2018 patch had two questions about it. Its routine did `cmpxchg(); mb(); if (msg_pending) eom()`.
//!
//! * *Is `mb()` needed after `cmpxchg()`?* Not in Linux, whose `cmpxchg()` is fully ordered whenever it succeeds: STLXR
//!   and then DMB ISH, or CASAL, which the architecture orders before whatever follows. Here the barrier is explicit,
//!   because C++'s and Rust's model gives even a sequentially consistent exchange no order before a relaxed load.
//! * *Would `cmpxchg_acquire()` do?* No, for two reasons. Acquire orders the exchange's load, not its store, before what
//!   follows: the flags may be read while the freed slot is still on its way to memory (LDAXR/STXR: the STXR is a plain
//!   store), which is the lost message above. And without release the copying of the payload is not held before the
//!   slot is free, so the hypervisor may overwrite what is being copied.
//!
//! So the end of a message exchanges with release, then has a full barrier (DMB ISH), then reads the flags. `tests/loom`
//! runs through every order of the two columns; with an acquire exchange alone it finds the lost message. (The second
//! reason it cannot show: loom has no store that passes an earlier load.)
//!
//! The exchange, and not a plain store, is for a crash: another CPU then polls this slot too, and whoever comes second
//! must not free the message that came in after. It can still free one of the same type; a CPU that polls after a
//! crash waits for one type that comes once.

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

/// A message in its slot. [`read`](Self::read) copies it, [`Synic::end`](crate::synic::Synic::end) frees the slot.
///
/// Dropping it does neither: the message stays, and nothing more arrives for this SINT.
#[must_use = "a message blocks its SINT until its end"]
pub struct Pending<'a> {
    slot: &'a Slot,
    message_type: MessageType,
    /// Belongs to the CPU whose SynIC it is: the EOM register is that of the VP that writes it.
    not_send: PhantomData<*const ()>,
}

/// A copy of a message, judged: its payload is no longer than a message can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    message_type: MessageType,
    flags: MessageFlags,
    size: u8,
    sender: u64,
    payload: [u64; MESSAGE_PAYLOAD_WORDS],
}

/// The hypervisor gave a payload size that no message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The type of the message.
    pub message_type: MessageType,
    /// The size: more than 240.
    pub size: u8,
}

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "a message of {} with a payload of {} bytes; 240 is the most", self.message_type, self.size)
    }
}

impl core::error::Error for Malformed {}

/// What became of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freed {
    /// Another CPU was first; the slot is not ours.
    NotOurs,
    /// Free, and no message waited for it.
    Quiet,
    /// Free, and a message waits: write EOM.
    MoreWait,
}

impl Slot {
    /// The message in the slot, if there is one.
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

    /// Frees the slot if it still holds a message of this type, and says whether more wait. See the module's head for
    /// the orders.
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
    /// The message's type, as it was when the slot was found full.
    #[inline]
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// Copies the message: each word once.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if the hypervisor gave a payload size above 240. The slot has to be freed all the same.
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

    /// The slot, to be freed.
    pub(crate) fn into_slot(self) -> (&'a Slot, MessageType) {
        (self.slot, self.message_type)
    }
}

impl Message {
    /// What the message is.
    #[must_use]
    pub fn message_type(&self) -> MessageType {
        self.message_type
    }

    /// The flags at the time of the copy; the end of the message looks at them anew.
    #[must_use]
    pub fn flags(&self) -> MessageFlags {
        self.flags
    }

    /// The port of a posted message, the partition of an intercept, 0 from a timer.
    #[must_use]
    pub fn sender(&self) -> u64 {
        self.sender
    }

    /// The payload: at most 240 bytes.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.payload.as_bytes();
        bytes.get(..usize::from(self.size)).unwrap_or(bytes)
    }

    /// The payload of a timer's message; `None` if it is no such message, or too short.
    #[must_use]
    pub fn timer(&self) -> Option<TimerMessagePayload> {
        if self.message_type != MessageType::TIMER_EXPIRED {
            return None;
        }
        TimerMessagePayload::read_from_prefix(self.payload()).ok().map(|(payload, _)| payload)
    }
}
