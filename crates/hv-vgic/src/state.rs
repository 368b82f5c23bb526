//! What the Gic knows about one VP's interrupts, and how it stands to the VP's list registers.

use crate::hardware::{Cpu, ListRegisters, Physical as _};
use crate::regs::{PRIORITY_MASK, hcr, lr};

/// INTIDs that exist: 16 SGIs, 16 PPIs, 32 SPIs. A set of them is a `u64`.
pub(crate) const INTIDS: u32 = 64;
/// The SPIs.
pub(crate) const SPIS: u64 = 0xffff_ffff << 32;
/// List registers that an implementation may have at most.
const MAX_LISTS: usize = 16;

/// The set of one INTID.
pub(crate) const fn bit(intid: u32) -> u64 {
    1 << (intid & (INTIDS - 1))
}

/// The members of a set, in ascending order.
pub(crate) fn members(mut set: u64) -> impl Iterator<Item = u32> {
    core::iter::from_fn(move || {
        let intid = (set != 0).then(|| set.trailing_zeros())?;
        set &= set - 1;
        Some(intid)
    })
}

/// What holds for the whole Gic while a VP's interrupts are looked at.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// INTIDs behind which a physical interrupt stands.
    pub(crate) backed: u64,
    /// GICD_CTLR's group enables: all ones or zero.
    pub(crate) group0: u64,
    pub(crate) group1: u64,
}

/// One VP's interrupts: its SGIs and PPIs, and the SPIs whose home it is.
///
/// Where an INTID is in `in_lr`, the list register holds the truth, and `pending` and `active` what has come on top of
/// it since. For a backed INTID, pending means acknowledged at the physical GIC: until the guest deactivates it the
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
    /// SPIs whose IROUTER names a VP that exists.
    pub(crate) routed: u64,
    /// SPIs that leave for another VP as soon as they are not active.
    pub(crate) moving: u64,
    /// Pending, not counting what list registers hold.
    pub(crate) pending: u64,
    /// Active, not counting what list registers hold.
    pub(crate) active: u64,
    /// The part of `active` that found no list register.
    pub(crate) evicted: u64,
    /// Active states that no acknowledge made but ISACTIVER: the guest will not end them by EOIR. For an INTID in `in_lr`
    /// it says what its list register was filled with.
    forced: u64,
    /// INTIDs with a list register, which may have become free since.
    pub(crate) in_lr: u64,
    /// What the list registers held when they were last looked at; meaningful within `in_lr`.
    pub(crate) lr_pending: u64,
    pub(crate) lr_active: u64,
    /// Pending and active states that other VPs took away while list registers held them.
    pub(crate) clear_pending: u64,
    pub(crate) clear_active: u64,
    /// The list registers must be filled anew before one is used directly.
    pub(crate) busy: bool,
    /// GICR_WAKER.ProcessorSleep.
    pub(crate) asleep: bool,
    /// The list register of each INTID in `in_lr`.
    lr_of: [u8; INTIDS as usize],
    /// The set of the INTID that each list register was last given.
    lr_bit: [u64; MAX_LISTS],
    /// What is set in ICH_HCR_EL2 of [`hcr::MANAGED`].
    control: u64,
}

/// What an SPI takes along when its home changes. The sets hold the SPI or nothing.
pub(crate) struct Settings {
    enabled: u64,
    group1: u64,
    edge: u64,
    pub(crate) pending: u64,
    priority: u8,
}

impl VpState {
    /// As firmware leaves a VP that has not run: the distributor and the redistributors are in their reset state, but all
    /// interrupts are in Group 1, the one that an operating system uses.
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

    /// The interrupts that may be presented to the VP once they are pending.
    pub(crate) fn eligible(&self, rules: Rules) -> u64 {
        let forwarded = self.group1 & rules.group1 | !self.group1 & rules.group0;
        self.enabled & self.routed & forwarded & !self.moving
    }

    /// Sets the priority of one interrupt; gives the set of it if that was a change.
    pub(crate) fn set_priority(&mut self, intid: u32, priority: u8) -> u64 {
        let kept = &mut self.priority[(intid & (INTIDS - 1)) as usize];
        let changed = *kept != priority & PRIORITY_MASK;
        *kept = priority & PRIORITY_MASK;
        if changed { bit(intid) } else { 0 }
    }

    /// SPIs that can leave now.
    pub(crate) fn movable(&self) -> u64 {
        self.moving & !(self.active | self.in_lr | self.clear_pending | self.clear_active)
    }

    /// The most urgent member of a set that is not empty.
    fn highest(&self, set: u64) -> u32 {
        members(set).min_by_key(|&intid| self.priority[intid as usize & 63]).unwrap_or(0)
    }

    /// Of a set of active interrupts that is not empty, the one that the guest ends next: what it acknowledged goes before
    /// what ISACTIVER made active, whose priority says nothing, since it never came to run.
    fn next_to_end(&self, active: u64) -> u32 {
        let acknowledged = active & !self.forced;
        self.highest(if acknowledged != 0 { acknowledged } else { active })
    }

