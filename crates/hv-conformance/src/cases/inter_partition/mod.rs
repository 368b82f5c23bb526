//! Messages, events and the SynIC.

pub(super) mod events;
pub(super) mod message_queues;
pub(super) mod messages;
pub(super) mod overlays;
pub(super) mod synic;
