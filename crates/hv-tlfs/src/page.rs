//! Hyper-V's page: 4096 bytes, whatever the guest's own page size is.
//!
//! All page numbers, page-aligned addresses and page-crossing rules of this ABI refer to pages of this size, even if
//! the guest runs with 16K or 64K pages.

use crate::abi::Tables;

pub(crate) const TABLES: Tables = Tables { constants: &[PAGE], structs: &[] };

constants! {
    table PAGE, kind "page", from "TLFS, HV_GPA_PAGE_NUMBER; Linux 6.12, include/asm-generic/hyperv-tlfs.h; 2018 patch";

    /// Log2 of the page size.
    pub const SHIFT: u32 = 12, "HV_HYP_PAGE_SHIFT" ["HV_PAGE_SHIFT"];
    /// The page size in bytes, defined by the shift.
    pub const SIZE: usize = 1 << SHIFT, "HV_HYP_PAGE_SIZE" ["HV_PAGE_SIZE"];
    /// The bits of an address that choose the page.
    ///
    /// 64 bits wide. The 2018 patch had a C `int` here (0xfffff000), which gives the same mask only after sign
    /// extension.
    pub const MASK: u64 = !((1 << SHIFT) - 1), "HV_HYP_PAGE_MASK" ["HV_PAGE_MASK"];
    /// Log2 of the large page's size, 2 MiB.
    pub const LARGE_SHIFT: u32 = 21, "HV_HYP_LARGE_PAGE_SHIFT";
}

/// Aligns its contents to a page, for pages that the guest shares with the hypervisor.
///
/// The structures of this crate have the alignment of their fields, so they can be read and written anywhere; wrap a
/// page in this type if its address goes into a register.
///
/// ```
/// use hv_tlfs::{page::PageAligned, synic::MessagePage};
/// assert_eq!(align_of::<PageAligned<MessagePage>>(), 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4096))]
pub struct PageAligned<T>(
    /// The aligned value.
    pub T,
);

/// Returns the number of the page that contains this guest physical address.
#[inline]
#[must_use]
pub const fn number(address: u64) -> u64 {
    address >> SHIFT
}

/// Returns the first address of a page.
#[inline]
#[must_use]
pub const fn address(number: u64) -> u64 {
    number << SHIFT
}
