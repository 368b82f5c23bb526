//! VMBus on ARM64: the host's offer, GPADL and channel state machine, and rings.
#![no_std]
#![forbid(unsafe_code)]
