//! Requests in flight.

use crate::id::Token;
use crate::packet::Data;
use hv_tlfs::time::ReferenceTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// The back end had no room, or has not been called yet.
    Queued,
    /// It is held back by an injected fault ([`BusFaults::starts`](crate::BusFaults::starts)).
    Held,
    /// The back end is working on it.
    Flying,
}

/// A request, or room for one: all but what is requested, whose type is the device's.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) state: State,
    /// Counts the requests in this slot: a token identifies one of them.
    pub(crate) generation: u32,
    /// Sequence number: requests are started in the order in which they were made.
    pub(crate) order: u32,
    /// Reference time at which a held request is started.
    pub(crate) until: ReferenceTime,
    /// A held request is started when another one is done.
    pub(crate) after: bool,
    /// Reference time of the call in which its packet was taken.
    pub(crate) since: ReferenceTime,
    pub(crate) line: usize,
    pub(crate) session: u32,
    pub(crate) transaction: u64,
    pub(crate) wanted: bool,
    pub(crate) answered: bool,
    pub(crate) reserved: u32,
    pub(crate) ranges: u32,
    pub(crate) data: Data,
    /// GPADL of the channel's rings, held.
    pub(crate) rings: usize,
    /// GPADL of the data, held.
    pub(crate) gpadl: Option<usize>,
}

impl Entry {
    pub(crate) const FREE: Self = Self {
        state: State::Free,
        generation: 0,
        order: 0,
        until: ReferenceTime::ZERO,
        after: false,
        since: ReferenceTime::ZERO,
        line: 0,
        session: 0,
        transaction: 0,
        wanted: false,
        answered: false,
        reserved: 0,
        ranges: 0,
        data: Data::NONE,
        rings: 0,
        gpadl: None,
    };

    /// Has the next request here get another token than the last one: the back end's word on that one is used up.
    #[inline]
    pub(crate) fn renew(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Returns the token of the request that is here, or will be: the slot in the lower half, and the count in the
    /// upper. It is never 0.
    pub(crate) fn token(&self, at: usize) -> Token {
        Token(u64::from(self.generation) << 32 | (at as u64 + 1))
    }
}
