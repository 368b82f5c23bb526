//! The server as a guest sees it, one file per part of the protocol; every test is named after the rule it checks.

mod calls;
mod channels;
mod common;
mod contact;
mod costs;
mod devices;
mod gpadls;
mod hostile;
mod life;
mod linux;
mod offers;
mod restless;
mod restore;
mod sample;
mod senders;
mod threads;
