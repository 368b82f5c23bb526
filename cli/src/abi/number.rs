//! Numbers as a person types them.

/// A number in decimal, or in hexadecimal after `0x` or binary after `0b`; `_` and `'` may part its digits.
pub(super) fn parse(text: &str) -> Option<u128> {
    let text: String = text.trim().chars().filter(|c| !matches!(c, '_' | '\'')).collect();
    let lower = text.to_ascii_lowercase();
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

#[cfg(test)]
mod tests {
    use super::parse;

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
