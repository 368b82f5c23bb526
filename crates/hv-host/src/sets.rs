//! Sets of VPs, as in hypercalls.

use hv_tlfs::status::HvStatus;

/// Number of VPs in a bank of a sparse set.
const BANK: usize = 64;
/// Number of banks of a sparse set.
const BANKS: usize = 64;

/// A set of VPs. Iteration skips VPs that the partition does not have.
///
/// Source: TLFS, `HV_VP_SET`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpMask {
    /// Number of VPs in the partition.
    count: usize,
    members: Members,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is no allocator, and a set lives for one call on the stack"
)]
enum Members {
    All,
    Mask(u64),
    Sparse([u64; BANKS]),
}

impl VpMask {
    /// Creates the set of all VPs of a partition with `count` VPs.
    #[must_use]
    pub const fn all(count: usize) -> Self {
        Self { count, members: Members::All }
    }

    /// Creates the set of the VPs 0 to 63 whose bit is set.
    #[must_use]
    pub const fn from_mask(count: usize, mask: u64) -> Self {
        Self { count, members: Members::Mask(mask) }
    }

    /// Creates a sparse set: `bank` returns the banks' masks in ascending order of the bits in `valid`.
    pub(crate) fn from_banks(
        count: usize,
        valid: u64,
        mut bank: impl FnMut(usize) -> Result<u64, HvStatus>,
    ) -> Result<Self, HvStatus> {
        let mut banks = [0; BANKS];
        let mut read = 0;
        for (index, slot) in banks.iter_mut().enumerate() {
            if valid >> index & 1 != 0 {
                *slot = bank(read)?;
                read += 1;
            }
        }
        Ok(Self { count, members: Members::Sparse(banks) })
    }

    /// Returns true if the VP is in the set.
    #[must_use]
    pub fn contains(&self, vp: usize) -> bool {
        self.bank(vp / BANK) >> (vp % BANK) & 1 != 0
    }

    /// Returns a bit for each VP of a bank that is in the set and that the partition has.
    #[inline]
    fn bank(&self, index: usize) -> u64 {
        let members = match &self.members {
            Members::All => !0,
            Members::Mask(mask) if index == 0 => *mask,
            Members::Mask(_) => 0,
            Members::Sparse(banks) => banks.get(index).copied().unwrap_or(0),
        };
        match self.count.saturating_sub(index * BANK) {
            count @ 0..BANK => members & ((1 << count) - 1),
            _ => members,
        }
    }

    /// Iterates over the VPs of the set in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        let (mut index, mut left) = (0, self.bank(0));
        core::iter::from_fn(move || {
            while left == 0 {
                index += 1;
                if index * BANK >= self.count {
                    return None;
                }
                left = self.bank(index);
            }
            let vp = index * BANK + left.trailing_zeros() as usize;
            left &= left - 1;
            Some(vp)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparse_set_is_the_example_of_the_tlfs() {
        // 200 VPs, the set {0, 5, 130}: banks 0 and 2.
        let given = [0x21, 0x04];
        let set = VpMask::from_banks(200, 0b101, |n| Ok(given[n])).unwrap();
        assert!(set.iter().eq([0, 5, 130]));
    }

    #[test]
    fn vps_that_do_not_exist_are_left_out() {
        assert!(VpMask::from_mask(3, !0).iter().eq([0, 1, 2]));
        assert!(VpMask::all(2).iter().eq([0, 1]));
        assert!(VpMask::from_banks(66, !0, |_| Ok(!0)).unwrap().iter().eq(0..66));
    }

    #[test]
    fn a_mask_names_only_the_first_64() {
        assert!(!VpMask::from_mask(100, !0).contains(64));
    }
}
