//! Requests in flight: packets with a completion each, and the memory that goes with them.

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::{PacketType, TransferPageRange};

use crate::channel::{Channel, FromHost, ToHost};
use crate::client::Client;
use crate::dma::{Data, Direction, Dma, Loan, PageRun, Returned};
use crate::gpadl::{Gpadl, Teardown};
use crate::ring::Outgoing;
use crate::slots::Offer;
use crate::wait::{Progress, Request, Wake};
use crate::{Error, FLOOD};

/// Pages that go with a request, and which bytes of them the host is told.
pub struct Buffer<D: Dma> {
    /// The pages.
    pub pages: PageRun<D>,
    /// Offset of the first byte.
    pub offset: usize,
    /// Number of bytes: not 0.
    pub len: u32,
}

impl<D: Dma> fmt::Debug for Buffer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {:#x} of {:?})", self.len, self.offset, self.pages)
    }
}

/// A request's tag, and its memory, to which the host's access has ended.
pub type Landed<T, D> = (T, Option<Buffer<D>>);

/// A request that the host has to complete.
struct Flight<D: Dma, T> {
    id: u64,
    tag: T,
    data: Option<(Loan<D>, usize, u32)>,
}

impl<D: Dma, T> Flight<D, T> {
    /// Takes the request apart after the host's access to its memory has ended.
    fn land(self) -> Landed<T, D> {
        let data = self.data.map(|(pages, offset, len)| Buffer { pages: pages.take_back(), offset, len });
        (self.tag, data)
    }
}

/// What came from the host. Payloads are cut to the buffer that [`Queue::next`] was given.
pub enum Event<'b, T, D: Dma> {
    /// A request is complete, and its memory is the guest's again.
    Completed {
        /// What was submitted with the request.
        tag: T,
        /// Its memory.
        data: Option<Buffer<D>>,
        /// The payload.
        payload: &'b [u8],
    },
    /// A packet of the host's own.
    Packet {
        /// Its kind.
        kind: PacketType,
        /// The host's transaction id, for [`Queue::complete`].
        transaction: u64,
        /// The host expects a completion.
        wants_completion: bool,
        /// The payload.
        payload: &'b [u8],
    },
}

impl<T: fmt::Debug, D: Dma> fmt::Debug for Event<'_, T, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Completed { tag, .. } => {
                f.debug_struct("Completed").field("tag", tag).finish_non_exhaustive()
            }
            Self::Packet { kind, .. } => f.debug_struct("Packet").field("kind", kind).finish_non_exhaustive(),
        }
    }
}

/// A channel whose packets are requests, up to `DEPTH` in flight, each with a tag from the driver and with memory.
///
/// Memory comes back with the completion of its request, in any order, or when the channel is closed. A completion that
/// names no request in flight changes nothing and is counted: transaction ids are never used twice.
///
/// Dropping the queue leaks its rings and the memory in flight.
#[must_use = "the memory of a queue is leaked when it is dropped; close it"]
pub struct Queue<'t, D: Dma, C, T, const DEPTH: usize> {
    channel: Channel<'t, D, C>,
    flights: [Option<Flight<D, T>>; DEPTH],
    sequence: u64,
    strays: u64,
}

impl<D: Dma, C, T, const DEPTH: usize> fmt::Debug for Queue<'_, D, C, T, DEPTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue")
            .field("channel", &self.channel)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

/// Bits of a transaction id that are the request's place.
const PLACE: u32 = 16;

impl<'t, D: Dma, C, T, const DEPTH: usize> Queue<'t, D, C, T, DEPTH> {
    /// Makes a queue of a channel that was just opened.
    pub const fn new(channel: Channel<'t, D, C>) -> Self {
        const { assert!(DEPTH > 0 && DEPTH < 1 << PLACE, "1 to 65,535 requests in flight") }
        Self { channel, flights: [const { None }; DEPTH], sequence: 0, strays: 0 }
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.iter().flatten().count()
    }

    /// Returns the number of completions that named no request in flight.
    #[must_use]
    pub fn strays(&self) -> u64 {
        self.strays
    }

    /// Returns the offer of the channel.
    #[must_use]
    pub fn offer(&self) -> Offer {
        self.channel.offer()
    }

    /// Returns true if the channel was rescinded, or the connection has ended: no request will be completed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.channel.is_over()
    }
}

