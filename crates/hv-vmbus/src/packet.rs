//! A packet and a request, from a device's point of view.

use crate::id::{Channel, Token};
use crate::pages::PagesError;
use crate::protocol::PacketType;
use crate::ring::{self, Ring, RingError};
use crate::seen::Front;
use core::sync::atomic::AtomicU64;
use hv_memory::GuestMemory;
use zerocopy::{FromBytes, IntoBytes};

/// The data of a packet outside the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Data {
    /// Number of segments of the request's list.
    pub(crate) segments: usize,
    /// Bytes of all of them.
    pub(crate) all: u64,
    /// The part of it that the request covers.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Data {
    pub(crate) const NONE: Self = Self { segments: 0, all: 0, offset: 0, len: 0 };
}

/// The right to one answer, and to one request.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) line: usize,
    /// The free slot for a request, until it is made.
    pub(crate) entry: Option<usize>,
    pub(crate) transaction: u64,
    /// The guest expects a completion.
    pub(crate) wanted: bool,
    /// Bytes reserved in the ring.
    pub(crate) reserved: u32,
    pub(crate) answered: bool,
    /// A request was made.
    pub(crate) requested: bool,
    pub(crate) ranges: u32,
    pub(crate) data: Data,
    /// Why the guest's ranges were rejected; there is no data then.
    pub(crate) rejected: Option<PagesError>,
    /// GPADL that contains the data, as an index into the pool's table.
    pub(crate) gpadl: Option<usize>,
}

mod sealed {
    pub trait Sealed {}
}

/// Object of an answer: a [`Packet`], a request that is [`Done`], or the [`Ticket`] of either.
pub trait Answer: sealed::Sealed {
    #[doc(hidden)]
    fn ticket(&self) -> &Ticket;
    #[doc(hidden)]
    fn ticket_mut(&mut self) -> &mut Ticket;
}

/// A packet from the guest. Its payload is read once, from beginning to end: what has been read is the device's own
/// copy, which the guest cannot change.
#[derive(Debug)]
pub struct Packet<'a, M> {
    pub(crate) ticket: Ticket,
    pub(crate) kind: PacketType,
    pub(crate) ring: &'a Ring<'a, M, AtomicU64>,
    pub(crate) raw: ring::Packet,
    /// Offset of the next unread byte of the payload, and its end.
    pub(crate) at: u32,
    pub(crate) end: u32,
    pub(crate) pipe: Option<bool>,
    pub(crate) fault: Option<RingError>,
    /// The beginning of the payload, if it was read for an observer: no byte is read twice.
    pub(crate) front: Option<&'a Front>,
}

