//! One connection.

use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vmbus::Guid;

/// Name of a connection: its channel, and a count of the connections that the channel has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// Returns the name as a number, for the back end to store.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Returns the name with this number. One that no connection has is ignored.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        Self(number)
    }

    pub(super) const fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No connection.
    Free,
    /// The guest connects, and the host has not answered.
    Connecting {
        /// The guest's end.
        endpoint: Guid,
    },
    /// The channel is offered, and the guest has not been told that it is open.
    Offered {
        /// The back end's name for it, if the host connects.
        request: Option<u32>,
        /// The host's port, if the host connects.
        own: u32,
    },
    Open,
    /// The channel is being rescinded, and the guest has not released it.
    Closing,
    /// It was restored, and is to be reset.
    Restored,
}

/// What the host has to be told about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags(u8);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    /// The guest connects.
    pub(super) const CONNECT: Self = Self(1);
    /// The host's connection is open.
    pub(super) const OPENED: Self = Self(2);
    /// There is credit to grant.
    pub(super) const CREDIT: Self = Self(4);
    /// The guest has ended its direction.
    pub(super) const FINISHED: Self = Self(8);
    /// The connection has ended.
    pub(super) const ENDED: Self = Self(16);
    /// The host's connection was refused.
    pub(super) const REFUSED: Self = Self(32);

    pub(super) fn add(&mut self, flag: Self) {
        self.0 |= flag.0;
    }

    pub(super) const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    pub(super) fn remove(&mut self, flag: Self) {
        self.0 &= !flag.0;
    }
}

/// A connection, or room for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) state: State,
    /// Counts the connections of the channel.
    generation: u16,
    pub(super) flags: Flags,
    /// The guest has ended its direction.
    pub(super) guest_done: bool,
    /// The host has ended its direction.
    pub(super) host_done: bool,
    /// Port of the service.
    pub(super) port: u32,
    /// Reference time at which a connection that is not open yet has timed out.
    pub(super) due: ReferenceTime,
    /// Names of the host's connection: the back end's, and the port. They outlive the state.
    pub(super) request: u32,
    pub(super) own: u32,
    /// Bytes of the ring to the guest when it is empty.
    pub(super) ring: u32,
    /// Bytes of it that were granted to the host and are not used.
    pub(super) granted: u32,
    /// The part of them of which the host has not been told.
    pub(super) credit: u32,
    /// Bytes that the guest has sent and the host has given no credit for.
    pub(super) used: u32,
    /// Bytes of it that are in the output.
    pub(super) queued: u32,
}

impl Stream {
    pub(super) const FREE: Self = Self {
        state: State::Free,
        generation: 0,
        flags: Flags::NONE,
        guest_done: false,
        host_done: false,
        port: 0,
        due: ReferenceTime::ZERO,
        request: 0,
        own: 0,
        ring: 0,
        granted: 0,
        credit: 0,
        used: 0,
        queued: 0,
    };

    /// Returns its name; `at` is its index.
    pub(super) const fn id(&self, at: usize) -> StreamId {
        StreamId((self.generation as u32) << 16 | at as u32)
    }

    /// Returns true if a new connection can begin: there is none, and the host has been told everything about the last
    /// one.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Free && self.flags == Flags::NONE && self.queued == 0
    }

    /// Begins a connection.
    pub(super) fn begin(&mut self, state: State, port: u32, due: ReferenceTime) {
        let generation = self.generation.wrapping_add(1);
        let (request, own) = match state {
            State::Offered { request: Some(request), own } => (request, own),
            _ => (0, 0),
        };
        *self = Self { state, generation, port, due, request, own, ..Self::FREE };
    }

    /// Ends it. What the host has to be told stays.
    pub(super) fn free(&mut self) {
        self.state = State::Free;
    }

    /// Returns what the host must be told if the connection ends now.
    pub(super) fn ending(&self) -> Flags {
        match self.state {
            State::Offered { request: Some(_), .. } => Flags::REFUSED,
            State::Free | State::Closing | State::Restored => Flags::NONE,
            _ => Flags::ENDED,
        }
    }
}
