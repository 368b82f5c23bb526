//! What a program of the host's says first: `CONNECT PORT`.

use std::io::{ErrorKind, Read as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Bytes of the line at most: a word, a space, a number of ten digits, and the end.
const LONGEST: usize = 24;

/// A program that has not said yet what it wants.
#[derive(Debug)]
pub(super) struct Greeting {
    /// `None` once it was taken.
    socket: Option<UnixStream>,
    pub(super) since: Instant,
    line: Vec<u8>,
}

/// What it has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Not everything.
    Part,
    /// It connects to this port of the guest's.
    Port(u32),
    /// Something else, or it has gone.
    Nothing,
}

impl Greeting {
    pub(super) fn new(socket: UnixStream, since: Instant) -> Self {
        Self { socket: Some(socket), since, line: Vec::new() }
    }

    pub(super) fn socket(&self) -> Option<&UnixStream> {
        self.socket.as_ref()
    }

    /// Takes the socket, with which the greeting is over.
    pub(super) fn take(&mut self) -> Option<UnixStream> {
        self.socket.take()
    }

    /// Reads on. What follows the line stays in the socket: it is the stream's.
    pub(super) fn read(&mut self) -> Said {
        let Some(socket) = &mut self.socket else { return Said::Nothing };
        loop {
            let mut byte = [0];
            match socket.read(&mut byte) {
                Ok(0) => return Said::Nothing,
                Ok(_) if byte == *b"\n" => return port(&self.line).map_or(Said::Nothing, Said::Port),
                Ok(_) if self.line.len() == LONGEST => return Said::Nothing,
                Ok(_) => self.line.extend(byte),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Said::Part,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Said::Nothing,
            }
        }
    }
}

/// Parses the port that a line names.
fn port(line: &[u8]) -> Option<u32> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let number = std::str::from_utf8(line).ok()?.strip_prefix("CONNECT ")?;
    // A sign would parse, and is none of a port's.
    number.bytes().all(|byte| byte.is_ascii_digit()).then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_a_port_or_nothing() {
        assert_eq!(port(b"CONNECT 52"), Some(52));
        assert_eq!(port(b"CONNECT 4294967295\r"), Some(u32::MAX));
        for bad in ["", "CONNECT", "CONNECT ", "CONNECT +5", "CONNECT -1", "connect 5", "CONNECT 4294967296"]
        {
            assert_eq!(port(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(port(&[0xff, 0xfe]), None);
    }
}
