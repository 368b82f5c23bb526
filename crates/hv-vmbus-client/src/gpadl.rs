//! GPADLs: pages that the host may access until they are torn down.

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_guest::page::Page;
use hv_tlfs::page::SIZE;
use hv_tlfs::vmbus::connection::MAX_MESSAGE_SIZE;
use hv_tlfs::vmbus::{
    ChannelId, GpaRange, GpadlBody, GpadlHeader, GpadlId, GpadlTeardown, MessageHeader, MessageType, NtStatus,
};
use zerocopy::IntoBytes;

use crate::Error;
use crate::client::Client;
use crate::dma::{self, Dma, PageRun, Returned, Shared};
use crate::slots::{ChannelSlot, GpadlSlot};
use crate::wait::{Progress, Request, Wake};

/// Page numbers in the header's message: 26.
const IN_HEADER: usize =
    (MAX_MESSAGE_SIZE - size_of::<GpadlHeader>() - size_of::<GpaRange>()) / size_of::<u64>();
/// Page numbers in a body's message: 28.
const IN_BODY: usize = (MAX_MESSAGE_SIZE - size_of::<GpadlBody>()) / size_of::<u64>();
/// Pages of a GPADL at most: the header counts their bytes, and those of the range, in 16 bits.
pub const MAX_PAGES: usize = (u16::MAX as usize - size_of::<GpaRange>()) / size_of::<u64>();

/// A name, and the channel that it belongs to.
#[derive(Debug)]
struct Claim<'t> {
    slot: &'t GpadlSlot,
    channel: &'t ChannelSlot,
    /// The host's access has ended, and the name is free.
    over: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if self.over {
            self.slot.free();
        } else {
            self.slot.abandon();
        }
        self.channel.let_go();
    }
}

/// A name with its pages. Dropping it leaks the pages, as [`Shared`] does.
struct NamedPages<'t, D: Dma> {
    claim: Claim<'t>,
    pages: Shared<D>,
}

/// Prints name, channel and number of pages, whatever the allocator is.
macro_rules! debug {
    ($($kind:ident)*) => {$(
        impl<D: Dma> fmt::Debug for $kind<'_, D> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($kind), self.held)
            }
        }
    )*};
}
debug! { GpadlRequest Gpadl Teardown }

impl<D: Dma> fmt::Debug for NamedPages<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} of channel {}: {:?}", self.id().0, self.claim.channel.id().0, self.pages)
    }
}

impl<D: Dma> NamedPages<'_, D> {
    fn id(&self) -> GpadlId {
        self.claim.slot.id()
    }

    /// Takes the pages back, when the host has given them up, or was never told of them.
    fn take_back(self) -> PageRun<D> {
        let Self { mut claim, pages } = self;
        claim.over = true;
        pages.take_back()
    }

    /// Returns true if the host has rescinded the channel, or ended the connection: it did so after its last access.
    fn is_over(&self) -> bool {
        self.claim.channel.is_over()
    }
}

/// A GPADL that the host was told of, or is being told of. Dropping it leaks the pages.
#[must_use = "pages that the host may access are leaked when this is dropped"]
pub struct GpadlRequest<'t, D: Dma> {
    held: NamedPages<'t, D>,
    /// Page numbers that were posted.
    posted: usize,
}

/// Pages that the host may access, by a name. Dropping it leaks the pages; [`teardown`](Self::teardown) gives them
/// back.
#[must_use = "pages that the host may access are leaked when this is dropped"]
pub struct Gpadl<'t, D: Dma> {
    held: NamedPages<'t, D>,
}

/// A GPADL that is being torn down. Dropping it leaks the pages.
#[must_use = "pages that the host may access are leaked when this is dropped"]
pub struct Teardown<'t, D: Dma> {
    held: NamedPages<'t, D>,
}

impl<'t, C: Conduit, W: Wake> Client<'t, C, W> {
    /// Begins to describe pages to the host, for a channel.
    ///
    /// # Errors
    ///
    /// With the pages: [`Error::Pages`], [`Error::UnknownChannel`], [`Error::NoSlot`], [`Error::Memory`],
    /// [`Error::Post`].
    pub fn create_gpadl<D: Dma>(
        &mut self,
        channel: ChannelId,
        pages: PageRun<D>,
    ) -> Result<GpadlRequest<'t, D>, Returned<PageRun<D>>> {
        let count = pages.pages().len();
        let (slot, channel) = match self.places(channel, count) {
            Ok(places) => places,
            Err(error) => return Err(Returned { value: pages, error }),
        };
        let pages = match pages.share() {
            Ok(pages) => pages,
            Err(returned) => {
                slot.free();
                return Err(returned);
            }
        };
        channel.hold();
        slot.created().expect();
        let mut request = GpadlRequest {
            held: NamedPages { claim: Claim { slot, channel, over: false }, pages },
            posted: 0,
        };
        match request.post(self) {
            // The host was told nothing.
            Err(error) if request.posted == 0 => Err(Returned { value: request.held.take_back(), error }),
            _ => Ok(request),
        }
    }

    fn places(
        &mut self,
        channel: ChannelId,
        pages: usize,
    ) -> Result<(&'t GpadlSlot, &'t ChannelSlot), Error> {
        if !(1..=MAX_PAGES).contains(&pages) {
            return Err(Error::Pages(pages));
        }
        let slot = self.slot(channel).filter(|slot| slot.is_live()).ok_or(Error::UnknownChannel(channel))?;
        Ok((self.claim_gpadl().ok_or(Error::NoSlot)?, slot))
    }
}

