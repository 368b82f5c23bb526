//! A packet and a request, as a device sees them.

use crate::device::{Channel, Token};
use crate::pages::PagesError;
use crate::protocol::PacketType;
use crate::ring::{self, Ring, RingError};
use core::sync::atomic::AtomicU64;
use hv_memory::GuestMemory;
use zerocopy::{FromBytes, IntoBytes};

/// The data that a packet names outside of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// Segments of the request's list.
    pub(crate) segments: usize,
    /// The part of it that the request is about.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Data {
    pub(crate) const NONE: Self = Self { segments: 0, offset: 0, len: 0 };
}

/// The right to one answer, and to one request.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) line: usize,
    /// The request of it: one that is free, until it is made.
    pub(crate) entry: Option<usize>,
    pub(crate) transaction: u64,
    /// The guest waits for a completion.
    pub(crate) wanted: bool,
    /// Bytes reserved in the ring.
    pub(crate) reserved: u32,
    pub(crate) answered: bool,
    /// A request was made.
    pub(crate) requested: bool,
    pub(crate) ranges: u32,
    pub(crate) data: Result<Data, PagesError>,
    /// GPADL that the data lies in, as a place in the pool's table.
    pub(crate) gpadl: Option<usize>,
}

mod sealed {
    pub trait Sealed {}
}

/// What can be answered: a [`Packet`], or a request that is [`Done`].
pub trait Answer: sealed::Sealed {
    #[doc(hidden)]
    fn ticket(&self) -> &Ticket;
    #[doc(hidden)]
    fn ticket_mut(&mut self) -> &mut Ticket;
}

/// A packet of the guest. Its payload is read once, from the beginning to the end: what was read is the device's own copy, and
/// the guest can change it no more.
#[derive(Debug)]
pub struct Packet<'a, M> {
    pub(crate) ticket: Ticket,
    pub(crate) kind: PacketType,
    pub(crate) ring: Ring<'a, M, AtomicU64>,
    pub(crate) raw: ring::Packet,
    /// Next byte of the payload to be read, and the end.
    pub(crate) at: u32,
    pub(crate) end: u32,
    pub(crate) pipe: Option<bool>,
    pub(crate) fault: Option<RingError>,
}

impl<M: GuestMemory> Packet<'_, M> {
    /// The channel that it came by.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel(self.ticket.line as u16)
    }

    /// Its kind: in-band data, data in listed pages, or the completion of a packet of the host's.
    #[must_use]
    pub fn kind(&self) -> PacketType {
        self.kind
    }

    /// The guest's name for it; of a completion, the host's name for what it completes. It is a number to look up, or to
    /// give back, and nothing else: 0 and kernel addresses occur.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.ticket.transaction
    }

    /// Returns true if the guest waits for a completion.
    #[must_use]
    pub fn wants_completion(&self) -> bool {
        self.ticket.wanted
    }

    /// Number of ranges in a packet with data in listed pages.
    #[must_use]
    pub fn ranges(&self) -> u32 {
        self.ticket.ranges
    }

    /// Returns true if the channel is a pipe and the packet has no valid pipe header. Its payload is empty then.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.pipe == Some(false)
    }

    /// Bytes of payload that were not read yet. Without a pipe header they are rounded up to a multiple of 8 by the guest, so
    /// a message's size is to be taken from the message.
    #[must_use]
    pub fn left(&self) -> usize {
        (self.end - self.at) as usize
    }

    /// Copies the next bytes of the payload into `into`, and returns how many there were.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.left());
        let outcome = match self.fault {
            Some(error) => Err(error),
            None => self.raw.read(&self.ring, self.at, &mut into[..len]),
        };
        match outcome {
            Ok(len) => {
                self.at += len as u32;
                len
            }
            Err(error) => {
                self.fault = Some(error);
                0
            }
        }
    }

    /// Reads the next bytes as a structure; `None` if there are too few, which are left then.
    pub fn take<T: FromBytes + IntoBytes>(&mut self) -> Option<T> {
        if self.left() < size_of::<T>() {
            return None;
        }
        let mut value = T::new_zeroed();
        (self.read(value.as_mut_bytes()) == size_of::<T>()).then_some(value)
    }

    /// Passes over bytes of the payload.
    pub fn skip(&mut self, bytes: usize) {
        self.at += bytes.min(self.left()) as u32;
    }
}

impl<M> sealed::Sealed for Packet<'_, M> {}

impl<M> Answer for Packet<'_, M> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }
}

/// A request that the back end is done with.
#[derive(Debug)]
pub struct Done<Q> {
    pub(crate) ticket: Ticket,
    pub(crate) token: Token,
    /// What was asked.
    pub request: Q,
}

impl<Q> Done<Q> {
    /// The channel by which its packet came.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel(self.ticket.line as u16)
    }

    /// The token under which it was asked.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// The guest's name for its packet.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.ticket.transaction
    }
}

impl<Q> sealed::Sealed for Done<Q> {}

impl<Q> Answer for Done<Q> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }
}
