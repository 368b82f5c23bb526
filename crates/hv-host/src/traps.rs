//! The guest's traps: which kind of call an `hvc` or `smc` is.

use hv_tlfs::smccc::{HVC_HYPERCALL, HVC_SMCCC, HYPERCALL};
use lock_api::RawMutex;

use crate::connections::Connections;
use crate::event::{Convention, Event, SmcccConduit};
use crate::general::Registers;
use crate::host::{Action, Host};
use crate::partition::Partition;

impl<R: RawMutex> Partition<'_, R> {
    /// Handles an `hvc` of `vp` with immediate `immediate`; `x` are its registers X0 to X30, which the call reads and
    /// changes.
    // Always inlined, so that a constant immediate and the registers' own type are known in the hot path.
    #[inline(always)]
    pub fn hvc(
        &self,
        host: impl Host + Connections + Copy,
        vp: usize,
        immediate: u16,
        x: &mut impl Registers,
    ) -> Action {
        self.hvc_split(host, host, vp, immediate, x)
    }

    /// Does the same for a host in two forms: `fast` is the one that the most frequent calls are compiled for, which
    /// access a register of their own VP, `host` the one for all others.
    #[inline(always)]
    pub fn hvc_split(
        &self,
        fast: impl Host + Connections + Copy,
        host: impl Host + Connections + Copy,
        vp: usize,
        immediate: u16,
        x: &mut impl Registers,
    ) -> Action {
        match immediate {
            HVC_SMCCC if x.x(0) as u32 == HYPERCALL => self.hypercall(fast, host, vp, Convention::Smccc, x),
            HVC_SMCCC => self.smccc(host, vp, SmcccConduit::Hvc, x),
            HVC_HYPERCALL => self.hypercall(fast, host, vp, Convention::Hvc1, x),
            _ => unknown_immediate(host, vp, SmcccConduit::Hvc, immediate),
        }
    }

    /// Handles an `smc` of `vp`: PSCI and SMCCC functions only. Add 4 to ELR_EL2 yourself: unlike an `hvc`, a trapped
    /// `smc` leaves it at the instruction (but not with [`Action::Undefined`]).
    pub fn smc(&self, host: impl Host, vp: usize, immediate: u16, x: &mut impl Registers) -> Action {
        match immediate {
            HVC_SMCCC => self.smccc(host, vp, SmcccConduit::Smc, x),
            _ => unknown_immediate(host, vp, SmcccConduit::Smc, immediate),
        }
    }
}

#[cold]
#[inline(never)]
fn unknown_immediate(host: impl Host, vp: usize, conduit: SmcccConduit, immediate: u16) -> Action {
    host.observe(&Event::UnknownImmediate { vp, conduit, immediate });
    Action::Undefined
}
