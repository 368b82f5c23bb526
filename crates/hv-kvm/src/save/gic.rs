//! The state of the interrupt controller.

use hv_memory::save::{self, Reader, Writer};

use super::error::{RestoreError, SaveError};
use crate::gic::{Entry, control, cpu, distributor, redistributor};
use crate::kvm::Vm;

/// Writes the registers of a machine with this many VPs.
pub(super) fn save(vm: &impl Vm, vps: usize, w: &mut Writer<'_>) -> Result<(), SaveError> {
    let mut save = |entry: Entry| {
        let failed = |source| SaveError::Kvm { what: entry.register.to_string(), source };
        let value = vm.gic(entry.register).map_err(failed)?;
        match entry.register.size() {
            4 => w.u32(value as u32),
            _ => w.u64(value),
        }
        Ok(value)
    };
    distributor().try_for_each(|entry| save(entry).map(drop))?;
    for vp in 0..vps {
        redistributor(vp).try_for_each(|entry| save(entry).map(drop))?;
        let control = save(control(vp))?;
        cpu(vp, control).try_for_each(|entry| save(entry).map(drop))?;
    }
    Ok(())
}

/// Reads what [`save`] has written.
pub(super) fn read(vps: usize, r: &mut Reader<'_>) -> Result<Vec<(Entry, u64)>, save::RestoreError> {
    let mut found = Vec::new();
    let mut read = |entry: Entry| {
        let value = match entry.register.size() {
            4 => r.u32()?.into(),
            _ => r.u64()?,
        };
        found.push((entry, value));
        Ok(value)
    };
    distributor().try_for_each(|entry| read(entry).map(drop))?;
    for vp in 0..vps {
        redistributor(vp).try_for_each(|entry| read(entry).map(drop))?;
        let control = read(control(vp))?;
        cpu(vp, control).try_for_each(|entry| read(entry).map(drop))?;
    }
    Ok(found)
}

/// Gives the interrupt controller this state.
pub(super) fn restore(vm: &impl Vm, registers: &[(Entry, u64)]) -> Result<(), RestoreError> {
    for (Entry { register, clear }, saved) in registers {
        let (register, saved) = (*register, *saved);
        let refused = |source| RestoreError::Gic { register, saved, here: vm.gic(register).ok(), source };
        if let Some(clear) = clear {
            vm.set_gic(*clear, u32::MAX.into()).map_err(refused)?;
        }
        vm.set_gic(register, saved).map_err(refused)?;
    }
    Ok(())
}
