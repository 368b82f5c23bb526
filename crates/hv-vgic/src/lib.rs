//! A virtual GICv3 as a state machine: trapped distributor and redistributors, list registers.
#![no_std]
#![forbid(unsafe_code)]
