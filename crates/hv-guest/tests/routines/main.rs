//! Every routine, against a model of the hypervisor in the same process: over both calling conventions, on 1, 2 and 4
//! VPs.

#[expect(unsafe_code, reason = "hypercalls made by hand, to a model")]
mod calls;
mod clock;
mod common;
mod crash;
mod detect;
#[expect(unsafe_code, reason = "a conduit that moves from CPU to CPU")]
mod handles;
mod hostile;
mod per_cpu;
#[expect(unsafe_code, reason = "hypercalls made by hand, to a model")]
mod processors;
#[expect(unsafe_code, reason = "hypercalls made by hand, to a model")]
mod registers;
mod synic;
mod teardown;
mod timers;
