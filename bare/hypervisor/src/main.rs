//! The hypervisor: it boots at EL2, builds two maps, sets up the GIC, and runs one VP on each CPU.
//!
//! It is deliberately thin. Hypercalls, PSCI calls and SynIC registers are hv-host's part; the distributor is
//! hv-vgic's; both are tested in process. What is here touches hardware: exits, list registers, timers, page tables.
//! ARCHITECTURE.md describes the path of a trap.
#![no_std]
#![no_main]

mod arch;
mod back_ends;
mod backtrace;
mod config;
mod consoles;
mod control;
mod cpu;
mod devices;
mod disks;
mod el2;
mod exit;
mod faults;
mod gic;
mod host;
mod hypervisor;
mod irq;
mod lock;
mod log;
mod loopback;
mod machine;
mod memory;
mod mmu;
mod network;
mod outcomes;
mod panic;
mod power;
mod report;
mod reset;
mod stacks;
mod start;
mod syndrome;
mod trace;
mod trap;
mod vcpu;
mod vgic;
mod virtio;
