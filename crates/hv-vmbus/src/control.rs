//! The connection and the answers that are pending: what the bus's lock protects.

use crate::image;
use crate::optional::Optional;
use crate::outbox::{ContactAnswer, Outbox};
use crate::protocol::{FeatureFlags, Version};

/// An established connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connection {
    pub(crate) version: Version,
    pub(crate) features: FeatureFlags,
    pub(crate) offers_requested: bool,
}

/// State protected by the bus's lock.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) connection: Optional<Connection>,
    /// VP that gets the messages.
    pub(crate) vp: u32,
    pub(crate) outbox: Outbox,
    /// The end of the offers has yet to be announced.
    pub(crate) offers_end: bool,
    /// The answer to send once nothing is in flight.
    pub(crate) ending: Optional<Ending>,
    pub(crate) rejected: u64,
    /// A channel or a page list has pending work in its state.
    pub(crate) changes: bool,
}

impl Control {
    pub(crate) const fn new() -> Self {
        Self {
            connection: Optional::None,
            vp: 0,
            outbox: Outbox::new(),
            offers_end: false,
            ending: Optional::None,
            rejected: 0,
            changes: false,
        }
    }
}

/// A message that ends or starts a connection, and is answered only when nothing of the old one is in flight: the
/// answer tells the guest that its memory is its own again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending {
    Contact(ContactAnswer, Option<Connection>),
    Unload,
}

image::fields!(Connection { version, features, offers_requested });
image::variants!(Ending, "end of a connection" { 0 => Contact(answer, next), 1 => Unload });
