//! The symbols that a Linux kernel contains for its own backtraces (CONFIG_KALLSYMS).
//!
//! Debian's kernels come without a System.map; their names are here. The tables have no header: they are located by a
//! property that all of them share, the consecutive tokens of the ten digits, and accepted if they are all consistent.
//! The file may be anything, so time and memory are bounded by its size and the limits below.
//!
//! Source: Linux, scripts/kallsyms.c, `write_src`, and kernel/kallsyms.c: 6.4 and later keep the offsets after the
//! token index, earlier ones before the names.

use std::ops::Range;

/// Maximum number of symbols; a kernel with everything built in has a quarter of it.
const MOST: usize = 1 << 20;
/// Maximum length of a name in bytes (KSYM_NAME_LEN).
const LONGEST: usize = 512;
/// Maximum length of all names in bytes.
const ALL_NAMES: usize = 64 << 20;
/// Maximum number of places where the tables are looked for, and of names walked at each. Valid tables need one place
/// and one walk.
const TRIES: usize = 64;
const STEPS: usize = 4 * MOST;
/// Number of tokens.
const TOKENS: usize = 256;
/// Number of symbols between markers.
const STEP: usize = 256;
/// The tokens of the digits are the digits themselves, consecutively.
const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\x00";

/// Returns the functions of a kernel, with their offsets from its start (`_text`); `None` if the image has no table.
pub(crate) fn functions(image: &[u8]) -> Option<Vec<(u64, String)>> {
    memchr::memmem::find_iter(image, DIGITS)
        .take(TRIES)
        .find_map(|digits| Tables::around(image, digits)?.functions())
}

/// Locations of the tables in an image.
struct Tables<'i> {
    image: &'i [u8],
    tokens: Vec<&'i [u8]>,
    /// Offset of each symbol's length in the image.
    names: Vec<usize>,
    /// Location of the offsets.
    offsets: usize,
}

fn word(image: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(image.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn half(image: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(image.get(at..at.checked_add(2)?)?.try_into().ok()?)))
}

impl<'i> Tables<'i> {
    /// Finds the tables whose digit tokens are at `digits`.
    fn around(image: &'i [u8], digits: usize) -> Option<Self> {
        // This many tokens start at '0'; the index follows.
        let rest = image.get(digits..)?;
        let last = memchr::memchr_iter(0, rest).take(64 * TOKENS).nth(TOKENS - usize::from(b'0') - 1)?;
        let index = (digits + last + 1).next_multiple_of(8);
        let table = digits.checked_sub(half(image, index + 2 * usize::from(b'0'))?)?;
        let tokens = (0..TOKENS)
            .map(|token| {
                let text = image.get(table + half(image, index + 2 * token)?..index)?;
                Some(&text[..memchr::memchr(0, text)?])
            })
            .collect::<Option<Vec<_>>>()?;
        let adjacent = |token: usize| {
            let next = half(image, index + 2 * token)? + tokens[token].len() + 1;
            Some(half(image, index + 2 * (token + 1))? == next)
        };
        (half(image, index) == Some(0) && (0..TOKENS - 1).all(|token| adjacent(token) == Some(true)))
            .then_some(())?;
        let markers = markers(image, table)?;
        let (start, names) = names(image, &markers)?;
        let bytes = (names.len() * 4).next_multiple_of(8);
        let behind = index + 2 * TOKENS;
        // The relative base and the number of symbols, 8 bytes each, are between the offsets and the names.
        let before = start.checked_sub(16 + bytes);
        let ascend = |&at: &usize| {
            let offset = |n: usize| word(image, at + 4 * n);
            // They are relative to the first symbol.
            offset(0) == Some(0)
                && (1..names.len())
                    .all(|n| offset(n).is_some_and(|o| o != 0 || n < STEP) && offset(n - 1) <= offset(n))
        };
        let offsets = Some(behind).filter(ascend).or_else(|| before.filter(ascend))?;
        Some(Self { image, tokens, names, offsets })
    }

