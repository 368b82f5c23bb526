//! Channels: opening, packets both ways, and closing.

use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Poll;

use hv_guest::conduit::Conduit;
use hv_guest::connection::{PostError, signal_event};
use hv_guest::page::Page;
use hv_tlfs::synic::ConnectionId;
use hv_tlfs::vmbus::{
    ChannelId, CloseChannel, MessageHeader, MessageType, ModifyChannel, NtStatus, OpenChannel,
    OpenChannelFlags, OpenChannelSignal, TARGET_VP_NONE, USER_DEFINED_BYTES, Version,
};
use hv_tlfs::vp::VpIndex;
use zerocopy::IntoBytes;

use crate::Error;
use crate::client::Client;
use crate::dma::{Dma, Returned};
use crate::gpadl::Gpadl;
use crate::ring::{Committed, Outgoing, Packet, Receiver, Sender};
use crate::slots::Offer;
use crate::wait::{Progress, Request, Wake};

/// Offset of the flags that the guest sets, in the interrupt page of hosts before Windows 8.
const GUEST_FLAGS: usize = 2048;

/// Parameters with which a channel is opened.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    target: u32,
    user_data: [u8; USER_DEFINED_BYTES],
    pages_to_host: Option<usize>,
}

impl Open {
    /// Has the host interrupt this VP when there are packets.
    #[must_use]
    pub const fn on(vp: VpIndex) -> Self {
        Self { target: vp.0, user_data: [0; USER_DEFINED_BYTES], pages_to_host: None }
    }

    /// Has the host interrupt no VP: the guest polls.
    #[must_use]
    pub const fn polled() -> Self {
        Self::on(VpIndex(TARGET_VP_NONE))
    }

    /// Sends bytes to the device with the request.
    #[must_use]
    pub const fn with_user_data(mut self, bytes: [u8; USER_DEFINED_BYTES]) -> Self {
        self.user_data = bytes;
        self
    }

    /// Gives the ring to the host `pages` pages of the GPADL instead of half of them.
    #[must_use]
    pub const fn with_pages_to_host(mut self, pages: usize) -> Self {
        self.pages_to_host = Some(pages);
        self
    }
}

/// An open channel: a ring each way, and the way to signal the host.
///
/// It needs the [`Client`] only to be moved to another VP and to be closed. Dropping it leaks its rings, and leaves the
/// channel open.
#[must_use = "the rings of a channel are leaked when it is dropped; close it"]
pub struct Channel<'t, D: Dma, C> {
    rings: Gpadl<'t, D>,
    split: usize,
    sender: Sender,
    receiver: Receiver,
    bell: Bell<C>,
    id: ChannelId,
    target: VpIndex,
}

impl<D: Dma, C> fmt::Debug for Channel<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("id", &self.id())
            .field("rings", &self.rings)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// Means of signalling the host.
struct Bell<C> {
    conduit: C,
    connection: ConnectionId,
    /// The interrupt page, and the channel's number, for a channel without a connection of its own.
    flag: Option<(&'static Page, u32)>,
    /// The hypervisor did not take the last signal. A ring that is not empty asks for none again, so the host would
    /// never look.
    missed: AtomicBool,
}

impl<C: Conduit> Bell<C> {
    fn ring(&self) -> Result<(), Error> {
        if let Some((page, channel)) = self.flag {
            page.fetch_or_u32(GUEST_FLAGS + channel as usize / 32 * 4, 1 << (channel % 32));
        }
        let rung = signal_event(&self.conduit, self.connection, 0);
        self.missed.store(rung.is_err(), Ordering::Relaxed);
        rung.map_err(|error| Error::Post(PostError::Hypervisor(error)))
    }

    /// Signals the host where a ring asks for it, or where a signal was missed before.
    fn ring_if(&self, due: bool) -> Result<(), Error> {
        if due || self.missed.load(Ordering::Relaxed) { self.ring() } else { Ok(()) }
    }
}

fn receive<'c, C: Conduit>(
    pages: &'c [Page],
    receiver: &'c mut Receiver,
    bell: &Bell<C>,
) -> Result<Option<Packet<'c, [Page]>>, Error> {
    if !receiver.is_ready(pages)? {
        let Committed { signal, more } = receiver.commit(pages)?;
        bell.ring_if(signal)?;
        if !more {
            return Ok(None);
        }
    }
    Ok(Some(receiver.take(pages)?))
}

