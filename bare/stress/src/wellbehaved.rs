//! The everyday work of a guest, with every answer checked: registers, timers, interrupts, messages.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hv_tlfs::hypercall::{HypercallCode as Code, HypercallInput};
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;
use hv_tlfs::vp::VP_INDEX_SELF;
use rt::gic::gicr;
use rt::probe::Size;
use rt::{irq, time};

use crate::attack::{IPI_INTID, OWN_SGI, SINT_INTID};
use crate::check::Check;
use crate::hv::{self, Convention};
use crate::probes;
use crate::psci::{self, PATIENCE};
use crate::rng::Rng;

/// The source of timer messages.
const SINT: u64 = 3;
/// Offset of the message page in the arena, and of the slot of the source.
const MESSAGE_PAGE: usize = 0x8000;
const SLOT: usize = MESSAGE_PAGE + SINT as usize * 256;

/// Interrupts taken, by INTID, and the time of the last.
static TAKEN: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];
static LAST: AtomicU64 = AtomicU64::new(0);

/// Handles all these interrupts, on all VPs.
pub(crate) fn take(intid: u32) {
    if intid == time::VIRTUAL_TIMER_INTID {
        time::stop();
    }
    if rt::cpu::index() != 0 {
        return;
    }
    LAST.store(time::counter(), Ordering::Relaxed);
    TAKEN[intid as usize].fetch_add(1, Ordering::Release);
}

fn taken(intid: u32) -> u64 {
    TAKEN[intid as usize].load(Ordering::Acquire)
}

/// A guest on VP 0.
pub(crate) struct WellBehaved {
    rng: Rng,
    features: [u64; 2],
    /// A moment by both clocks: reference time, and the counter before and after it was read.
    epoch: (u64, u64, u64),
    stimer_intid: Option<u32>,
    rounds: u64,
}

impl WellBehaved {
    /// Sets up SynIC, timers and interrupts.
    pub(crate) fn new(check: &mut Check, seed: u64) -> Self {
        hv::identify();
        for intid in [OWN_SGI, IPI_INTID, SINT_INTID, time::VIRTUAL_TIMER_INTID] {
            irq::enable(intid, take);
        }
        let stimer_intid = rt::hardware::get().stimer_intid;
        if let Some(intid) = stimer_intid {
            irq::enable(intid, take);
        }
        for (name, value) in [
            (Name::SIMP, (hv::arena_gpa() + MESSAGE_PAGE as u64) | 1),
            (Name::SCONTROL, 1),
            (Name(Name::SINT0.0 + SINT as u32), u64::from(SINT_INTID)),
        ] {
            check.equal(name, hv::set(name, value), Ok(()));
        }
        let features = hv::get_of(Convention::Smccc, VP_INDEX_SELF, Name::PRIVILEGES_AND_FEATURES_INFO);
        let before = time::counter();
        let reference = hv::get(Name::TIME_REF_COUNT).unwrap_or(0);
        let epoch = (reference, before, time::counter());
        Self { rng: Rng::new(seed), features: features.unwrap_or([0; 2]), epoch, stimer_intid, rounds: 0 }
    }

    /// Does each kind of work once.
    pub(crate) fn round(&mut self, check: &mut Check) {
        self.rounds += 1;
        self.registers(check);
        self.clock(check);
        self.virtual_timer(check);
        self.interrupts(check);
        self.direct_timer(check);
        self.message_timer(check);
        self.rest(check);
    }

