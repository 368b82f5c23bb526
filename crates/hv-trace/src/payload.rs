//! Byte strings of any length, of which a record keeps the beginning.

use core::fmt;

/// The first `ROOM` bytes of a longer or shorter byte string, and its length.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Payload<const ROOM: usize> {
    length: u16,
    /// Zero after the bytes that are kept.
    bytes: [u8; ROOM],
}

impl<const ROOM: usize> Payload<ROOM> {
    /// Keeps the beginning of `all`.
    #[must_use]
    pub fn new(all: &[u8]) -> Self {
        let mut bytes = [0; ROOM];
        let kept = all.len().min(ROOM);
        bytes[..kept].copy_from_slice(&all[..kept]);
        Self { length: u16::try_from(all.len()).unwrap_or(u16::MAX), bytes }
    }

    /// Keeps the beginning of a text.
    #[must_use]
    pub fn text(text: fmt::Arguments<'_>) -> Self {
        let mut payload = Self { length: 0, bytes: [0; ROOM] };
        // `write_str` keeps what fits, counts the rest, and never fails.
        let _ = fmt::Write::write_fmt(&mut payload, text);
        payload
    }

    /// Returns the original length in bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length as usize
    }

    /// Returns the bytes that are kept.
    #[must_use]
    pub fn kept(&self) -> &[u8] {
        &self.bytes[..self.length().min(ROOM)]
    }

    /// Returns true if some bytes were cut off.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.length() > ROOM
    }

    /// Returns the number in the first four bytes, which is the type of a VMBus message.
    #[must_use]
    pub fn first_word(&self) -> Option<u32> {
        self.kept().first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    pub(crate) const fn parts(&self) -> (u16, &[u8; ROOM]) {
        (self.length, &self.bytes)
    }

    /// Returns `None` if there are nonzero bytes after the end.
    pub(crate) fn from_parts(length: u16, bytes: [u8; ROOM]) -> Option<Self> {
        let payload = Self { length, bytes };
        payload.bytes[payload.kept().len()..].iter().all(|byte| *byte == 0).then_some(payload)
    }
}

impl<const ROOM: usize> fmt::Write for Payload<ROOM> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            let end = self.length();
            if let Some(place) = self.bytes.get_mut(end) {
                *place = byte;
            }
            self.length = self.length.saturating_add(1);
        }
        Ok(())
    }
}

/// Prints the bytes in hexadecimal, followed by `..` if some were cut off.
impl<const ROOM: usize> fmt::Display for Payload<ROOM> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kept().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        if self.is_cut() { f.write_str("..") } else { Ok(()) }
    }
}

impl<const ROOM: usize> fmt::Debug for Payload<ROOM> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes: {self}", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so() {
        let long = Payload::<4>::new(&[1, 2, 3, 4, 5]);
        assert_eq!((long.length(), long.kept(), long.is_cut()), (5, &[1, 2, 3, 4][..], true));
        let short = Payload::<4>::new(&[1, 2]);
        assert_eq!((short.length(), short.kept(), short.is_cut()), (2, &[1, 2][..], false));
        assert_eq!(short.first_word(), None);
        assert_eq!(Payload::<4>::new(&[0; 70_000]).length(), 65_535);
    }

    #[test]
    fn a_text_is_kept_as_far_as_there_is_room() {
        let text = Payload::<8>::text(format_args!("{}-{}", "BadRange", 7));
        assert_eq!((text.length(), text.kept()), (10, &b"BadRange"[..]));
    }

    #[test]
    fn nothing_is_behind_the_end() {
        assert!(Payload::from_parts(1, [7, 0]).is_some());
        assert!(Payload::from_parts(1, [7, 7]).is_none());
        assert!(Payload::from_parts(9, [7, 7]).is_some());
    }
}
