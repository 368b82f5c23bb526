//! The Gic's state of one VP's interrupts, and its relation to the VP's list registers.

use crate::hardware::{Cpu, ListRegisters, Physical as _};
use crate::regs::{PRIORITY_MASK, hcr, lr};

/// INTIDs that exist: 16 SGIs, 16 PPIs, 32 SPIs. A set of them is a `u64`.
pub(crate) const INTIDS: u32 = 64;
/// The SPIs.
pub(crate) const SPIS: u64 = 0xffff_ffff << 32;
/// Maximum number of list registers.
const MAX_LISTS: usize = 16;

/// Returns the set of one INTID.
pub(crate) const fn bit(intid: u32) -> u64 {
    1 << (intid & (INTIDS - 1))
}

/// Iterates over the members of a set, in ascending order.
pub(crate) fn members(mut set: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let intid = (set != 0).then(|| set.trailing_zeros())?;
        set &= set - 1;
        Some(intid)
    })
}

/// State of the whole Gic during operations on a VP's interrupts.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// INTIDs backed by a physical interrupt.
    pub(crate) backed: u64,
    /// GICD_CTLR's group enables: all ones or zero.
    pub(crate) group0: u64,
    pub(crate) group1: u64,
}

/// One VP's interrupts: its SGIs and PPIs, and the SPIs with it as their home.
///
/// If an INTID is in `in_lr`, its state is in the list register, and `pending` and `active` hold what has been added
/// since. For a backed INTID, pending means acknowledged at the physical GIC: until the guest deactivates it the
/// physical one is active, and its further pending state is kept by the physical GIC.
pub(crate) struct VpState {
    /// ISENABLER.
    pub(crate) enabled: u64,
    /// IGROUPR.
    pub(crate) group1: u64,
    /// ICFGR: edge-triggered.
    pub(crate) edge: u64,
    /// IPRIORITYR.
    pub(crate) priority: [u8; INTIDS as usize],
    /// SPIs whose IROUTER names an existing VP.
    pub(crate) routed: u64,
    /// SPIs that move to another VP as soon as they are not active.
    pub(crate) moving: u64,
    /// Pending, not counting what list registers hold.
    pub(crate) pending: u64,
    /// Active, not counting what list registers hold.
    pub(crate) active: u64,
    /// The part of `active` without a list register.
    pub(crate) evicted: u64,
    /// Active states caused by ISACTIVER instead of an acknowledge: the guest will not end them by EOIR. For an INTID
    /// in `in_lr` it refers to the contents its list register was filled with.
    forced: u64,
    /// INTIDs with a list register, which may have become free since.
    pub(crate) in_lr: u64,
    /// Contents of the list registers when they were last read; valid within `in_lr`.
    pub(crate) lr_pending: u64,
    pub(crate) lr_active: u64,
    /// Pending and active states that other VPs cleared while list registers held them.
    pub(crate) clear_pending: u64,
    pub(crate) clear_active: u64,
    /// The list registers must be refilled before one is used directly.
    pub(crate) busy: bool,
    /// GICR_WAKER.ProcessorSleep.
    pub(crate) asleep: bool,
    /// The list register of each INTID in `in_lr`.
    lr_of: [u8; INTIDS as usize],
    /// The set of the INTID that each list register was last given.
    lr_bit: [u64; MAX_LISTS],
    /// The [`hcr::MANAGED`] bits set in ICH_HCR_EL2.
    control: u64,
}

/// The state of an SPI that moves with it to a new home. The sets contain only the SPI, or nothing.
pub(crate) struct Settings {
    enabled: u64,
    group1: u64,
    edge: u64,
    pub(crate) pending: u64,
    priority: u8,
}

impl VpState {
    /// Creates the state of a VP that has not run, as firmware leaves it: the distributor and the redistributors are in
    /// their reset state, but all interrupts are in Group 1, the one that an operating system uses.
    pub(crate) const fn new() -> Self {
        Self {
            enabled: 0,
            group1: u64::MAX,
            edge: 0xffff,
            priority: [0; INTIDS as usize],
            routed: u64::MAX,
            moving: 0,
            pending: 0,
            active: 0,
            evicted: 0,
            forced: 0,
            in_lr: 0,
            lr_pending: 0,
            lr_active: 0,
            clear_pending: 0,
            clear_active: 0,
            busy: false,
            asleep: true,
            lr_of: [0; INTIDS as usize],
            lr_bit: [0; MAX_LISTS],
            control: 0,
        }
    }