    /// Returns the number of times that each was done.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    fn registers(&mut self, check: &mut Check) {
        for convention in Convention::BOTH {
            let index = hv::get_of(convention, VP_INDEX_SELF, Name::VP_INDEX);
            check.equal((convention, "VP index"), index, Ok([0, 0]));
            let features = hv::get_of(convention, VP_INDEX_SELF, Name::PRIVILEGES_AND_FEATURES_INFO);
            check.equal((convention, "features"), features, Ok(self.features));
        }
        let value = self.rng.next();
        let sint = Name::SINT5;
        let wanted = 1 << 16 | (16 + value % 16);
        check.equal("set of a SINT", hv::set(sint, wanted), Ok(()));
        check.equal("get of a SINT", hv::get(sint), Ok(wanted));
        let unknown = HypercallInput::from_code(Code(0x7777));
        let (result, _) = hv::fast(Convention::Smccc, unknown, &[]);
        check.equal("unknown call", result.status(), HvStatus::INVALID_HYPERCALL_CODE);
    }

    /// Checks that reference time and counter advance alike.
    fn clock(&mut self, check: &mut Check) {
        let before = time::counter();
        let reference = hv::get(Name::TIME_REF_COUNT);
        let after = time::counter();
        let (epoch, earliest, latest) = self.epoch;
        let since = |from: u64, to: u64| u128::from(to - from) * 10_000_000 / u128::from(time::frequency());
        let range = epoch + since(latest, before) as u64 - 1..=epoch + since(earliest, after) as u64 + 2;
        check.holds(("reference time", reference, &range), reference.is_ok_and(|time| range.contains(&time)));
    }

    fn virtual_timer(&mut self, check: &mut Check) {
        let before = taken(time::VIRTUAL_TIMER_INTID);
        let deadline = time::counter() + time::ticks(Duration::from_micros(20 + self.rng.below(300)));
        time::arm(deadline);
        let came = comes(check, time::VIRTUAL_TIMER_INTID, before);
        check.holds("the virtual timer is not early", !came || LAST.load(Ordering::Relaxed) >= deadline);
        check.equal(
            "the virtual timer's interrupt comes once",
            taken(time::VIRTUAL_TIMER_INTID),
            before + u64::from(came),
        );
    }

    /// Sends IPIs to this VP, by register and by hypercall.
    fn interrupts(&mut self, check: &mut Check) {
        let before = [OWN_SGI, IPI_INTID].map(taken);
        irq::send_sgi(0, OWN_SGI);
        comes(check, OWN_SGI, before[0]);
        let call = HypercallInput::from_code(Code::SEND_IPI);
        let (result, _) = hv::fast(Convention::Hvc1, call, &[u64::from(IPI_INTID), 1]);
        check.equal("HvCallSendSyntheticClusterIpi", result.status(), HvStatus::SUCCESS);
        comes(check, IPI_INTID, before[1]);
        check.equal("each comes once", [OWN_SGI, IPI_INTID].map(taken), before.map(|n| n + 1));
    }

    /// Arms a timer for a moment soon, and returns that moment.
    fn arm(&mut self, check: &mut Check, timer: u32, config: u64) -> u64 {
        let due = hv::get(Name::TIME_REF_COUNT).unwrap_or(0) + 200 + self.rng.below(3000);
        let (config_name, count_name) =
            (Name(Name::STIMER0_CONFIG.0 + timer * 2), Name(Name::STIMER0_COUNT.0 + timer * 2));
        check.equal(config_name, hv::set(config_name, config), Ok(()));
        check.equal(count_name, hv::set(count_name, due), Ok(()));
        due
    }

    fn direct_timer(&mut self, check: &mut Check) {
        let Some(intid) = self.stimer_intid else { return };
        let before = taken(intid);
        // Enable when a count is written, direct mode.
        let due = self.arm(check, 0, 1 << 3 | u64::from(intid) << 4 | 1 << 12);
        let came = comes(check, intid, before);
        let now = hv::get(Name::TIME_REF_COUNT);
        check.holds(("the direct timer is not early", now, due), now.is_ok_and(|now| now >= due));
        check.equal("the direct timer's interrupt comes once", taken(intid), before + u64::from(came));
    }

    fn message_timer(&mut self, check: &mut Check) {
        let before = taken(SINT_INTID);
        let due = self.arm(check, 1, 1 << 3 | SINT << 16);
        // VMBus belongs to the whole guest: other VPs may have asked it to send its messages here.
        let came = time::wait_until(PATIENCE, || match hv::word(SLOT) as u32 {
            0 => false,
            kind if kind == MessageType::TIMER_EXPIRED.0 => true,
            _ => {
                empty_slot(check);
                false
            }
        });
        check.holds("the timer's message comes", came);
        let [head, sender, index, expired, delivered] =
            [0, 8, 16, 24, 32].map(|offset| hv::word(SLOT + offset));
        check.equal("payload size", head >> 32 & 0xff, 24);
        check.equal(("sender", "timer index", "expiration time"), (sender, index, expired), (0, 1, due));
        check.holds(("delivery time", delivered, due), delivered >= due);
        comes(check, SINT_INTID, before);
        empty_slot(check);
    }

    fn rest(&mut self, check: &mut Check) {
        check.equal("PSCI_VERSION", psci::psci(psci::VERSION, [0; 3]), 0x1_0001);
        check.equal("AFFINITY_INFO", psci::psci(psci::AFFINITY_INFO, [0; 3]), 0);
        let hardware = rt::hardware::get();
        let own = hardware.gicr + gicr::IPRIORITYR;
        check.holds("the redistributor", probes::read(own, Size::Byte).is_ok());
        let gone = probes::read(0x902_0000, Size::Word);
        check.holds(("fw_cfg", gone), gone.is_err_and(|e| e.is_external_abort()));
    }
}

/// Takes the message out of the slot.
fn empty_slot(check: &mut Check) {
    hv::put(SLOT, &[0]);
    check.equal("end of message", hv::set(Name::EOM, 0), Ok(()));
}

/// Waits until an interrupt was taken more often than `before`. If it does not come, reports what the redistributor and
/// the CPU interface say of it.
fn comes(check: &mut Check, intid: u32, before: u64) -> bool {
    let came = time::wait_until(PATIENCE, || taken(intid) != before);
    if !came {
        let frame = rt::hardware::get().gicr;
        let state = [
            ("enabled", gicr::ISENABLER),
            ("pending", gicr::ISPENDR),
            ("active", gicr::ISACTIVER),
            ("group", gicr::IGROUPR),
            ("edge", gicr::ICFGR + 4),
        ]
        .map(|(name, offset)| (name, probes::read(frame + offset, Size::Word).unwrap_or(0)));
        let priority = probes::read(frame + gicr::IPRIORITYR + u64::from(intid), Size::Byte);
        let running = [rt::mrs!("icc_rpr_el1"), rt::mrs!("icc_hppir1_el1"), rt::mrs!("icc_pmr_el1")];
        check.wrong(
            ("INTID", intid, "does not come"),
            (state, "priority", priority, "RPR, HPPIR1, PMR", running),
        );
    }
    came
}
