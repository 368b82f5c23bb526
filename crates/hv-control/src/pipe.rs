//! A byte stream to the tool.

use core::fmt::Display;

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

    /// Sends what was written.
    fn flush(&mut self);
}
