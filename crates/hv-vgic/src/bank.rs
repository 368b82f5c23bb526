//! The registers with fields for each interrupt, which distributor and SGI frames have at the same offsets.

use core::sync::atomic::Ordering;

use crate::gic::{After, Gic};
use crate::hardware::{Cpu, Physical as _};
use crate::regs::gicd;
use crate::state::{VpState, bit, members};

/// The meaning of a register's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
    Priority,
    Trigger,
}

/// One 32-bit register of a bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) field: Field,
    /// The INTID of its first field.
    first: u32,
}

impl Word {
    /// ICACTIVER0 of a redistributor.
    pub(crate) const PRIVATE_ICACTIVER: Self = Self { field: Field::ClearActive, first: 0 };
    /// ICACTIVER1 of the distributor.
    pub(crate) const SPI_ICACTIVER: Self = Self { field: Field::ClearActive, first: 32 };

    /// Returns the register at an offset, if it has fields for INTIDs 0 to 63.
    pub(crate) fn at(offset: u32) -> Option<Self> {
        let (field, base, per_word) = match offset {
            gicd::IPRIORITYR..gicd::IPRIORITYR_END => (Field::Priority, gicd::IPRIORITYR, 4),
            gicd::ICFGR..gicd::ICFGR_END => (Field::Trigger, gicd::ICFGR, 16),
            _ => {
                let field = match offset & !0x7f {
                    gicd::IGROUPR => Field::Group,
                    gicd::ISENABLER => Field::SetEnable,
                    gicd::ICENABLER => Field::ClearEnable,
                    gicd::ISPENDR => Field::SetPending,
                    gicd::ICPENDR => Field::ClearPending,
                    gicd::ISACTIVER => Field::SetActive,
                    gicd::ICACTIVER => Field::ClearActive,
                    _ => return None,
                };
                (field, offset & !0x7f, 32)
            }
        };
        let first = (offset - base) / 4 * per_word;
        (first < 64).then_some(Self { field, first })
    }

    /// Returns the INTIDs of its fields. `bytes` restricts a register with one byte per INTID.
    pub(crate) fn members(self, bytes: u32) -> u64 {
        let set = match self.field {
            Field::Priority => u64::from(bytes),
            Field::Trigger => 0xffff,
            _ => 0xffff_ffff,
        };
        set << self.first
    }

    /// Returns true if a read needs the contents of the list registers.
    pub(crate) fn needs_truth(self) -> bool {
        use Field::{ClearActive, ClearPending, SetActive, SetPending};
        matches!(self.field, SetPending | ClearPending | SetActive | ClearActive)
    }

    /// Converts a set to bits, one per INTID, as in the register.
    fn narrow(self, set: u64) -> u32 {
        (set >> self.first) as u32
    }

    /// Returns the INTIDs whose bits are set.
    fn widen(self, value: u32) -> u64 {
        u64::from(value) << self.first
    }

    fn priorities(self, state: &VpState, set: u64) -> u32 {
        members(set)
            .map(|intid| u32::from(state.priority[intid as usize & 63]) << ((intid - self.first) * 8))
            .sum()
    }

    fn triggers(self, state: &VpState, set: u64) -> u32 {
        members(set & state.edge).map(|intid| 2 << ((intid - self.first) * 2)).sum()
    }
}