    /// Returns the interrupts that may be delivered to the VP once they are pending.
    pub(crate) fn eligible(&self, rules: Rules) -> u64 {
        let forwarded = self.group1 & rules.group1 | !self.group1 & rules.group0;
        self.enabled & self.routed & forwarded & !self.moving
    }

    /// Sets the priority of one interrupt; returns its set if that was a change.
    pub(crate) fn set_priority(&mut self, intid: u32, priority: u8) -> u64 {
        let kept = &mut self.priority[(intid & (INTIDS - 1)) as usize];
        let changed = *kept != priority & PRIORITY_MASK;
        *kept = priority & PRIORITY_MASK;
        if changed { bit(intid) } else { 0 }
    }

    /// Returns the SPIs that can move now.
    pub(crate) fn movable(&self) -> u64 {
        self.moving & !(self.active | self.in_lr | self.clear_pending | self.clear_active)
    }

    /// Returns the most urgent member of a set that is not empty.
    fn highest(&self, set: u64) -> u32 {
        members(set).min_by_key(|&intid| self.priority[intid as usize & 63]).unwrap_or(0)
    }

    /// Returns the member of a non-empty set of active interrupts that the guest ends next: acknowledged ones come
    /// before those made active by ISACTIVER, whose priority is irrelevant, since they never ran.
    fn next_to_end(&self, active: u64) -> u32 {
        let acknowledged = active & !self.forced;
        self.highest(if acknowledged != 0 { acknowledged } else { active })
    }

    /// Handles ISACTIVER: interrupts become active without an acknowledge. The contents of list registers decide in the
    /// next fold.
    pub(crate) fn force_active(&mut self, set: u64) {
        self.forced |= set & !(self.active | self.in_lr);
        self.active |= set;
        self.clear_active &= !set;
    }

    fn list_value(&self, intid: u32, state: u64, rules: Rules) -> u64 {
        let index = intid & (INTIDS - 1);
        let mut value = state | u64::from(intid);
        value |= u64::from(self.priority[index as usize]) << lr::PRIORITY_SHIFT;
        value |= if self.group1 & bit(intid) != 0 { lr::GROUP1 } else { 0 };
        if rules.backed & bit(intid) != 0 {
            value |= lr::HW | u64::from(intid) << lr::PHYSICAL_SHIFT;
        } else if self.moving & bit(intid) != 0 {
            // It may have become pending again, and then moves to its new home immediately.
            value |= lr::EOI;
        }
        value
    }

    /// Makes an interrupt of this CPU's VP pending by means of one list register. Returns false if that is not
    /// possible: the caller makes it pending here and refills the list registers.
    #[inline(always)]
    pub(crate) fn place<L: ListRegisters>(&mut self, intid: u32, rules: Rules, lists: &L) -> bool {
        let set = bit(intid);
        if self.busy || self.eligible(rules) & set == 0 {
            return false;
        }
        let empty = lists.empty();
        let list = if self.in_lr & set != 0 {
            // Its own one, free or not: an INTID is never in two.
            let list = usize::from(self.lr_of[(intid & (INTIDS - 1)) as usize]);
            if empty >> (list & 15) & 1 == 0 {
                return rules.backed & set == 0 && self.pend_again(list, lists);
            }
            list
        } else {
            if empty == 0 || self.active & set != 0 {
                return false;
            }
            let list = empty.trailing_zeros() as usize;
            self.assign(intid, list);
            list
        };
        lists.write(list, self.list_value(intid, lr::PENDING, rules));
        true
    }

    /// Adds an edge to an interrupt in a list register: pending, or active and pending.
    fn pend_again<L: ListRegisters>(&mut self, list: usize, lists: &L) -> bool {
        let value = lists.read(list);
        if value & lr::PENDING == 0 {
            lists.write(list, value | lr::PENDING);
        }
        true
    }

