//! Integration services: small services that the host asks, each over a pipe.
//!
//! The host begins with the versions that it speaks; the guest answers with the ones it takes. Each request comes back
//! as its own answer. A [`Service`] does that much for any of them; [`Heartbeat`], [`Kvp`], [`Shutdown`] and
//! [`TimeSync`] are services.
//!
//! Sources: Linux 6.12, drivers/hv/hv_util.c, drivers/hv/channel_mgmt.c; OpenVMM, hyperv_ic_protocol.

/// What the user of a service does with any: a type over [`Service`] with these versions and this buffer.
macro_rules! service {
    ($Name:ident, $versions:expr, $buffer:expr) => {
        impl<'t, D: hv_vmbus_client::Dma, C: hv_guest::conduit::Conduit> $Name<'t, D, C> {
            /// Begins with a channel that was just opened.
            pub const fn new(channel: hv_vmbus_client::Channel<'t, D, C>) -> Self {
                Self { service: super::Service::new(channel, $versions) }
            }

            /// Returns the service, for its version and its channel.
            pub fn into_service(self) -> super::Service<'t, D, C, { $buffer }> {
                self.service
            }

            /// Returns the version agreed on.
            #[must_use]
            pub const fn version(&self) -> Option<hv_tlfs::vmbus::ic::Version> {
                self.service.version()
            }

            /// Returns whether the host has rescinded the service: as of
            /// [`Service::is_over`](super::Service::is_over).
            #[must_use]
            pub fn is_over(&self) -> bool {
                self.service.is_over()
            }
        }
    };
}

mod heartbeat;
mod kvp;
mod message;
mod shutdown;
mod time;

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::PacketType;
use hv_tlfs::vmbus::ic::Version;
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Channel, Dma, Error, FLOOD};

pub use heartbeat::Heartbeat;
pub use kvp::{Given, Kvp, Pairs, Room, Text};
pub use message::Request;
pub use shutdown::{Order, Shutdown, Stop};
pub use time::{Sample, TimeSync};

/// Versions of the framework that all services speak, the newest first (Linux 6.12, `fw_versions`).
const FRAMEWORK: &[Version] = &[Version { major: 3, minor: 0 }, Version { major: 1, minor: 0 }];

/// The guest's end of a service, for messages of at most `BUFFER` bytes.
///
/// It owns its channel: [`into_channel`](Self::into_channel) gives it back, to be closed.
pub struct Service<'t, D: Dma, C, const BUFFER: usize> {
    channel: Channel<'t, D, C>,
    versions: &'static [Version],
    agreed: Option<Version>,
    buffer: [u8; BUFFER],
    /// Bytes of an answer in the buffer that found no room, and its transaction.
    unsent: Option<(usize, u64)>,
    ignored: u64,
}

impl<D: Dma, C, const BUFFER: usize> fmt::Debug for Service<'_, D, C, BUFFER> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("channel", &self.channel)
            .field("agreed", &self.agreed)
            .field("ignored", &self.ignored)
            .finish_non_exhaustive()
    }
}

impl<'t, D: Dma, C: Conduit, const BUFFER: usize> Service<'t, D, C, BUFFER> {
    /// Begins with a channel that was just opened. `versions` are those of the service, the newest first.
    pub const fn new(channel: Channel<'t, D, C>, versions: &'static [Version]) -> Self {
        Self { channel, versions, agreed: None, buffer: [0; BUFFER], unsent: None, ignored: 0 }
    }

    /// Returns the version of the service agreed on.
    #[must_use]
    pub const fn version(&self) -> Option<Version> {
        self.agreed
    }

    /// Returns whether the host has rescinded the service: nothing more comes, and its channel is to be closed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.channel.is_over()
    }

    /// Returns the number of packets that were none of this service's, and were not answered.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Returns the channel, to be closed.
    pub fn into_channel(self) -> Channel<'t, D, C> {
        self.channel
    }

    /// Takes what the host has sent, answers it, and returns the next request, which `serve` has turned into its
    /// answer; `None` if there is none now. Negotiation is answered here. Call it until then: the room in the ring goes
    /// back to the host with the last call of a batch.
    ///
    /// `serve` returns `None` for a request that it does not know, which is not answered.
    ///
    /// # Errors
    ///
    /// [`Error`]: close the channel, unless it [may be retried](Error::may_retry): the answer waits for room in the
    /// ring.
    pub fn poll<T>(
        &mut self,
        mut serve: impl FnMut(&mut Request<'_>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.answer(|request| serve(request).map(Some))
    }

    /// Does the same for a `serve` that may answer without a result: the next request's turn comes then.
    pub(super) fn answer<T>(
        &mut self,
        mut serve: impl FnMut(&mut Request<'_>) -> Option<Option<T>>,
    ) -> Result<Option<T>, Error> {
        for _ in 0..FLOOD {
            match self.next(&mut serve) {
                Ok(Next::Result(value)) => return Ok(Some(value)),
                Ok(Next::Nothing) => {}
                Ok(Next::Empty) => return Ok(None),
                Err(error) => {
                    // The host may wait for this room before it frees room for the answer.
                    let _ = self.commit();
                    return Err(error);
                }
            }
        }
        Err(Error::Flood)
    }

    /// Gives the room of the packets that were read back to the host.
    pub(super) fn commit(&mut self) -> Result<(), Error> {
        self.channel.commit()
    }

    fn next<T>(
        &mut self,
        serve: &mut impl FnMut(&mut Request<'_>) -> Option<Option<T>>,
    ) -> Result<Next<T>, Error> {
        self.flush()?;
        let Some(mut packet) = self.channel.receive()? else { return Ok(Next::Empty) };
        let (kind, transaction, whole) = (packet.kind(), packet.transaction(), packet.left());
        let len = packet.read(&mut self.buffer);
        // A longer packet is not a message of the service.
        let message = self.buffer.get_mut(..len).filter(|_| kind == PacketType::DATA_IN_BAND && len == whole);
        let request = message.and_then(Request::judge).map(|request| request.under(self.agreed));
        let taken = match request {
            None => None,
            Some(mut request) if request.is_negotiation() => {
                self.agreed = request.negotiate(FRAMEWORK, self.versions);
                Some(None)
            }
            Some(mut request) => serve(&mut request).inspect(|_| request.answer()),
        };
        let Some(value) = taken else {
            self.ignored += 1;
            return Ok(Next::Nothing);
        };
        self.unsent = Some((len, transaction));
        match (self.flush(), value) {
            // An answer that waits for room does not hide what was asked for.
            (Err(error), Some(_)) if !error.may_retry() => Err(error),
            (_, Some(value)) => Ok(Next::Result(value)),
            (sent, None) => sent.map(|()| Next::Nothing),
        }
    }

    /// Sends an answer that found no room.
    fn flush(&mut self) -> Result<(), Error> {
        if let Some((len, transaction)) = self.unsent {
            let answer = self.buffer.get(..len).unwrap_or(&[]);
            match self.channel.send(&Outgoing::in_band(transaction, answer)) {
                // A signal that failed does not take the packet out of the ring: a second one would not be an answer.
                Ok(()) | Err(Error::Post(_)) => self.unsent = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// What a packet led to.
enum Next<T> {
    Result(T),
    /// It was answered, or is not a message of the service.
    Nothing,
    /// There is none.
    Empty,
}
