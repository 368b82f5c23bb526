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
    #[expect(clippy::result_large_err, reason = "the card comes back, and there is no allocator to box it")]
    pub fn close<W: Wake>(mut self, client: &mut Client<'_, C, W>) -> Result<Closing<'t, D>, Returned<Self>> {
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
        let Self {
            queue,
            buffers,
            state,
            version,
            mtu,
            mac,
            up,
            changed,
            lent,
            section,
            free,
            control,
            request,
            arrived,
            counts,
        } = self;
        match queue.close(client) {
            Ok(closing) => Ok(Closing(Stage::Queue(closing, buffers))),
            Err(Returned { value: queue, error }) => Err(Returned {
                value: Self {
                    queue,
                    buffers,
                    state,
                    version,
                    mtu,
                    mac,
                    up,
                    changed,
                    lent,
                    section,
                    free,
                    control,
                    request,
                    arrived,
                    counts,
                },
                error,
            }),
        }
    }
}

enum Stage<'t, D: Dma> {
    /// The rings are the host's.
    Queue(hv_vmbus_client::Closing<'t, D, Tag, DEPTH>, Buffers<'t, D>),
    /// A buffer has to be torn down, and another one behind it.
    Shared(Gpadl<'t, D>, Option<Gpadl<'t, D>>),
    TearingDown(Teardown<'t, D>, Option<Gpadl<'t, D>>),
}

/// A card that is being closed. Dropping it leaks its memory.
#[must_use = "the memory of a card is leaked when this is dropped"]
pub struct Closing<'t, D: Dma>(Stage<'t, D>);

impl<D: Dma> fmt::Debug for Closing<'_, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").finish_non_exhaustive()
    }
}

impl<D: Dma, C: Conduit, W: Wake> Request<C, W> for Closing<'_, D> {
    type Output = ();

    fn poll(self, client: &mut Client<'_, C, W>) -> Progress<Self, ()> {
        let mut stage = self.0;
        loop {
            stage = match stage {
                Stage::Queue(closing, buffers) => match closing.poll(client) {
                    Progress::Done(_) => Stage::Shared(buffers.receive, Some(buffers.send)),
                    Progress::Pending(closing) => {
                        return Progress::Pending(Self(Stage::Queue(closing, buffers)));
                    }
                },
                Stage::Shared(gpadl, behind) => match gpadl.teardown(client) {
                    Ok(teardown) => Stage::TearingDown(teardown, behind),
                    // The next poll tries again.
                    Err(returned) => return Progress::Pending(Self(Stage::Shared(returned.value, behind))),
                },
                Stage::TearingDown(teardown, behind) => match (teardown.poll(), behind) {
                    (Progress::Done(_), Some(gpadl)) => Stage::Shared(gpadl, None),
                    (Progress::Done(_), None) => return Progress::Done(()),
                    (Progress::Pending(teardown), behind) => {
                        return Progress::Pending(Self(Stage::TearingDown(teardown, behind)));
                    }
                },
            };
        }
    }
}
