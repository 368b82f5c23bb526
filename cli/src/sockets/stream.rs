//! One stream: a program's socket, and what lies between it and the guest.

use std::io::{ErrorKind, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use hv_wire::control::{MAX_DATA, SOCKET_WINDOW, ToSockets, data_head, ring_cost};

use super::outlet::Outlet;

/// Bytes of credit that are worth a message.
const WORTH: u32 = SOCKET_WINDOW / 8;

/// A stream.
#[derive(Debug)]
pub(super) struct Stream {
    socket: UnixStream,
    /// From the guest. Bounded by the window that the guest has.
    outlet: Outlet,
    /// Bytes before the guest's in it, for which the guest gets no credit.
    own: usize,
    /// Bytes of the guest's that were written, and of which the guest has not been told.
    written: u32,
    /// What the guest's ring has room for.
    credit: u32,
    /// The program sends nothing more, and the guest was told.
    program_done: bool,
    /// The guest sends nothing more.
    guest_done: bool,
    /// The program was told.
    shut: bool,
}

/// The program has gone.
#[derive(Debug)]
pub(super) struct Gone;

impl Stream {
    /// Makes a stream, and tells the program `first`.
    pub(super) fn new(socket: UnixStream, first: &[u8]) -> Self {
        let mut outlet = Outlet::default();
        outlet.push(first);
        Self {
            socket,
            outlet,
            own: first.len(),
            written: 0,
            credit: 0,
            program_done: false,
            guest_done: false,
            shut: false,
        }
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Returns true if the program may send: its bytes have room.
    pub(super) fn wants_bytes(&self) -> bool {
        !self.program_done && self.credit >= ring_cost(1)
    }

    /// Returns true if there is something for the program.
    pub(super) fn has_bytes(&self) -> bool {
        !self.outlet.is_empty()
    }

    pub(super) fn add_credit(&mut self, bytes: u32) {
        self.credit = self.credit.saturating_add(bytes);
    }

    /// Passes bytes of the guest's on. `port` gets what is to be said of that.
    pub(super) fn guest_sent(&mut self, id: u32, bytes: &[u8], port: &mut Outlet) -> Result<(), Gone> {
        // A guest's window is never that much larger: the hypervisor does not keep to it.
        if self.outlet.len() > 2 * SOCKET_WINDOW as usize {
            return Err(Gone);
        }
        self.outlet.push(bytes);
        self.write(id, port)
    }

    /// Handles the end of the guest's direction.
    pub(super) fn finish(&mut self) {
        self.guest_done = true;
        self.shut_if_written();
    }

    fn shut_if_written(&mut self) {
        if self.guest_done && self.outlet.is_empty() && !std::mem::replace(&mut self.shut, true) {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// Forgets what there is for the program, which has gone.
    pub(super) fn give_up(&mut self) {
        self.outlet = Outlet::default();
    }

    /// Writes to the program what it takes.
    pub(super) fn write(&mut self, id: u32, port: &mut Outlet) -> Result<(), Gone> {
        let written = self.outlet.write(&mut self.socket).map_err(|_| Gone)?;
        let own = written.min(self.own);
        self.own -= own;
        self.written += (written - own) as u32;
        if self.written >= WORTH && !self.guest_done {
            say(port, &ToSockets::Credit { stream: id, bytes: std::mem::take(&mut self.written) });
        }
        self.shut_if_written();
        Ok(())
    }

    /// Reads from the program what there is room for, up to `most` messages.
    pub(super) fn read(&mut self, id: u32, most: usize, port: &mut Outlet) -> Result<(), Gone> {
        let mut buffer = [0; MAX_DATA];
        for _ in 0..most {
            if !self.wants_bytes() {
                break;
            }
            let room = (self.credit - ring_cost(0)) as usize / 8 * 8;
            let room = room.min(MAX_DATA);
            match self.socket.read(&mut buffer[..room]) {
                Ok(0) => {
                    self.program_done = true;
                    say(port, &ToSockets::Finish { stream: id });
                }
                Ok(bytes) => {
                    self.credit -= ring_cost(bytes as u32);
                    port.push(&data_head(ToSockets::DATA, id, bytes as u16));
                    port.push(&buffer[..bytes]);
                    if bytes < room {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Gone),
            }
        }
        Ok(())
    }
}

/// Says something to the hypervisor.
pub(super) fn say(port: &mut Outlet, message: &ToSockets<'_>) {
    let mut frame = [0; 64];
    if let Some(len) = message.encode(0, &mut frame) {
        port.push(&frame[..len]);
    }
}
