//! The client against this project's host, in process.

mod asynchronous;
mod channels;
mod contact;
mod devices;
mod guest;
mod hostile;
mod memory;
mod rings;
mod scripted;
