//! A port's end of its stream: frames of the tool's come, messages go.

use core::fmt;

use hv_wire::control::{Assembler, FrameHead, MAX_FRAME};

use crate::pipe::Pipe;

/// Reason why a port is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost<B> {
    /// The tool sent what is not a frame.
    Frame,
    /// The stream is broken.
    Broken(B),
}

impl<B: fmt::Display> fmt::Display for Lost<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame => f.write_str("invalid frame from the tool"),
            Self::Broken(broken) => broken.fmt(f),
        }
    }
}

/// A frame: its head and its body.
type Frame<'a> = (FrameHead, &'a [u8]);

/// A port's end of its stream.
#[derive(Debug)]
pub struct Link<P> {
    pipe: P,
    incoming: Assembler,
    outgoing: [u8; MAX_FRAME],
    /// Room that was missing since [`begin`](Self::begin), or 0.
    missed: usize,
    /// The port is unusable.
    lost: bool,
}

impl<P: Pipe> Link<P> {
    pub(crate) const fn new(pipe: P) -> Self {
        Self { pipe, incoming: Assembler::new(), outgoing: [0; MAX_FRAME], missed: 0, lost: false }
    }

    /// Returns the stream.
    pub const fn pipe(&mut self) -> &mut P {
        &mut self.pipe
    }

    /// Returns true if the port is unusable: the tool has sent what is not a frame, or the stream is broken.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.lost
    }

    /// Returns true if the port reads what the tool sends: while there is no room for an answer, it does not.
    pub fn hears(&mut self) -> bool {
        !self.lost && self.pipe.room().is_ok_and(|room| room >= MAX_FRAME)
    }

    /// Begins a call of the port: what the stream takes now makes room.
    pub(crate) fn begin(&mut self) {
        self.missed = 0;
        self.pipe.flush();
    }

    /// Ends a call of the port, which has `more` to do or not. Returns true if it is to be called again: also if there
    /// is room now that was missing, of which nothing else may tell, or if the stream broke, which the next call finds.
    pub(crate) fn end(&mut self, more: bool) -> bool {
        self.pipe.flush();
        let room = self.pipe.room();
        !self.lost && (more || room.map_or(true, |room| self.missed != 0 && room >= self.missed))
    }

    /// Returns true if there is room for a message with this many bytes.
    pub(crate) fn has_room(&mut self, bytes: usize) -> bool {
        !self.lost && self.room_for(bytes).unwrap_or(false)
    }

    fn room_for(&mut self, bytes: usize) -> Result<bool, P::Broken> {
        let has = self.pipe.room()? >= bytes;
        if !has {
            self.missed = self.missed.max(bytes);
        }
        Ok(has)
    }

    /// Returns the next frame of the tool's, if it is complete and there is room for an answer.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, Lost<P::Broken>> {
        if self.incoming.frame().is_some() {
            // The last call returned it.
            self.incoming.done();
        }
        if !self.room_for(MAX_FRAME).map_err(Lost::Broken)? {
            return Ok(None);
        }
        while self.incoming.frame().is_none() {
            let space = self.incoming.space().map_err(|_| Lost::Frame)?;
            match self.pipe.read(space).map_err(Lost::Broken)? {
                0 => return Ok(None),
                bytes => self.incoming.advance(bytes),
            }
        }
        Ok(self.incoming.frame())
    }

    /// Sends a message, for which there is room. If the stream breaks, the next call finds that.
    pub(crate) fn send(&mut self, encode: impl FnOnce(&mut [u8]) -> Option<usize>) {
        if let Some(len) = encode(&mut self.outgoing) {
            let _ = self.pipe.write(&self.outgoing[..len]);
        }
    }

    /// Sends bytes of a message, in the same way.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.pipe.write(bytes);
    }

    /// Gives the port up.
    pub(crate) const fn lose(&mut self) {
        self.lost = true;
    }
}
