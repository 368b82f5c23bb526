//! The integration services as guests see them: those of stock kernels, and hostile ones.

mod file_copy;
mod guest;
mod hostile;
mod key_values;
mod shadow_copies;
mod shutdown;
#[path = "../common/single.rs"]
mod single;
mod time;
mod versions;
