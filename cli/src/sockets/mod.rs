//! `hv boot --vsock DIR`: the guest's sockets as Unix sockets of the host.
//!
//! A program of the host's connects to `DIR/vsock` and says `CONNECT PORT`; what the guest connects to at port P is the
//! Unix socket `DIR/vsock_P` ([`folder`]). One thread ([`relay`]) passes the bytes of all streams on between those and
//! the sockets' port of the hypervisor, whose other end QEMU has. Everything is bounded, and no program that does not
//! read stops another stream.

mod folder;
mod greeting;
mod outlet;
mod relay;
mod stream;

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread::JoinHandle;

use folder::Folder;
pub(crate) use folder::SOCKET;
use relay::Relay;

/// The folder with its socket, before the machine is there.
#[derive(Debug)]
pub(crate) struct Server {
    folder: Folder,
    listener: UnixListener,
}

/// The running server. Dropping it removes its socket, and the folder if it was made for it.
#[derive(Debug)]
pub(crate) struct Serving {
    thread: Option<JoinHandle<()>>,
    _folder: std::sync::Arc<Folder>,
}

/// Beginning of the port of a machine that can be saved, or was.
#[derive(Default)]
pub(crate) struct Beginning {
    /// What the hypervisor had sent when the machine was saved, and was not answered.
    pub(crate) sent: Vec<u8>,
    /// What to do before the first message is answered.
    pub(crate) first: Option<First>,
}

/// Action before the guest's connection to a port is answered, if that is the first message of all: the machine may be
/// saved then.
pub(crate) struct First {
    /// The port.
    pub(crate) port: u32,
    /// What is done. It gets the bytes of the message, and the tool's end of the sockets' port.
    pub(crate) action: Action,
}

/// The action of a [`First`].
pub(crate) type Action = Box<dyn FnOnce(&[u8], &UnixStream) + Send>;

impl std::fmt::Debug for First {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("First").field(&self.port).finish()
    }
}

impl Server {
    /// Takes the folder of `--vsock`.
    pub(crate) fn listen(path: &Path) -> anyhow::Result<Self> {
        let mut folder = Folder::open(path)?;
        let listener = folder.listen()?;
        Ok(Self { folder, listener })
    }

    /// Returns true if the machine has made the folder.
    pub(crate) fn has_made_folder(&self) -> bool {
        self.folder.is_made()
    }

    /// Listens for the guest's connections to a port, as a program of the host's would.
    pub(crate) fn listen_to_guest(&mut self, port: u32) -> anyhow::Result<UnixListener> {
        self.folder.listen_to_guest(port)
    }

    /// Serves programs until the stream ends, which is the tool's end of the port.
    pub(crate) fn start(self, stream: UnixStream, beginning: Beginning) -> anyhow::Result<Serving> {
        let folder = std::sync::Arc::new(self.folder);
        let mut relay = Relay::new(std::sync::Arc::clone(&folder), self.listener, stream, beginning)?;
        let thread = std::thread::spawn(move || relay.run());
        Ok(Serving { thread: Some(thread), _folder: folder })
    }
}

impl Drop for Serving {
    /// Waits until the programs have read what the guest has sent, or stop reading: QEMU has ended, so the thread ends
    /// soon.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
