//! Bytes on their way to a socket.

use std::io::{ErrorKind, Write};

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Outlet {
    bytes: Vec<u8>,
    /// Number of bytes already written.
    done: usize,
}

impl Outlet {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.done
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes as much as the socket takes, and returns how much that was.
    pub(super) fn write(&mut self, socket: &mut impl Write) -> std::io::Result<usize> {
        let before = self.done;
        let outcome = loop {
            match self.bytes.get(self.done..).unwrap_or_default() {
                [] => break Ok(()),
                rest => match socket.write(rest) {
                    Ok(0) => break Err(ErrorKind::WriteZero.into()),
                    Ok(bytes) => self.done += bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                },
            }
        };
        let written = self.done - before;
        // What is written goes, but not for every few bytes of it.
        if self.done == self.bytes.len() || self.done > 64 << 10 {
            self.bytes.drain(..self.done);
            self.done = 0;
        }
        outcome.map(|()| written)
    }
}
