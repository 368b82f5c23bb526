//! Stdin, on its way to the command.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use hv_wire::control::{AGENT_WINDOW, MAX_AGENT_DATA, ToAgent};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios;

use super::session::{Mouth, say};
use crate::interrupt;
use crate::terminal::{HELP, Keys};
use crate::ui::{self, Stream};

/// Bytes that the agent has room for.
#[derive(Clone, Debug)]
pub(super) struct Credit(Arc<(Mutex<u32>, Condvar)>);

impl Default for Credit {
    fn default() -> Self {
        Self(Arc::new((Mutex::new(AGENT_WINDOW), Condvar::new())))
    }
}

impl Credit {
    /// Adds bytes, within the window.
    pub(super) fn add(&self, bytes: u32) {
        let (credit, changed) = &*self.0;
        let mut credit = credit.lock().unwrap_or_else(PoisonError::into_inner);
        *credit = credit.saturating_add(bytes).min(AGENT_WINDOW);
        changed.notify_all();
    }

    /// Waits for room, and returns how much there is.
    fn wait(&self) -> usize {
        let (credit, changed) = &*self.0;
        let credit = credit.lock().unwrap_or_else(PoisonError::into_inner);
        let credit =
            changed.wait_while(credit, |credit| *credit == 0).unwrap_or_else(PoisonError::into_inner);
        *credit as usize
    }

    fn take(&self, bytes: usize) {
        let mut credit = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *credit = credit.saturating_sub(bytes as u32);
    }
}

/// Forwards stdin in a thread, which blocks in a read until the process ends; nothing waits for it.
pub(super) fn forward(mouth: &Mouth, credit: &Credit, raw: bool) {
    let (mouth, credit) = (Arc::clone(mouth), credit.clone());
    std::thread::spawn(move || {
        let stdin = std::io::stdin();
        if may_read()
            && let Err(error) = pump(stdin.as_fd(), &mouth, &credit, raw)
        {
            let error = std::io::Error::from(error);
            ui::note(&format!("hv exec: cannot read stdin: {error}; the command's ends there"));
        }
        let _ = say(&mouth, &ToAgent::InputEnd {});
    });
}

/// Returns false if reading a terminal would stop this process: it is in the background. A terminal that is not this
/// session's own has no background.
fn may_read() -> bool {
    let stdin = std::io::stdin();
    !termios::tcgetpgrp(&stdin).is_ok_and(|group| group != rustix::process::getpgrp())
}

/// Copies until the end of stdin, or until the agent is gone.
pub(super) fn pump(stdin: BorrowedFd<'_>, mouth: &Mouth, credit: &Credit, raw: bool) -> Result<(), Errno> {
    let mut buffer = [0; MAX_AGENT_DATA];
    let mut keys = Keys::default();
    loop {
        let room = credit.wait().min(buffer.len());
        // Not through the standard library's buffer: what the command does not take stays where it is.
        let bytes = match rustix::io::read(stdin, &mut buffer[..room]) {
            Ok(0) => return Ok(()),
            Ok(count) => &buffer[..count],
            Err(Errno::INTR) => continue,
            // Another process may have made the shared file description non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::from_borrowed_fd(stdin, PollFlags::IN)], None);
                continue;
            }
            // A terminal that was closed, or that this process has no more.
            Err(Errno::IO) if stdin.is_terminal() => return Ok(()),
            Err(error) => return Err(error),
        };
        let passed = if raw {
            // The command's terminal takes a Ctrl-C from the start.
            let pressed = keys.pass(bytes, Instant::now(), true);
            if pressed.help {
                ui::command(Stream::Stderr, HELP);
            }
            if pressed.end {
                interrupt::request();
                return Ok(());
            }
            pressed.guest
        } else {
            bytes.to_vec()
        };
        credit.take(passed.len());
        if !passed.is_empty() && say(mouth, &ToAgent::Input { bytes: &passed }).is_err() {
            return Ok(());
        }
    }
}
