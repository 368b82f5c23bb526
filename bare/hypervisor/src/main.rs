//! The hypervisor: it boots at EL2, builds two maps, sets up the GIC, and runs one VP on each CPU.
//!
//! It is thin on purpose. What a hypercall, a PSCI call or a SynIC register means is hv-host's business; what the
//! distributor does is hv-vgic's; both are tested in process. What is here touches hardware: exits, list registers,
//! timers, page tables. ARCHITECTURE.md tells the way of a trap.
#![no_std]
#![no_main]

mod arch;
mod backtrace;
mod config;
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
mod memory;
mod mmu;
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
