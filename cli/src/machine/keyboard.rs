//! What the guest's console gets: the keys of a terminal, or what is piped into the tool.
//!
//! A guest does not say that it reads. It has been seen to if it has taken what was typed, and its output ends in a
//! prompt ([`Prompt`]).

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ChildStdin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::console::Prompt;
use crate::terminal::{HELP, Keys, LineEnds, Raw};
use crate::ui::{self, Stream};
use crate::{interrupt, process};

/// How long a line without an end must be there to be a prompt, and not the middle of output.
const QUIET: Duration = Duration::from_millis(100);

/// What is typed on the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Typing {
    /// Nothing.
    Nothing,
    /// The keys of a terminal.
    Keys,
    /// All that is piped into the tool.
    Pipe {
        /// From when on: a guest's driver drops what comes before it reads.
        from: Begin,
        /// What is typed at the end.
        last: &'static [u8],
    },
}

/// Event at which a guest begins to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// At its start.
    Start,
    /// At its first prompt, or at the first behind this line.
    Prompt(Option<&'static str>),
    /// At the next prompt; at once if the prompt behind this line, or any other, was there before it was saved.
    Resumed(&'static str),
}

impl Begin {
    fn has_come(self, prompt: &Prompt) -> bool {
        match self {
            Self::Start => true,
            Self::Prompt(after) => prompt.is_there(after, QUIET),
            Self::Resumed(after) => [Some(after), None].iter().any(|after| prompt.is_there(*after, QUIET)),
        }
    }
}

/// Returns true if stdin is a pipe, a file or a socket. An empty device has nothing for a guest.
pub(crate) fn is_piped() -> bool {
    rustix::fs::fstat(std::io::stdin()).is_ok_and(|stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        matches!(kind, FileType::Fifo | FileType::RegularFile | FileType::Socket)
    })
}

/// The guest's keyboard. A terminal is restored on drop.
#[derive(Debug)]
pub(super) struct Keyboard {
    _raw: Option<Raw>,
    /// The guest has shown no prompt yet, for which what is piped in waits.
    waits: Arc<AtomicBool>,
}

impl Keyboard {
    /// Returns true if there is piped input that was not typed: the guest has shown no prompt.
    pub(super) fn is_untyped(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
            && rustix::io::ioctl_fionread(std::io::stdin()).is_ok_and(|bytes| bytes > 0)
    }
}

impl Typing {
    /// Forwards to `guest` from now on, in a thread that blocks in a read until the process ends; nothing waits for it.
    pub(super) fn forward(self, guest: ChildStdin, prompt: Prompt) -> Option<Keyboard> {
        match self {
            Self::Nothing => None,
            Self::Keys => {
                // A guest that reads nothing must not stop what the user asks the tool for.
                rustix::io::ioctl_fionbio(&guest, true).ok()?;
                let raw = Raw::enter(LineEnds::Terminal)?;
                std::thread::spawn(move || keys(guest, &prompt));
                Some(Keyboard { _raw: Some(raw), waits: Arc::default() })
            }
            Self::Pipe { from, last } => {
                let waits = Arc::new(AtomicBool::new(true));
                let begun = Arc::clone(&waits);
                std::thread::spawn(move || {
                    while !from.has_come(&prompt) {
                        std::thread::sleep(process::POLL);
                    }
                    begun.store(false, Ordering::Relaxed);
                    pipe(guest, last);
                });
                Some(Keyboard { _raw: None, waits })
            }
        }
    }
}

/// Passes keys on until the end of the terminal, of the guest or of the user's patience.
fn keys(mut guest: ChildStdin, prompt: &Prompt) {
    let (mut keys, mut typed) = (Keys::default(), false);
    let mut buffer = [0; 256];
    while let Some(bytes) = read(&mut buffer) {
        // It has taken all that was typed, and has asked for it or been given some.
        let taken = rustix::io::ioctl_fionread(&guest).is_ok_and(|left| left == 0);
        let pressed = keys.pass(bytes, Instant::now(), taken && (typed || prompt.is_there(None, QUIET)));
        if pressed.help {
            ui::console(Stream::Stderr, HELP);
        }
        if pressed.end {
            return interrupt::request();
        }
        typed |= pressed.guest.iter().any(|&byte| byte != 3);
        match guest.write(&pressed.guest) {
            // What has no room is lost, as on a serial line.
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
}

/// Passes all of stdin on, as fast as the guest takes it.
fn pipe(mut guest: ChildStdin, last: &[u8]) {
    let mut buffer = [0; 4096];
    while let Some(bytes) = read(&mut buffer) {
        if guest.write_all(bytes).is_err() {
            return;
        }
    }
    let _ = guest.write_all(last);
}

/// Reads what there is, not through the standard library's buffer; `None` at the end.
fn read(buffer: &mut [u8]) -> Option<&[u8]> {
    loop {
        match rustix::io::read(std::io::stdin().as_fd(), &mut *buffer) {
            Ok(0) => return None,
            Ok(count) => return Some(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => std::thread::sleep(process::POLL),
            Err(_) => return None,
        }
    }
}
