//! The small devices as a guest sees them.

// The guest of hv-vmbus's tests, of which not all is used here.
#[allow(dead_code)]
#[path = "../../../hv-vmbus/tests/vmbus/common/mod.rs"]
mod common;
mod echo;
mod heartbeat;
