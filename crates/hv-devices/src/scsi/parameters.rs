//! Parameter lists of commands.

use super::sense::Sense;

/// A range of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// First logical block.
    pub block: u64,
    /// Number of blocks.
    pub count: u32,
}

/// Maximum number of extents in an UNMAP, as in the block limits page.
pub const MAX_EXTENTS: usize = 8;
/// Size of an UNMAP parameter list with this many extents, in bytes.
pub const UNMAP_LIST_LEN: usize = HEADER + MAX_EXTENTS * DESCRIPTOR;

const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

fn be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Parses UNMAP's parameter list. Empty extents are allowed and dropped.
///
/// Source: SBC-3, "UNMAP parameter list".
///
/// # Errors
/// [`Sense::PARAMETER_LENGTH`] if the list is truncated, [`Sense::INVALID_PARAMETER`] for more extents than
/// [`MAX_EXTENTS`].
pub(crate) fn unmap(list: &[u8]) -> Result<([Extent; MAX_EXTENTS], usize), Sense> {
    let mut extents = [Extent::default(); MAX_EXTENTS];
    // An empty list is not an error.
    if list.is_empty() {
        return Ok((extents, 0));
    }
    let header = list.get(..HEADER).ok_or(Sense::PARAMETER_LENGTH)?;
    let descriptors = be(&header[2..4]) as usize;
    let body = list.get(HEADER..HEADER + descriptors).ok_or(Sense::PARAMETER_LENGTH)?;
    let mut used = 0;
    for descriptor in body.chunks_exact(DESCRIPTOR) {
        let extent = Extent { block: be(&descriptor[..8]), count: be(&descriptor[8..12]) as u32 };
        if extent.count == 0 {
            continue;
        }
        *extents.get_mut(used).ok_or(Sense::INVALID_PARAMETER)? = extent;
        used += 1;
    }
    Ok((extents, used))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn list(extents: &[(u64, u32)]) -> Vec<u8> {
        let mut list = std::vec![0; HEADER];
        for (block, count) in extents {
            list.extend(block.to_be_bytes());
            list.extend(count.to_be_bytes());
            list.extend([0; 4]);
        }
        let len = list.len() as u16;
        list[..2].copy_from_slice(&(len - 2).to_be_bytes());
        list[2..4].copy_from_slice(&(len - 8).to_be_bytes());
        list
    }

    #[test]
    fn extents_are_read_in_order_and_empty_ones_left_out() {
        let (extents, used) = unmap(&list(&[(1, 2), (3, 0), (u64::MAX, u32::MAX)])).unwrap();
        assert_eq!(
            extents[..used],
            [Extent { block: 1, count: 2 }, Extent { block: u64::MAX, count: u32::MAX }]
        );
        assert_eq!(unmap(&[]).unwrap().1, 0);
    }

    #[test]
    fn a_list_that_is_cut_or_too_long_is_refused() {
        let whole = list(&[(1, 2), (3, 4)]);
        for len in 1..whole.len() {
            assert_eq!(unmap(&whole[..len]), Err(Sense::PARAMETER_LENGTH), "{len}");
        }
        let many = list(&[(0, 1); MAX_EXTENTS + 1]);
        assert_eq!(unmap(&many), Err(Sense::INVALID_PARAMETER));
    }
}
