//! VMBus, which is no part of the TLFS: contact, offers, memory, channels, and what travels in their rings.
//!
//! The sources are what guests rely on (Linux, UEFI firmware) and what Microsoft's OpenVMM does as a host. Where hosts
//! may differ, as in answering a request that names nothing, a case accepts either.

pub(super) mod channels;
pub(super) mod contact;
pub(super) mod gpadls;
pub(super) mod offers;
pub(super) mod unload;
