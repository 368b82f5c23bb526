//! A machine in memory: virtual CPU interfaces that operate on list registers as the architecture specifies, and a
//! physical GIC. For tests of this crate and of its embedders.

use core::cell::{Cell, RefCell};
use std::vec::Vec;

use crate::{Access, Cpu, Fault, Gic, ListRegisters, Physical, RegisterFrame, SgiRegister, VpGic, hcr, lr};

/// The INTID returned by an acknowledge if there is nothing to acknowledge.
pub const SPURIOUS: u32 = 1023;
/// The running priority while nothing is active.
const IDLE: u8 = 0xff;

/// The virtual CPU interface of one CPU: list registers, and the part of ICV_* that guests use.
pub struct VirtualCpu {
    count: usize,
    lists: RefCell<[u64; 16]>,
    control: Cell<u64>,
    /// Priorities of acknowledged interrupts that have not ended yet, most urgent last.
    running: RefCell<Vec<u8>>,
    /// ICV_CTLR_EL1.EOImode: ending an interrupt does not deactivate it.
    pub split_eoi: Cell<bool>,
    /// ICV_PMR_EL1.
    pub mask: Cell<u8>,
}

impl VirtualCpu {
    /// Creates a CPU with this many list registers, 1 to 16.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self {
            count,
            lists: RefCell::default(),
            control: Cell::new(hcr::EN | hcr::TDIR),
            running: RefCell::default(),
            split_eoi: Cell::new(false),
            mask: Cell::new(0xff),
        }
    }

    fn running_priority(&self) -> u8 {
        self.running.borrow().last().copied().unwrap_or(IDLE)
    }

    /// Returns the list register that would be acknowledged now.
    fn best(&self) -> Option<usize> {
        let lists = self.lists.borrow();
        let best = (0..self.count)
            .filter(|&i| lists[i] & lr::STATE == lr::PENDING)
            .min_by_key(|&i| (priority(lists[i]), lists[i] & lr::VIRTUAL_MASK))?;
        let urgent = priority(lists[best]) < self.running_priority().min(self.mask.get());
        urgent.then_some(best)
    }

    /// Returns true if the virtual interrupt line is asserted.
    #[must_use]
    pub fn signalled(&self) -> bool {
        self.best().is_some()
    }

    /// Reads ICV_IAR1_EL1: acknowledges the most urgent pending interrupt.
    pub fn acknowledge(&self) -> u32 {
        let Some(best) = self.best() else { return SPURIOUS };
        let value = &mut self.lists.borrow_mut()[best];
        *value = *value & !lr::STATE | lr::ACTIVE;
        self.running.borrow_mut().push(priority(*value));
        (*value & lr::VIRTUAL_MASK) as u32
    }

    /// Writes ICV_EOIR1_EL1: drops the priority. Returns the physical INTID that it deactivated, if any.
    pub fn end(&self, intid: u32) -> Option<u32> {
        self.running.borrow_mut().pop();
        if self.split_eoi.get() { None } else { self.deactivate(intid) }
    }

    /// Writes ICV_DIR_EL1, which is also the second half of ICV_EOIR1_EL1. Returns the physical INTID that was
    /// deactivated, if any.
    pub fn deactivate(&self, intid: u32) -> Option<u32> {
        let mut lists = self.lists.borrow_mut();
        let found = lists[..self.count]
            .iter_mut()
            .find(|value| **value & lr::VIRTUAL_MASK == u64::from(intid) && **value & lr::ACTIVE != 0);
        let Some(value) = found else {
            let count = (self.control.get() & hcr::EOI_COUNT) >> hcr::EOI_COUNT_SHIFT;
            let count = (count + 1).min(31) << hcr::EOI_COUNT_SHIFT;
            self.control.set(self.control.get() & !hcr::EOI_COUNT | count);
            return None;
        };
        *value &= !lr::ACTIVE;
        (*value & lr::HW != 0).then_some((*value >> lr::PHYSICAL_SHIFT & 0x1fff) as u32)
    }

    /// Returns true if the maintenance interrupt is asserted (ICH_MISR_EL2).
    #[must_use]
    pub fn maintenance(&self) -> bool {
        let (control, lists) = (self.control.get(), self.lists.borrow());
        let used = lists[..self.count].iter().filter(|&value| value & lr::STATE != 0).count();
        let pending = lists[..self.count].iter().any(|&value| value & lr::STATE == lr::PENDING);
        lists[..self.count].iter().any(|&value| ended(value))
            || control & hcr::UIE != 0 && used <= 1
            || control & hcr::NPIE != 0 && !pending
            || control & hcr::LRENPIE != 0 && control & hcr::EOI_COUNT != 0
    }

    /// Clears what is active, like a reset of the CPU. The list registers contain garbage afterwards.
    pub fn reset(&self) {
        self.running.borrow_mut().clear();
        *self.lists.borrow_mut() = [lr::PENDING | lr::GROUP1 | 40; 16];
        self.control.set(hcr::EN | hcr::TDIR);
    }

    /// Checks that the list registers obey the architecture's rules for their contents.
    ///
    /// # Panics
    /// Where an INTID is in two list registers, or an interrupt that is physically backed is pending and active.
    pub fn check(&self) {
        let lists = self.lists.borrow();
        let mut seen = 0u64;
        for value in lists[..self.count].iter().filter(|&value| value & lr::STATE != 0) {
            let intid = 1u64 << (value & lr::VIRTUAL_MASK);
            assert_eq!(seen & intid, 0, "INTID in two list registers: {value:#x}");
            seen |= intid;
            assert!(
                value & lr::HW == 0 || value & lr::STATE != lr::STATE,
                "HW pending and active: {value:#x}"
            );
        }
    }
}

