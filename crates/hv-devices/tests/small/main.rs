//! The small devices as a guest sees them.

#[expect(dead_code, reason = "the guest of hv-vmbus's tests, of which a part is used here")]
#[path = "../../../hv-vmbus/tests/vmbus/common/mod.rs"]
mod common;
mod echo;
mod heartbeat;
