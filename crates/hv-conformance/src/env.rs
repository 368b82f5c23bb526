//! What the suite asks of the program that it runs in.

use hv_guest::conduit::{Conduit, Raw};
use hv_tlfs::start_vp::InitialVpContext;

/// Most VPs that a run can have.
pub const MAX_VPS: usize = 16;

/// Scratch pages for cases.
pub(crate) const CASE_PAGES: usize = 48;

/// Scratch pages that an environment has.
pub const PAGES: usize = CASE_PAGES + MAX_VPS;

/// Which calling convention a run uses for hypercalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// `hvc #0` with function 0x46000001: control word in X1, parameters from X2 on.
    Smccc,
    /// `hvc #1`: control word in X0, parameters from X1 on.
    Hvc1,
}

impl Convention {
    /// The immediate of `hvc`.
    #[must_use]
    pub const fn immediate(self) -> u16 {
        match self {
            Self::Smccc => hv_tlfs::smccc::HVC_SMCCC,
            Self::Hvc1 => hv_tlfs::smccc::HVC_HYPERCALL,
        }
    }

    /// The register that holds the control word; the parameters follow it.
    #[must_use]
    pub const fn control(self) -> usize {
        match self {
            Self::Smccc => 1,
            Self::Hvc1 => 0,
        }
    }

    /// Its name in reports and in `conformance.conduit=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Smccc => "smccc",
            Self::Hvc1 => "hvc1",
        }
    }
}

/// The instruction did not return: the guest got an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// It was an Undefined Instruction exception.
    pub undefined: bool,
}

/// A crash as the host recorded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// Crash control as it was written.
    pub control: u64,
    /// Parameters P0 to P4.
    pub parameters: [u64; 5],
    /// First bytes of the message, zeros behind it.
    pub text: [u8; 32],
    /// Bytes of the message.
    pub text_len: usize,
}

/// The guest program, or in process what stands for it: VPs, memory, interrupts and time.
///
/// VPs are numbered from 0, the boot processor; that number needs not be the VP index of the interface. All methods
/// but those that name a VP speak of the VP that calls. The provided methods are about things that an environment may
/// lack: a case that needs one is skipped then, with a reason.
pub trait Env: Sync {
    /// How hypercalls are issued. The suite's cases make them by hand, of addresses of scratch pages, and of addresses
    /// that a host has to refuse.
    fn conduit(&self) -> &Raw<dyn Conduit + '_>;

    /// The convention of [`conduit`](Self::conduit).
    fn convention(&self) -> Convention;

    /// Executes `hvc` with these registers X0 to X30. X30 may be the environment's own.
    ///
    /// # Errors
    ///
    /// The exception that the guest got instead.
    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception>;

    /// Number of VPs, all of them running; at most [`MAX_VPS`].
    fn vp_count(&self) -> usize;

    /// The VP that calls.
    fn vp(&self) -> usize;

    /// MPIDR_EL1 of a VP, as that VP reads it.
    fn mpidr(&self, vp: usize) -> u64;

    /// Runs `work` on another VP and waits until it is done. Called on the boot processor only.
    fn run_on(&self, vp: usize, work: &(dyn Fn() + Sync));

    /// Guest physical address of scratch page `n` below [`PAGES`]: 4096 bytes that are nobody else's.
    fn page(&self, n: usize) -> u64;

    /// Copies bytes out of scratch pages.
    fn read(&self, gpa: u64, into: &mut [u8]);

    /// Copies bytes into scratch pages.
    fn write(&self, gpa: u64, from: &[u8]);

    /// Loads a word of a scratch page once, with acquire ordering.
    fn load(&self, gpa: u64) -> u32;

    /// Stores a word of a scratch page once, with release ordering.
    fn store(&self, gpa: u64, value: u32);

    /// Bytes of the guest's own pages.
    fn granule(&self) -> u64;

    /// The counter, CNTVCT_EL0.
    fn counter(&self) -> u64;

    /// Ticks of the counter per second.
    fn frequency(&self) -> u64;

    /// Lets time pass with interrupts unmasked: at most this many ticks, and no longer than until one was taken.
    fn idle(&self, ticks: u64);

    /// INTIDs of private or shared interrupts that are free for SINTs, timers and IPIs, edge-triggered: at least one.
    fn intids(&self) -> &[u32];

    /// Enables an interrupt on the VP that calls, and counts from then on how often it is taken.
    fn listen(&self, intid: u32);

    /// How often the VP that calls has taken the interrupt.
    fn taken(&self, intid: u32) -> u64;

    /// Whether nobody has used the partition before the suite. A firmware may have, and what it left says nothing of the
    /// state in which the host starts a partition.
    fn fresh(&self) -> bool {
        true
    }

    /// Whether the host was set up with the connections of [`crate::loopback`].
    fn loopback(&self) -> bool {
        false
    }

    /// Whether the host half of VMBus is there.
    fn vmbus(&self) -> bool {
        false
    }

    /// Virtual address of a page of its own that [`point_window`](Self::point_window) can move.
    fn window(&self) -> Option<u64> {
        None
    }

    /// TTBR0_EL1 or TTBR1_EL1, whichever translates the window.
    fn address_space(&self) -> u64 {
        0
    }

    /// Lets the window show its page 0 or page 1, in the translation tables only: no TLB is told.
    fn point_window(&self, page: usize) {
        let _ = page;
    }

    /// Which of its two pages the VP that calls finds at the window.
    fn look_through_window(&self) -> usize {
        0
    }

    /// Switches a VP off, as the VP does itself with PSCI CPU_OFF, and waits until it is. Not the boot processor.
    fn stop(&self, vp: usize) -> bool {
        let _ = vp;
        false
    }

    /// A context with which HvCallStartVirtualProcessor brings a stopped VP back to where [`run_on`](Self::run_on) can
    /// use it.
    fn start_context(&self, vp: usize) -> Option<InitialVpContext> {
        let _ = vp;
        None
    }

    /// Starts a stopped VP by other means, PSCI CPU_ON say.
    fn start(&self, vp: usize) -> bool {
        let _ = vp;
        false
    }

    /// Waits a while until a VP that was started is at work. Whether it is.
    fn wait_online(&self, vp: usize) -> bool {
        let _ = vp;
        false
    }

    /// The last crash that the host recorded, if the environment can ask it; it then forgets it.
    fn take_crash(&self) -> Option<CrashReport> {
        None
    }

    /// Whether [`take_crash`](Self::take_crash) can ask the host.
    fn sees_crashes(&self) -> bool {
        false
    }

    /// Whether a reported crash leaves the guest running, so that the suite may report one.
    fn survives_crashes(&self) -> bool {
        false
    }

    /// Migrates the guest to a host whose counter runs at another frequency. Whether it can.
    fn migrate(&self, frequency: u64) -> bool {
        let _ = frequency;
        false
    }

    /// Makes the reference TSC page invalid, or valid again. Whether it can.
    fn set_tsc_page_valid(&self, valid: bool) -> bool {
        let _ = valid;
        false
    }
}
