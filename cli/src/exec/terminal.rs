//! The user's terminal, as that of a shell in the guest.

use std::sync::Arc;
use std::time::Duration;

use hv_wire::control::ToAgent;

use super::session::{Mouth, say};
use crate::terminal;

/// How often its size is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes of the variable TERM at most; terminfo's names are far shorter.
const LONGEST_KIND: usize = 256;

/// What the guest is told of the terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Rows and columns.
    pub(super) size: (u16, u16),
    /// Its kind, for programs that draw.
    pub(super) kind: String,
}

impl Terminal {
    /// Returns the terminal of this process.
    pub(super) fn current() -> Self {
        let kind = std::env::var("TERM").ok().filter(|kind| kind.len() <= LONGEST_KIND);
        Self { size: size(), kind: kind.unwrap_or_else(|| "vt100".to_owned()) }
    }

    /// Tells the guest of changes in size, in a thread that ends with the connection.
    pub(super) fn watch(&self, mouth: &Mouth) {
        let (mut known, mouth) = (self.size, Arc::clone(mouth));
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                let (rows, columns) = size();
                if (rows, columns) != known {
                    known = (rows, columns);
                    if say(&mouth, &ToAgent::Resize { rows, columns }).is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// Returns the rows and columns of the terminal.
fn size() -> (u16, u16) {
    terminal::size().unwrap_or((24, 80))
}