/// Returns true if a list register requests a maintenance interrupt because its interrupt was deactivated.
fn ended(value: u64) -> bool {
    value & (lr::STATE | lr::HW | lr::EOI) == lr::EOI
}

fn priority(value: u64) -> u8 {
    (value >> lr::PRIORITY_SHIFT) as u8
}

impl ListRegisters for VirtualCpu {
    fn count(&self) -> usize {
        self.count
    }
    fn read(&self, index: usize) -> u64 {
        self.lists.borrow()[..self.count][index]
    }
    fn write(&self, index: usize, value: u64) {
        self.lists.borrow_mut()[..self.count][index] = value;
    }
    fn empty(&self) -> u32 {
        let lists = self.lists.borrow();
        (0..self.count).filter(|&i| lists[i] & lr::STATE == 0 && !ended(lists[i])).map(|i| 1 << i).sum()
    }
    fn control(&self) -> u64 {
        self.control.get()
    }
    fn set_control(&self, value: u64) {
        self.control.set(value);
    }
}

/// An interrupt of the physical GIC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line {
    /// ISENABLER.
    pub enabled: bool,
    /// ICFGR: edge-triggered.
    pub edge: bool,
    /// The device's level.
    pub high: bool,
    /// Latched: an edge, or ISPENDR.
    pub latched: bool,
    /// ISACTIVER.
    pub active: bool,
    /// CPU that it goes to.
    pub cpu: usize,
}

impl Line {
    fn pending(&self) -> bool {
        self.latched || self.high && !self.edge
    }
}

/// CPUs, their physical GIC, and the virtual one.
pub struct GicMachine<'a> {
    /// The Gic under test.
    pub gic: Gic<'a>,
    /// The CPUs.
    pub cpus: Vec<VirtualCpu>,
    /// The physical interrupts: of each CPU the INTIDs 0 to 31, then the SPIs from 32.
    lines: RefCell<Vec<Line>>,
    kicks: Cell<u64>,
    /// CPUs that do not respond when they are kicked.
    pub away: Cell<u64>,
    /// Times that a CPU waited for others.
    pub waits: Cell<u32>,
}

/// The machine as accessed by one of its CPUs.
#[derive(Clone, Copy)]
pub struct View<'m, 'a> {
    machine: &'m GicMachine<'a>,
    cpu: usize,
    vp: usize,
}

