//! Every routine, against a model of the hypervisor in the same process: over both calling conventions, on 1, 2 and 4
//! VPs.

mod calls;
mod clock;
mod common;
mod crash;
mod detect;
mod hostile;
mod processors;
mod registers;
mod synic;
mod teardown;
mod timers;
