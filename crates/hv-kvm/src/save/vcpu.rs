//! The state of a VP: whether it is on, and its virtual CPU's registers.

use std::collections::BTreeSet;

use hv_memory::save::{self, Reader, Writer};
use hv_partition::VpContext;

use super::error::{RestoreError, SaveError};
use crate::kvm::{SError, Vcpu};
use crate::register::Register;

/// Bytes of the largest register: a vector of SVE.
const LARGEST: usize = 256;

/// A VP, as an image has it.
#[derive(Debug)]
pub(super) enum SavedVp<'r> {
    Off,
    /// It was asked to start, and has not.
    Starting(VpContext),
    On(SavedCpu<'r>),
}

/// A virtual CPU, as an image has it.
#[derive(Debug)]
pub(super) struct SavedCpu<'r> {
    suspended: bool,
    serror: Option<SError>,
    registers: Vec<(Register, &'r [u8])>,
}

const OFF: u8 = 0;
const STARTING: u8 = 1;
const ON: u8 = 2;

/// Writes that a VP is off.
pub(super) fn save_off(w: &mut Writer<'_>) {
    w.u8(OFF);
}

/// Writes that a VP was asked to start.
pub(super) fn save_starting(context: &VpContext, w: &mut Writer<'_>) {
    w.u8(STARTING);
    let VpContext { pc, x0, x18, sp, sctlr, mair, tcr, vbar, ttbr0, ttbr1, .. } = *context;
    for value in [pc, x0, x18, sp, sctlr, mair, tcr, vbar, ttbr0, ttbr1] {
        w.u64(value);
    }
}

/// Writes that a VP is on, with all of its virtual CPU.
pub(super) fn save_on(vp: usize, vcpu: &impl Vcpu, w: &mut Writer<'_>) -> Result<(), SaveError> {
    let failed = |what: &str| {
        let what = format!("VP {vp}'s {what}");
        move |source| SaveError::Kvm { what, source }
    };
    w.u8(ON);
    w.flag(vcpu.is_suspended().map_err(failed("state"))?);
    let serror = vcpu.serror().map_err(failed("events"))?;
    w.flag(serror.is_some());
    let syndrome = serror.and_then(|serror| serror.syndrome);
    w.flag(syndrome.is_some());
    w.u64(syndrome.unwrap_or(0));
    let registers = vcpu.registers().map_err(failed("list of registers"))?;
    w.count(registers.len());
    for register in registers {
        let mut value = [0; LARGEST];
        let size = register.size().min(LARGEST);
        vcpu.read(register, &mut value[..size]).map_err(failed(&register.to_string()))?;
        w.u64(register.0);
        w.bytes(&value[..size]);
    }
    Ok(())
}

impl<'r> SavedVp<'r> {
    /// Reads a VP.
    pub(super) fn read(r: &mut Reader<'r>) -> Result<Self, save::RestoreError> {
        match r.u8()? {
            OFF => Ok(Self::Off),
            STARTING => {
                let mut context = VpContext::at(r.u64()?, r.u64()?);
                let VpContext { x18, sp, sctlr, mair, tcr, vbar, ttbr0, ttbr1, .. } = &mut context;
                for value in [x18, sp, sctlr, mair, tcr, vbar, ttbr0, ttbr1] {
                    *value = r.u64()?;
                }
                Ok(Self::Starting(context))
            }
            ON => SavedCpu::read(r).map(Self::On),
            _ => Err(save::RestoreError::Invalid("state of a VP")),
        }
    }
}

impl<'r> SavedCpu<'r> {
    fn read(r: &mut Reader<'r>) -> Result<Self, save::RestoreError> {
        let suspended = r.flag("state of a virtual CPU")?;
        let pending = r.flag("pending SError")?;
        let has_syndrome = r.flag("syndrome of an SError")?;
        let syndrome = r.u64()?;
        let serror = pending.then_some(SError { syndrome: has_syndrome.then_some(syndrome) });
        // No room is made for a number that the image claims.
        let mut registers = Vec::new();
        for _ in 0..r.count()? {
            let register = Register(r.u64()?);
            if register.size() > LARGEST {
                return Err(save::RestoreError::Invalid("size of a register"));
            }
            registers.push((register, r.bytes(register.size())?));
        }
        Ok(Self { suspended, serror, registers })
    }

    /// Gives a virtual CPU this state.
    pub(super) fn restore(&self, vp: usize, vcpu: &impl Vcpu) -> Result<(), RestoreError> {
        let failed = |what| move |source| RestoreError::Kvm { what, source };
        let known = vcpu.registers().map_err(failed("the list of a virtual CPU's registers"))?;
        let known: BTreeSet<Register> = known.into_iter().collect();
        for (register, value) in &self.registers {
            let register = *register;
            if !known.contains(&register) {
                return Err(RestoreError::NoRegister { vp, register });
            }
            let refused = |source| {
                let here = vcpu.get(register).ok();
                RestoreError::Register { vp, register, saved: low(value), here, source }
            };
            // It is the address by which the interrupt controller's state finds the virtual CPU, and KVM takes any.
            if register == Register::MPIDR_EL1 {
                if vcpu.get(register).map_err(failed("a virtual CPU's MPIDR_EL1"))? != low(value) {
                    return Err(refused(None));
                }
                continue;
            }
            vcpu.write(register, value).map_err(|source| refused(Some(source)))?;
        }
        if let Some(serror) = self.serror {
            vcpu.set_serror(serror).map_err(failed("a pending SError"))?;
        }
        if self.suspended {
            vcpu.set_suspended(true).map_err(failed("a virtual CPU that waits"))?;
        }
        Ok(())
    }
}

/// Returns the low half of a value.
fn low(value: &[u8]) -> u64 {
    let mut word = [0; 8];
    let len = value.len().min(word.len());
    word[..len].copy_from_slice(&value[..len]);
    u64::from_le_bytes(word)
}