    /// Records `list` as the list register of `intid`.
    fn assign(&mut self, intid: u32, list: usize) {
        let list = list & (MAX_LISTS - 1);
        self.in_lr &= !self.lr_bit[list];
        self.in_lr |= bit(intid);
        self.lr_bit[list] = bit(intid);
        self.lr_of[(intid & (INTIDS - 1)) as usize] = list as u8;
    }

    /// Reads the list registers into `lr_pending` and `lr_active`, without changing them.
    pub(crate) fn look<L: ListRegisters>(&mut self, lists: &L) {
        (self.lr_pending, self.lr_active) = (0, 0);
        for intid in members(self.in_lr) {
            let value = lists.read(usize::from(self.lr_of[intid as usize & 63]));
            self.lr_pending |= if value & lr::PENDING != 0 { bit(intid) } else { 0 };
            self.lr_active |= if value & lr::ACTIVE != 0 { bit(intid) } else { 0 };
        }
    }

    /// Empties the list registers into the software state, and applies what other VPs requested.
    pub(crate) fn fold<C: Cpu>(&mut self, cpu: &C, rules: Rules) {
        self.look(cpu.lists());
        for intid in members(self.in_lr) {
            cpu.lists().write(usize::from(self.lr_of[intid as usize & 63]), 0);
        }
        let held = self.pending | self.active | self.lr_pending | self.lr_active;
        if self.control & hcr::LRENPIE != 0 {
            self.active &= !self.ended_outside(cpu.lists());
        }
        // In a list register what was active before is unchanged, and what an acknowledge made active is not forced.
        let on_top = self.active & !self.lr_active;
        self.forced = self.forced & !self.in_lr | self.in_lr & (self.forced & self.lr_active | on_top);
        self.pending &= !(self.clear_pending & rules.backed);
        self.active &= !(self.clear_active & rules.backed);
        self.pending |= self.lr_pending & !self.clear_pending;
        self.active |= self.lr_active & !self.clear_active;
        self.forced &= self.active;
        (self.clear_pending, self.clear_active, self.in_lr, self.evicted) = (0, 0, 0, 0);
        self.lr_bit = [0; MAX_LISTS];

        // A backed interrupt that was disabled returns to the physical GIC until the guest enables it.
        self.latch(cpu, rules.backed & self.pending & !self.enabled & !self.active);
        for intid in members(rules.backed & held & !(self.pending | self.active)) {
            cpu.physical().deactivate(intid);
        }
    }

    /// Returns backed interrupts that are pending, not active, and in no list register, to the physical GIC.
    pub(crate) fn give_back<C: Cpu>(&mut self, cpu: &C, set: u64) {
        self.latch(cpu, set);
        for intid in members(set) {
            cpu.physical().deactivate(intid);
        }
    }

    /// Clears the pending state of backed interrupts here: the physical GIC sees a level by itself, and an edge is
    /// latched there.
    fn latch<C: Cpu>(&mut self, cpu: &C, set: u64) {
        self.pending &= !set;
        for intid in members(set & self.edge) {
            cpu.physical().set_pending(cpu.vp(), intid, true);
        }
    }

    /// Leaves the list registers, which have been folded, free until the next fill, whatever power-on left in them.
    pub(crate) fn rest<L: ListRegisters>(&mut self, lists: &L) {
        for list in 0..lists.count() {
            lists.write(list, 0);
        }
        (self.lr_pending, self.lr_active) = (0, 0);
        self.busy = true;
        self.set_control(0, lists);
    }

    /// Ends all active states, those in list registers at the next fold.
    pub(crate) fn end_all(&mut self, rules: Rules) {
        self.active &= rules.backed;
        self.clear_active = u64::MAX;
    }

    /// Returns the active interrupts outside the list registers that the guest has ended since: with EOImode 0 those
    /// that it acknowledged end in order of priority, and EOIcount is their number.
    fn ended_outside<L: ListRegisters>(&self, lists: &L) -> u64 {
        let mut ended = 0;
        for _ in 0..(lists.control() & hcr::EOI_COUNT) >> hcr::EOI_COUNT_SHIFT {
            let left = self.evicted & self.active & !ended;
            if left == 0 {
                break;
            }
            ended |= bit(self.next_to_end(left));
        }
        ended
    }

