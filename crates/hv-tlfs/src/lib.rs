//! The Hyper-V guest interface on ARM64 as types: registers, hypercalls, SynIC, timers, VMBus.
#![no_std]
#![forbid(unsafe_code)]
