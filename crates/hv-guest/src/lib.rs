//! The guest side of Hyper-V on ARM64: hypercalls, SynIC, timers, reference clock, crash reports.
#![no_std]
