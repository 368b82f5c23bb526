//! The user's terminal, while its keys go to a guest.

mod keys;

use std::io::IsTerminal as _;

use rustix::termios::{
    self, InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios,
};

use crate::interrupt::{self, Undo};

pub(crate) use keys::{HELP, Keys};

/// Returns true if stdin is a terminal, and this process is in its foreground: reading one stops a process in the
/// background.
pub(crate) fn is_ours() -> bool {
    let stdin = std::io::stdin();
    stdin.is_terminal() && termios::tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// Returns rows and columns of the terminal that stdout is, if it is one and knows them.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row != 0 && size.ws_col != 0).then_some((size.ws_row, size.ws_col))
}

/// Who ends the lines of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineEnds {
    /// The terminal adds carriage returns: the tool prints lines of its own between the guest's.
    Terminal,
    /// The guest's terminal has added them where they belong.
    Guest,
}

/// The terminal while each key is passed on as it is; restored on drop, or by a second signal.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
    _undo: Undo,
}

impl Raw {
    /// Has every key passed on at once, those that would be signals too.
    pub(crate) fn enter(ends: LineEnds) -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok()?;
        let attributes = before.clone();
        let undo = interrupt::on_second_signal(move || restore(&attributes));
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw(&before, ends)).ok()?;
        Some(Self { before, _undo: undo })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

/// Returns attributes with which nothing acts on keys.
fn raw(before: &Termios, ends: LineEnds) -> Termios {
    let mut raw = before.clone();
    raw.input_modes.remove(
        InputModes::IGNBRK
            | InputModes::BRKINT
            | InputModes::PARMRK
            | InputModes::ISTRIP
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::ICRNL
            | InputModes::IXON,
    );
    raw.local_modes.remove(
        LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG | LocalModes::IEXTEN,
    );
    if ends == LineEnds::Guest {
        raw.output_modes.remove(OutputModes::OPOST);
    }
    raw.special_codes[SpecialCodeIndex::VMIN] = 1;
    raw.special_codes[SpecialCodeIndex::VTIME] = 0;
    raw
}

fn restore(attributes: &Termios) {
    let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, attributes);
}
