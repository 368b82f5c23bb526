//! The order: the command, and the terminal that it gets.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use hv_wire::control::ToAgent;
use rustix::termios::Winsize;

use crate::pattern;

/// Bytes of all words at most: less than Linux takes (execve(2), "Limits on size of arguments and environment"), which
/// has room for the environment as well.
const LONGEST: usize = 1 << 20;

/// A terminal for the command.
pub(crate) struct Terminal {
    pub(crate) size: Winsize,
    /// The variable TERM.
    pub(crate) kind: OsString,
}

/// What the tool has said of the command so far.
#[derive(Default)]
pub(crate) struct Order {
    pub(crate) words: Vec<OsString>,
    /// The word that has not ended.
    word: Vec<u8>,
    length: usize,
    pub(crate) terminal: Option<Terminal>,
    /// The command is to be started.
    pub(crate) complete: bool,
}

impl Order {
    /// Takes a message that comes before the start; others are ignored.
    pub(crate) fn take(&mut self, message: &ToAgent<'_>) {
        match *message {
            ToAgent::Word { last, bytes } => {
                self.length = self.length.saturating_add(bytes.len() + usize::from(last));
                if self.length <= LONGEST {
                    self.word.extend_from_slice(bytes);
                }
                if last {
                    self.words.push(OsString::from_vec(std::mem::take(&mut self.word)));
                }
            }
            ToAgent::Start { terminal, rows, columns, glob, kind } => {
                self.terminal = terminal.then(|| Terminal {
                    size: winsize(rows, columns),
                    kind: OsString::from_vec(kind.to_vec()),
                });
                if glob {
                    self.words = pattern::expand(std::mem::take(&mut self.words));
                }
                self.complete = true;
            }
            _ => {}
        }
    }

    /// Returns true if the command is longer than Linux takes.
    pub(crate) fn is_too_long(&self) -> bool {
        self.length > LONGEST
    }
}

/// Returns the size of a terminal in characters.
pub(crate) fn winsize(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}