impl<'t, D: Dma> GpadlRequest<'t, D> {
    /// Posts what the host was not told yet.
    fn post<C: Conduit, W: Wake>(&mut self, client: &mut Client<'_, C, W>) -> Result<(), Error> {
        let pages = self.held.pages.pages().len();
        while self.posted < pages {
            let mut message = Message::new();
            let room = if self.posted == 0 {
                message.put(
                    GpadlHeader {
                        header: MessageHeader::new(MessageType::GPADL_HEADER),
                        channel: self.held.claim.channel.id(),
                        gpadl: self.held.id(),
                        // At most 8190 pages: the sum has 16 bits.
                        range_buffer_len: (size_of::<GpaRange>() + pages * size_of::<u64>()) as u16,
                        range_count: 1,
                    }
                    .as_bytes(),
                );
                message.put(GpaRange { byte_count: (pages * SIZE) as u32, byte_offset: 0 }.as_bytes());
                IN_HEADER
            } else {
                let header = MessageHeader::new(MessageType::GPADL_BODY);
                message.put(GpadlBody { header, message_number: 0, gpadl: self.held.id() }.as_bytes());
                IN_BODY
            };
            let end = pages.min(self.posted + room);
            for n in self.posted..end {
                message.put(self.held.pages.pfn(n).unwrap_or(0).as_bytes());
            }
            client.post(message.bytes())?;
            self.posted = end;
        }
        Ok(())
    }

    /// Posts the rest, and returns the GPADL once the host has created it, or the pages if it refuses.
    pub fn poll<C: Conduit, W: Wake>(
        mut self,
        client: &mut Client<'_, C, W>,
    ) -> Progress<Self, Result<Gpadl<'t, D>, Returned<PageRun<D>>>> {
        if self.held.is_over() {
            return Progress::Done(Err(Returned { value: self.held.take_back(), error: Error::Rescinded }));
        }
        // What could not be posted is tried again at the next poll.
        let _ = self.post(client);
        match self.held.claim.slot.created().take() {
            None => Progress::Pending(self),
            Some(NtStatus::SUCCESS) => Progress::Done(Ok(Gpadl { held: self.held })),
            Some(status) => {
                let error = Error::Refused(status);
                Progress::Done(Err(Returned { value: self.held.take_back(), error }))
            }
        }
    }
}

impl<'t, D: Dma> Gpadl<'t, D> {
    /// Returns the name, for a packet that uses it.
    #[must_use]
    pub fn id(&self) -> GpadlId {
        self.held.id()
    }

    /// Returns the pages. Their contents may change at any time: read what is to be judged once.
    #[must_use]
    pub fn pages(&self) -> &[Page] {
        self.held.pages.pages()
    }

    /// Copies bytes out of the pages, from byte `offset` on. Those of `into` that lie after the last page stay as they
    /// are.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        dma::read(self.pages(), offset, into);
    }

    /// Copies bytes into the pages, from byte `offset` on, as far as there are pages.
    pub fn write(&self, offset: usize, from: &[u8]) {
        dma::write(self.pages(), offset, from);
    }

    pub(crate) fn channel(&self) -> &'t ChannelSlot {
        self.held.claim.channel
    }

    /// Begins to take the pages back. If the channel was rescinded or the connection has ended, the host is asked
    /// nothing.
    ///
    /// # Errors
    ///
    /// With the GPADL: [`Error::Post`].
    pub fn teardown<C: Conduit, W: Wake>(
        self,
        client: &mut Client<'_, C, W>,
    ) -> Result<Teardown<'t, D>, Returned<Self>> {
        if self.held.is_over() {
            return Ok(Teardown { held: self.held });
        }
        let message = GpadlTeardown {
            header: MessageHeader::new(MessageType::GPADL_TEARDOWN),
            channel: self.held.claim.channel.id(),
            gpadl: self.id(),
        };
        let answer = self.held.claim.slot.torn_down();
        answer.expect();
        match client.post(message.as_bytes()) {
            Ok(()) => Ok(Teardown { held: self.held }),
            Err(error) => {
                answer.forget();
                Err(Returned { value: self, error })
            }
        }
    }
}

impl<D: Dma> Teardown<'_, D> {
    /// Returns the pages once the host has ended its access.
    pub fn poll(self) -> Progress<Self, PageRun<D>> {
        if self.held.is_over() || self.held.claim.slot.torn_down().take().is_some() {
            Progress::Done(self.held.take_back())
        } else {
            Progress::Pending(self)
        }
    }
}

impl<'t, D: Dma, C: Conduit, W: Wake> Request<C, W> for GpadlRequest<'t, D> {
    type Output = Result<Gpadl<'t, D>, Returned<PageRun<D>>>;

    fn poll(self, client: &mut Client<'_, C, W>) -> Progress<Self, Self::Output> {
        self.poll(client)
    }
}

impl<D: Dma, C: Conduit, W: Wake> Request<C, W> for Teardown<'_, D> {
    type Output = PageRun<D>;

    fn poll(self, _: &mut Client<'_, C, W>) -> Progress<Self, PageRun<D>> {
        self.poll()
    }
}

/// A message that is being written.
struct Message {
    bytes: [u8; MAX_MESSAGE_SIZE],
    len: usize,
}

impl Message {
    fn new() -> Self {
        Self { bytes: [0; MAX_MESSAGE_SIZE], len: 0 }
    }

    /// Appends bytes, which the constants above make fit.
    fn put(&mut self, bytes: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len();
        }
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&self.bytes)
    }
}

const _: () = assert!(IN_HEADER == 26 && IN_BODY == 28 && MAX_PAGES == 8190);