/// A channel that the host is being asked to open. Dropping it leaks its rings.
#[must_use = "the rings of a channel are leaked when this is dropped"]
pub struct Opening<'t, D: Dma, C> {
    channel: Channel<'t, D, C>,
}

impl<D: Dma, C> fmt::Debug for Opening<'_, D, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Opening").field(&self.channel).finish()
    }
}

impl<'t, C: Conduit, W: Wake> Client<'t, C, W> {
    /// Begins to open the channel that a GPADL was made for, with its rings in that GPADL.
    ///
    /// # Errors
    ///
    /// With the GPADL: [`Error::Rescinded`], [`Error::InUse`], [`Error::Pages`], [`Error::Post`].
    pub fn open<D: Dma>(
        &mut self,
        rings: Gpadl<'t, D>,
        open: &Open,
    ) -> Result<Opening<'t, D, C>, Returned<Gpadl<'t, D>>>
    where
        C: Clone,
    {
        let slot = rings.channel();
        if !slot.is_live() {
            return Err(Returned { value: rings, error: Error::Rescinded });
        }
        if !slot.claim() {
            return Err(Returned { value: rings, error: Error::InUse });
        }
        let offer = slot.offered();
        slot.opened().expect();
        let split = open.pages_to_host.unwrap_or(rings.pages().len() / 2);
        match self.begin(&rings, split, &offer, open) {
            Ok((sender, receiver)) => {
                let bell = self.bell(&offer);
                let target = VpIndex(open.target);
                Ok(Opening {
                    channel: Channel { rings, split, sender, receiver, bell, id: offer.channel, target },
                })
            }
            Err(error) => {
                slot.opened().forget();
                slot.unclaim();
                Err(Returned { value: rings, error })
            }
        }
    }

    /// Empties the rings and posts OPENCHANNEL.
    fn begin<D: Dma>(
        &mut self,
        rings: &Gpadl<'_, D>,
        split: usize,
        offer: &Offer,
        open: &Open,
    ) -> Result<(Sender, Receiver), Error> {
        let pages = rings.pages();
        let error = |_| Error::Pages(pages.len());
        let (to_host, from_host) = pages.split_at_checked(split).ok_or(Error::Pages(pages.len()))?;
        let sender = Sender::new(to_host).map_err(error)?;
        let receiver = Receiver::new(from_host).map_err(error)?;
        let channel = offer.channel;
        let request = OpenChannel {
            header: MessageHeader::new(MessageType::OPEN_CHANNEL),
            channel,
            // Linux sends the channel's number, and so no two requests in flight have the same.
            open_id: channel.0,
            ring_gpadl: rings.id(),
            target_vp: open.target,
            downstream_page_offset: split as u32,
            user_data: open.user_data,
        };
        if self.features().guest_specified_signal() {
            let signal = OpenChannelSignal {
                open: request,
                connection: offer.connection,
                // A channel's number is below 2048.
                event_flag: channel.0 as u16,
                flags: OpenChannelFlags(0),
            };
            self.post(signal.as_bytes())?;
        } else {
            self.post(request.as_bytes())?;
        }
        Ok((sender, receiver))
    }

    fn bell(&self, offer: &Offer) -> Bell<C>
    where
        C: Clone,
    {
        let page = self.interrupt_page().filter(|_| !offer.is_dedicated);
        Bell {
            conduit: self.conduit().clone(),
            connection: ConnectionId(offer.connection),
            flag: page.map(|page| (page, offer.channel.0)),
            missed: AtomicBool::new(false),
        }
    }
}

/// Outcome of a request to open a channel: the channel, or the GPADL of its rings.
pub type Opened<'t, D, C> = Result<Channel<'t, D, C>, Returned<Gpadl<'t, D>>>;

impl<'t, D: Dma, C: Conduit> Opening<'t, D, C> {
    /// Returns the channel once the host has opened it, or its GPADL if it refuses.
    pub fn poll(self) -> Progress<Self, Opened<'t, D, C>> {
        let slot = self.channel.rings.channel();
        let error = match slot.opened().take() {
            Some(NtStatus::SUCCESS) => return Progress::Done(Ok(self.channel)),
            Some(status) => Error::Refused(status),
            None if slot.is_over() => Error::Rescinded,
            None => return Progress::Pending(self),
        };
        slot.unclaim();
        Progress::Done(Err(Returned { value: self.channel.rings, error }))
    }
}

