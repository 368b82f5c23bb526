//! The terminal as the guest's keyboard.

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::process::ChildStdin;

use crate::interrupt::{self, Undo};
use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};

/// A terminal that passes on every key immediately; it is restored on drop, or by a second signal.
#[derive(Debug)]
pub(crate) struct Keyboard {
    before: Termios,
    _undo: Undo,
}

impl Keyboard {
    /// Returns true if there is a terminal, and this process is in its foreground.
    pub(crate) fn present() -> bool {
        let stdin = std::io::stdin();
        stdin.is_terminal()
            && termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
    }

    /// Forwards keys to `guest`. Ctrl-C still ends the run.
    pub(crate) fn forward(mut guest: ChildStdin) -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok()?;
        let attributes = before.clone();
        let undo = interrupt::on_second_signal(move || restore(&attributes));
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw).ok()?;
        // The thread blocks in read until the process ends; nothing waits for it.
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(length @ 1..) = std::io::stdin().read(&mut buffer) {
                if guest.write_all(&buffer[..length]).and_then(|()| guest.flush()).is_err() {
                    break;
                }
            }
        });
        Some(Self { before, _undo: undo })
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(attributes: &Termios) {
    let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, attributes);
}