impl<'a> GicMachine<'a> {
    /// Creates a machine with a CPU for each VP. `lists` is the number of list registers of each.
    #[must_use]
    pub fn new(vps: &'a [VpGic], lists: usize, backed: &[u32]) -> Self {
        let lines = vps.len() * 32 + 32;
        Self {
            gic: Gic::new(vps, backed),
            cpus: vps.iter().map(|_| VirtualCpu::new(lists)).collect(),
            lines: RefCell::new(
                (0..lines).map(|i| Line { cpu: i / 32 % vps.len(), ..Line::default() }).collect(),
            ),
            kicks: Cell::new(0),
            away: Cell::new(0),
            waits: Cell::new(0),
        }
    }

    /// Returns the machine as accessed by this CPU.
    #[must_use]
    pub fn view(&self, cpu: usize) -> View<'_, 'a> {
        View { machine: self, cpu, vp: cpu }
    }

    fn index(&self, cpu: usize, intid: u32) -> usize {
        if intid < 32 { cpu * 32 + intid as usize } else { self.cpus.len() * 32 + intid as usize - 32 }
    }

    /// Returns a physical interrupt; `cpu` matters for INTIDs below 32.
    #[must_use]
    pub fn line(&self, cpu: usize, intid: u32) -> Line {
        self.lines.borrow()[self.index(cpu, intid)]
    }

    fn change(&self, cpu: usize, intid: u32, change: impl FnOnce(&mut Line)) {
        change(&mut self.lines.borrow_mut()[self.index(cpu, intid)]);
    }

    /// Sets a device's output.
    pub fn drive(&self, cpu: usize, intid: u32, high: bool) {
        self.change(cpu, intid, |line| {
            line.latched |= line.edge && high && !line.high;
            line.high = high;
        });
    }

    /// Makes an interrupt pending like the hypervisor for a SynIC event.
    pub fn assert(&self, current: usize, vp: usize, intid: u32) {
        self.gic.assert(&self.view(current), vp, intid);
    }

    /// Writes ICC_SGI1R_EL1 as the guest.
    pub fn sgi(&self, vp: usize, value: u64) {
        self.gic.sgi(&self.view(vp), SgiRegister::Sgi1, value);
    }

    /// Calls [`Gic::sync`] on the CPU.
    pub fn sync(&self, vp: usize) {
        self.kicks.set(self.kicks.get() & !(1 << vp));
        self.gic.sync(&self.view(vp));
    }

    /// Calls [`Gic::reset_vp`] on the CPU.
    pub fn reset_vp(&self, vp: usize) {
        self.gic.reset_vp(&self.view(vp));
    }

    /// Reads a register as the guest on `vp`.
    ///
    /// # Errors
    /// [`Fault`], as [`Gic::read`].
    pub fn read(&self, vp: usize, frame: RegisterFrame, offset: u32, size: u8) -> Result<u64, Fault> {
        self.gic.read(&self.view(vp), Access { frame, offset, size })
    }

    /// Writes a register as the guest on `vp`.
    ///
    /// # Errors
    /// [`Fault`], as [`Gic::write`].
    pub fn write(
        &self,
        vp: usize,
        frame: RegisterFrame,
        offset: u32,
        size: u8,
        value: u64,
    ) -> Result<(), Fault> {
        self.gic.write(&self.view(vp), Access { frame, offset, size }, value)
    }

    /// Handles everything that happens by itself on one CPU: physical interrupts, kicks, maintenance interrupts.
    ///
    /// # Panics
    /// Where that never ends.
    pub fn settle(&self, cpu: usize) {
        for _ in 0..1000 {
            let range = (16..32).chain(32..64);
            let due = range.clone().find(|&intid| {
                let line = self.line(cpu, intid);
                line.cpu == cpu && line.enabled && line.pending() && !line.active
            });
            if let Some(intid) = due {
                self.change(cpu, intid, |line| (line.active, line.latched) = (true, false));
                self.gic.physical(&self.view(cpu), intid);
            } else if self.kicks.get() >> cpu & 1 != 0 || self.cpus[cpu].maintenance() {
                self.sync(cpu);
            } else {
                self.cpus[cpu].check();
                return;
            }
        }
        panic!("interrupts storm on CPU {cpu}");
    }

