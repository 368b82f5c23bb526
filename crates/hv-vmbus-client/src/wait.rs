//! How an OS waits for the host: it is woken, it polls, or it lends a function that waits.

use core::task::Poll;

use hv_guest::conduit::Conduit;
use hv_guest::synic::{SintIndex, Synic};
use hv_tlfs::vmbus::Version;

use crate::Error;
use crate::channel::{Channel, Open, Opening};
use crate::client::{Client, Notice};
use crate::contact::Contact;
use crate::dma::{Dma, PageRun, Returned};
use crate::gpadl::{Gpadl, Teardown};
use crate::slots::Offer;

/// Receiver of what a message changed. The OS wakes the threads or tasks that wait for it.
///
/// It is called within [`Client::take`], with whatever lock the OS holds then. `()` does nothing: for an OS that polls,
/// and for one that looks at what `take` returns.
pub trait Wake {
    /// Wakes those who wait for this.
    fn wake(&self, notice: &Notice);
}

impl Wake for () {
    fn wake(&self, _: &Notice) {}
}

impl<W: Wake + ?Sized> Wake for &W {
    fn wake(&self, notice: &Notice) {
        (**self).wake(notice);
    }
}

/// Pending answer of the host, looked at once.
#[derive(Debug)]
pub enum Progress<P, T> {
    /// It is still awaited.
    Pending(P),
    /// It has ended.
    Done(T),
}

/// Pending answer of the host.
pub trait Request<C, W>: Sized {
    /// The outcome.
    type Output;

    /// Looks whether it has ended.
    fn poll(self, client: &mut Client<'_, C, W>) -> Progress<Self, Self::Output>;
}

/// Strategy by which the OS waits in the functions of [`Client`] that block.
pub trait Wait<C, W> {
    /// Gives the client the messages that have come, and waits for the next if there are none.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], or any other error, ends the wait.
    fn wait(&mut self, client: &mut Client<'_, C, W>) -> Result<(), Error>;
}

impl<C, W, F: FnMut(&mut Client<'_, C, W>) -> Result<(), Error>> Wait<C, W> for F {
    fn wait(&mut self, client: &mut Client<'_, C, W>) -> Result<(), Error> {
        self(client)
    }
}

/// Wait that polls the message slot of a SINT, which may stay masked: for firmware, and for kernels before interrupts
/// work.
///
/// The number of looks is the limit, whatever they find: a host that sends messages without an end ends the wait too.
#[derive(Debug)]
pub struct PollSynic<'s, 'v, S> {
    synic: &'s Synic<'v, S>,
    sint: SintIndex,
    left: u64,
}

impl<'s, 'v, S: Conduit> PollSynic<'s, 'v, S> {
    /// Polls, and times out after `looks` looks.
    #[must_use]
    pub const fn new(synic: &'s Synic<'v, S>, sint: SintIndex, looks: u64) -> Self {
        Self { synic, sint, left: looks }
    }
}

impl<S: Conduit, C: Conduit, W: Wake> Wait<C, W> for PollSynic<'_, '_, S> {
    fn wait(&mut self, client: &mut Client<'_, C, W>) -> Result<(), Error> {
        self.left = self.left.checked_sub(1).ok_or(Error::TimedOut)?;
        if !deliver(self.synic, self.sint, client) {
            core::hint::spin_loop();
        }
        Ok(())
    }
}

/// Messages that [`deliver`] takes at a time. Usually there is one: the host writes the next one after the end of this
/// one.
const BATCH: usize = 64;

/// Takes the pending messages of a SINT, ends each, and gives it to the client. Returns false if there was none.
///
/// It takes at most 64, since a host may fill the slot whenever it is free. The interrupt of a message that is left has
/// been raised, so the handler runs again.
///
/// This is what the interrupt handler of the SINT does. Which channels have packets, the SINT's event flags tell:
/// [`Synic::take_events`] passes the number of each channel.
pub fn deliver<S: Conduit, C: Conduit, W: Wake>(
    synic: &Synic<'_, S>,
    sint: SintIndex,
    client: &mut Client<'_, C, W>,
) -> bool {
    let mut any = false;
    for _ in 0..BATCH {
        let Some(pending) = synic.pending(sint) else { break };
        any = true;
        let message = pending.read();
        // The status is about the next message: it comes with the next end.
        let _ = synic.end(pending);
        if let Ok(message) = message {
            client.take_message(&message);
        }
    }
    any
}

impl<'t, C: Conduit, W: Wake> Client<'t, C, W> {
    /// Waits for an answer of the host.
    ///
    /// # Errors
    ///
    /// What the OS's wait returns, with the request: it can be waited for again. Dropping it leaks its memory.
    pub fn block_on<R: Request<C, W>>(
        &mut self,
        request: R,
        os: &mut impl Wait<C, W>,
    ) -> Result<R::Output, Returned<R>> {
        let mut request = request;
        loop {
            request = match request.poll(self) {
                Progress::Done(output) => return Ok(output),
                Progress::Pending(request) => request,
            };
            if let Err(error) = os.wait(self) {
                return Err(Returned { value: request, error });
            }
        }
    }

