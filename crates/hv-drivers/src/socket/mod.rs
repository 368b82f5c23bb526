//! Hyper-V sockets: streams of bytes between the guest and programs of the host, a channel for each.
//!
//! The guest connects with [`connect`], and the host with an offer, which [`incoming`] finds. Either way the channel is
//! opened as any other, and a [`Stream`] made of it. The feature `embedded-io` has the traits of that crate over a
//! stream and a function that waits.
//!
//! A direction ends with [`finish`](Stream::finish). When both have ended the host rescinds the channel, which is then
//! closed and released.
//!
//! Sources: Linux 6.12, net/vmw_vsock/hyperv_transport.c; OpenVMM, vmbus_server/src/hvsock.rs.

#[cfg(feature = "embedded-io")]
mod io;

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::ic::PipeHeader;
use hv_tlfs::vmbus::socket::{LINUX_PAYLOAD, MAX_PAYLOAD, Parameters};
use hv_tlfs::vmbus::{Guid, PacketType};
use hv_vmbus_client::ring::Outgoing;
use hv_vmbus_client::{Channel, Client, Dma, Offer, Wake};
use zerocopy::{FromBytes, IntoBytes};

#[cfg(feature = "embedded-io")]
pub use io::Blocking;

/// Kind of a pipe's packets that carry data (Linux 6.12, `vmpipe_proto_header`).
const DATA: u32 = 1;
/// Bytes of a packet's header.
const HEADER: usize = size_of::<PipeHeader>();
/// Bytes of the longest payload.
const LONGEST: usize = MAX_PAYLOAD as usize;
/// Bytes of a stream that a packet of this guest's carries at most, as one of Linux's.
const SEND: usize = LINUX_PAYLOAD as usize;

/// Reason why a stream failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The channel failed.
    Client(hv_vmbus_client::Error),
    /// The host has sent what is not a packet of a stream.
    Malformed,
    /// The guest's direction was finished.
    Finished,
}

channel_error!(Error);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(error) => error.fmt(f),
            Self::Malformed => f.write_str("malformed packet of a stream from the host; close the channel"),
            Self::Finished => f.write_str("this direction of the stream was finished before"),
        }
    }
}

/// Requests a stream to a service of the host. It is offered as a channel whose instance is `endpoint`, a GUID that no
/// other stream has: [`offered`] finds it. If the host refuses there is a
/// [`Notice::SocketRefused`](hv_vmbus_client::Notice::SocketRefused).
///
/// # Errors
///
/// As of [`Client::connect_socket`].
pub fn connect<C: Conduit, W: Wake>(
    client: &mut Client<'_, C, W>,
    endpoint: Guid,
    service: Guid,
) -> Result<(), hv_vmbus_client::Error> {
    client.connect_socket(endpoint, service)
}

/// Returns the offer of a stream that the guest has requested.
pub fn offered<C, W>(client: &Client<'_, C, W>, endpoint: Guid, service: Guid) -> Option<Offer> {
    let is = |offer: &Offer| offer.device().instance == endpoint && offer.device().interface == service;
    client.offers().find(|offer| is(offer) && offer.device().flags.socket() && !host_connects(offer))
}

/// Returns an offer by which the host connects to a service of the guest's
/// ([`service`](hv_tlfs::vmbus::socket::service) is that of a port), if its channel is not open yet. `is_open` tells.
pub fn incoming<C, W>(
    client: &Client<'_, C, W>,
    service: Guid,
    mut is_open: impl FnMut(&Offer) -> bool,
) -> Option<Offer> {
    let wanted = |offer: &Offer| offer.device().flags.socket() && offer.device().interface == service;
    client.offers().find(|offer| wanted(offer) && host_connects(offer) && !is_open(offer))
}

/// Returns true if it is the host that connects.
fn host_connects(offer: &Offer) -> bool {
    let parameters = Parameters::read_from_prefix(&offer.device().user_defined);
    parameters.is_ok_and(|(parameters, _)| parameters.host_connects == 1)
}

/// A stream of bytes in both directions. It has a buffer of 16 KiB, the longest packet.
#[must_use = "the rings of a stream are leaked when it is dropped; close its channel"]
pub struct Stream<'t, D: Dma, C> {
    channel: Channel<'t, D, C>,
    buffer: [u8; LONGEST],
    /// Which bytes of the buffer were not read yet.
    unread: core::ops::Range<usize>,
    /// The host has ended its direction; the guest has.
    ended: bool,
    finished: bool,
    /// The host has sent what is not a packet of a stream: bytes are missing for good.
    broken: bool,
}

