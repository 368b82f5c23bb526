//! The suite's environment at EL1.
#![expect(unsafe_code, reason = "a hypercall can change memory")]

use core::sync::atomic::{AtomicU64, Ordering};

use hv_conformance::{Convention, Env, Exception};
use hv_guest::arch::Either;
use hv_guest::conduit::{Conduit, Raw};
use hv_tlfs::start_vp::InitialVpContext;
use rt::{Hardware, MAX_CPUS, arch, cpu, irq, probe, time, vps};

use crate::{memory, scratch};

/// A PPI that neither our firmware tables nor the Arm Base System Architecture assigns.
const FREE_PPI: u32 = 21;

/// Interrupts taken, by VP and INTID.
static TAKEN: [[AtomicU64; irq::INTIDS]; MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; irq::INTIDS] }; MAX_CPUS];

/// This machine.
pub(crate) struct Guest {
    hardware: &'static Hardware,
    convention: Convention,
    conduit: Raw<Either>,
    intids: [u32; 3],
    count: usize,
}

impl Guest {
    /// Creates the environment of the suite.
    ///
    /// # Safety
    ///
    /// Only the suite uses it: its hypercalls and `hvc` name only the scratch pages as memory to write to.
    pub(crate) unsafe fn new(hardware: &'static Hardware, conduit: Either) -> Self {
        let mut intids = [0; 3];
        let known = [hardware.vmbus_intid, hardware.stimer_intid, Some(FREE_PPI)];
        let mut count = 0;
        for intid in known.into_iter().flatten() {
            intids[count] = intid;
            count += 1;
        }
        let convention = match conduit {
            Either::Smccc => Convention::Smccc,
            Either::Hvc1 => Convention::Hvc1,
        };
        // SAFETY: the caller promises that the registers are the suite's, which name only scratch pages as memory to
        // write to, and those are atomics.
        let conduit = unsafe { Raw::new(conduit) };
        Self { hardware, convention, conduit, intids, count }
    }

    fn switch(&self, name: &str) -> bool {
        self.hardware.number(name).is_some_and(|number| number != 0)
    }
}

impl Env for Guest {
    fn conduit(&self) -> &Raw<dyn Conduit + '_> {
        &self.conduit
    }

    fn convention(&self) -> Convention {
        self.convention
    }

    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception> {
        // SAFETY: `new` requires that only the suite uses the environment, and the scratch pages that its calls name
        // are atomics.
        match unsafe { probe::hvc(immediate, x) } {
            None => Ok(()),
            Some(exception) => Err(Exception { undefined: exception.is_undefined() }),
        }
    }

    fn vp_count(&self) -> usize {
        self.hardware.vps()
    }

    fn vp(&self) -> usize {
        cpu::index()
    }

    fn mpidr(&self, vp: usize) -> u64 {
        // The device tree has the affinity fields; the register has a bit that is one, too.
        self.hardware.mpidr(vp) | 1 << 31
    }

    fn run_on(&self, vp: usize, work: &(dyn Fn() + Sync)) {
        vps::run_on(vp, work);
    }

    fn page(&self, n: usize) -> u64 {
        scratch::page(n)
    }

    fn read(&self, gpa: u64, into: &mut [u8]) {
        scratch::read(gpa, into);
    }

    fn write(&self, gpa: u64, from: &[u8]) {
        scratch::write(gpa, from);
    }

    fn load(&self, gpa: u64) -> u32 {
        scratch::word(gpa).load(Ordering::Acquire)
    }

    fn store(&self, gpa: u64, value: u32) {
        scratch::word(gpa).store(value, Ordering::Release);
    }

    fn granule(&self) -> u64 {
        self.hardware.granule.bytes()
    }

    fn counter(&self) -> u64 {
        time::counter()
    }

    fn frequency(&self) -> u64 {
        time::frequency()
    }

    fn idle(&self, ticks: u64) {
        time::on_timer(|_| time::stop());
        time::arm(time::counter().saturating_add(ticks));
        // Any pending interrupt ends it, masked as it is.
        arch::wfi();
        vps::take_interrupts();
        time::stop();
    }

    fn intids(&self) -> &[u32] {
        &self.intids[..self.count]
    }

    fn listen(&self, intid: u32) {
        irq::disable(intid);
        irq::set_edge(intid);
        irq::enable(intid, |intid| {
            TAKEN[cpu::index()][intid as usize].fetch_add(1, Ordering::Release);
        });
    }

    fn taken(&self, intid: u32) -> u64 {
        vps::take_interrupts();
        TAKEN[cpu::index()][intid as usize].load(Ordering::Acquire)
    }

    fn loopback(&self) -> bool {
        self.switch("conformance.loopback")
    }

    fn vmbus(&self) -> bool {
        self.hardware.vmbus_intid.is_some()
    }

    fn video_window(&self) -> Option<u64> {
        let address = self.hardware.argument("conformance.video")?;
        u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()
    }

    fn window(&self) -> Option<u64> {
        Some(memory::WINDOW)
    }

    fn address_space(&self) -> u64 {
        rt::mrs!("ttbr0_el1")
    }

    fn point_window(&self, page: usize) {
        memory::point_window(page);
    }

    fn look_through_window(&self) -> usize {
        memory::look()
    }

    fn stop(&self, vp: usize) -> bool {
        vps::stop(vp)
    }

    fn start_context(&self, vp: usize) -> Option<InitialVpContext> {
        Some(InitialVpContext {
            pc: vps::start_address(vp),
            sp_elh: 0,
            sctlr_el1: vps::SCTLR_OFF,
            mair_el1: 0,
            tcr_el1: 0,
            vbar_el1: 0,
            ttbr0_el1: 0,
            ttbr1_el1: 0,
            x18: vp as u64,
        })
    }

    fn start(&self, vp: usize) -> bool {
        vps::start(vp)
    }

    fn wait_online(&self, vp: usize) -> bool {
        vps::wait_online(vp)
    }

    fn survives_crashes(&self) -> bool {
        self.switch("conformance.crash")
    }

    fn has_arm_functions(&self) -> bool {
        !self.switch("conformance.kvm")
    }
}