impl<'t, D: Dma, C: Conduit, T, const DEPTH: usize> Queue<'t, D, C, T, DEPTH> {
    /// Sends a request that the host has to complete. Its memory is the host's until then.
    ///
    /// # Errors
    ///
    /// With tag and memory: [`Error::InUse`] if `DEPTH` requests are in flight; [`Error::Memory`] if the OS does not
    /// [lend](Dma::lend) the memory; as [`Channel::send`].
    pub fn submit(
        &mut self,
        tag: T,
        payload: &[u8],
        data: Option<Buffer<D>>,
    ) -> Result<(), Returned<Landed<T, D>>> {
        self.submit_directed(tag, payload, data, Direction::Both)
    }

    /// Does the same, and tells the OS which way the data go: one that bounces copies them only that way.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn submit_directed(
        &mut self,
        tag: T,
        payload: &[u8],
        data: Option<Buffer<D>>,
        direction: Direction,
    ) -> Result<(), Returned<Landed<T, D>>> {
        let Some(place) = self.flights.iter().position(Option::is_none) else {
            return Err(Returned { value: (tag, data), error: Error::InUse });
        };
        let data = match data.map(|data| lend(data, direction)).transpose() {
            Ok(data) => data,
            Err(returned) => return Err(returned.map(|data| (tag, Some(data)))),
        };
        self.sequence += 1;
        let id = self.sequence << PLACE | (place as u64 + 1);
        let range = data.as_ref().map(|(pages, offset, len)| Data::lent(pages, *offset, *len));
        let packet = match &range {
            Some(range) => Outgoing::gpa_direct(id, core::slice::from_ref(range), payload),
            None => Outgoing::in_band(id, payload),
        };
        let sent = self.channel.send(&packet.with_completion());
        let flight = Flight { id, tag, data };
        match sent {
            // A signal that failed does not take the packet out of the ring: the host finds it with the next signal.
            Ok(()) | Err(Error::Post(_)) => {
                if let Some(free) = self.flights.get_mut(place) {
                    *free = Some(flight);
                }
                Ok(())
            }
            Err(error) => Err(Returned { value: flight.land(), error }),
        }
    }

    /// Sends a packet that is not to be completed.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    pub fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.channel.send(&Outgoing::in_band(0, payload))
    }

    /// Completes a packet of the host.
    ///
    /// # Errors
    ///
    /// As [`Channel::send`].
    pub fn complete(&mut self, transaction: u64, payload: &[u8]) -> Result<(), Error> {
        self.channel.send(&Outgoing::completion(transaction, payload))
    }

    /// Returns the next thing that came from the host, its payload in `buffer`; `None` if there is nothing now. Call it
    /// until then: the room in the ring goes back to the host with the last call of a batch.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`], [`Error::Flood`]: the channel is dead. [`Error::Post`]: the host was not signalled.
    pub fn next<'b>(&mut self, buffer: &'b mut [u8]) -> Result<Option<Event<'b, T, D>>, Error> {
        self.next_with(buffer, |_, _| ())
    }

    /// Does the same, and passes the ranges of a packet of transfer pages (type 7) to `each`: the number of the page
    /// set, and the range as the host claims it.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next).
    pub fn next_with<'b>(
        &mut self,
        buffer: &'b mut [u8],
        mut each: impl FnMut(u16, TransferPageRange),
    ) -> Result<Option<Event<'b, T, D>>, Error> {
        for _ in 0..FLOOD {
            let Some(mut packet) = self.channel.receive()? else { return Ok(None) };
            let (kind, transaction) = (packet.kind(), packet.transaction());
            let wants_completion = packet.wants_completion();
            if let Some(ranges) = packet.transfer_ranges() {
                let set = ranges.page_set();
                ranges.for_each(|range| each(set, range));
            }
            let len = packet.read(buffer);
            if kind != PacketType::COMPLETION {
                let payload = buffer.get(..len).unwrap_or(&[]);
                return Ok(Some(Event::Packet { kind, transaction, wants_completion, payload }));
            }
            if let Some((tag, data)) = self.land(transaction) {
                let payload = buffer.get(..len).unwrap_or(&[]);
                return Ok(Some(Event::Completed { tag, data, payload }));
            }
            self.strays += 1;
        }
        Err(Error::Flood)
    }

    /// Ends the request with this id.
    fn land(&mut self, id: u64) -> Option<Landed<T, D>> {
        let place = (id & ((1 << PLACE) - 1)).checked_sub(1)?;
        let flight = self.flights.get_mut(usize::try_from(place).ok()?)?;
        flight.take_if(|flight| flight.id == id).map(Flight::land)
    }

    /// Returns the direction to the host, to wait for room.
    pub fn to_host(&mut self) -> ToHost<'_, C> {
        self.channel.halves().0
    }

    /// Returns the direction from the host, to mask interrupts while polling.
    pub fn from_host(&mut self) -> FromHost<'_, C> {
        self.channel.halves().1
    }

    /// Begins to close the channel. Requests in flight come back at its end, completed or not.
    ///
    /// # Errors
    ///
    /// With the queue: [`Error::Post`].
    #[expect(clippy::result_large_err, reason = "the queue comes back, and there is no allocator to box it")]
    pub fn close<W: Wake>(
        mut self,
        client: &mut Client<'_, C, W>,
    ) -> Result<Closing<'t, D, T, DEPTH>, Returned<Self>> {
        match self.begin_close(client) {
            Ok(()) => Ok(self.into_closing()),
            Err(error) => Err(Returned { value: self, error }),
        }
    }

    /// Does the first half of [`close`](Self::close) in place, for an OS whose stack is small: it tells the host that
    /// the channel is closed. [`into_closing`](Self::into_closing) is the other half.
    ///
    /// # Errors
    ///
    /// [`Error::Post`]: the channel is still open.
    pub fn begin_close<W: Wake>(&mut self, client: &mut Client<'_, C, W>) -> Result<(), Error> {
        self.channel.begin_close(client)
    }

    /// Does the second half of [`close`](Self::close), after [`begin_close`](Self::begin_close) has succeeded: else the
    /// host never gives the rings back.
    pub fn into_closing(self) -> Closing<'t, D, T, DEPTH> {
        Closing { stage: Stage::Closed(self.channel.into_rings()), flights: self.flights }
    }
}

