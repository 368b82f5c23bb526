//! The input devices as guests see them: those of stock kernels, and hostile ones.

mod guest;
mod hostile;
mod keyboard;
mod mouse;
#[path = "../common/single.rs"]
mod single;
