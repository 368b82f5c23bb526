//! The words of a kernel command line.
//!
//! Source: Linux, lib/cmdline.c, `next_arg`: double quotes keep spaces in a word, and may enclose all of it;
//! kernel/params.c, `parse_args`: what follows the word `--` goes to init.

/// Iterates over the words, including their quotes.
#[must_use = "iterators do nothing unless consumed"]
pub fn words(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let between = move |c: char| {
        quoted ^= c == '"';
        (c.is_ascii_whitespace() || c == '\u{b}') && !quoted
    };
    line.split(between).filter(|word| !word.is_empty())
}

/// Splits the line into the part for the kernel and the part for init, which starts at the first word that is `--`.
#[must_use]
pub fn split(line: &str) -> (&str, &str) {
    let dashes = words(line).find(|word| matches!(*word, "--" | "\"--\""));
    let at = dashes.map_or(line.len(), |word| word.as_ptr().addr() - line.as_ptr().addr());
    line.split_at(at)
}

/// Returns true if the kernel gets a word that starts with `key`.
#[must_use]
pub fn is_given(line: &str, key: &str) -> bool {
    words(split(line).0).any(|word| word.strip_prefix('"').unwrap_or(word).starts_with(key))
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn quotes_keep_spaces_in_a_word() {
        let all: Vec<_> = words("a \"b c\"d  e=\" f\"\tg").collect();
        assert_eq!(all, ["a", "\"b c\"d", "e=\" f\"", "g"]);
        assert_eq!(words("open=\"a b").collect::<Vec<_>>(), ["open=\"a b"]);
        assert_eq!(words(" \t").count(), 0);
    }

    #[test]
    fn the_kernels_part_ends_at_bare_dashes() {
        assert_eq!(split("a -- b -- c"), ("a ", "-- b -- c"));
        assert_eq!(split("a \"--\" b"), ("a ", "\"--\" b"));
        assert_eq!(split("a=\"x -- y\" --z"), ("a=\"x -- y\" --z", ""));
        assert_eq!(split(""), ("", ""));
    }

    #[test]
    fn a_word_in_quotes_or_for_init_is_not_given() {
        assert!(is_given("quiet \"console=hvc0\"", "console="));
        assert!(!is_given("x=\"a console=hvc0\"", "console="));
        assert!(!is_given("quiet -- console=hvc0", "console="));
    }
}
