//! How the functions that block wait.

/// Strategy by which the OS waits for the host: for the channel's interrupt, or for a moment. An error ends the wait.
pub trait Wait: FnMut() -> Result<(), hv_vmbus_client::Error> {}

impl<F: FnMut() -> Result<(), hv_vmbus_client::Error>> Wait for F {}
