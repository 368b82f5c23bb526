//! A Hyper-V partition for ARM64 as a sans-IO state machine.
#![no_std]
#![forbid(unsafe_code)]