impl<'t, D: Dma, C: Conduit, W: Wake> Request<C, W> for Opening<'t, D, C> {
    type Output = Opened<'t, D, C>;

    fn poll(self, _: &mut Client<'_, C, W>) -> Progress<Self, Self::Output> {
        self.poll()
    }
}

impl<'t, D: Dma, C: Conduit> Channel<'t, D, C> {
    /// Sends a packet, and signals the host where the rules of the ring ask for it.
    ///
    /// # Errors
    ///
    /// As [`ToHost::send`].
    pub fn send(&mut self, packet: &Outgoing<'_>) -> Result<(), Error> {
        self.halves().0.send(packet)
    }

    /// Returns the next packet from the host. If there is none, gives the room of those before back to the host, looks
    /// once more, and returns `None`: an interrupt comes with the next one.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`]: the channel is dead. [`Error::Post`]: the host was not signalled; the next call tries again.
    pub fn receive(&mut self) -> Result<Option<Packet<'_, [Page]>>, Error> {
        let from_host = self.rings.pages().get(self.split..).unwrap_or(&[]);
        receive(from_host, &mut self.receiver, &self.bell)
    }

    /// Gives the room of the packets that were received back to the host before the ring is empty, and signals it if it
    /// waits for room.
    ///
    /// # Errors
    ///
    /// As [`FromHost::commit`].
    pub fn commit(&mut self) -> Result<(), Error> {
        self.halves().1.commit()
    }

    /// Returns the two directions, which two contexts may use at the same time.
    pub fn halves(&mut self) -> (ToHost<'_, C>, FromHost<'_, C>) {
        let over = self.rings.channel().is_over();
        let (to_host, from_host) = self.rings.pages().split_at(self.split);
        let bell = &self.bell;
        (
            ToHost { pages: to_host, sender: &mut self.sender, bell, over },
            FromHost { pages: from_host, receiver: &mut self.receiver, bell },
        )
    }
}

impl<'t, D: Dma, C> Channel<'t, D, C> {
    /// Returns the channel's number, which is also its event flag.
    #[must_use]
    pub fn id(&self) -> ChannelId {
        self.id
    }

    /// Returns the offer that the channel was opened from.
    #[must_use]
    pub fn offer(&self) -> Offer {
        self.rings.channel().offered()
    }

    /// Returns the VP that the host interrupts.
    #[must_use]
    pub fn target(&self) -> VpIndex {
        self.target
    }

    /// Returns true if the host has rescinded the channel, or the connection has ended: no further packet arrives.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.rings.channel().is_over()
    }
}

impl<'t, D: Dma, C: Conduit> Channel<'t, D, C> {
    /// Has the host interrupt another VP. From version 5.3 on it answers, and [`poll_target`](Self::poll_target) tells
    /// when the former VP gets no further interrupts; in older versions the two may overlap.
    ///
    /// # Errors
    ///
    /// [`Error::Version`] before version 4.1; [`Error::Rescinded`], [`Error::Post`].
    pub fn set_target<W: Wake>(&mut self, client: &mut Client<'_, C, W>, vp: VpIndex) -> Result<(), Error> {
        let version = client.version().ok_or(Error::NotConnected)?;
        if version < Version::V4_1 {
            return Err(Error::Version);
        }
        if self.is_over() {
            return Err(Error::Rescinded);
        }
        let answer = self.rings.channel().modified();
        let header = MessageHeader::new(MessageType::MODIFY_CHANNEL);
        if version >= Version::V5_3 {
            answer.expect();
        }
        let message = ModifyChannel { header, channel: self.id(), target_vp: vp.0 };
        match client.post(message.as_bytes()) {
            Ok(()) => {
                self.target = vp;
                Ok(())
            }
            Err(error) => {
                answer.forget();
                Err(error)
            }
        }
    }

    /// Returns once the host has answered [`set_target`](Self::set_target), from version 5.3 on.
    pub fn poll_target(&mut self) -> Poll<Result<(), Error>> {
        match self.rings.channel().modified().take() {
            Some(NtStatus::SUCCESS) => Poll::Ready(Ok(())),
            Some(status) => Poll::Ready(Err(Error::Refused(status))),
            None if self.is_over() => Poll::Ready(Err(Error::Rescinded)),
            None => Poll::Pending,
        }
    }

