//! The end: the card is halted, its buffers are taken back.

use core::fmt;

use hv_guest::conduit::Conduit;
use hv_tlfs::vmbus::nvsp::{MessageType, RECEIVE_BUFFER_ID, RevokeBuffer, SEND_BUFFER_ID};
use hv_tlfs::vmbus::rndis::{HaltRequest, MessageType as RndisType};
use hv_vmbus_client::{Client, Dma, Gpadl, Progress, Request, Returned, Teardown, Wake};
use zerocopy::IntoBytes;

use super::{Buffers, Card, DEPTH, Tag, packet};

impl<'t, D: Dma, C: Conduit> Card<'t, D, C> {
    /// Halts the card and begins to close its channel. Its memory is freed at the end; frames in flight may or may not
    /// have been sent.
    ///
    /// # Errors
    ///
    /// With the card: the message was not posted.
    // A card is large for a stack: it is moved in a frame of its own.
    #[inline(never)]
    #[expect(clippy::result_large_err, reason = "the card comes back, and there is no allocator to box it")]
    pub fn close<W: Wake>(mut self, client: &mut Client<'_, C, W>) -> Result<Closing<'t, D>, Returned<Self>> {
        match self.begin_close(client) {
            Ok(()) => Ok(self.into_closing()),
            Err(error) => Err(Returned { value: self, error }),
        }
    }

    /// Does the first half of [`close`](Self::close) in place, for an OS whose stack is small.
    /// [`into_closing`](Self::into_closing) is the other half.
    ///
    /// # Errors
    ///
    /// The message was not posted.
    pub fn begin_close<W: Wake>(
        &mut self,
        client: &mut Client<'_, C, W>,
    ) -> Result<(), hv_vmbus_client::Error> {
        // As Linux does. What does not reach the host is of no use to it: the channel is closed, and a host ends its
        // use of the buffers with it.
        let halt = HaltRequest { request_id: self.request.wrapping_add(1) };
        let _ = self.control(RndisType::HALT, halt.as_bytes(), &[]);
        let revoke = |id| RevokeBuffer { id };
        if self.lent {
            let _ =
                self.queue.send(&packet(MessageType::REVOKE_RECEIVE_BUFFER, &revoke(RECEIVE_BUFFER_ID)).0);
        }
        if self.section > 0 {
            let _ = self.queue.send(&packet(MessageType::REVOKE_SEND_BUFFER, &revoke(SEND_BUFFER_ID)).0);
        }
        self.queue.begin_close(client)
    }

    /// Does the second half of [`close`](Self::close), after [`begin_close`](Self::begin_close) has succeeded.
    pub fn into_closing(self) -> Closing<'t, D> {
        let Buffers { receive, send } = self.buffers;
        Closing { queue: Some(self.queue.into_closing()), stage: Some(Stage::Shared(receive, Some(send))) }
    }
}

/// A buffer that is to be taken back, and another one after it.
enum Stage<'t, D: Dma> {
    /// The host has to be asked.
    Shared(Gpadl<'t, D>, Option<Gpadl<'t, D>>),
    TearingDown(Teardown<'t, D>, Option<Gpadl<'t, D>>),
}

/// A card that is being closed. Dropping it leaks its memory.
#[must_use = "the memory of a card is leaked when this is dropped"]
pub struct Closing<'t, D: Dma> {
    /// The rings, while they are the host's.
    queue: Option<hv_vmbus_client::Closing<'t, D, Tag, DEPTH>>,
    stage: Option<Stage<'t, D>>,
}

impl<D: Dma> fmt::Debug for Closing<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").finish_non_exhaustive()
    }
}

impl<D: Dma, C: Conduit, W: Wake> Request<C, W> for Closing<'_, D> {
    type Output = ();

    fn poll(mut self, client: &mut Client<'_, C, W>) -> Progress<Self, ()> {
        if let Some(queue) = self.queue.take()
            && let Progress::Pending(queue) = queue.poll(client)
        {
            self.queue = Some(queue);
            return Progress::Pending(self);
        }
        while let Some(stage) = self.stage.take() {
            let (stage, pending) = match stage {
                Stage::Shared(gpadl, behind) => match gpadl.teardown(client) {
                    Ok(teardown) => (Some(Stage::TearingDown(teardown, behind)), false),
                    // The next poll tries again.
                    Err(returned) => (Some(Stage::Shared(returned.value, behind)), true),
                },
                Stage::TearingDown(teardown, behind) => match teardown.poll() {
                    Progress::Done(_) => (behind.map(|gpadl| Stage::Shared(gpadl, None)), false),
                    Progress::Pending(teardown) => (Some(Stage::TearingDown(teardown, behind)), true),
                },
            };
            self.stage = stage;
            if pending {
                return Progress::Pending(self);
            }
        }
        Progress::Done(())
    }
}
