//! Flushing the TLBs of other VPs.
//!
//! On ARM64 `TLBI ...IS` reaches every VP, and guests use it; the two list forms are x64 only in the TLFS. They are
//! here because the 2018 patch declared them: a hypervisor without them returns
//! [`INVALID_HYPERCALL_CODE`](hv_tlfs::status::HvStatus::INVALID_HYPERCALL_CODE).
//!
//! Source: TLFS, `HvCallFlushVirtualAddressSpace` and related calls.

use hv_tlfs::flush::{FlushFlags, TlbFlush, TlbFlushEx};
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::page;
use hv_tlfs::status::HvError;

use crate::conduit::Conduit;
use crate::hypercall::{self, Rep, RepError};
use crate::page::CallPage;
use crate::sets::VpSet;

/// The VPs that a hypercall targets, by mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// All VPs, including those above 63.
    All,
    /// Bit n: VP n.
    Of(u64),
}

/// The address space to flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Every address space.
    All,
    /// The one with this translation table: the value of TTBR0_EL1 or TTBR1_EL1.
    Table(u64),
}

/// A range of pages to flush.
#[doc(alias = "HV_GVA")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, zerocopy::IntoBytes, zerocopy::Immutable)]
#[repr(transparent)]
pub struct GvaRange(u64);

impl GvaRange {
    /// Creates a range of up to 4096 pages of 4096 bytes, starting at the page that contains `address`. Returns `None`
    /// for no pages, or more.
    ///
    /// Pages are Hyper-V's: a 64K guest page is 16 of them.
    #[must_use]
    pub const fn new(address: u64, pages: usize) -> Option<Self> {
        if pages == 0 || pages > page::SIZE {
            None
        } else {
            Some(Self(address & page::MASK | (pages as u64 - 1)))
        }
    }
}

fn flags(all_processors: bool, space: Space) -> (u64, FlushFlags) {
    let flags = FlushFlags(0).with_all_processors(all_processors);
    match space {
        Space::All => (0, flags.with_all_virtual_address_spaces(true)),
        Space::Table(table) => (table, flags),
    }
}

fn header(mask: Mask, space: Space) -> TlbFlush {
    let (address_space, flags) = flags(mask == Mask::All, space);
    let processor_mask = match mask {
        Mask::All => 0,
        Mask::Of(mask) => mask,
    };
    TlbFlush { address_space, flags, processor_mask }
}

/// Flushes an address space on VPs below 64. With `non_global`, global mappings may be kept.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE")]
pub fn address_space(
    conduit: &(impl Conduit + ?Sized),
    mask: Mask,
    space: Space,
    non_global: bool,
) -> Result<(), HvError> {
    let mut input = header(mask, space);
    input.flags = input.flags.with_non_global_mappings_only(non_global);
    let control = HypercallInput::from_code(HypercallCode::FLUSH_VIRTUAL_ADDRESS_SPACE);
    // SAFETY: a flush drops TLB entries, which the processor reloads from the translation tables; the call writes no
    // memory.
    unsafe { hypercall::fast(conduit, control, &input) }
}

/// Flushes an address space on a set of VPs.
///
/// # Errors
///
/// [`RepError::Status`] with the hypervisor's status.
#[doc(alias = "HVCALL_FLUSH_VIRTUAL_ADDRESS_SPACE_EX")]
pub fn address_space_ex<const BANKS: usize>(
    conduit: &(impl Conduit + ?Sized),
    call_page: &mut CallPage<'_>,
    set: &VpSet<BANKS>,
    space: Space,
    non_global: bool,
) -> Result<(), RepError> {
    let code = HypercallCode::FLUSH_VIRTUAL_ADDRESS_SPACE_EX;
    ex(conduit, call_page, code, set, space, non_global, &[])
}

/// Flushes ranges of pages of an address space on VPs below 64.
///
/// # Errors
///
/// [`RepError`] with the number of ranges that were flushed.
#[doc(alias = "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST")]
pub fn address_list(
    conduit: &(impl Conduit + ?Sized),
    call_page: &mut CallPage<'_>,
    mask: Mask,
    space: Space,
    ranges: &[GvaRange],
) -> Result<(), RepError> {
    let header = header(mask, space);
    let code = HypercallCode::FLUSH_VIRTUAL_ADDRESS_LIST;
    let most = (page::SIZE - size_of::<TlbFlush>()) / size_of::<GvaRange>();
    for (chunk, input) in ranges.chunks(most).enumerate() {
        let output: &mut [u64] = &mut [];
        let call = Rep { code, header: &header, variable: &[], input, output };
        // SAFETY: a flush drops TLB entries, which the processor reloads from the translation tables. The call writes
        // no guest memory: its input is in the call page, and it has no output.
        unsafe { call.call(conduit, call_page) }.map_err(|error| error.after(chunk * most))?;
    }
    Ok(())
}

/// Flushes ranges of pages of an address space on a set of VPs.
///
/// # Errors
///
/// [`RepError`] with the number of ranges that were flushed.
#[doc(alias = "HVCALL_FLUSH_VIRTUAL_ADDRESS_LIST_EX")]
pub fn address_list_ex<const BANKS: usize>(
    conduit: &(impl Conduit + ?Sized),
    call_page: &mut CallPage<'_>,
    set: &VpSet<BANKS>,
    space: Space,
    ranges: &[GvaRange],
) -> Result<(), RepError> {
    let code = HypercallCode::FLUSH_VIRTUAL_ADDRESS_LIST_EX;
    let most = (page::SIZE - size_of::<TlbFlushEx>()) / size_of::<GvaRange>() - BANKS;
    for (chunk, input) in ranges.chunks(most).enumerate() {
        ex(conduit, call_page, code, set, space, false, input).map_err(|error| error.after(chunk * most))?;
    }
    Ok(())
}

fn ex<const BANKS: usize>(
    conduit: &(impl Conduit + ?Sized),
    call_page: &mut CallPage<'_>,
    code: HypercallCode,
    set: &VpSet<BANKS>,
    space: Space,
    non_global: bool,
    input: &[GvaRange],
) -> Result<(), RepError> {
    let (vp_set, banks, count) = set.to_parameters();
    let (address_space, flags) = flags(false, space);
    let header = TlbFlushEx { address_space, flags: flags.with_non_global_mappings_only(non_global), vp_set };
    let variable = banks.get(..count).unwrap_or(&banks);
    let output: &mut [u64] = &mut [];
    let call = Rep { code, header: &header, variable, input, output };
    // SAFETY: `code` is that of a flush, which drops TLB entries that the processor reloads from the translation
    // tables. The call writes no guest memory: its input is in the call page, and it has no output.
    unsafe { call.call(conduit, call_page) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_an_address_and_the_pages_after_its_first() {
        assert_eq!(GvaRange::new(0xffff_0000_1234_5678, 1), Some(GvaRange(0xffff_0000_1234_5000)));
        assert_eq!(GvaRange::new(0x1000, 4096), Some(GvaRange(0x1fff)));
        assert_eq!(GvaRange::new(0x1000, 0), None);
        assert_eq!(GvaRange::new(0x1000, 4097), None);
    }
}
