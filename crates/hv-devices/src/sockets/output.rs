//! What guests have sent, until the back end takes it.

use super::StreamId;

/// Bytes before the bytes of each packet: the stream's name and their number.
pub(super) const HEADER: usize = 8;

/// A queue of packets. Each lies in one piece, so room at the front is used again when the queue is empty.
#[derive(Debug)]
pub(super) struct Output<const BYTES: usize> {
    bytes: [u8; BYTES],
    begin: usize,
    end: usize,
}

impl<const BYTES: usize> Output<BYTES> {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; BYTES], begin: 0, end: 0 }
    }

    /// Appends a packet of `len` bytes, which `fill` provides; it returns how many it had. Returns false if there is no
    /// room, or too few bytes.
    pub(super) fn push(&mut self, id: StreamId, len: usize, fill: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Some(room) = self.bytes.get_mut(self.end..self.end + HEADER + len) else { return false };
        let (head, body) = room.split_at_mut(HEADER);
        head[..4].copy_from_slice(&id.number().to_le_bytes());
        head[4..].copy_from_slice(&(len as u32).to_le_bytes());
        if fill(body) != len {
            return false;
        }
        self.end += HEADER + len;
        true
    }

    pub(super) fn has_room(&self, len: usize) -> bool {
        self.end + HEADER + len <= BYTES
    }

    /// Returns the oldest packet.
    pub(super) fn front(&self) -> Option<(StreamId, &[u8])> {
        let (head, rest) = self.bytes[self.begin..self.end].split_first_chunk::<HEADER>()?;
        let [a, b, c, d, e, f, g, h] = *head;
        let id = StreamId::from_number(u32::from_le_bytes([a, b, c, d]));
        Some((id, rest.get(..u32::from_le_bytes([e, f, g, h]) as usize)?))
    }

    /// Removes it.
    pub(super) fn pop(&mut self) {
        self.begin += self.front().map_or(0, |(_, bytes)| HEADER + bytes.len());
        if self.begin == self.end {
            (self.begin, self.end) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_in_order_and_room_comes_back_with_the_last() {
        let mut output = Output::<32>::new();
        let id = StreamId::from_number(7);
        let push = |output: &mut Output<32>, byte: u8, len| {
            output.push(id, len, |into| {
                into.fill(byte);
                len
            })
        };
        assert!(push(&mut output, 1, 3) && push(&mut output, 2, 4));
        assert!(!output.has_room(2) && !push(&mut output, 3, 2));
        assert_eq!(output.front(), Some((id, &[1; 3][..])));
        output.pop();
        assert!(!output.has_room(2), "the second one is still there");
        assert_eq!(output.front(), Some((id, &[2; 4][..])));
        output.pop();
        assert_eq!(output.front(), None);
        assert!(output.has_room(24) && !output.has_room(25));
        assert!(!output.push(id, 8, |_| 7), "too few bytes are not a packet");
        assert_eq!(output.front(), None);
    }
}
