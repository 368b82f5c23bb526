//! Dynamic memory as guests see it: Linux, and hostile ones.

mod balloon;
mod guest;
mod hostile;
#[path = "../common/single.rs"]
mod single;
