//! The traits of embedded-io over a stream.

use hv_guest::conduit::Conduit;
use hv_vmbus_client::Dma;

use super::{Error, Stream};
use crate::Wait;

/// A stream, and a function that waits for its channel's interrupt.
#[derive(Debug)]
pub struct Blocking<'s, 't, D: Dma, C, W> {
    /// The stream.
    pub stream: &'s mut Stream<'t, D, C>,
    /// Waits.
    pub wait: W,
}

impl embedded_io::Error for Error {
    fn kind(&self) -> embedded_io::ErrorKind {
        match self {
            Self::Client(hv_vmbus_client::Error::TimedOut) => embedded_io::ErrorKind::TimedOut,
            Self::Client(hv_vmbus_client::Error::Rescinded) => embedded_io::ErrorKind::ConnectionReset,
            Self::Client(_) => embedded_io::ErrorKind::Other,
            Self::Malformed => embedded_io::ErrorKind::InvalidData,
            Self::Finished => embedded_io::ErrorKind::BrokenPipe,
        }
    }
}

impl<D: Dma, C, W> embedded_io::ErrorType for Blocking<'_, '_, D, C, W> {
    type Error = Error;
}

impl<D: Dma, C: Conduit, W: Wait> embedded_io::Read for Blocking<'_, '_, D, C, W> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            match self.stream.read(into)? {
                Some(len) => return Ok(len),
                None => (self.wait)()?,
            }
        }
    }
}

impl<D: Dma, C: Conduit, W: Wait> embedded_io::Write for Blocking<'_, '_, D, C, W> {
    fn write(&mut self, from: &[u8]) -> Result<usize, Error> {
        loop {
            match self.stream.write(from)? {
                0 if !from.is_empty() => (self.wait)()?,
                len => return Ok(len),
            }
        }
    }

    /// Has nothing to do: what was written is in the ring.
    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
