//! The agent's end of the connection to the tool.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::Duration;

use hv_wire::control::{AGENT_PORT, Assembler, FromAgent, MAX_FRAME, ToAgent};
use rustix::io::Errno;
use vsock::{VMADDR_CID_HOST, VsockStream};

/// Attempts to connect, and the pause between two: the guest may still be finding its devices.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Errors of a kernel without the sockets.
const NONE: [Errno; 2] = [Errno::AFNOSUPPORT, Errno::NODEV];

/// Bytes to the tool above which the command's output is not read.
const FULL: usize = 256 << 10;

/// A connection, and what waits to be sent over it.
pub(crate) struct Uplink {
    socket: VsockStream,
    assembler: Box<Assembler>,
    outbox: Vec<u8>,
    /// How much of the outbox was sent.
    sent: usize,
}

impl Uplink {
    /// Connects to the tool.
    ///
    /// # Errors
    /// The kernel has no Hyper-V sockets, or nothing listens at the host.
    pub(crate) fn connect() -> io::Result<Self> {
        let socket = connect(AGENT_PORT).map_err(explain)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, assembler: Box::new(Assembler::new()), outbox: Vec::new(), sent: 0 })
    }

    /// Returns the descriptor to wait for.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Returns true if bytes wait to be sent.
    pub(crate) fn has_output(&self) -> bool {
        self.sent < self.outbox.len()
    }

    /// Returns true if no more of the command's output has room.
    pub(crate) fn is_full(&self) -> bool {
        self.outbox.len() - self.sent >= FULL
    }

    /// Has a message sent; [`flush`](Self::flush) sends it.
    pub(crate) fn say(&mut self, message: &FromAgent<'_>) {
        let end = self.outbox.len();
        self.outbox.resize(end + MAX_FRAME, 0);
        let length = message.encode(0, &mut self.outbox[end..]).unwrap_or_default();
        self.outbox.truncate(end + length);
    }

    /// Sends as much as the socket takes.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.outbox.len() {
            match self.socket.write(&self.outbox[self.sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => self.sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What is sent goes, but not for every few bytes of it.
        if self.sent == self.outbox.len() || self.sent > FULL {
            self.outbox.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Passes each message that is there to `take`, until that returns false: later messages stay.
    ///
    /// # Errors
    /// [`ErrorKind::UnexpectedEof`] once the tool has closed the connection; [`ErrorKind::InvalidData`] for bytes that
    /// are not a message.
    pub(crate) fn hear(&mut self, mut take: impl FnMut(ToAgent<'_>) -> bool) -> io::Result<()> {
        let invalid = || io::Error::new(ErrorKind::InvalidData, "the tool sent bytes that are not a message");
        loop {
            let space = self.assembler.space().map_err(|_| invalid())?;
            if !space.is_empty() {
                match self.socket.read(space) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(bytes) => self.assembler.advance(bytes),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
            }
            let Some((head, body)) = self.assembler.frame() else { continue };
            let goes_on = take(ToAgent::decode(&head, body).ok_or_else(invalid)?);
            self.assembler.done();
            if !goes_on {
                return Ok(());
            }
        }
    }
}

/// Connects to a port of the host.
///
/// # Errors
/// As of [`Uplink::connect`].
pub(crate) fn connect(port: u32) -> io::Result<VsockStream> {
    let mut attempts = ATTEMPTS;
    loop {
        match VsockStream::connect_with_cid_port(VMADDR_CID_HOST, port) {
            Ok(socket) => return Ok(socket),
            Err(error) if attempts <= 1 => return Err(error),
            // No such sockets, or none of Hyper-V's: that does not change.
            Err(error) if NONE.iter().any(|none| error.raw_os_error() == Some(none.raw_os_error())) => {
                return Err(error);
            }
            Err(_) => {
                attempts -= 1;
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Says what an error of the connection means for the guest's kernel.
fn explain(error: io::Error) -> io::Error {
    let text = format!(
        "no Hyper-V socket to the host ({error}); the kernel needs CONFIG_VSOCKETS and CONFIG_HYPERV_VSOCKETS, built in or as the \
         module hv_sock (give hv exec --tree or --modules), and a connection to VMBus"
    );
    io::Error::new(error.kind(), text)
}