    /// ISACTIVER: interrupts become active without an acknowledge. What list registers hold decides in the next fold.
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
            // It may have become pending again, and then goes to its new home at once.
            value |= lr::EOI;
        }
        value
    }

    /// Makes an interrupt of this CPU's VP pending by means of one list register. Where that does not do, says so by
    /// `false`: the caller makes it pending here and fills the list registers anew.
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

    /// An edge for an interrupt that is in a list register: pending, or active and pending.
    fn pend_again<L: ListRegisters>(&mut self, list: usize, lists: &L) -> bool {
        let value = lists.read(list);
        if value & lr::PENDING == 0 {
            lists.write(list, value | lr::PENDING);
        }
        true
    }

    /// Notes that `list` is from now on the list register of `intid`.
    fn assign(&mut self, intid: u32, list: usize) {
        let list = list & (MAX_LISTS - 1);
        self.in_lr &= !self.lr_bit[list];
        self.in_lr |= bit(intid);
        self.lr_bit[list] = bit(intid);
        self.lr_of[(intid & (INTIDS - 1)) as usize] = list as u8;
    }

    /// Reads the list registers into `lr_pending` and `lr_active`; they stay as they are.
    pub(crate) fn look<L: ListRegisters>(&mut self, lists: &L) {
        (self.lr_pending, self.lr_active) = (0, 0);
        for intid in members(self.in_lr) {
            let value = lists.read(usize::from(self.lr_of[intid as usize & 63]));
            self.lr_pending |= if value & lr::PENDING != 0 { bit(intid) } else { 0 };
            self.lr_active |= if value & lr::ACTIVE != 0 { bit(intid) } else { 0 };
        }
    }

    /// Empties the list registers into the software state, and applies what other VPs asked for.
    pub(crate) fn fold<C: Cpu>(&mut self, cpu: &C, rules: Rules) {
        self.look(cpu.lists());
        for intid in members(self.in_lr) {
            cpu.lists().write(usize::from(self.lr_of[intid as usize & 63]), 0);
        }
        let held = self.pending | self.active | self.lr_pending | self.lr_active;
        if self.control & hcr::LRENPIE != 0 {
            self.active &= !self.ended_outside(cpu.lists());
        }
        // In a list register what was active before stays what it was, and what an acknowledge made active is not forced.
        let on_top = self.active & !self.lr_active;
        self.forced = self.forced & !self.in_lr | self.in_lr & (self.forced & self.lr_active | on_top);
        self.pending &= !(self.clear_pending & rules.backed);
        self.active &= !(self.clear_active & rules.backed);
        self.pending |= self.lr_pending & !self.clear_pending;
        self.active |= self.lr_active & !self.clear_active;
        self.forced &= self.active;
        (self.clear_pending, self.clear_active, self.in_lr, self.evicted) = (0, 0, 0, 0);
        self.lr_bit = [0; MAX_LISTS];

        // A backed interrupt that was disabled goes back to the physical GIC until the guest enables it.
        self.latch(cpu, rules.backed & self.pending & !self.enabled & !self.active);
        for intid in members(rules.backed & held & !(self.pending | self.active)) {
            cpu.physical().deactivate(intid);
        }
    }

    /// Takes backed interrupts that are pending, not active, and in no list register, back to the physical GIC.
    pub(crate) fn give_back<C: Cpu>(&mut self, cpu: &C, set: u64) {
        self.latch(cpu, set);
        for intid in members(set) {
            cpu.physical().deactivate(intid);
        }
    }

    /// Backed interrupts are not pending here any more: the physical GIC sees a level by itself, and an edge is latched
    /// there.
    fn latch<C: Cpu>(&mut self, cpu: &C, set: u64) {
        self.pending &= !set;
        for intid in members(set & self.edge) {
            cpu.physical().set_pending(cpu.vp(), intid, true);
        }
    }

    /// Leaves the list registers, which were folded, free until the next fill, whatever power-on left in them.
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

    /// The active interrupts outside the list registers that the guest has ended since: with EOImode 0 those that it
    /// acknowledged end in the order of their priorities, and EOIcount says how many did.
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

    /// Fills the list registers, all of which are empty: the active interrupts that end first, but with room for one
    /// pending interrupt where there is one, then the most urgent pending interrupts.
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
                // Once it ends it must compete with what waits outside.
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
            // With a single list register the underflow condition would hold for ever.
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

    /// Asks for maintenance interrupts, or for none; EOIcount starts again from zero.
    fn set_control<L: ListRegisters>(&mut self, control: u64, lists: &L) {
        if control != self.control || control & hcr::LRENPIE != 0 {
            lists.set_control(lists.control() & !hcr::MANAGED | control);
            self.control = control;
        }
    }

    /// Takes the settings of an SPI out, which is in no list register and not active.
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

    /// Puts the settings of an SPI in. Its pending state is the caller's to deliver.
    pub(crate) fn insert(&mut self, intid: u32, settings: &Settings) {
        let set = bit(intid);
        self.enabled = self.enabled & !set | settings.enabled;
        self.group1 = self.group1 & !set | settings.group1;
        self.edge = self.edge & !set | settings.edge;
        self.routed |= set;
        self.priority[intid as usize & 63] = settings.priority;
    }

    /// Whether an interrupt waits that the VP could be given; the list registers are this CPU's.
    pub(crate) fn has_pending<L: ListRegisters>(&mut self, rules: Rules, inbox: u64, lists: &L) -> bool {
        self.look(lists);
        (self.pending | inbox) & self.eligible(rules) != 0 || self.lr_pending & self.in_lr != 0
    }
}
