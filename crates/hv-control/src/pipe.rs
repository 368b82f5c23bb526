//! A byte stream to the tool, and what serves one.

use core::fmt::Display;

use hv_partition::RawMutex;

use crate::link::Link;
use crate::machine::{Machine, Serves};

/// A byte stream to the tool and from it. It never waits.
pub trait Pipe {
    /// Reason why it is unusable for good.
    type Broken: Display;

    /// Returns the number of bytes that [`write`](Self::write) takes now.
    ///
    /// # Errors
    /// The stream is unusable.
    fn room(&mut self) -> Result<usize, Self::Broken>;

    /// Reads bytes that have come, and returns their number: 0 if there are none.
    ///
    /// # Errors
    /// The stream is unusable.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Self::Broken>;

    /// Writes bytes, for all of which there is room.
    ///
    /// # Errors
    /// The stream is unusable.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Broken>;

    /// Sends what was written, as far as the other end takes it, which may make room. The embedder calls the port again
    /// when more of it can be sent.
    fn flush(&mut self);
}

/// A port to the tool.
pub trait Port {
    /// Its stream.
    type Pipe: Pipe;

    /// Returns its end of the stream.
    fn link(&mut self) -> &mut Link<Self::Pipe>;

    /// Handles what the tool has sent, and sends what there is for it. Returns true if there may be more: call it
    /// again.
    fn serve<R, H, const REQUESTS: usize>(&mut self, machine: &Machine<'_, R, H, REQUESTS>) -> bool
    where
        R: RawMutex,
        H: Serves;
}
