//! How hypercalls are made.

pub(super) mod input_value;
pub(super) mod parameters;
pub(super) mod registers;
pub(super) mod reps;
