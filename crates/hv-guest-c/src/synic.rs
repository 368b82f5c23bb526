//! Ending a message. The accessors of the SynIC's registers are macros of the header.
#![expect(unsafe_code, reason = "symbols and pointers of C")]

use core::ptr::NonNull;

use hv_guest::page::Page;
use hv_guest::synic::{SintIndex, SynicPages};
use hv_tlfs::page::SIZE;
use hv_tlfs::synic::{MESSAGE_SIZE, MessageType};

use crate::hv_message;
use crate::os::{conduit, status};

/// Frees a slot of a message page, if it still holds a message of the type that was seen, and writes EOM if another is
/// pending. Returns 0 or the hypervisor's status for the EOM.
///
/// # Safety
///
/// `msg` is a slot of an enabled message page.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vmbus_signal_eom(msg: *mut hv_message, old_msg_type: u32) -> u64 {
    let offset = msg.addr() % SIZE;
    let Some(page) = NonNull::new(msg.cast::<u8>().wrapping_sub(offset)) else { return 0 };
    let Some(sint) = SintIndex::new((offset / MESSAGE_SIZE) as u8) else { return 0 };
    // SAFETY: `msg` is a slot of an enabled message page, by this function's contract; such a page is aligned to its
    // size, so rounding the address down gives its start, and it is valid while it is enabled.
    let page = unsafe { Page::at(page) };
    status(SynicPages::end_seen(page, &conduit(), sint, MessageType(old_msg_type)).map(|_| ()))
}
