//! The `hv` command.
fn main() {}