    /// Fills the list registers, all of which are empty: the active interrupts that end first, with room left for one
    /// pending interrupt if there is one, then the most urgent pending interrupts.
    pub(crate) fn fill<L: ListRegisters>(&mut self, rules: Rules, lists: &L) {
        let count = lists.count().min(MAX_LISTS);
        let eligible = self.eligible(rules);
        let mut waiting = self.pending & eligible & !self.active;
        let mut active = self.active;
        let for_active = if waiting == 0 { count } else { count.saturating_sub(1) };
        let crowded = (active | waiting).count_ones() as usize > count;
        (self.lr_pending, self.lr_active) = (0, 0);
        let mut list = 0;
        while active != 0 && list < for_active {
            let intid = self.next_to_end(active);
            let again = self.pending & eligible & bit(intid) & !rules.backed != 0;
            let state = match (again, crowded) {
                (false, _) => lr::ACTIVE,
                (true, false) => lr::STATE,
                // Once it ends it must compete with those outside.
                (true, true) => lr::ACTIVE | lr::EOI,
            };
            self.put(list, intid, state, rules, lists);
            active &= !bit(intid);
            list += 1;
        }
        while waiting != 0 && list < count {
            let intid = self.highest(waiting);
            self.put(list, intid, lr::PENDING, rules, lists);
            waiting &= !bit(intid);
            list += 1;
        }
        self.evicted = active;
        let mut control = if waiting != 0 { hcr::NPIE } else { 0 };
        if active != 0 {
            // With a single list register the underflow condition would always hold.
            control |= hcr::LRENPIE | if count > 1 { hcr::UIE } else { 0 };
        }
        self.busy = control != 0;
        self.set_control(control, lists);
    }

    fn put<L: ListRegisters>(&mut self, list: usize, intid: u32, state: u64, rules: Rules, lists: &L) {
        self.assign(intid, list);
        if state & lr::PENDING != 0 {
            self.pending &= !bit(intid);
            self.lr_pending |= bit(intid);
        }
        if state & lr::ACTIVE != 0 {
            self.active &= !bit(intid);
            self.lr_active |= bit(intid);
        }
        lists.write(list, self.list_value(intid, state, rules));
    }

    /// Enables or disables maintenance interrupts; EOIcount starts again from zero.
    fn set_control<L: ListRegisters>(&mut self, control: u64, lists: &L) {
        if control != self.control || control & hcr::LRENPIE != 0 {
            lists.set_control(lists.control() & !hcr::MANAGED | control);
            self.control = control;
        }
    }

    /// Removes the settings of an SPI that is in no list register and not active.
    pub(crate) fn take(&mut self, intid: u32) -> Settings {
        let set = bit(intid);
        let settings = Settings {
            enabled: self.enabled & set,
            group1: self.group1 & set,
            edge: self.edge & set,
            pending: self.pending & set,
            priority: self.priority[intid as usize & 63],
        };
        for kept in [&mut self.enabled, &mut self.group1, &mut self.edge, &mut self.pending, &mut self.moving]
        {
            *kept &= !set;
        }
        settings
    }

    /// Inserts the settings of an SPI. Delivering its pending state is up to the caller.
    pub(crate) fn insert(&mut self, intid: u32, settings: &Settings) {
        let set = bit(intid);
        self.enabled = self.enabled & !set | settings.enabled;
        self.group1 = self.group1 & !set | settings.group1;
        self.edge = self.edge & !set | settings.edge;
        self.routed |= set;
        self.priority[intid as usize & 63] = settings.priority;
    }

    /// Returns true if an interrupt is pending that can be delivered to the VP; the list registers are this CPU's.
    pub(crate) fn has_pending<L: ListRegisters>(&mut self, rules: Rules, inbox: u64, lists: &L) -> bool {
        self.look(lists);
        (self.pending | inbox) & self.eligible(rules) != 0 || self.lr_pending & self.in_lr != 0
    }
}
