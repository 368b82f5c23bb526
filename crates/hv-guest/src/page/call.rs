//! A page with parameters of hypercalls.

use super::{Memory, Page};

/// A page lent to the hypervisor for the duration of a call, for the parameters of memory-based hypercalls.
///
/// One per CPU is usual; each context that makes such calls can have its own, since a call needs it exclusively.
#[doc(alias = "hyperv_pcpu_input_arg")]
#[doc(alias = "hyperv_pcpu_output_arg")]
pub struct CallPage<'a> {
    page: &'a Page,
    gpa: u64,
}

impl core::fmt::Debug for CallPage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CallPage({:#x})", self.gpa)
    }
}

impl<'a> CallPage<'a> {
    /// Reserves this page for parameters. Nothing else may use it at the same time: two concurrent calls would mix up
    /// their parameters.
    #[must_use]
    pub fn new(page: &'a Page, memory: &impl Memory) -> Self {
        let gpa = memory.gpa(page);
        Self { page, gpa }
    }

    /// Returns the page.
    pub(crate) fn page(&mut self) -> &Page {
        self.page
    }

    /// Returns the guest physical address `offset` bytes into the page.
    pub(crate) fn gpa_at(&self, offset: usize) -> u64 {
        self.gpa + offset as u64
    }
}
