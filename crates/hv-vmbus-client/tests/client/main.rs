//! The client against this project's host, in process.

mod channels;
mod contact;
mod guest;
mod hostile;
mod memory;
mod rings;
mod scripted;
