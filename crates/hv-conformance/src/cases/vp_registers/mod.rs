//! HvCallGetVpRegisters and HvCallSetVpRegisters.

pub(super) mod access;
pub(super) mod early;
