//! The filter for a guest's console on a terminal.
//!
//! A guest may write anywhere on the screen, in colour; a shell and an editor need that. Dropped is everything that
//! makes the terminal answer (the answer would be typed into the guest, or into the user's shell once the guest is
//! gone), sets its title, clipboard, palette or keyboard, prints, erases the scrollback, or carries strings of any
//! kind. Only sequences that are known to be harmless pass. [`Screen::restore`] reverts what a guest has changed.
//!
//! Control functions are from ECMA-48 and DEC's VT510 manual; private modes from "XTerm Control Sequences".

mod allowed;

use std::collections::BTreeSet;

use super::filter::is_unseen;
use allowed::PRIVATE_MODES;

/// Maximum length of a control sequence that passes; the longest sensible one is a colour of 40 bytes.
const LONGEST: usize = 64;
/// Maximum number of bytes dropped as part of a string (a title, a picture) before the rest is treated as text.
const LONGEST_STRING: usize = 1 << 16;

/// The state of the terminal, as far as the guest has changed it.
#[derive(Debug, Default)]
pub struct Screen {
    state: State,
    /// An incomplete control sequence, or the first bytes of a character.
    pending: Vec<u8>,
    /// The last byte of a string was the first byte of a C1 control.
    behind_c2: bool,
    /// Private modes that differ from the start.
    private: BTreeSet<u16>,
    /// ANSI modes that are on.
    ansi: BTreeSet<u16>,
    /// Colours or other attributes are set.
    attributes: bool,
    /// A character set is selected.
    charset: bool,
    /// The keypad sends application codes.
    keypad: bool,
    /// The cursor was moved, or a scroll region was set.
    moved: bool,
    /// The cursor is after text without a line end.
    within_line: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte.
    EscapeMore,
    /// In a control sequence.
    Control,
    /// In a control sequence that is too long.
    ControlIgnored,
    /// In a string that is dropped, after this many bytes.
    String(usize),
    /// After ESC in a string.
    StringEscape(usize),
}

