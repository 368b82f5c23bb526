//! The Gic and the entry points for interrupts.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hv_lock::Wait;

use crate::bank::Word;
use crate::distributor::Distributor;
use crate::hardware::{Cpu, Physical as _};
use crate::regs::{gicd, sgir};
use crate::state::{INTIDS, Rules, SPIS, VpState, bit, members};

/// A CPU at EL2 has nothing else to do while it waits for a lock.
pub(crate) struct Spin;

impl Wait for Spin {
    fn relax() {
        core::hint::spin_loop();
    }
}

type Mutex<T> = hv_lock::Mutex<Spin, T>;
type MutexGuard<'a, T> = hv_lock::MutexGuard<'a, Spin, T>;

/// Number of times a CPU polls for another one before it gives up: some ten milliseconds.
const PATIENCE: u32 = 1 << 20;

/// One VP's part of the Gic. An array with one for each VP is passed to [`Gic::new`]; it can be a static.
#[repr(align(128))]
pub struct VpGic {
    pub(crate) state: Mutex<VpState>,
    /// Interrupts that other CPUs made pending. While it is nonzero, a kick is on its way.
    pub(crate) inbox: AtomicU64,
    /// Another CPU waits for `folds` to change.
    pub(crate) wanted: AtomicBool,
    /// Counts the folds of the list registers.
    pub(crate) folds: AtomicU32,
}

impl VpGic {
    /// Creates the part of a VP that has not run: all interrupts disabled and in Group 1, redistributor asleep.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: Mutex::new(VpState::new()),
            inbox: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            folds: AtomicU32::new(0),
        }
    }
}

impl Default for VpGic {
    fn default() -> Self {
        Self::new()
    }
}

/// A virtual GICv3.
///
/// Lock order: the distributor, then one VP's state. No CPU waits for another one with a lock held.
pub struct Gic<'a> {
    pub(crate) vps: &'a [VpGic],
    /// INTIDs backed by a physical interrupt.
    pub(crate) backed: u64,
    /// GICD_CTLR's group enables.
    pub(crate) groups: AtomicU32,
    pub(crate) distributor: Mutex<Distributor>,
}

/// The SGI generation register that the guest wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiRegister {
    /// ICC_SGI0R_EL1: Group 0 SGIs.
    Sgi0,
    /// ICC_SGI1R_EL1: SGIs of either group.
    Sgi1,
    /// ICC_ASGI1R_EL1: with one security state equivalent to ICC_SGI0R_EL1.
    Asgi1,
}

/// The rest of a call, to be done without locks.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) enum After {
    /// Nothing.
    Done,
    /// Wait until this VP's fold count differs from the number.
    Await(usize, u32),
    /// SPIs of this VP can move.
    Move(usize),
}

impl<'a> Gic<'a> {
    /// Creates a Gic in the state that firmware leaves, for the VPs with these parts: at most 4096, the number of
    /// values of Aff0 and Aff1. `backed` lists the INTIDs, 16 to 63, that are backed by the physical interrupt with the
    /// same number; others in it are ignored.
    #[must_use]
    pub const fn new(vps: &'a [VpGic], backed: &[u32]) -> Self {
        let (mut set, mut i) = (0, 0);
        while i < backed.len() {
            if backed[i] >= 16 && backed[i] < INTIDS {
                set |= bit(backed[i]);
            }
            i += 1;
        }
        Self { vps, backed: set, groups: AtomicU32::new(0), distributor: Mutex::new(Distributor::new()) }
    }

    /// Handles a physical interrupt that arrived on this CPU, was acknowledged, and whose priority was dropped: it is
    /// active at the physical GIC until the guest or the Gic deactivates it. An INTID that is not backed is ignored.
    #[inline]
    pub fn physical<C: Cpu>(&self, cpu: &C, intid: u32) {
        if intid >= INTIDS || self.backed & bit(intid) == 0 {
            return;
        }
        if bit(intid) & SPIS == 0 { self.deliver_own(cpu, intid) } else { self.deliver_spi(cpu, intid) }
    }

    /// Makes an interrupt of a VP pending, edge-triggered, with the hypervisor as its source. For an SPI `vp` is
    /// ignored: it follows GICD_IROUTER. INTIDs and VPs that do not exist are ignored. A backed interrupt is made
    /// pending at the physical GIC, which then delivers it.
    pub fn assert<C: Cpu>(&self, cpu: &C, vp: usize, intid: u32) {
        if intid >= INTIDS {
            return;
        }
        if self.backed & bit(intid) != 0 {
            if vp < self.vps.len() {
                cpu.physical().set_pending(vp, intid, true);
            }
        } else if bit(intid) & SPIS != 0 {
            self.deliver_spi(cpu, intid);
        } else if vp == cpu.vp() {
            self.deliver_own(cpu, intid);
        } else {
            self.post(cpu, vp, intid);
        }
    }