impl<M: GuestMemory> Packet<'_, M> {
    /// Returns the channel of the packet.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.ticket.channel()
    }

    /// Returns its type: in-band data, data in listed pages, or the completion of a packet from the host.
    #[must_use]
    pub fn kind(&self) -> PacketType {
        self.kind
    }

    /// Returns the guest's id of the packet; for a completion, the host's id of the completed packet. It is a number to
    /// look up or to return, nothing else: 0 and kernel addresses occur.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.ticket.transaction
    }

    /// Returns true if the guest expects a completion.
    #[must_use]
    pub fn wants_completion(&self) -> bool {
        self.ticket.wanted
    }

    /// Returns the number of ranges in a packet with data in listed pages.
    #[must_use]
    pub fn ranges(&self) -> u32 {
        self.ticket.ranges()
    }

    /// Returns true if the channel is a pipe and the packet has no valid pipe header. Its payload is empty then.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        self.pipe == Some(false)
    }

    /// Returns the number of unread bytes of payload. Without a pipe header the guest rounds them up to a multiple of
    /// 8, so take a message's size from the message.
    #[must_use]
    pub fn left(&self) -> usize {
        (self.end - self.at) as usize
    }

    /// Copies the next bytes of the payload into `into`, and returns their number.
    pub fn read(&mut self, into: &mut [u8]) -> usize {
        let len = into.len().min(self.left());
        let outcome = match self.fault {
            Some(error) => Err(error),
            None => self.copy(&mut into[..len]),
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

    fn copy(&self, into: &mut [u8]) -> Result<usize, RingError> {
        let mut done = 0;
        if let Some(front) = self.front {
            let known = front.bytes().get(self.at as usize..).unwrap_or_default();
            done = known.len().min(into.len());
            into[..done].copy_from_slice(&known[..done]);
        }
        Ok(done + self.raw.read(self.ring, self.at + done as u32, &mut into[done..])?)
    }

    /// Reads the next bytes as a structure; returns `None`, without reading, if there are too few.
    pub fn take<T: FromBytes + IntoBytes>(&mut self) -> Option<T> {
        if self.left() < size_of::<T>() {
            return None;
        }
        let mut value = T::new_zeroed();
        (self.read(value.as_mut_bytes()) == size_of::<T>()).then_some(value)
    }

    /// Skips bytes of the payload.
    pub fn skip(&mut self, bytes: usize) {
        self.at += bytes.min(self.left()) as u32;
    }
}

impl<M> sealed::Sealed for Packet<'_, M> {}

impl Ticket {
    /// Returns the channel of the packet.
    #[must_use]
    pub fn channel(&self) -> Channel {
        Channel(self.line as u16)
    }

    /// Returns the number of ranges in a packet with data in listed pages.
    #[must_use]
    pub fn ranges(&self) -> u32 {
        self.ranges
    }

    /// Returns the data, or why it was rejected.
    pub(crate) fn data(&self) -> Result<Data, PagesError> {
        match self.rejected {
            None => Ok(self.data),
            Some(error) => Err(error),
        }
    }
}

impl sealed::Sealed for Ticket {}

impl Answer for Ticket {
    fn ticket(&self) -> &Ticket {
        self
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        self
    }
}

impl<M> Answer for Packet<'_, M> {
    fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }
}

/// A [`Packet`], or a request that is [`Done`], of which a device makes a request `Q`.
pub trait Requester<Q>: Answer {
    /// Returns the right to an answer, and where the request is kept, if the requester has had one already.
    #[doc(hidden)]
    fn parts(&mut self) -> (&mut Ticket, Option<&mut Q>);
}

impl<M, Q> Requester<Q> for Packet<'_, M> {
    #[inline(always)]
    fn parts(&mut self) -> (&mut Ticket, Option<&mut Q>) {
        (&mut self.ticket, None)
    }
}

impl<Q> Requester<Q> for Done<'_, Q> {
    #[inline(always)]
    fn parts(&mut self) -> (&mut Ticket, Option<&mut Q>) {
        (self.ticket, Some(self.request))
    }
}

/// A request that the back end has completed.
#[derive(Debug)]
pub struct Done<'a, Q> {
    pub(crate) ticket: &'a mut Ticket,
    pub(crate) token: Token,
    /// The request, where it is kept: it is not copied.
    pub request: &'a mut Q,
}

impl<Q> Done<'_, Q> {
    /// Returns the channel of its packet.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.ticket.channel()
    }

    /// Returns its token.
    #[must_use]
    pub fn token(&self) -> Token {
        self.token
    }

    /// Returns the guest's id of its packet.
    #[must_use]
    pub fn transaction(&self) -> u64 {
        self.ticket.transaction
    }

    /// Returns the right to answer it, and the request, so that the answer can be a part of the request.
    pub fn split(&mut self) -> (&mut Ticket, &mut Q) {
        (self.ticket, self.request)
    }
}

impl<Q> sealed::Sealed for Done<'_, Q> {}

impl<Q> Answer for Done<'_, Q> {
    fn ticket(&self) -> &Ticket {
        self.ticket
    }

    fn ticket_mut(&mut self) -> &mut Ticket {
        self.ticket
    }
}