    fn functions(&self) -> Option<Vec<(u64, String)>> {
        let mut functions = Vec::new();
        let mut bytes = 0;
        for (number, &at) in self.names.iter().enumerate() {
            let name = self.name(at)?;
            let (kind, name) = name.split_at_checked(1)?;
            if matches!(kind, b"t" | b"T" | b"w" | b"W") {
                bytes += name.len();
                (bytes <= ALL_NAMES).then_some(())?;
                let offset = word(self.image, self.offsets + 4 * number)?;
                functions.push((offset.into(), String::from_utf8_lossy(name).into_owned()));
            }
        }
        Some(functions)
    }

    /// Returns the type and the name of the symbol at an offset.
    fn name(&self, at: usize) -> Option<Vec<u8>> {
        let mut name = Vec::new();
        for &token in self.image.get(entry(self.image, at)?)? {
            name.extend_from_slice(self.tokens[usize::from(token)]);
            (name.len() <= LONGEST).then_some(())?;
        }
        Some(name)
    }
}

/// Returns the tokens of the symbol at an offset. Lengths from 128 on take two bytes, the low seven bits first.
fn entry(image: &[u8], at: usize) -> Option<Range<usize>> {
    let first = usize::from(*image.get(at)?);
    if first < 0x80 {
        return Some(at + 1..at + 1 + first);
    }
    let length = first & 0x7f | usize::from(*image.get(at + 1)?) << 7;
    Some(at + 2..at + 2 + length)
}

/// Returns the location of the markers, and the markers: the offsets of every 256th name, the first one 0.
///
/// They precede the token table; in 6.2, 6.3 and earlier stable kernels, the symbol numbers in name order are between
/// the two, three bytes each.
fn markers(image: &[u8], table: usize) -> Option<(usize, Vec<usize>)> {
    let between = (0..=3 * MOST).step_by(8).flat_map(|gap| {
        let last = gap / 3;
        // The gap is 3 bytes per symbol, and padding.
        let counts = [last.div_ceil(STEP), (gap.saturating_sub(7) / 3).div_ceil(STEP)];
        counts.map(|count| (gap, count))
    });
    let plain = (2..=MOST / STEP).map(|count| (0, count));
    plain.chain(between).find_map(|(gap, count)| {
        let at = table.checked_sub(gap)?.checked_sub((count * 4).next_multiple_of(8))?;
        let marker = |n: usize| Some(word(image, at + 4 * n)? as usize);
        // A name takes at least two bytes.
        let ascend =
            |n: usize| Some((2 * STEP..=STEP * LONGEST).contains(&marker(n)?.checked_sub(marker(n - 1)?)?));
        let good = count > 1 && marker(0) == Some(0) && (1..count).all(|n| ascend(n) == Some(true));
        let padded = count.is_multiple_of(2) || marker(count) == Some(0);
        (good && padded).then(|| (0..count).map_while(marker).collect()).map(|markers| (at, markers))
    })
}

