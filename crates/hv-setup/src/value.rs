//! Parsers of option values. Each error says what was expected; clap adds the option and the value.

use std::num::IntErrorKind;
use std::ops::RangeInclusive;

/// Returns a parser of whole numbers in a range, of a unit that `what` names: `seconds`.
pub fn whole<T: TryFrom<u64>>(
    range: RangeInclusive<u64>,
    what: &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    let (least, most) = range.into_inner();
    move |text| {
        // A sign would parse.
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number =
            digits.and_then(|text| text.parse().ok()).filter(|number| (least..=most).contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| {
            let what =
                if what.is_empty() { "a whole number".to_owned() } else { format!("{what}, a whole number") };
            format!("expected {what} from {least} to {most}")
        })
    }
}

/// Parses a number of seconds.
///
/// # Errors
/// It is not a whole number, or one of 136 years and more.
pub fn seconds(text: &str) -> Result<u32, String> {
    whole(0..=u32::MAX.into(), "seconds")(text)
}

/// Parses a size such as `512M`; a plain number is in MiB, as for QEMU's `-m`.
///
/// # Errors
/// It is not a size, or one of 256 TiB and more.
pub fn size(text: &str) -> Result<u64, String> {
    let expected = || "expected a number of MiB, or a number with K, M, G or T, such as 512M".to_owned();
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match &text[digits.len()..] {
        "" | "M" | "m" | "MiB" => 20,
        "K" | "k" | "KiB" => 10,
        "G" | "g" | "GiB" => 30,
        "T" | "t" | "TiB" => 40,
        _ => return Err(expected()),
    };
    let number = match digits.parse::<u64>() {
        Err(error) if *error.kind() != IntErrorKind::PosOverflow => return Err(expected()),
        number => number.ok(),
    };
    number
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|&size| size < 1 << 48)
        .ok_or_else(|| "it is too large: expected less than 256 TiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_in_their_range() {
        let parse = whole::<u32>(1..=8, "");
        assert_eq!((parse("1"), parse("8")), (Ok(1), Ok(8)));
        for bad in ["", "0", "9", "-1", "two", "1.5", "1e3", "0x2", "+2", " 2", "99999999999999999999"] {
            assert_eq!(parse(bad), Err("expected a whole number from 1 to 8".to_owned()), "{bad}");
        }
        // A range that the type does not have is not a panic.
        assert!(whole::<u8>(0..=1000, "")("999").is_err());
        assert_eq!(
            whole::<u8>(0..=9, "seconds")("x"),
            Err("expected seconds, a whole number from 0 to 9".to_owned())
        );
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("512"), Ok(512 << 20));
        assert_eq!(size("2G"), Ok(2 << 30));
        assert_eq!(size("2048K"), Ok(2 << 20));
        assert_eq!(size("1T"), Ok(1 << 40));
        for bad in ["", "M", "-1", "1P", "1.5G", "1 G", "1GB"] {
            assert!(size(bad).unwrap_err().starts_with("expected a number of MiB"), "{bad}");
        }
        for huge in ["99999999999999999999", "18446744073709551615G", "99999T", "256T"] {
            assert!(size(huge).unwrap_err().starts_with("it is too large"), "{huge}");
        }
    }
}