    fn wait_for<T>(
        &mut self,
        os: &mut impl Wait<C, W>,
        mut poll: impl FnMut(&mut Self) -> Poll<Result<T, Error>>,
    ) -> Result<T, Error> {
        loop {
            match poll(self) {
                Poll::Ready(outcome) => return outcome,
                Poll::Pending => os.wait(self)?,
            }
        }
    }

    /// Repeats a call as long as it [may be retried](Error::may_retry).
    fn retry<T>(
        &mut self,
        os: &mut impl Wait<C, W>,
        mut call: impl FnMut(&mut Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match call(self) {
                Err(error) if error.may_retry() => os.wait(self)?,
                outcome => return outcome,
            }
        }
    }

    /// Makes contact, requests the offers and waits for all of them.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn connect(&mut self, contact: Contact, os: &mut impl Wait<C, W>) -> Result<Version, Error> {
        match self.contact(contact) {
            Err(error) if !error.may_retry() => return Err(error),
            _ => {}
        }
        let version = self.wait_for(os, Self::poll_contact)?;
        self.retry(os, Self::request_offers)?;
        self.wait_for(os, |client| match (client.version(), client.has_all_offers()) {
            (None, _) => Poll::Ready(Err(Error::NotConnected)),
            (_, true) => Poll::Ready(Ok(version)),
            (_, false) => Poll::Pending,
        })
    }

    /// Ends the connection and waits for the host.
    ///
    /// # Errors
    ///
    /// [`Error`].
    pub fn disconnect(&mut self, os: &mut impl Wait<C, W>) -> Result<(), Error> {
        self.retry(os, Self::unload)?;
        self.wait_for(os, |client| client.poll_unload().map(Ok))
    }

    /// Describes pages to the host, for a channel, and waits.
    ///
    /// # Errors
    ///
    /// [`Error`]. Pages that the host was told of are leaked if the OS stops waiting, else freed.
    pub fn share_pages<D: Dma>(
        &mut self,
        offer: &Offer,
        pages: PageRun<D>,
        os: &mut impl Wait<C, W>,
    ) -> Result<Gpadl<'t, D>, Error> {
        let mut pages = pages;
        let request = loop {
            match self.create_gpadl(offer.channel(), pages) {
                Ok(request) => break request,
                Err(returned) if returned.error.may_retry() => pages = returned.value,
                Err(returned) => return Err(returned.error),
            }
            os.wait(self)?;
        };
        Ok(self.block_on(request, os)??)
    }

    /// Tears a GPADL down and waits for its pages.
    ///
    /// # Errors
    ///
    /// [`Error`]: the pages are leaked.
    pub fn unshare_pages<D: Dma>(
        &mut self,
        gpadl: Gpadl<'t, D>,
        os: &mut impl Wait<C, W>,
    ) -> Result<PageRun<D>, Error> {
        let mut gpadl = gpadl;
        let teardown: Teardown<'t, D> = loop {
            match gpadl.teardown(self) {
                Ok(teardown) => break teardown,
                Err(returned) if returned.error.may_retry() => gpadl = returned.value,
                Err(returned) => return Err(returned.error),
            }
            os.wait(self)?;
        };
        Ok(self.block_on(teardown, os)?)
    }

    /// Opens a channel with rings of `ring_pages` pages each, the header's included, and waits.
    ///
    /// # Errors
    ///
    /// [`Error`]. Rings are freed where the host has given them up, else leaked.
    pub fn open_channel<D: Dma>(
        &mut self,
        offer: &Offer,
        ring_pages: usize,
        open: Open,
        dma: &D,
        os: &mut impl Wait<C, W>,
    ) -> Result<Channel<'t, D, C>, Error>
    where
        C: Clone,
    {
        let granule = D::GRANULE.max(1);
        let pages = ring_pages.checked_next_multiple_of(granule).and_then(|pages| pages.checked_mul(2));
        let rings = PageRun::new(dma, pages.ok_or(Error::Memory)?)?;
        let mut rings = self.share_pages(offer, rings, os)?;
        let opening: Opening<'t, D, C> = loop {
            match self.open(rings, &open) {
                Ok(opening) => break opening,
                Err(returned) if returned.error.may_retry() => rings = returned.value,
                Err(returned) => return self.give_up(returned, os),
            }
            os.wait(self)?;
        };
        match self.block_on(opening, os)? {
            Ok(channel) => Ok(channel),
            Err(returned) => self.give_up(returned, os),
        }
    }

    fn give_up<D: Dma, T>(
        &mut self,
        returned: Returned<Gpadl<'t, D>>,
        os: &mut impl Wait<C, W>,
    ) -> Result<T, Error> {
        self.unshare_pages(returned.value, os)?;
        Err(returned.error)
    }

    /// Closes a channel and waits until its rings are the guest's again.
    ///
    /// # Errors
    ///
    /// [`Error`]: the rings are leaked.
    pub fn close_channel<D: Dma>(
        &mut self,
        channel: Channel<'t, D, C>,
        os: &mut impl Wait<C, W>,
    ) -> Result<PageRun<D>, Error> {
        let mut channel = channel;
        let rings = loop {
            match channel.close(self) {
                Ok(rings) => break rings,
                Err(returned) if returned.error.may_retry() => channel = returned.value,
                Err(returned) => return Err(returned.error),
            }
            os.wait(self)?;
        };
        self.unshare_pages(rings, os)
    }
}
