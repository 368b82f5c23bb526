//! Text without anything that a terminal would obey or a reader would not see.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Returns the text in a printable form: characters that are invisible, move the cursor or change the text direction
/// are written as `\u001b`. Line ends and tabs are kept.
///
/// The notation is that of JSON, where these characters occur only in strings, so JSON keeps its meaning.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n' || c == '\t')
}

/// Does the same as [`printable`], for a place inside a line: the result is a single line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

fn escape(text: &str, spared: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(|c| is_unseen(c) && !spared(c)) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            // A line end of other systems.
            '\r' if rest.peek() == Some(&'\n') && spared('\n') => {}
            c if !is_unseen(c) || spared(c) => safe.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(safe, "\\u{unit:04x}");
                }
            }
        }
    }
    Cow::Owned(safe)
}

/// Returns true for a character without a visible form: controls, line and paragraph separators, and those that the
/// Unicode Character Database classifies as format characters or as `Default_Ignorable_Code_Point`, including those
/// that change the text direction.
pub(super) fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}'
            | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        for (text, shown) in [
            ("plain text, \u{e9}\u{4e2d}\u{2500}\n\ttab", "plain text, \u{e9}\u{4e2d}\u{2500}\n\ttab"),
            ("\u{1b}[8mhidden\u{7}", "\\u001b[8mhidden\\u0007"),
            ("a\rb\r\nc\u{8}\u{7f}\0", "a\\u000db\nc\\u0008\\u007f\\u0000"),
            ("\u{9b}31m\u{85}", "\\u009b31m\\u0085"),
            ("\u{202e}txt.exe\u{2066}\u{2069}\u{200f}", "\\u202etxt.exe\\u2066\\u2069\\u200f"),
            (
                "zero\u{200b}width\u{feff}\u{2028}\u{2029}\u{ad}",
                "zero\\u200bwidth\\ufeff\\u2028\\u2029\\u00ad",
            ),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(printable(text), shown);
        }
        assert_eq!(one_line("a\nb\tc\r\n"), "a\\u000ab\\u0009c\\u000d\\u000a");
    }

    #[test]
    fn every_control_is_escaped() {
        for c in (0..0x11_0000).filter_map(char::from_u32).filter(|c| c.is_control()) {
            let text = c.to_string();
            assert!(!one_line(&text).contains(c), "{c:?}");
            assert_eq!(printable(&text) == text, c == '\n' || c == '\t', "{c:?}");
        }
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "k\u{202e}": "a\u{1b}\u{9b}\u{7f}\n\u{e0041}\\u" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let shown = printable(&text);
        assert!(!shown.contains(['\u{202e}', '\u{9b}', '\u{7f}']));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