    /// Calls [`settle`](Self::settle) for all CPUs that are not [`away`](Self::away).
    pub fn settle_all(&self) {
        while let Some(cpu) =
            (0..self.cpus.len()).find(|&cpu| self.kicks.get() & !self.away.get() & 1 << cpu != 0)
        {
            self.settle(cpu);
        }
        (0..self.cpus.len()).filter(|cpu| self.away.get() >> cpu & 1 == 0).for_each(|cpu| self.settle(cpu));
    }

    /// Acknowledges an interrupt as the guest on a CPU.
    pub fn acknowledge(&self, cpu: usize) -> u32 {
        self.settle(cpu);
        self.cpus[cpu].acknowledge()
    }

    /// Ends an interrupt as the guest on a CPU.
    pub fn end(&self, cpu: usize, intid: u32) {
        let physical = self.cpus[cpu].end(intid);
        self.ended(cpu, physical);
    }

    /// Deactivates an interrupt as the guest on a CPU.
    pub fn deactivate(&self, cpu: usize, intid: u32) {
        if self.cpus[cpu].control() & hcr::TDIR != 0 {
            self.gic.deactivate(&self.view(cpu), intid);
        } else {
            let physical = self.cpus[cpu].deactivate(intid);
            self.ended(cpu, physical);
        }
    }

    fn ended(&self, cpu: usize, physical: Option<u32>) {
        if let Some(intid) = physical {
            self.change(cpu, intid, |line| line.active = false);
        }
        self.settle(cpu);
    }
}

impl View<'_, '_> {
    /// Returns the same CPU, which says that it is another VP's.
    #[must_use]
    pub fn claiming(self, vp: usize) -> Self {
        Self { vp, ..self }
    }
}

impl Cpu for View<'_, '_> {
    type Lists = VirtualCpu;
    type Physical = Self;

    fn vp(&self) -> usize {
        self.vp
    }
    fn lists(&self) -> &VirtualCpu {
        &self.machine.cpus[self.cpu]
    }
    fn physical(&self) -> &Self {
        self
    }
}

impl Physical for View<'_, '_> {
    fn set_enabled(&self, vp: usize, intid: u32, on: bool) {
        self.machine.change(vp, intid, |line| line.enabled = on);
    }
    fn set_edge(&self, vp: usize, intid: u32, edge: bool) {
        self.machine.change(vp, intid, |line| line.edge = edge);
    }
    fn set_pending(&self, vp: usize, intid: u32, on: bool) {
        self.machine.change(vp, intid, |line| line.latched = on);
    }
    fn is_pending(&self, vp: usize, intid: u32) -> bool {
        self.machine.line(vp, intid).pending()
    }
    fn set_active(&self, vp: usize, intid: u32) {
        self.machine.change(vp, intid, |line| line.active = true);
    }
    fn route(&self, intid: u32, vp: usize) {
        self.machine.change(vp, intid, |line| line.cpu = vp);
    }
    fn deactivate(&self, intid: u32) {
        assert!(self.machine.line(self.cpu, intid).active, "INTID {intid} deactivated, but was not active");
        self.machine.change(self.cpu, intid, |line| line.active = false);
    }
    fn kick(&self, vp: usize) {
        assert_ne!(vp, self.cpu, "a CPU kicked itself");
        self.machine.kicks.set(self.machine.kicks.get() | 1 << vp);
    }
    fn relax(&self) {
        self.machine.waits.set(self.machine.waits.get() + 1);
        for vp in (0..self.machine.cpus.len()).filter(|&vp| vp != self.cpu) {
            if self.machine.kicks.get() & !self.machine.away.get() & 1 << vp != 0 {
                self.machine.sync(vp);
            }
        }
    }
}