impl<D: Dma, C> fmt::Debug for Stream<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("channel", &self.channel)
            .field("unread", &self.unread)
            .field("ended", &self.ended)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

impl<'t, D: Dma, C: Conduit> Stream<'t, D, C> {
    /// Begins with a channel that was just opened. Rings of 8 pages each way are as long as Linux's.
    pub const fn new(channel: Channel<'t, D, C>) -> Self {
        Self { channel, buffer: [0; LONGEST], unread: 0..0, ended: false, finished: false, broken: false }
    }

    /// Reads bytes, and returns how many; 0 if the host has ended its direction; `None` if there are none now.
    ///
    /// # Errors
    ///
    /// [`Error`]: close the channel. After [`Error::Malformed`] each call of this and of [`write`](Self::write) returns
    /// it.
    pub fn read(&mut self, into: &mut [u8]) -> Result<Option<usize>, Error> {
        while self.unread.is_empty() {
            self.intact()?;
            if self.ended {
                return Ok(Some(0));
            }
            let received = self.receive();
            self.broken = received == Err(Error::Malformed);
            if !received? {
                // A host that has gone without an end has ended it anyway.
                self.ended = self.channel.is_over();
                return Ok(self.ended.then_some(0));
            }
        }
        let unread = self.buffer.get(self.unread.clone()).unwrap_or(&[]);
        let len = unread.len().min(into.len());
        into.iter_mut().zip(unread).for_each(|(place, byte)| *place = *byte);
        self.unread.start += len;
        Ok(Some(len))
    }

    const fn intact(&self) -> Result<(), Error> {
        if self.broken { Err(Error::Malformed) } else { Ok(()) }
    }

    /// Takes the next packet into the buffer, which has been read. Returns false if there is none.
    fn receive(&mut self) -> Result<bool, Error> {
        let Some(mut packet) = self.channel.receive()? else { return Ok(false) };
        if packet.kind() != PacketType::DATA_IN_BAND {
            return Err(Error::Malformed);
        }
        let header: PipeHeader = packet.take().ok_or(Error::Malformed)?;
        let len = header.message_size as usize;
        // The packet is padded after its data.
        if header.packet_type != DATA || len > packet.left() {
            return Err(Error::Malformed);
        }
        let room = self.buffer.get_mut(..len).ok_or(Error::Malformed)?;
        packet.read(room);
        self.unread = 0..len;
        self.ended = len == 0;
        self.channel.commit()?;
        Ok(true)
    }

    /// Writes bytes, and returns how many the host has room for; 0 if it has none now: it signals when it has.
    ///
    /// # Errors
    ///
    /// [`Error`]: close the channel. [`Error::Finished`] behind [`finish`](Self::finish).
    pub fn write(&mut self, from: &[u8]) -> Result<usize, Error> {
        let mut written = 0;
        for part in from.chunks(SEND) {
            if !self.send(part)? {
                break;
            }
            written += part.len();
        }
        Ok(written)
    }

    /// Ends the guest's direction. Returns false if there is no room for that now.
    ///
    /// # Errors
    ///
    /// As of [`write`](Self::write).
    pub fn finish(&mut self) -> Result<bool, Error> {
        if !self.finished {
            self.finished = self.send(&[])?;
        }
        Ok(self.finished)
    }

    /// Sends a packet; without bytes it is the end.
    fn send(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        self.intact()?;
        if self.finished {
            return Err(Error::Finished);
        }
        let header = PipeHeader { packet_type: DATA, message_size: bytes.len() as u32 };
        let mut packet = [0; HEADER + SEND];
        let len = HEADER + bytes.len();
        let parts = header.as_bytes().iter().chain(bytes);
        packet.iter_mut().zip(parts).for_each(|(place, byte)| *place = *byte);
        let outgoing = Outgoing::in_band(0, packet.get(..len).unwrap_or(&packet));
        let total = outgoing.total().map_err(hv_vmbus_client::Error::from)?;
        loop {
            match self.channel.send(&outgoing) {
                // A signal that failed does not take the packet out of the ring.
                Ok(()) | Err(hv_vmbus_client::Error::Post(_)) => return Ok(true),
                Err(error) if error.may_retry() => {
                    if !self.channel.halves().0.wait_for(total)? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Returns true if both directions have ended, or the host has rescinded the stream.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.channel.is_over() || (self.ended && self.finished)
    }

    /// Returns the channel.
    pub const fn channel(&self) -> &Channel<'t, D, C> {
        &self.channel
    }

    /// Returns the channel, to be closed.
    pub fn into_channel(self) -> Channel<'t, D, C> {
        self.channel
    }
}