    /// Handles a write of `value` to an SGI generation register by the guest on this CPU's VP.
    pub fn sgi<C: Cpu>(&self, cpu: &C, register: SgiRegister, value: u64) {
        let intid = sgir::intid(value);
        if sgir::all_others(value) {
            for target in (0..self.vps.len()).filter(|&target| target != cpu.vp()) {
                self.send(cpu, register, target, intid);
            }
        } else if let Some(cluster) = sgir::cluster(value) {
            for low in members(sgir::targets(value)) {
                self.send(cpu, register, cluster * 16 + low as usize, intid);
            }
        }
    }

    /// Sends one SGI to one VP, which may not exist.
    fn send<C: Cpu>(&self, cpu: &C, register: SgiRegister, target: usize, intid: u32) {
        let Some(vp) = self.vps.get(target) else { return };
        if register != SgiRegister::Sgi1 && vp.state.lock().group1 & bit(intid) != 0 {
            return;
        }
        if target == cpu.vp() { self.deliver_own(cpu, intid) } else { self.post(cpu, target, intid) }
    }

    /// Handles a kick of this CPU, a maintenance interrupt, or the entry of a VP that was reset.
    pub fn sync<C: Cpu>(&self, cpu: &C) {
        let Some(own) = self.vps.get(cpu.vp()) else { return };
        let mut state = own.state.lock();
        let new = own.inbox.swap(0, Ordering::Acquire);
        let mut left = new;
        if !(state.busy || state.moving != 0 || own.wanted.load(Ordering::Relaxed)) {
            let rules = self.rules();
            left = members(new).filter(|&intid| !state.place(intid, rules, cpu.lists())).map(bit).sum();
            if left == 0 {
                return;
            }
        }
        let after = self.refill(cpu, state, left);
        self.finish(cpu, after);
    }

    /// Handles a trapped write of an INTID to ICC_DIR_EL1 ([`hcr::TDIR`](crate::hcr::TDIR)) by the guest on this CPU's
    /// VP. It may deactivate an SPI that another VP acknowledged.
    pub fn deactivate<C: Cpu>(&self, cpu: &C, intid: u32) {
        if cpu.vp() >= self.vps.len() || intid >= INTIDS {
            return;
        }
        let set = bit(intid);
        if set & SPIS != 0 {
            self.write_spis(cpu, Word::SPI_ICACTIVER, set, u32::MAX);
        } else {
            let after = self.write_bank(cpu, cpu.vp(), Word::PRIVATE_ICACTIVER, set, u32::MAX);
            self.finish(cpu, after);
        }
    }

    /// Returns true while an interrupt is pending that can be delivered to this CPU's VP.
    #[must_use]
    pub fn has_pending<C: Cpu>(&self, cpu: &C) -> bool {
        self.vps.get(cpu.vp()).is_some_and(|own| {
            own.state.lock().has_pending(self.rules(), own.inbox.load(Ordering::Relaxed), cpu.lists())
        })
    }

    /// Resets this CPU's VP, which has stopped (CPU_OFF), or is about to be started. The CPU's list registers are free
    /// afterwards; the embedder resets the rest of the virtual CPU interface (ICH_VMCR_EL2, ICH_AP0R, ICH_AP1R), and
    /// leaves the list registers alone: what became pending while the VP was off may be in them.
    ///
    /// No interrupt is active afterwards, and the redistributor is asleep until [`start_vp`](Self::start_vp). Pending
    /// interrupts stay pending and the redistributor keeps its settings, as in a GIC whose processor is powered off.
    /// [`sync`](Self::sync) before the VP's first instruction delivers what is pending.
    pub fn reset_vp<C: Cpu>(&self, cpu: &C) {
        let Some(own) = self.vps.get(cpu.vp()) else { return };
        let mut state = own.state.lock();
        state.pending |= own.inbox.swap(0, Ordering::Acquire);
        state.end_all(self.rules());
        state.fold(cpu, self.rules());
        let acknowledged = state.pending & self.backed;
        state.give_back(cpu, acknowledged);
        state.rest(cpu.lists());
        state.asleep = true;
        let after = self.folded(cpu, &state);
        drop(state);
        self.finish(cpu, after);
    }

    /// Reports that the VP is about to run its first instruction: its redistributor is awake (`GICR_WAKER`), as
    /// firmware leaves it for a processor that it starts.
    pub fn start_vp(&self, vp: usize) {
        if let Some(own) = self.vps.get(vp) {
            own.state.lock().asleep = false;
        }
    }

    pub(crate) fn rules(&self) -> Rules {
        let groups = self.groups.load(Ordering::Relaxed);
        let spread = |group: u32| if groups & group != 0 { u64::MAX } else { 0 };
        Rules { backed: self.backed, group0: spread(gicd::CTLR_GROUP0), group1: spread(gicd::CTLR_GROUP1) }
    }

