//! Numbers as users type them.

/// Parses a number in decimal, in hexadecimal after `0x` or in binary after `0b`; its digits may be separated by `_`
/// and `'`, and followed by C's suffixes.
pub(super) fn parse(text: &str) -> Option<u128> {
    let text: String = text.trim().chars().filter(|c| !matches!(c, '_' | '\'')).collect();
    let mut lower = text.to_ascii_lowercase();
    if lower.starts_with(|c: char| c.is_ascii_digit()) {
        lower.truncate(lower.trim_end_matches(['u', 'l']).len());
    }
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix("0b")) {
        (Some(digits), _) => (digits, 16),
        (_, Some(digits)) => (digits, 2),
        _ => (lower.as_str(), 10),
    };
    if digits.starts_with('+') {
        return None;
    }
    u128::from_str_radix(digits, radix).ok()
}

/// Parses a hexadecimal number without `0x`, as in logs: with at least one letter and one digit.
pub(super) fn bare_hexadecimal(text: &str) -> Option<u128> {
    let text = text.trim();
    let digit = text.contains(|c: char| c.is_ascii_digit());
    (digit && text.chars().all(|c| c.is_ascii_hexdigit()))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::{bare_hexadecimal, parse};

    #[test]
    fn what_c_and_logs_write_is_read() {
        assert_eq!(parse("0x13UL"), Some(0x13));
        assert_eq!(parse("19u"), Some(19));
        assert_eq!(parse("ull"), None);
        assert_eq!(bare_hexadecimal("a0013"), Some(0xa0013));
        assert_eq!(bare_hexadecimal("dead"), None);
        assert_eq!(bare_hexadecimal("sint2"), None);
    }

    #[test]
    fn numbers_are_read_in_three_bases() {
        assert_eq!(parse("0x1_0001'0050"), Some(0x1_0001_0050));
        assert_eq!(parse("0B101"), Some(5));
        assert_eq!(parse(" 19 "), Some(19));
        assert_eq!(parse("sint"), None);
        assert_eq!(parse("0x"), None);
        assert_eq!(parse("0x+1"), None);
    }
}
