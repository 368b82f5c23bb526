//! A virtual GICv3 as a state machine: trapped distributor and redistributors, list registers.
//!
//! It is for a hypervisor that pins VP n to CPU n and gives its guest the hardware's virtual CPU interface
//! (`HCR_EL2.IMO` = 1): the guest acknowledges and ends interrupts without an exit, and the rest of the interrupt
//! controller is here. The crate does no I/O. Its owner passes in the current CPU ([`Cpu`]: the VP's number, list
//! registers, the physical GIC), and calls
//!
//! - [`Gic::physical`] for a physical interrupt that belongs to the guest,
//! - [`Gic::assert`] for one that the hypervisor generates (SynIC), on any VP,
//! - [`Gic::sgi`] for a trapped write to one of the SGI generation registers,
//! - [`Gic::read`] and [`Gic::write`] for a trapped access to the distributor or to a redistributor,
//! - [`Gic::sync`] after [`Physical::kick`] and after a maintenance interrupt,
//! - [`Gic::reset_vp`] when a VP stops, and before it starts; [`Gic::start_vp`] then.
//!
//! All calls are made with interrupts masked, since they hold locks.
//!
//! # The guest's view
//!
//! A GICv3 with one security state (`GICD_CTLR.DS` = 1), affinity routing always on, 16 SGIs, 16 PPIs and 32 SPIs, no
//! LPIs, no 1-of-N routing (`GICD_TYPER.No1N` = 1), 32 levels of priority. VP n has the affinity Aff0 = n % 16, Aff1 =
//! n / 16. With one security state both groups belong to the guest: the owner sets `HCR_EL2.FMO` too, or Group 0
//! accesses reach the physical CPU interface.
//!
//! Its initial state is that after firmware: all interrupts disabled, not pending, in Group 1, of priority 0, SPIs
//! routed to VP 0; `GICD_CTLR`'s group enables are clear; a redistributor is awake once its VP has been started.
//!
//! # Backed interrupts
//!
//! A few INTIDs are backed by physical interrupts with the same number. Their enable, trigger, pending and route
//! settings are passed on to the physical GIC. The owner's CPU interface has EOImode 1: it acknowledges and drops the
//! priority, and the guest deactivates the physical interrupt through the list register. If a list register is emptied
//! in another way, the Gic deactivates the physical interrupt itself, so it never gets stuck.
//!
//! # List registers
//!
//! They stay live across exits. The common case, an interrupt that arrives on its own VP, writes one free list register
//! and touches nothing else. Only if there is no room, or if the guest accesses state that the list registers contain
//! (pending and active state, disabling, priority), all list registers are folded into the software state and refilled
//! by priority. While interrupts are left outside, a maintenance interrupt brings the CPU back: for pending interrupts
//! once none is left in the list registers (NPIE), for active ones when the guest ends one of them (LRENPIE, EOIcount)
//! or room is left (UIE).
//!
//! An access to the state of another VP's interrupts takes effect immediately if no list register holds them. Otherwise
//! the other CPU is kicked, and the access ends when that CPU has folded its list registers, which takes the time of an
//! exit; a waiting CPU serves requests of others meanwhile. If the other CPU does not respond for a long time, the
//! access ends with the last known state, and takes effect when the CPU responds: the architecture lets such effects
//! take finite time.
//!
//! An SPI has its home at the VP to which it is routed (after a reset VP 0; a backed one must be routed there
//! physically too). When GICD_IROUTER names another VP, the SPI moves there as soon as it is not active at the old one.
//!
//! # Limits
//!
//! A backed interrupt is acknowledged physically before the guest sees it. So a level that falls, or an edge that comes
//! again, between that moment and the guest's acknowledge appears as one spurious interrupt; none is lost. A
//! level-triggered backed interrupt that the guest made pending by ISPENDR and then disabled is no longer pending. An
//! interrupt outside the list registers ends by EOIcount, which does not identify it: it is assumed to be the most
//! urgent one that the guest acknowledged there, else one that ISACTIVER made active. So a guest with EOImode 0 that
//! has more interrupts active than there are list registers must end them in the order of their priorities, as the
//! architecture requires anyway, and must not change these priorities meanwhile. Where the hardware cannot trap
//! ICC_DIR_EL1 (`ICH_VTR_EL2.TDS` = 0), a guest with EOImode 1 may not deactivate an SPI on another VP than the one
//! that acknowledged it.
//!
//! Source: Arm Generic Interrupt Controller Architecture Specification, GIC architecture version 3 and version 4
//! (IHI 0069).
#![no_std]
#![forbid(unsafe_code)]

#[cfg(any(test, feature = "testing"))]
extern crate std;

mod access;
mod bank;
mod distributor;
mod gic;
mod hardware;
mod redistributor;
mod regs;
mod state;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use access::{Access, Fault, RegisterFrame};
pub use gic::{Gic, SgiRegister, VpGic};
pub use hardware::{Cpu, ListRegisters, Physical};
pub use regs::{hcr, lr};
