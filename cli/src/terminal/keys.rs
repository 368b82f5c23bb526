//! The keys that the tool keeps for itself.

use std::time::{Duration, Instant};

/// Begins a command to the tool: Ctrl-A, as in QEMU.
const ESCAPE: u8 = 1;
/// Ctrl-C.
const BREAK: u8 = 3;
/// This many in [`WITHIN`] end the run, whatever the guest does with them.
const BREAKS: usize = 3;
const WITHIN: Duration = Duration::from_secs(1);

/// What Ctrl-A H shows. Each line has its carriage return: the terminal may not add it.
pub(crate) const HELP: &[u8] = b"\r\n\
    Ctrl-A X       ends the run; so does Ctrl-C three times within a second\r\n\
    Ctrl-A Ctrl-A  is Ctrl-A for the guest\r\n\
    Ctrl-A H       shows this help\r\n";

/// What keys mean.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressed {
    /// What goes to the guest.
    pub(crate) guest: Vec<u8>,
    /// The user asked for help.
    pub(crate) help: bool,
    /// The user asked for the end.
    pub(crate) end: bool,
}

/// The keys of a terminal in raw mode.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    escaped: bool,
    /// When Ctrl-C was pressed, the last times.
    breaks: Vec<Instant>,
}

impl Keys {
    /// Sorts what was typed. A Ctrl-C that the guest does not take ends the run at once.
    pub(crate) fn pass(&mut self, bytes: &[u8], now: Instant, takes_break: bool) -> Pressed {
        let mut pressed = Pressed::default();
        for &byte in bytes {
            match (std::mem::take(&mut self.escaped), byte) {
                (false, ESCAPE) => self.escaped = true,
                (false, BREAK) => {
                    pressed.end |= !takes_break || self.is_last_break(now);
                    pressed.guest.push(byte);
                }
                (true, b'x' | b'X') => pressed.end = true,
                (true, b'h' | b'H' | b'?') => pressed.help = true,
                (false, _) | (true, ESCAPE) => pressed.guest.push(byte),
                (true, _) => pressed.guest.extend([ESCAPE, byte]),
            }
        }
        pressed
    }

    /// Counts a Ctrl-C, and returns true for the last of those that end the run.
    fn is_last_break(&mut self, now: Instant) -> bool {
        self.breaks.retain(|&before| now.duration_since(before) < WITHIN);
        self.breaks.push(now);
        self.breaks.len() >= BREAKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(bytes: &[u8]) -> Pressed {
        Pressed { guest: bytes.to_vec(), ..Pressed::default() }
    }

    #[test]
    fn ctrl_a_is_the_tools() {
        let (mut keys, now) = (Keys::default(), Instant::now());
        let mut pass = |bytes: &[u8]| keys.pass(bytes, now, true);
        assert_eq!(pass(b"ls\x03\r"), guest(b"ls\x03\r"));
        assert_eq!(pass(b"a\x01"), guest(b"a"));
        assert_eq!(pass(b"\x01b"), guest(b"\x01b"));
        assert_eq!(pass(b"\x01k"), guest(b"\x01k"));
        assert_eq!(pass(b"a\x01hb"), Pressed { help: true, ..guest(b"ab") });
        assert_eq!(pass(b"\x01?\x01H"), Pressed { help: true, ..guest(b"") });
        assert_eq!(pass(b"\x01x"), Pressed { end: true, ..guest(b"") });
    }

    #[test]
    fn three_times_ctrl_c_within_a_second_end_the_run() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut keys = Keys::default();
        let mut ends = |ms, bytes: &[u8]| keys.pass(bytes, at(ms), true).end;
        assert!(!ends(0, b"\x03") && !ends(400, b"\x03") && !ends(1000, b"\x03"), "a second is over");
        assert!(ends(1399, b"\x03"));
        assert!(!ends(5000, b"\x03\x03") && ends(5001, b"x\x03"));
        assert!(!ends(9000, b"\x03\x01\x03\x03"), "one of them is behind Ctrl-A");
    }

    #[test]
    fn a_guest_that_takes_no_ctrl_c_is_ended_by_it() {
        let mut keys = Keys::default();
        assert!(!keys.pass(b"abc\r", Instant::now(), false).end);
        assert!(keys.pass(b"\x03", Instant::now(), false).end);
    }
}