/// Returns the locations of all names, which end before the markers, and that of the first.
fn names(image: &[u8], (end, markers): &(usize, Vec<usize>)) -> Option<(usize, Vec<usize>)> {
    // After the last marker there are 1 to 256 names.
    let latest = end.checked_sub(*markers.last()?)? & !7;
    let earliest = latest.saturating_sub(STEP * LONGEST).max(8);
    let mut steps = 0;
    (earliest..=latest).rev().step_by(8).find_map(|start| {
        let count = word(image, start - 8)? as usize;
        (count.div_ceil(STEP) == markers.len() && word(image, start - 4)? == 0).then_some(())?;
        let mut at = start;
        let mut places = Vec::new();
        for number in 0..count {
            steps += 1;
            (steps <= STEPS).then_some(())?;
            let marked = number % STEP != 0 || markers[number / STEP] == at - start;
            let entry = entry(image, at).filter(|entry| marked && !entry.is_empty() && entry.end <= *end)?;
            places.push(at);
            at = entry.end;
        }
        (at.next_multiple_of(8) == *end).then_some((start, places))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn align(bytes: &mut Vec<u8>) {
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }

    /// Builds an image with tables like those of the kernel's build. Every token is one character, so a name's length
    /// is unchanged.
    fn image(count: usize, old: bool) -> Vec<u8> {
        made(count, old, false)
    }

    /// Builds the same, optionally with the symbol numbers in name order.
    fn made(count: usize, old: bool, numbers: bool) -> Vec<u8> {
        let mut bytes = vec![0xa5; 4096];
        let symbols: Vec<(u32, String)> = (0..count)
            .map(|n| {
                (
                    n as u32 * 0x40,
                    format!("{}function_{n}{}", if n % 3 == 0 { 'D' } else { 't' }, "x".repeat(n % 150)),
                )
            })
            .collect();
        let offsets = |bytes: &mut Vec<u8>| {
            bytes.extend(symbols.iter().flat_map(|(offset, _)| offset.to_le_bytes()));
            align(bytes);
            bytes.extend([0; 8]);
        };
        if old {
            offsets(&mut bytes);
        }
        bytes.extend((count as u64).to_le_bytes());
        let start = bytes.len();
        let mut markers = Vec::new();
        for (n, (_, name)) in symbols.iter().enumerate() {
            if n % STEP == 0 {
                markers.push((bytes.len() - start) as u32);
            }
            match name.len() {
                short @ ..0x80 => bytes.push(short as u8),
                long => bytes.extend([long as u8 | 0x80, (long >> 7) as u8]),
            }
            bytes.extend(name.bytes());
        }
        align(&mut bytes);
        bytes.extend(markers.iter().flat_map(|marker| marker.to_le_bytes()));
        align(&mut bytes);
        if numbers {
            bytes.extend((0..count).flat_map(|n| [0, (n >> 8) as u8, n as u8]));
            align(&mut bytes);
        }
        let mut index = Vec::new();
        let table = bytes.len();
        for token in 0..=255u8 {
            index.extend(((bytes.len() - table) as u16).to_le_bytes());
            // Unused characters are free for longer tokens.
            let free = !(token.is_ascii_alphanumeric() || token == b'_');
            bytes.extend(if free { format!("tok{token}").into_bytes() } else { vec![token] });
            bytes.push(0);
        }
        align(&mut bytes);
        bytes.extend(index);
        if !old {
            offsets(&mut bytes);
        }
        bytes.extend([0x5a; 4096]);
        bytes
    }

    #[test]
    fn the_names_of_a_kernel_are_found_in_either_order() {
        let all = [(300, false), (300, true), (1024, false), (1025, true)];
        for ((count, old), numbers) in all.into_iter().flat_map(|of| [(of, false), (of, true)]) {
            let functions = functions(&made(count, old, numbers)).unwrap();
            assert_eq!(functions.len(), count - count.div_ceil(3), "{count} {old}");
            assert_eq!(functions[0], (0x40, "function_1x".to_owned()));
            let (offset, name) = functions.last().unwrap();
            assert!(name.starts_with(&format!("function_{}", offset / 0x40)), "{name} {offset}");
        }
    }

    #[test]
    fn what_has_no_table_has_no_names_and_costs_nothing() {
        assert_eq!(functions(b""), None);
        assert_eq!(functions(DIGITS), None);
        assert_eq!(functions(&DIGITS.repeat(10_000)), None);
        assert_eq!(functions(&vec![0; 1 << 20]), None);
        let good = image(300, false);
        for cut in (0..good.len()).step_by(7) {
            let _ = functions(&good[..cut]);
            let _ = functions(&good[cut..]);
        }
    }

    #[test]
    fn a_damaged_table_is_no_panic() {
        let good = image(520, false);
        for place in (4096..good.len() - 4096).step_by(61) {
            let mut bad = good.clone();
            bad[place] ^= 0xff;
            let _ = functions(&bad);
        }
    }
}
