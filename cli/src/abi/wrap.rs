//! Text wrapped to the width of the terminal.

/// Number of columns if stdout is not a terminal.
const DEFAULT: usize = 100;
/// With fewer columns than this there is no room for text beside names: it goes below them.
const NARROW: usize = 24;

/// Returns the number of columns of the terminal at stdout, if it is one.
pub(super) fn terminal() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns != 0)
}

/// Returns the number of columns for text.
pub(super) fn columns() -> usize {
    terminal().unwrap_or(DEFAULT).max(2 * NARROW)
}

/// Formats `head` followed by the words of `text`; further lines are indented to the same column, within `columns`. A
/// word that is longer than a line is not broken.
pub(super) fn hanging(head: &str, text: &str, columns: usize) -> String {
    let mut indent = head.chars().count();
    let mut out = head.trim_end().to_owned();
    let mut at = indent;
    if !text.is_empty() && columns.saturating_sub(indent) < NARROW {
        (indent, at) = (8, columns);
    }
    let mut first = at == indent;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if first {
            out.extend(std::iter::repeat_n(' ', indent - out.chars().count()));
        } else if at + 1 + length <= columns {
            out.push(' ');
            at += 1;
        } else {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', indent));
            at = indent;
        }
        out.push_str(word);
        at += length;
        first = false;
    }
    out.push('\n');
    out
}

/// Cuts a line at the width of the terminal.
pub(super) fn cut(line: &str) -> String {
    match terminal() {
        Some(columns) if line.chars().count() > columns => {
            line.chars().take(columns.saturating_sub(3)).chain("...".chars()).collect()
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::hanging;

    #[test]
    fn words_that_do_not_fit_go_below_the_first() {
        let text = hanging("  1  name  ", "some words that take more than one line of text", 40);
        assert_eq!(text, "  1  name  some words that take more\n           than one line of text\n");
        assert_eq!(hanging("head  ", "", 40), "head\n");
        assert_eq!(hanging("", &"x".repeat(50), 40), format!("{}\n", "x".repeat(50)));
    }

    #[test]
    fn where_names_take_the_line_text_goes_below_them() {
        let head = format!("{}  ", "n".repeat(30));
        assert_eq!(hanging(&head, "a text", 40), format!("{}\n        a text\n", "n".repeat(30)));
    }
}
