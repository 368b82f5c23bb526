//! The distributor's registers, and the routing of SPIs.

use core::sync::atomic::Ordering;

use crate::bank::Word;
use crate::gic::{After, Gic};
use crate::hardware::{Cpu, Physical as _};
use crate::regs::{IIDR_VALUE, gicd};
use crate::state::{INTIDS, SPIS, bit, members};

const SPI_COUNT: usize = 32;

/// The state of the distributor that does not belong to a VP.
pub(crate) struct Distributor {
    /// IROUTER of each SPI.
    route: [u32; SPI_COUNT],
    /// The VP that holds each SPI's state.
    home: [u16; SPI_COUNT],
    /// The SPIs whose state another VP than the first keeps. A guest seldom makes any.
    moved: u64,
}

impl Distributor {
    pub(crate) const fn new() -> Self {
        Self { route: [0; SPI_COUNT], home: [0; SPI_COUNT], moved: 0 }
    }

    pub(crate) fn home(&self, intid: u32) -> usize {
        usize::from(self.home[intid as usize & (SPI_COUNT - 1)])
    }

    fn route(&mut self, intid: u32) -> &mut u32 {
        &mut self.route[intid as usize & (SPI_COUNT - 1)]
    }

    /// Returns the home of the first of these SPIs, and all of them with that home. The set is not empty.
    fn first_home(&self, set: u64) -> (usize, u64) {
        let home = self.home(set.trailing_zeros());
        if home == 0 {
            return (home, set & !self.moved);
        }
        (home, members(set & self.moved).filter(|&intid| self.home(intid) == home).map(bit).sum())
    }

    fn set_home(&mut self, intid: u32, vp: usize) {
        self.home[intid as usize & (SPI_COUNT - 1)] = vp as u16;
        self.moved = self.moved & !bit(intid) | if vp == 0 { 0 } else { bit(intid) };
    }
}

impl Gic<'_> {
    pub(crate) fn read_distributor<C: Cpu>(&self, cpu: &C, offset: u32) -> u32 {
        match offset {
            gicd::CTLR => self.groups.load(Ordering::Relaxed) | gicd::CTLR_ARE | gicd::CTLR_DS,
            gicd::TYPER => gicd::TYPER_VALUE,
            gicd::IIDR => IIDR_VALUE,
            gicd::IROUTER..gicd::IROUTER_END => {
                routed_intid(offset).map_or(0, |intid| *self.distributor.lock().route(intid))
            }
            _ => Word::at(offset).map_or(0, |word| self.read_spis(cpu, word)),
        }
    }

    pub(crate) fn write_distributor<C: Cpu>(&self, cpu: &C, offset: u32, value: u32, bytes: u32) {
        match offset {
            gicd::CTLR => self.set_groups(cpu, value & (gicd::CTLR_GROUP0 | gicd::CTLR_GROUP1)),
            gicd::IROUTER..gicd::IROUTER_END => {
                if let Some(intid) = routed_intid(offset) {
                    let after = self.set_route(cpu, intid, value & gicd::IROUTER_MASK as u32);
                    self.finish(cpu, after);
                }
            }
            _ => {
                if let Some(word) = Word::at(offset) {
                    self.write_spis(cpu, word, word.members(bytes) & SPIS, value);
                }
            }
        }
    }

    fn read_spis<C: Cpu>(&self, cpu: &C, word: Word) -> u32 {
        let mut left = word.members(0xf) & SPIS;
        let (mut value, mut asked, mut tries) = (0, None, 0);
        while left != 0 {
            let distributor = self.distributor.lock();
            let (home, set) = distributor.first_home(left);
            // SPIs may move while their homes are queried; then the new home is queried again, but not endlessly.
            if asked != Some((home, set)) && tries < self.vps.len() + SPI_COUNT {
                let after = self.prepare(cpu, home, word, set);
                if !matches!(after, After::Done) {
                    drop(distributor);
                    self.finish(cpu, after);
                    (asked, tries) = (Some((home, set)), tries + 1);
                    continue;
                }
            }
            value |= self.read_bank(cpu, home, word, set);
            left &= !set;
        }
        value
    }

    pub(crate) fn write_spis<C: Cpu>(&self, cpu: &C, word: Word, set: u64, value: u32) {
        let mut left = set;
        while left != 0 {
            let distributor = self.distributor.lock();
            let (home, set) = distributor.first_home(left);
            let after = self.write_bank(cpu, home, word, set, value);
            drop(distributor);
            self.finish(cpu, after);
            left &= !set;
        }
    }

    /// Writes GICD_CTLR: the group enables apply to all VPs.
    fn set_groups<C: Cpu>(&self, cpu: &C, groups: u32) {
        if self.groups.swap(groups, Ordering::Relaxed) == groups {
            return;
        }
        for vp in 0..self.vps.len() {
            let state = self.vps[vp].state.lock();
            if state.in_lr | state.pending != 0 {
                let after = self.apply(cpu, vp, state);
                self.finish(cpu, after);
            }
        }
    }

    /// Writes GICD_IROUTER: the SPI's home becomes the VP with this affinity. While there is none, the SPI stays
    /// pending.
    fn set_route<C: Cpu>(&self, cpu: &C, intid: u32, affinity: u32) -> After {
        let mut distributor = self.distributor.lock();
        *distributor.route(intid) = affinity;
        let home = distributor.home(intid);
        let target = self.vp_at(affinity);
        let mut state = self.vps[home].state.lock();
        let set = bit(intid);
        let moves = target.is_some_and(|target| target != home);
        state.routed = state.routed & !set | if target.is_some() { set } else { 0 };
        state.moving = state.moving & !set | if moves { set } else { 0 };
        if state.movable() & set != 0 {
            After::Move(home)
        } else if (state.in_lr | state.pending) & set != 0 {
            self.apply(cpu, home, state)
        } else {
            After::Done
        }
    }

    /// Returns the VP with this affinity.
    fn vp_at(&self, affinity: u32) -> Option<usize> {
        let (low, cluster) = (affinity & 0xff, affinity >> 8);
        let vp = cluster as usize * 16 + low as usize;
        (low < 16 && cluster < 256 && vp < self.vps.len()).then_some(vp)
    }

    /// Moves SPIs that are no longer routed to `vp` to their new home, unless they are active.
    pub(crate) fn move_spis<C: Cpu>(&self, cpu: &C, vp: usize) -> After {
        let mut distributor = self.distributor.lock();
        let movable = self.vps[vp].state.lock().movable();
        let mut here = 0;
        for intid in members(movable) {
            let Some(target) = self.vp_at(*distributor.route(intid)).filter(|&target| target != vp) else {
                continue;
            };
            let mut settings = self.vps[vp].state.lock().take(intid);
            settings.pending |= self.vps[vp].inbox.fetch_and(!bit(intid), Ordering::Acquire) & bit(intid);
            distributor.set_home(intid, target);
            if self.backed & bit(intid) != 0 {
                cpu.physical().route(intid, target);
            }
            self.vps[target].state.lock().insert(intid, &settings);
            if target == cpu.vp() {
                here |= settings.pending;
            } else if settings.pending != 0 {
                self.post(cpu, target, intid);
            }
        }
        if here == 0 { After::Done } else { self.refill(cpu, self.vps[cpu.vp()].state.lock(), here) }
    }
}

/// Returns the SPI of an IROUTER's lower half.
fn routed_intid(offset: u32) -> Option<u32> {
    let index = (offset - gicd::IROUTER) / 4;
    (index.is_multiple_of(2) && (32..INTIDS).contains(&(index / 2))).then_some(index / 2)
}
