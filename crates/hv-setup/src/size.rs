//! Sizes as text, each in the unit that fits it.

/// The units, each 1024 times the one before; bytes come first.
const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// Formats a size in the largest unit that it reaches: `513 bytes`, `1.5 KiB`, `512 MiB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    match unit(bytes) {
        0 if bytes == 1 => "1 byte".to_owned(),
        0 => format!("{bytes} bytes"),
        unit => format!("{} {}", tenths(bytes, unit), UNITS[unit - 1]),
    }
}

/// Formats a size like [`size`], with the number of bytes if the unit hides a part of it: `1.5 GiB (1610612737 bytes)`.
/// For errors that compare sizes.
#[must_use]
pub fn exact(bytes: u64) -> String {
    let shift = 10 * unit(bytes);
    let is_exact = (u128::from(bytes) * 10).trailing_zeros() as usize >= shift;
    if is_exact { size(bytes) } else { format!("{} ({bytes} bytes)", size(bytes)) }
}

/// Formats how much of a whole is done, in the unit of the whole: `4.8/66.8 MiB`.
#[must_use]
pub fn progress(done: u64, all: u64) -> String {
    match unit(all) {
        0 => format!("{done}/{all} bytes"),
        unit => format!("{}/{} {}", tenths(done, unit), tenths(all, unit), UNITS[unit - 1]),
    }
}

/// Returns the unit that a size reaches: 0 for bytes, else 1 more than its place in [`UNITS`]. A size that would round
/// to 1024 of a unit reaches the next one.
fn unit(bytes: u64) -> usize {
    let reaches = |unit: &usize| {
        let before = 1 << (10 * (unit - 1));
        u128::from(bytes) * 10 + before / 2 >= 10240 * before
    };
    (1..=UNITS.len()).rev().find(reaches).unwrap_or(0)
}

/// Formats a size in this unit, rounded to one digit after the point, which is left out if it is 0.
fn tenths(bytes: u64, unit: usize) -> String {
    let tenths = (u128::from(bytes) * 10 + (1 << (10 * unit) >> 1)) >> (10 * unit);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => whole.to_string(),
        (whole, part) => format!("{whole}.{part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_the_unit_that_fits() {
        let cases = [
            (0, "0 bytes"),
            (1, "1 byte"),
            (513, "513 bytes"),
            (1023, "1023 bytes"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (2047, "2 KiB"),
            ((1 << 20) - 1, "1 MiB"),
            (512 << 20, "512 MiB"),
            (1 << 30, "1 GiB"),
            (10 << 40, "10 TiB"),
            (u64::MAX, "16 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        // No unit shows 1024 of itself.
        for bit in 0..64 {
            for bytes in [(1u64 << bit).wrapping_sub(1), 1 << bit, (1 << bit) + (1 << bit >> 11)] {
                let number = size(bytes).split(' ').next().unwrap().parse::<f64>().unwrap();
                assert!(number < 1024.0, "{bytes}: {}", size(bytes));
            }
        }
    }

    #[test]
    fn what_the_unit_hides_is_said_in_bytes() {
        assert_eq!(exact(513), "513 bytes");
        assert_eq!(exact(1 << 40), "1 TiB");
        assert_eq!(exact(3 << 29), "1.5 GiB");
        assert_eq!(exact((3 << 29) + 1), "1.5 GiB (1610612737 bytes)");
        assert_eq!(exact((1 << 20) - 1), "1 MiB (1048575 bytes)");
        assert_ne!(exact((1 << 40) + 1), exact(1 << 40));
    }

    #[test]
    fn progress_is_in_the_unit_of_the_whole() {
        assert_eq!(progress(5_000_000, 70_000_000), "4.8/66.8 MiB");
        assert_eq!(progress(0, 513), "0/513 bytes");
        assert_eq!(progress(513, 1 << 30), "0/1 GiB");
    }
}
