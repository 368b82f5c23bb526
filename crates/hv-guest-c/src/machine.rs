//! The processor: conduits and the counter. In tests it is a model (`tests/machine.rs`).

pub(crate) use hv_guest::arch::{Cntvct, Either};
