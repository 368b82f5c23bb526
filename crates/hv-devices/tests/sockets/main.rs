//! Hyper-V sockets with a guest on one side, and a host's back end on the other.

mod close;
mod connect;
mod data;
mod faults;
mod guest;
mod hostile;
