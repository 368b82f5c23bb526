//! Sets of VPs, for hypercalls that target processors.
//!
//! Source: TLFS, `HV_VP_SET`; its example of sparse banks is the one below.

use hv_tlfs::sets::{VPS_PER_BANK, VpSetHeader, bank_and_bit};
use hv_tlfs::vp::VpIndex;

/// A set of VPs with indices below `64 * BANKS`, or all VPs of the partition. `BANKS` is at most 64.
///
/// ```
/// use hv_guest::sets::VpSet;
/// use hv_tlfs::vp::VpIndex;
/// let mut set = VpSet::<3>::new();
/// for index in [0, 5, 130] {
///     set.insert(VpIndex(index)).unwrap();
/// }
/// assert!(set.contains(VpIndex(130)));
/// assert_eq!(set.insert(VpIndex(192)), Err(hv_guest::sets::OutOfRange(VpIndex(192))));
/// ```
#[doc(alias = "hv_vpset")]
#[doc(alias = "cpumask_to_vpset")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpSet<const BANKS: usize> {
    all: bool,
    banks: [u64; BANKS],
}

/// The VP index that a set cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange(
    /// The index.
    pub VpIndex,
);

impl core::fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "VP {} is beyond the set; raise its `BANKS`", self.0.0)
    }
}

impl core::error::Error for OutOfRange {}

impl<const BANKS: usize> Default for VpSet<BANKS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const BANKS: usize> VpSet<BANKS> {
    const BANKS_FIT: () = assert!(BANKS <= hv_tlfs::sets::MAX_SPARSE_BANKS);

    /// Creates the empty set.
    #[must_use]
    pub const fn new() -> Self {
        let () = Self::BANKS_FIT;
        Self { all: false, banks: [0; BANKS] }
    }

    /// Creates the set of all VPs of the partition, whatever their indices.
    #[must_use]
    pub const fn all() -> Self {
        let () = Self::BANKS_FIT;
        Self { all: true, banks: [0; BANKS] }
    }

    /// Adds a VP.
    ///
    /// # Errors
    ///
    /// [`OutOfRange`] if its index is `64 * BANKS` or more.
    pub fn insert(&mut self, vp: VpIndex) -> Result<(), OutOfRange> {
        let (bank, bit) = self.bank(vp).ok_or(OutOfRange(vp))?;
        *bank |= bit;
        Ok(())
    }

    /// Removes a VP. Has no effect on the set of all VPs.
    pub fn remove(&mut self, vp: VpIndex) {
        if let Some((bank, bit)) = self.bank(vp) {
            *bank &= !bit;
        }
    }

    /// Returns true if a VP is in the set.
    #[must_use]
    pub fn contains(&self, vp: VpIndex) -> bool {
        self.all
            || bank_and_bit(vp.0).is_some_and(|(bank, bit)| {
                self.banks.get(bank as usize).is_some_and(|word| word >> bit & 1 != 0)
            })
    }

    fn bank(&mut self, vp: VpIndex) -> Option<(&mut u64, u64)> {
        let (bank, bit) = bank_and_bit(vp.0)?;
        Some((self.banks.get_mut(bank as usize)?, 1 << bit))
    }

    /// Encodes the set for a hypercall: the header, and the non-empty banks, lowest first, at the start of an array
    /// with their number.
    pub(crate) fn to_parameters(&self) -> (VpSetHeader, [u64; BANKS], usize) {
        let mut banks = [0; BANKS];
        if self.all {
            return (VpSetHeader::ALL, banks, 0);
        }
        let mut mask = 0;
        let filled = self.banks.iter().enumerate().filter(|(_, word)| **word != 0);
        let mut count = 0;
        for (to, (bank, word)) in banks.iter_mut().zip(filled) {
            *to = *word;
            mask |= 1 << (bank % VPS_PER_BANK);
            count += 1;
        }
        (VpSetHeader::sparse(mask), banks, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(indices: &[u32]) -> VpSet<64> {
        let mut set = VpSet::new();
        for index in indices {
            set.insert(VpIndex(*index)).unwrap();
        }
        set
    }

    #[test]
    fn the_example_of_the_tlfs() {
        let (header, banks, count) = set(&[0, 5, 130]).to_parameters();
        assert_eq!(header, VpSetHeader::sparse(0b101));
        assert_eq!(banks[..count], [0x21, 0x04]);
    }

    #[test]
    fn the_ends_of_the_range() {
        let (header, banks, count) = set(&[4095]).to_parameters();
        assert_eq!((header.valid_bank_mask, &banks[..count]), (1 << 63, &[1 << 63][..]));
        assert!(VpSet::<64>::new().insert(VpIndex(4096)).is_err());
        assert!(VpSet::<1>::new().insert(VpIndex(64)).is_err());
        assert!(VpSet::<0>::new().insert(VpIndex(0)).is_err());
    }

    #[test]
    fn a_set_emptied_has_no_banks() {
        let mut set = set(&[70]);
        set.remove(VpIndex(70));
        set.remove(VpIndex(9999));
        assert_eq!(set, VpSet::new());
        let (header, _, count) = set.to_parameters();
        assert_eq!((header.valid_bank_mask, count), (0, 0));
    }

    #[test]
    fn all_vps_need_no_bank() {
        let (header, _, count) = VpSet::<0>::all().to_parameters();
        assert_eq!((header, count), (VpSetHeader::ALL, 0));
        assert!(VpSet::<0>::all().contains(VpIndex(4000)));
    }
}