type Lent<D> = (Loan<D>, usize, u32);

/// Lends the host the bytes of a buffer.
fn lend<D: Dma>(buffer: Buffer<D>, direction: Direction) -> Result<Lent<D>, Returned<Buffer<D>>> {
    let Buffer { pages, offset, len } = buffer;
    match pages.lend(offset..offset.saturating_add(len as usize), direction) {
        Ok(pages) => Ok((pages, offset, len)),
        Err(returned) => Err(returned.map(|pages| Buffer { pages, offset, len })),
    }
}

enum Stage<'t, D: Dma> {
    Closed(Gpadl<'t, D>),
    TearingDown(Teardown<'t, D>),
}

/// A queue that is being closed. Dropping it leaks its memory.
#[must_use = "the memory of a queue is leaked when this is dropped"]
pub struct Closing<'t, D: Dma, T, const DEPTH: usize> {
    stage: Stage<'t, D>,
    flights: [Option<Flight<D, T>>; DEPTH],
}

impl<D: Dma, T, const DEPTH: usize> fmt::Debug for Closing<'_, D, T, DEPTH> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").finish_non_exhaustive()
    }
}

/// The rings of a queue that was closed, and the requests that were in flight, each with its memory.
pub type Closed<D, T, const DEPTH: usize> = (PageRun<D>, [Option<Landed<T, D>>; DEPTH]);

impl<D: Dma, T, C: Conduit, W: Wake, const DEPTH: usize> Request<C, W> for Closing<'_, D, T, DEPTH> {
    type Output = Closed<D, T, DEPTH>;

    /// Returns all memory once the host has torn the rings down: it does so when nothing is in flight.
    fn poll(self, client: &mut Client<'_, C, W>) -> Progress<Self, Self::Output> {
        let Self { stage, flights } = self;
        let teardown = match stage {
            Stage::TearingDown(teardown) => teardown,
            Stage::Closed(rings) => match rings.teardown(client) {
                Ok(teardown) => teardown,
                Err(returned) => {
                    return Progress::Pending(Self { stage: Stage::Closed(returned.value), flights });
                }
            },
        };
        match teardown.poll() {
            Progress::Done(rings) => Progress::Done((rings, flights.map(|flight| flight.map(Flight::land)))),
            Progress::Pending(teardown) => {
                Progress::Pending(Self { stage: Stage::TearingDown(teardown), flights })
            }
        }
    }
}
