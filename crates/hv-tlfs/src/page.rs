//! Hyper-V's page: 4096 bytes, whatever the guest's own page size is.
//!
//! Every page number, page-aligned address and "must not cross a page" of this ABI counts in these, also where the
//! guest runs with 16K or 64K pages.

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
    /// 64 bits wide. The 2018 patch had a C `int` here (0xfffff000), which is the same mask only once it was
    /// sign-extended.
    pub const MASK: u64 = !((1 << SHIFT) - 1), "HV_HYP_PAGE_MASK" ["HV_PAGE_MASK"];
    /// Log2 of the large page's size, 2 MiB.
    pub const LARGE_SHIFT: u32 = 21, "HV_HYP_LARGE_PAGE_SHIFT";
}

/// Gives what it holds the alignment of a page, for pages that the guest lends to the hypervisor.
///
/// The structures of this crate have the alignment of their fields, so that they can be read and written anywhere; a
/// page whose address goes into a register is wrapped in this.
///
/// ```
/// use hv_tlfs::{page::PageAligned, synic::MessagePage};
/// assert_eq!(align_of::<PageAligned<MessagePage>>(), 4096);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(4096))]
pub struct PageAligned<T>(
    /// What is aligned.
    pub T,
);

/// The number of the page that holds this guest physical address.
#[inline]
#[must_use]
pub const fn number(address: u64) -> u64 {
    address >> SHIFT
}

/// The first address of a page.
#[inline]
#[must_use]
pub const fn address(number: u64) -> u64 {
    number << SHIFT
}