impl Gic<'_> {
    /// Makes another VP fold its list registers before a read of state that they may contain.
    pub(crate) fn prepare<C: Cpu>(&self, cpu: &C, vp: usize, word: Word, set: u64) -> After {
        if vp == cpu.vp() || !word.needs_truth() {
            return After::Done;
        }
        let state = self.vps[vp].state.lock();
        if state.in_lr & set == 0 { After::Done } else { self.call(cpu, vp, &state) }
    }

    /// Reads the fields of the INTIDs in `set`, which belong to `vp`.
    pub(crate) fn read_bank<C: Cpu>(&self, cpu: &C, vp: usize, word: Word, set: u64) -> u32 {
        let mut state = self.vps[vp].state.lock();
        if vp == cpu.vp() && word.needs_truth() && state.in_lr & set != 0 {
            state.look(cpu.lists());
        }
        match word.field {
            Field::Priority => word.priorities(&state, set),
            Field::Trigger => word.triggers(&state, set),
            Field::Group => word.narrow(state.group1 & set),
            Field::SetEnable | Field::ClearEnable => word.narrow(state.enabled & set),
            Field::SetActive | Field::ClearActive => {
                word.narrow((state.active | state.lr_active & state.in_lr) & set)
            }
            Field::SetPending | Field::ClearPending => {
                let inbox = self.vps[vp].inbox.load(Ordering::Relaxed);
                let mut pending = state.pending | inbox | state.lr_pending & state.in_lr;
                for intid in members(set & self.backed) {
                    let outside = cpu.physical().is_pending(vp, intid);
                    pending |= if outside { bit(intid) } else { 0 };
                }
                word.narrow(pending & set)
            }
        }
    }

    /// Writes the fields of the INTIDs in `set`, which belong to `vp`.
    pub(crate) fn write_bank<C: Cpu>(&self, cpu: &C, vp: usize, word: Word, set: u64, value: u32) -> After {
        let mut state = self.vps[vp].state.lock();
        let bits = word.widen(value) & set;
        // It matters only for interrupts that are pending, active or in a list register.
        let concerned = match word.field {
            Field::Trigger => return self.set_triggers(cpu, vp, word, set, value, &mut state),
            Field::Priority => {
                let mut changed = 0;
                for intid in members(set) {
                    changed |= state.set_priority(intid, (value >> ((intid - word.first) * 8)) as u8);
                }
                changed & (state.in_lr | state.pending | state.active)
            }
            Field::Group => {
                let changed = (state.group1 ^ bits) & set;
                state.group1 ^= changed;
                changed & (state.in_lr | state.pending)
            }
            Field::SetEnable | Field::ClearEnable => {
                let on = word.field == Field::SetEnable;
                let changed = bits & if on { !state.enabled } else { state.enabled };
                state.enabled ^= changed;
                for intid in members(changed & self.backed) {
                    cpu.physical().set_enabled(vp, intid, on);
                }
                changed & (state.in_lr | state.pending)
            }
            Field::SetPending | Field::ClearPending => self.set_pending(cpu, vp, word, bits, &mut state),
            Field::SetActive => {
                for intid in members(bits & self.backed & !state.active) {
                    cpu.physical().set_active(vp, intid);
                }
                state.force_active(bits);
                bits
            }
            Field::ClearActive => {
                let concerned = bits & (state.in_lr | state.active);
                state.active &= !(bits & !self.backed);
                state.clear_active |= concerned;
                concerned
            }
        };
        if concerned == 0 { After::Done } else { self.apply(cpu, vp, state) }
    }

    /// Makes interrupts pending or not pending; returns those for which list registers must be checked.
    fn set_pending<C: Cpu>(&self, cpu: &C, vp: usize, word: Word, bits: u64, state: &mut VpState) -> u64 {
        let on = word.field == Field::SetPending;
        for intid in members(bits & self.backed) {
            cpu.physical().set_pending(vp, intid, on);
        }
        let own = bits & !self.backed;
        if on {
            state.pending |= own;
            return own;
        }
        let posted = self.vps[vp].inbox.fetch_and(!bits, Ordering::Acquire) & bits;
        state.pending |= posted & self.backed;
        let concerned = bits & (state.in_lr | state.pending & self.backed);
        state.pending &= !own;
        state.clear_pending |= concerned;
        concerned
    }

    /// Sets triggers. SGIs are always edge-triggered.
    fn set_triggers<C: Cpu>(
        &self,
        cpu: &C,
        vp: usize,
        word: Word,
        set: u64,
        value: u32,
        state: &mut VpState,
    ) -> After {
        for intid in members(set & !0xffff) {
            let edge = value >> ((intid - word.first) * 2 + 1) & 1 != 0;
            let before = state.edge;
            state.edge = before & !bit(intid) | if edge { bit(intid) } else { 0 };
            if state.edge != before && self.backed & bit(intid) != 0 {
                cpu.physical().set_edge(vp, intid, edge);
            }
        }
        After::Done
    }
}
