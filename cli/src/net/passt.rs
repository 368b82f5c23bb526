//! passt: a guest's network out of the host's own sockets, in a process beside QEMU.
//!
//! The guest has the address that it has on QEMU's user network, and the same gateway (the host). Its name servers are
//! the host's. Between QEMU and passt is a pair of sockets, on which each frame follows its length.
//!
//! Sources: passt(1); qemu(1), `-netdev stream`.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::io::FdFlags;

use super::Forward;
use crate::setup::{process, system};

const PROGRAM: &str = "passt";
/// Addresses of the guest and of the host on QEMU's user network (qemu(1), `-netdev user`), and its mask.
const ADDRESS: &str = "10.0.2.15";
const GATEWAY: &str = "10.0.2.2";
const MASK: &str = "255.255.255.0";

/// passt, which ends when nothing has QEMU's end of its socket.
#[derive(Debug)]
pub(crate) struct Passt {
    /// QEMU's end.
    socket: UnixStream,
}

impl Passt {
    /// Installs passt, if it is missing.
    ///
    /// # Errors
    /// Its installation fails.
    pub(crate) fn set_up() -> anyhow::Result<()> {
        if find().is_none() {
            system::install("the network of --net passt", &[PROGRAM])?;
        }
        Ok(())
    }

    /// Starts passt, and returns when it listens on the forwarded ports.
    ///
    /// # Errors
    /// passt does not start: the host has no route, a port is taken, or a sandbox forbids user namespaces.
    pub(crate) fn start(forwards: &[Forward]) -> anyhow::Result<Self> {
        let program = find().with_context(|| format!("{PROGRAM} is not in $PATH; install its package"))?;
        let (socket, theirs) = UnixStream::pair()?;
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty())?;
        // It goes to the background once it serves, and ends with its one client.
        let done = process::run(&mut command(&program, &theirs.as_raw_fd().to_string(), forwards), || {});
        rustix::io::fcntl_setfd(&theirs, FdFlags::CLOEXEC)?;
        let done = done?;
        if !done.status.success() {
            bail!(
                "{PROGRAM} does not start: {}; --net user needs no program beside QEMU",
                done.complaint("passt:")
            );
        }
        Ok(Self { socket })
    }

    /// Returns a duplicate of the machine's end.
    pub(crate) fn end(&self) -> std::io::Result<OwnedFd> {
        Ok(self.socket.try_clone()?.into())
    }

    /// Lets a child inherit QEMU's end, and returns its descriptor.
    pub(crate) fn inherit(&self) -> std::io::Result<String> {
        rustix::io::fcntl_setfd(&self.socket, FdFlags::empty())?;
        Ok(self.socket.as_raw_fd().to_string())
    }
}

/// Searches `$PATH`, and where Debian installs it, which is not in every user's.
fn find() -> Option<PathBuf> {
    process::which(PROGRAM).or_else(|| process::which_system(PROGRAM))
}

/// Returns passt's command line.
fn command(program: &Path, descriptor: &str, forwards: &[Forward]) -> Command {
    let mut command = Command::new(program);
    command.args(["--quiet", "--stderr", "--one-off", "--ipv4-only", "--fd", descriptor]);
    command.args(["--address", ADDRESS, "--netmask", MASK, "--gateway", GATEWAY]);
    // No --dns: passt of 2023 takes that for the host's name server, and an address of the guest's network answers
    // nothing. The card's MTU is the guest's own choice.
    command.args(["--mtu", "0"]);
    for Forward { address, host, guest } in forwards {
        command.args(["--tcp-ports", &format!("{address}/{host}:{guest}")]);
    }
    command
}
