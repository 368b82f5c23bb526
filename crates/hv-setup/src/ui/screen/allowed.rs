//! The control sequences that pass, and what each changes on the terminal.

use super::Screen;

/// ANSI modes that pass: insert, new line. They are off at the start.
const ANSI_MODES: [u16; 2] = [4, 20];
/// Private modes that pass, and whether they are on at the start: cursor keys, reverse video, origin, automatic wrap,
/// blinking cursor, visible cursor, application keypad, the alternate screens, mouse reports and their encodings, focus
/// reports, bracketed paste.
pub(super) const PRIVATE_MODES: [(u16, bool); 19] = [
    (1, false),
    (5, false),
    (6, false),
    (7, true),
    (12, false),
    (25, true),
    (66, false),
    (9, false),
    (1000, false),
    (1002, false),
    (1003, false),
    (1004, false),
    (1005, false),
    (1006, false),
    (1015, false),
    (2004, false),
    (47, false),
    (1047, false),
    (1049, false),
];

impl Screen {
    /// Returns true if a control sequence may pass; records what it changes.
    pub(super) fn allow(&mut self, sequence: &[u8], last: u8) -> bool {
        let Ok(text) = std::str::from_utf8(sequence) else { return false };
        let (private, numbers) = match text.strip_prefix('?') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // Other prefixes and intermediate bytes are extensions and queries.
        if !numbers.bytes().all(|byte| byte.is_ascii_digit() || byte == b';' || byte == b':') {
            return false;
        }
        match (private, last) {
            (true, b'h' | b'l') => self.private_modes(numbers, last == b'h'),
            (false, b'h' | b'l') => self.ansi_modes(numbers, last == b'h'),
            (false, b'm') => {
                self.attributes = true;
                true
            }
            // Erasing the scrollback would remove the user's own lines.
            (false, b'J') => {
                self.moved = true;
                matches!(numbers, "" | "0" | "1" | "2")
            }
            // Besides cursor movements: insert, erase, delete, scroll, tabs, margins, save, restore.
            (
                false,
                b'@' | b'A'..=b'I' | b'K'..=b'M' | b'P' | b'S' | b'X' | b'Z' | b'`' | b'a' | b'd'..=b'g',
            ) => {
                self.moved = true;
                true
            }
            (false, b'r' | b's' | b'u') => {
                self.moved = true;
                true
            }
            // With more parameters it tracks the mouse.
            (false, b'T') => {
                self.moved = true;
                !numbers.contains(';')
            }
            _ => false,
        }
    }

    /// Checks a sequence of several modes, which passes only if all of them may.
    fn private_modes(&mut self, numbers: &str, on: bool) -> bool {
        let modes: Option<Vec<(u16, bool)>> = numbers
            .split(';')
            .map(|number| {
                let number: u16 = number.parse().ok()?;
                PRIVATE_MODES.into_iter().find(|(mode, _)| *mode == number)
            })
            .collect();
        let Some(modes) = modes else { return false };
        for (mode, first) in modes {
            if on == first {
                self.private.remove(&mode);
            } else {
                self.private.insert(mode);
            }
            // These move the cursor both when set and when reset.
            self.moved |= matches!(mode, 6 | 47 | 1047 | 1049);
        }
        true
    }

    fn ansi_modes(&mut self, numbers: &str, on: bool) -> bool {
        let modes: Option<Vec<u16>> = numbers
            .split(';')
            .map(|number| number.parse().ok().filter(|mode| ANSI_MODES.contains(mode)))
            .collect();
        let Some(modes) = modes else { return false };
        for mode in modes {
            if on {
                self.ansi.insert(mode);
            } else {
                self.ansi.remove(&mode);
            }
        }
        true
    }
}