    /// Makes an interrupt of this CPU's own VP pending.
    #[inline]
    fn deliver_own<C: Cpu>(&self, cpu: &C, intid: u32) {
        let Some(own) = self.vps.get(cpu.vp()) else { return };
        let mut state = own.state.lock();
        if !state.place(intid, self.rules(), cpu.lists()) {
            let after = self.deliver_slowly(cpu, state, intid);
            self.finish(cpu, after);
        }
    }

    #[cold]
    fn deliver_slowly<C: Cpu>(&self, cpu: &C, mut state: MutexGuard<'_, VpState>, intid: u32) -> After {
        let set = bit(intid);
        let disabled_backed = self.backed & set & !state.enabled;
        let ineligible = set & !state.eligible(self.rules());
        if ineligible == 0 || state.busy || disabled_backed != 0 || state.moving & set != 0 {
            return self.refill(cpu, state, set);
        }
        // It stays pending until it is enabled; the list registers are not affected.
        state.pending |= set;
        After::Done
    }

    /// Makes an interrupt of another VP pending.
    pub(crate) fn post<C: Cpu>(&self, cpu: &C, vp: usize, intid: u32) {
        if let Some(other) = self.vps.get(vp)
            && other.inbox.fetch_or(bit(intid), Ordering::Release) == 0
        {
            cpu.physical().kick(vp);
        }
    }

    /// Makes an SPI pending at its home.
    fn deliver_spi<C: Cpu>(&self, cpu: &C, intid: u32) {
        let distributor = self.distributor.lock();
        let home = distributor.home(intid);
        if home != cpu.vp() {
            self.post(cpu, home, intid);
            return;
        }
        let Some(own) = self.vps.get(home) else { return };
        let mut state = own.state.lock();
        if !state.place(intid, self.rules(), cpu.lists()) {
            let after = self.deliver_slowly(cpu, state, intid);
            drop(distributor);
            self.finish(cpu, after);
        }
    }

    /// Folds and refills the list registers of this CPU; `new` interrupts became pending.
    pub(crate) fn refill<C: Cpu>(&self, cpu: &C, mut state: MutexGuard<'_, VpState>, new: u64) -> After {
        let rules = self.rules();
        state.fold(cpu, rules);
        // After the fold: it applies what other VPs cleared before the new ones came.
        state.pending |= new;
        let disabled = new & rules.backed & !state.enabled & !state.active;
        state.give_back(cpu, disabled);
        state.fill(rules, cpu.lists());
        self.folded(cpu, &state)
    }

    /// Notifies those waiting for this VP.
    fn folded<C: Cpu>(&self, cpu: &C, state: &VpState) -> After {
        let own = &self.vps[cpu.vp()];
        own.wanted.store(false, Ordering::Relaxed);
        own.folds.fetch_add(1, Ordering::Release);
        if state.movable() == 0 { After::Done } else { After::Move(cpu.vp()) }
    }

    /// Applies changes of a VP's state: on this CPU immediately, on another one by a kick.
    pub(crate) fn apply<C: Cpu>(&self, cpu: &C, vp: usize, mut state: MutexGuard<'_, VpState>) -> After {
        if vp == cpu.vp() {
            return self.refill(cpu, state, 0);
        }
        state.busy = true;
        self.call(cpu, vp, &state)
    }

    /// Makes another VP fold. If none of its list registers is in use, there is nothing to wait for.
    pub(crate) fn call<C: Cpu>(&self, cpu: &C, vp: usize, state: &VpState) -> After {
        let other = &self.vps[vp];
        let folds = other.folds.load(Ordering::Relaxed);
        other.wanted.store(true, Ordering::Release);
        cpu.physical().kick(vp);
        if state.in_lr == 0 { After::Done } else { After::Await(vp, folds) }
    }

    /// Does the rest of a call, with no lock held.
    pub(crate) fn finish<C: Cpu>(&self, cpu: &C, mut after: After) {
        loop {
            match after {
                After::Done => return,
                After::Move(vp) => after = self.move_spis(cpu, vp),
                After::Await(vp, folds) => return self.wait(cpu, vp, folds),
            }
        }
    }

    /// Waits until another VP has folded, and serves requests of others to this one meanwhile.
    #[cold]
    fn wait<C: Cpu>(&self, cpu: &C, vp: usize, folds: u32) {
        for _ in 0..PATIENCE {
            if self.vps[vp].folds.load(Ordering::Acquire) != folds {
                return;
            }
            if self.vps[cpu.vp()].wanted.load(Ordering::Relaxed) {
                self.sync(cpu);
            }
            cpu.physical().relax();
        }
    }
}
