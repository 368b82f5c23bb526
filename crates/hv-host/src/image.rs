//! What is invalid in saved state.

use hv_memory::save::RestoreError;
use hv_tlfs::status::HvStatus;

/// Converts the status of a failed check of the guest's interface to an error: the part is invalid in the saved state.
pub(crate) fn invalid(part: &'static str) -> impl Fn(HvStatus) -> RestoreError {
    move |_| RestoreError::Invalid(part)
}
