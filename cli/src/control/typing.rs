//! `hv ctl type`: text, as keys of a US keyboard.

use hv_tlfs::vmbus::keyboard;
use hv_wire::control::MAX_KEYS;

/// Rows of keys: the scan code of the first in set 1, and what they give without and with the shift key.
const ROWS: [(u8, &str, &str); 4] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];
/// Keys that stand alone: Escape, Backspace, Tab, Enter and the space bar.
const OTHERS: [(char, u8); 5] = [('\u{1b}', 0x01), ('\u{8}', 0x0e), ('\t', 0x0f), ('\n', 0x1c), (' ', 0x39)];
/// The left shift key.
const SHIFT: u8 = 0x2a;
/// Flag of a key that is released.
const RELEASED: u8 = keyboard::RELEASED as u8;
/// Number of refused characters that an error names.
const NAMED: usize = 8;

/// A part of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Piece {
    /// Its keys: scan codes and flags, as in a message to the hypervisor.
    pub(super) keys: Vec<u8>,
    /// Number of its characters.
    pub(super) characters: usize,
}

/// Returns the scan code of a character's key, and whether it needs the shift key.
fn key(character: char) -> Option<(u8, bool)> {
    if let Some((_, code)) = OTHERS.iter().find(|(other, _)| *other == character) {
        return Some((*code, false));
    }
    ROWS.iter().find_map(|(first, plain, shifted)| {
        let place = |keys: &str| keys.chars().position(|key| key == character);
        let (place, shift) = place(plain).map(|at| (at, false)).or(place(shifted).map(|at| (at, true)))?;
        Some((first + place as u8, shift))
    })
}

/// Cuts a text into parts that each fit into a message. Between two of them no key is pressed.
///
/// # Errors
/// The text is empty, or the keyboard has no key for a character.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, String> {
    if text.is_empty() {
        return Err("the text is empty, expected at least one character".to_owned());
    }
    let mut refused: Vec<char> = text.chars().filter(|character| key(*character).is_none()).collect();
    refused.sort_unstable();
    refused.dedup();
    if !refused.is_empty() {
        let name = |character: &char| format!("{character:?} (U+{:04X})", *character as u32);
        let names: Vec<_> = refused.iter().take(NAMED).map(name).collect();
        let more = if refused.len() > NAMED { " and others" } else { "" };
        return Err(format!(
            "the keyboard has no key for {}{more}: expected characters of a US keyboard, Enter, Tab, Backspace and Escape",
            names.join(", ")
        ));
    }
    let mut pieces = vec![Piece::default()];
    for (code, shift) in text.chars().filter_map(key) {
        let key = [code, 0, code, RELEASED];
        let keys = if shift { [&[SHIFT, 0][..], &key, &[SHIFT, RELEASED]].concat() } else { key.to_vec() };
        if pieces.last().is_some_and(|piece| piece.keys.len() + keys.len() > 2 * MAX_KEYS) {
            pieces.push(Piece::default());
        }
        if let Some(piece) = pieces.last_mut() {
            piece.keys.extend(keys);
            piece.characters += 1;
        }
    }
    Ok(pieces)
}

/// Reads the text of the command line: `\n` is Enter, `\t` Tab, `\b` Backspace, `\e` Escape, and `\\` a backslash.
pub(super) fn unescape(text: &str) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), text.chars());
    while let Some(character) = rest.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        out.push(match rest.next() {
            Some('n') => '\n',
            Some('t') => '\t',
            Some('b') => '\u{8}',
            Some('e') => '\u{1b}',
            Some('\\') => '\\',
            other => {
                let end = other
                    .map_or("a backslash ends the text".to_owned(), |other| format!("\\{other} is unknown"));
                return Err(format!("{end}: expected \\n, \\t, \\b, \\e, or \\\\ for a backslash"));
            }
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<u8> {
        pieces(text).unwrap().into_iter().flat_map(|piece| piece.keys).collect()
    }

    #[test]
    fn every_character_of_a_us_keyboard_has_one_key() {
        let mut known = std::collections::BTreeSet::new();
        for character in (' '..='~').chain("\n\t\u{8}\u{1b}".chars()) {
            let key = key(character).unwrap_or_else(|| panic!("{character:?}"));
            assert!(known.insert(key), "{character:?} has another one's key");
        }
        assert_eq!(known.len(), 95 + 4);
        for (character, expected) in
            [('1', 0x02), ('0', 0x0b), ('=', 0x0d), ('p', 0x19), ('`', 0x29), ('/', 0x35)]
        {
            assert_eq!(key(character), Some((expected, false)), "{character}");
        }
    }

    #[test]
    fn shift_is_held_for_one_character() {
        assert_eq!(keys("aA"), [0x1e, 0, 0x1e, 2, 0x2a, 0, 0x1e, 0, 0x1e, 2, 0x2a, 2]);
        assert_eq!(keys("\n"), [0x1c, 0, 0x1c, 2]);
    }

    #[test]
    fn a_long_text_has_parts_that_fit_and_leave_no_key_pressed() {
        let text = "aB".repeat(500);
        let pieces = pieces(&text).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.characters).sum::<usize>(), 1000);
        for piece in &pieces {
            assert!(piece.keys.len() <= 2 * MAX_KEYS);
            let mut pressed = std::collections::BTreeSet::new();
            for key in piece.keys.chunks(2) {
                assert!(if key[1] == 0 { pressed.insert(key[0]) } else { pressed.remove(&key[0]) });
            }
            assert!(pressed.is_empty());
        }
        assert_eq!(keys(&text).len(), 2 * 500 * (2 + 4));
    }

    #[test]
    fn characters_without_a_key_are_named() {
        let refused = pieces("gr\u{fc}\u{df}e \u{fc}\r").unwrap_err();
        assert!(
            refused.contains("'\\r' (U+000D), '\u{df}' (U+00DF), '\u{fc}' (U+00FC): expected"),
            "{refused}"
        );
        let many: String = ('\u{100}'..'\u{110}').collect();
        assert!(pieces(&many).unwrap_err().contains("(U+0107) and others: "));
        assert!(pieces("").unwrap_err().contains("empty"));
    }

    #[test]
    fn escapes_are_those_of_keys() {
        assert_eq!(unescape("a\\tb\\n\\\\n\\b\\e"), Ok("a\tb\n\\n\u{8}\u{1b}".to_owned()));
        assert!(unescape("a\\x").unwrap_err().contains("\\x is unknown"));
        assert!(unescape("a\\").unwrap_err().contains("ends the text"));
    }
}