impl Screen {
    /// Returns the part of `bytes` that may reach the terminal; complete sequences and characters only.
    pub fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.byte(byte, &mut passed);
        }
        passed
    }

    /// Returns what reverts all changes of the guest and puts the cursor at the start of a new line.
    pub fn restore(&mut self) -> Vec<u8> {
        let mut undo = String::new();
        // Cancels an incomplete sequence.
        if std::mem::take(&mut self.attributes) {
            undo.push_str("\x1b[0m");
        }
        if std::mem::take(&mut self.charset) {
            undo.push_str("\x0f\x1b(B\x1b)B\x1b*B\x1b+B");
        }
        if std::mem::take(&mut self.keypad) {
            undo.push_str("\x1b>");
        }
        for mode in std::mem::take(&mut self.ansi) {
            undo.push_str(&format!("\x1b[{mode}l"));
        }
        let private = std::mem::take(&mut self.private);
        for (mode, on) in PRIVATE_MODES.iter().filter(|(mode, _)| private.contains(mode)) {
            undo.push_str(&format!("\x1b[?{mode}{}", if *on { 'h' } else { 'l' }));
        }
        // Makes the whole screen scroll again, and puts further output below everything that the guest has drawn. An
        // alternate screen had its own cursor and attributes.
        if std::mem::take(&mut self.moved) || !private.is_empty() {
            undo.push_str("\x1b[r\x1b[0m\x1b[9999;1H");
            self.within_line = true;
        }
        if std::mem::take(&mut self.within_line) {
            undo.push_str("\r\n");
        }
        self.state = State::Text;
        self.pending.clear();
        undo.into_bytes()
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        match self.state {
            State::Text => self.text(byte, out),
            State::Escape => self.escape(byte, out),
            State::EscapeMore => self.escape_more(byte, out),
            State::Control | State::ControlIgnored => self.control(byte, out),
            State::String(length) => match byte {
                0x1b => self.state = State::StringEscape(length),
                // BEL ends a title; CAN and SUB end everything.
                0x07 | 0x18 | 0x1a => self.state = State::Text,
                // ST as a character of two bytes.
                0x9c if self.behind_c2 => self.state = State::Text,
                _ if length >= LONGEST_STRING => self.state = State::Text,
                _ => {
                    self.behind_c2 = byte == 0xc2;
                    self.state = State::String(length + 1);
                }
            },
            // ESC \ is the end; any other ESC starts a new sequence, which also ends the string.
            State::StringEscape(_) if byte == b'\\' => self.state = State::Text,
            State::StringEscape(_) => {
                self.state = State::Escape;
                self.escape(byte, out);
            }
        }
    }

    fn text(&mut self, byte: u8, out: &mut Vec<u8>) {
        if !self.pending.is_empty() && !(0x80..0xc0).contains(&byte) {
            // A truncated character.
            self.pending.clear();
            self.character('\u{fffd}', out);
        }
        match byte {
            0x1b => self.state = State::Escape,
            // BEL, BS, HT, LF, VT, FF, CR. ENQ requests an answer; XON and XOFF stop the terminal.
            0x07..=0x0d => {
                self.within_line = !matches!(byte, b'\n' | b'\r') && self.within_line;
                out.push(byte);
            }
            // SO and SI.
            0x0e | 0x0f => {
                self.charset = true;
                out.push(byte);
            }
            0x20..=0x7e => {
                self.within_line = true;
                out.push(byte);
            }
            0x80.. => self.begin_or_go_on(byte, out),
            _ => {}
        }
    }

    /// Handles a byte of a multi-byte character.
    fn begin_or_go_on(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(text) => {
                let c = text.chars().next().unwrap_or('\u{fffd}');
                self.pending.clear();
                self.character(c, out);
            }
            Err(error) if error.error_len().is_none() => {}
            Err(_) => {
                self.pending.clear();
                self.character('\u{fffd}', out);
            }
        }
    }

    fn character(&mut self, c: char, out: &mut Vec<u8>) {
        match c {
            // The C1 controls are equivalent to ESC and a letter (ECMA-48, 5.3).
            '\u{80}'..='\u{9f}' => {
                self.state = State::Escape;
                self.escape(c as u8 - 0x40, out);
            }
            c if is_unseen(c) => {}
            c => {
                self.within_line = true;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        self.state = State::Text;
        match byte {
            b'[' => {
                self.pending.clear();
                self.state = State::Control;
            }
            // DCS, SOS, OSC, PM, APC.
            b'P' | b'X' | b']' | b'^' | b'_' => {
                self.behind_c2 = false;
                self.state = State::String(0);
            }
            0x20..=0x2f => {
                self.pending = vec![byte];
                self.state = State::EscapeMore;
            }
            0x1b => self.state = State::Escape,
            // Save and restore the cursor, index, next line, set a tab, reverse index.
            b'7' | b'8' | b'D' | b'E' | b'H' | b'M' => {
                self.moved = true;
                out.extend_from_slice(&[0x1b, byte]);
            }
            b'=' | b'>' => {
                self.keypad = byte == b'=';
                out.extend_from_slice(&[0x1b, byte]);
            }
            // The incomplete sequence is dropped; the control is handled on its own.
            0x00..=0x1a | 0x1c..=0x1f => self.text(byte, out),
            _ => {}
        }
    }

    /// Handles a byte after ESC and an intermediate byte: only character sets pass.
    fn escape_more(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x20..=0x2f if self.pending.len() < LONGEST => return self.pending.push(byte),
            0x30..=0x7e if matches!(self.pending[..], [b'(' | b')' | b'*' | b'+']) => {
                self.charset = true;
                out.extend_from_slice(&[0x1b, self.pending[0], byte]);
            }
            _ => {}
        }
        self.pending.clear();
        self.state = State::Text;
        if byte < 0x20 {
            self.text(byte, out);
        }
    }

    fn control(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x1b => {
                self.pending.clear();
                self.state = State::Escape;
            }
            0x18 | 0x1a => {
                self.pending.clear();
                self.state = State::Text;
            }
            // Other controls act in the middle of a sequence.
            0x00..=0x1f => {
                let (state, pending) = (self.state, std::mem::take(&mut self.pending));
                self.text(byte, out);
                (self.state, self.pending) = (state, pending);
            }
            0x20..=0x3f if self.pending.len() < LONGEST => self.pending.push(byte),
            0x20..=0x3f => self.state = State::ControlIgnored,
            0x40..=0x7e => {
                let sequence = std::mem::take(&mut self.pending);
                let whole = self.state == State::Control;
                self.state = State::Text;
                if whole && self.allow(&sequence, byte) {
                    out.extend_from_slice(b"\x1b[");
                    out.extend_from_slice(&sequence);
                    out.push(byte);
                }
            }
            _ => {
                self.pending.clear();
                self.state = State::Text;
                self.text(byte, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pass(text: &[u8]) -> String {
        String::from_utf8(Screen::default().pass(text)).unwrap()
    }

    #[test]
    fn what_a_shell_and_an_editor_need_passes() {
        for text in [
            "plain\r\n\ttext\x08\x07 \u{4e2d}\u{2500}",
            "\x1b[1;38;5;196mred\x1b[0m\x1b[38:2::1:2:3m",
            "\x1b[2J\x1b[H\x1b[10;20H\x1b[K\x1b[5A\x1b[3@\x1b[2P\x1b[1;24r\x1b[2S\x1b[2T",
            "\x1b[?1049h\x1b[?25l\x1b[?1h\x1b=\x1b[4h\x1b[?1000;1006h\x1b[?2004h",
            "\x1b7\x1b8\x1b(0\x0eqqq\x0f\x1b(B\x1b[s\x1b[u",
        ] {
            assert_eq!(pass(text.as_bytes()), text);
        }
    }

    #[test]
    fn questions_titles_and_the_clipboard_are_left_out() {
        for text in [
            // DSR, DA, DECRQM, DECREQTPARM, window reports, XTVERSION, keyboard modes.
            "\x1b[6n\x1b[5n\x1b[?6n\x1b[c\x1b[0c\x1b[>c\x1b[=c\x1bZ\x1b[?1$p\x1b[4$p\x1b[x\x1b[18t\x1b[21t\x1b[>q\x1b[?u\x1b[>4;2m",
            // Titles, colours queried and set, links, the clipboard, notifications.
            "\x1b]0;title\x07\x1b]2;title\x1b\\\x1b]10;?\x07\x1b]4;1;#000000\x07\x1b]8;;x:\x1b\\\x1b]52;c;aGk=\x07\x1b]777;x\x07",
            // DECRQSS, XTGETTCAP, sixel, APC, PM, SOS.
            "\x1bP$qm\x1b\\\x1bP+q544e\x1b\\\x1bPq#0\x1b\\\x1b_G\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\",
            // The same with C1 controls, encoded as characters; ENQ, XON, XOFF, NUL, DEL.
            "\u{9b}6n\u{9d}0;t\u{9c}\u{90}$qm\u{9c}\u{9a}\x05\x11\x13\0\x7f",
            // Reset, other encoding, screen test, printing, keyboard lock, columns, synchronized output, erased
            // scrollback.
            "\x1bc\x1b%@\x1b#8\x1b[5i\x1b[?4i\x1b[2h\x1b[?3h\x1b[?69h\x1b[?2026h\x1b[3J\x1b[!p\x1b[99999999b\x1b[1;1;1;1;1T",
            // Modes that may pass, together with one that may not.
            "\x1b[?25;2026l",
            "\u{202e}\u{2066}\u{200b}\u{feff}",
        ] {
            let left = pass(text.as_bytes()).replace('\u{fffd}', "");
            assert_eq!(left, "", "{text:?}");
        }
        assert_eq!(pass("a\u{9d}0;t\u{9c}b".as_bytes()), "ab");
        assert_eq!(pass(b"a\x1b]0;t\x07b\x1b[6nc\xffd\x9be"), "abc\u{fffd}d\u{fffd}e");
    }

    #[test]
    fn sequences_that_are_cut_in_pieces_are_the_same() {
        let text = "a\x1b[31mb\u{4e2d}\x1b]0;t\x1b\\c\u{9b}6nd\x1b(0e".as_bytes();
        let mut screen = Screen::default();
        let passed: Vec<u8> = text.iter().flat_map(|&byte| screen.pass(&[byte])).collect();
        assert_eq!(String::from_utf8(passed).unwrap(), "a\x1b[31mb\u{4e2d}cd\x1b(0e");
    }

    #[test]
    fn what_never_ends_hides_a_bounded_part_of_the_text() {
        let mut text = b"\x1b]0;".to_vec();
        text.resize(LONGEST_STRING * 2, b'x');
        assert!(pass(&text).len() > LONGEST_STRING / 2);
        let long = format!("\x1b[{}mtext", "1;".repeat(LONGEST));
        assert_eq!(pass(long.as_bytes()), "text");
        assert_eq!(pass(b"\x1b[31\x1b[0mtext"), "\x1b[0mtext");
    }

    #[test]
    fn the_screen_is_as_before_when_the_guest_is_gone() {
        let mut screen = Screen::default();
        screen.pass(b"plain\n");
        assert_eq!(screen.restore(), b"");
        screen.pass(b"open line");
        assert_eq!(screen.restore(), b"\r\n");
        screen.pass(b"\x1b[8m\x1b(0\x1b=\x1b[4h\x1b[?25l\x1b[?7l\x1b[?1049h\x1b[?1003;2004h\x1b[5;6r");
        let undo = String::from_utf8(screen.restore()).unwrap();
        for part in [
            "\x1b[0m",
            "\x1b(B",
            "\x0f",
            "\x1b>",
            "\x1b[4l",
            "\x1b[?25h",
            "\x1b[?7h",
            "\x1b[?1049l",
            "\x1b[?1003l",
            "\x1b[?2004l",
            "\x1b[r",
        ] {
            assert!(undo.contains(part), "{part:?} is not in {undo:?}");
        }
        assert!(undo.ends_with("\x1b[9999;1H\r\n"), "{undo:?}");
        // If the guest has reverted its changes itself, only a new line at the bottom is needed.
        assert_eq!(screen.restore(), b"");
        screen.pass(b"\x1b[?25l\x1b[?25h");
        assert_eq!(screen.restore(), b"");
    }

    proptest! {
        /// Checks that only known output passes, whatever a guest prints: no strings, no queries, no C1 controls, no
        /// controls but those of plain text.
        #[test]
        fn nothing_else_passes(bytes in proptest::collection::vec(
            prop_oneof![Just(0x1bu8), Just(b'['), Just(b']'), Just(b'?'), Just(0xc2), Just(0x9b), any::<u8>()], 0..200)) {
            let text = pass(&bytes);
            let mut rest = text.as_str();
            while let Some((before, after)) = rest.split_once('\x1b') {
                prop_assert!(!before.chars().any(|c| c.is_control() && !('\x07'..='\x0f').contains(&c)));
                let kind = after.chars().next();
                prop_assert!(kind.is_some_and(|kind| "[78DEHM=>()*+".contains(kind)), "{text:?}");
                if kind == Some('[') {
                    let last = after[1..].chars().find(|c| ('@'..='~').contains(c));
                    prop_assert!(last.is_some_and(|last| !"cnqtpxyiRjkbvwz{|}~".contains(last)), "{text:?}");
                }
                rest = &after[1..];
            }
            prop_assert!(!rest.chars().any(|c| c.is_control() && !('\x07'..='\x0f').contains(&c)));
        }
    }
}