    /// Closes the channel. Its rings are the guest's again when the GPADL is torn down. Close sub-channels first.
    ///
    /// # Errors
    ///
    /// With the channel: [`Error::Post`].
    #[expect(
        clippy::result_large_err,
        reason = "the channel comes back, and there is no allocator to box it"
    )]
    pub fn close<W: Wake>(self, client: &mut Client<'_, C, W>) -> Result<Gpadl<'t, D>, Returned<Self>> {
        match self.begin_close(client) {
            Ok(()) => Ok(self.into_rings()),
            Err(error) => Err(Returned { value: self, error }),
        }
    }

    /// Tells the host that the channel is closed.
    pub(crate) fn begin_close<W: Wake>(&self, client: &mut Client<'_, C, W>) -> Result<(), Error> {
        let slot = self.rings.channel();
        // After a rescind Linux closes as well; after the end of the connection there is nothing to close.
        if !slot.is_known() {
            return Ok(());
        }
        let header = MessageHeader::new(MessageType::CLOSE_CHANNEL);
        let message = CloseChannel { header, channel: self.id() };
        match client.post(message.as_bytes()) {
            Err(Error::NotConnected) if slot.is_over() => Ok(()),
            posted => posted,
        }
    }

    /// Returns the rings of a channel that was closed.
    pub(crate) fn into_rings(self) -> Gpadl<'t, D> {
        self.rings.channel().unclaim();
        self.rings
    }
}

/// The direction to the host.
pub struct ToHost<'c, C> {
    pages: &'c [Page],
    sender: &'c mut Sender,
    bell: &'c Bell<C>,
    over: bool,
}

impl<C: Conduit> ToHost<'_, C> {
    /// Sends a packet, and signals the host where the rules of the ring ask for it.
    ///
    /// # Errors
    ///
    /// [`Error::Send`]: nothing was sent. [`Error::Rescinded`]; [`Error::Ring`]: the channel is dead. [`Error::Post`]:
    /// the packet is in the ring, but the host was not signalled: the next packet or [`FromHost::commit`] does that, or
    /// [`signal`](Self::signal).
    pub fn send(&mut self, packet: &Outgoing<'_>) -> Result<(), Error> {
        if self.over {
            return Err(Error::Rescinded);
        }
        self.bell.ring_if(self.sender.send(self.pages, packet)?)
    }

    /// Asks the host for a signal once `bytes` bytes are free. Returns true if they are free already.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`]: the channel is dead.
    pub fn wait_for(&mut self, bytes: u32) -> Result<bool, Error> {
        Ok(self.sender.wait_for(self.pages, bytes)?)
    }

    /// Signals the host.
    ///
    /// # Errors
    ///
    /// [`Error::Post`].
    pub fn signal(&self) -> Result<(), Error> {
        self.bell.ring()
    }
}

impl<C> fmt::Debug for ToHost<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ToHost").field("sender", &self.sender).finish_non_exhaustive()
    }
}

impl<C> fmt::Debug for FromHost<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromHost").field("receiver", &self.receiver).finish_non_exhaustive()
    }
}

/// The direction from the host.
pub struct FromHost<'c, C> {
    pages: &'c [Page],
    receiver: &'c mut Receiver,
    bell: &'c Bell<C>,
}

impl<C: Conduit> FromHost<'_, C> {
    /// Returns the next packet from the host. If there is none, gives the room of those before back to the host, looks
    /// once more, and returns `None`: an interrupt comes with the next one.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`]: the channel is dead. [`Error::Post`]: the host was not signalled; the next call tries again.
    pub fn receive(&mut self) -> Result<Option<Packet<'_, [Page]>>, Error> {
        receive(self.pages, self.receiver, self.bell)
    }

    /// Gives the room of the packets that were received back to the host before the ring is empty, and signals it if it
    /// waits for room, or if the hypervisor has not taken a signal before.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`]: the channel is dead. [`Error::Post`]: the host was not signalled; the next call tries again.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.bell.ring_if(self.receiver.commit(self.pages)?.signal)
    }

    /// Asks the host for no interrupts, while the guest reads a batch or polls.
    pub fn mask(&mut self) {
        self.receiver.mask(self.pages);
    }

    /// Asks the host for interrupts again. Returns true if there is a packet already, for which no interrupt may come:
    /// read on.
    ///
    /// # Errors
    ///
    /// [`Error::Ring`]: the channel is dead.
    pub fn unmask(&mut self) -> Result<bool, Error> {
        Ok(self.receiver.unmask(self.pages)?)
    }
}
