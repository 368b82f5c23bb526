//! The suite's requirements of the program that it runs in.

use hv_guest::conduit::{Conduit, Raw};
use hv_tlfs::start_vp::InitialVpContext;

/// Maximum number of VPs in a run.
pub const MAX_VPS: usize = 120;

/// Scratch pages for cases.
pub(crate) const CASE_PAGES: usize = 96;

/// Number of scratch pages in an environment.
pub const PAGES: usize = CASE_PAGES + MAX_VPS;

/// The calling convention of a run's hypercalls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// `hvc #0` with function 0x46000001: control word in X1, parameters from X2 on.
    Smccc,
    /// `hvc #1`: control word in X0, parameters from X1 on.
    Hvc1,
}

impl Convention {
    /// Returns the immediate of `hvc`.
    #[must_use]
    pub const fn immediate(self) -> u16 {
        match self {
            Self::Smccc => hv_tlfs::smccc::HVC_SMCCC,
            Self::Hvc1 => hv_tlfs::smccc::HVC_HYPERCALL,
        }
    }

    /// Returns the index of the register with the control word; the parameters follow it.
    #[must_use]
    pub const fn control(self) -> usize {
        match self {
            Self::Smccc => 1,
            Self::Hvc1 => 0,
        }
    }

    /// Returns its name in reports and in `conformance.conduit=`.
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

/// A crash recorded by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// Value written to crash control.
    pub control: u64,
    /// Parameters P0 to P4.
    pub parameters: [u64; 5],
    /// First bytes of the message, followed by zeros.
    pub text: [u8; 32],
    /// Length of the message in bytes.
    pub text_len: usize,
}

/// The guest program, or what replaces it in process: VPs, memory, interrupts and time.
///
/// VPs are numbered from 0, the boot processor; that number need not be the VP index of the interface. Methods without
/// a VP number refer to the calling VP. The provided methods are for features that an environment may lack: a case that
/// needs one is then skipped, with a reason.
pub trait Env: Sync {
    /// Returns the conduit for hypercalls. The suite's cases make them by hand, with addresses of scratch pages, and
    /// with addresses that a host must reject.
    fn conduit(&self) -> &Raw<dyn Conduit + '_>;

    /// Returns the convention of [`conduit`](Self::conduit).
    fn convention(&self) -> Convention;

    /// Executes `hvc` with these registers X0 to X30. X30 may be the environment's own.
    ///
    /// # Errors
    ///
    /// The exception that the guest got instead.
    fn hvc(&self, immediate: u16, x: &mut [u64; 31]) -> Result<(), Exception>;

    /// Returns the number of VPs, all of them running; at most [`MAX_VPS`].
    fn vp_count(&self) -> usize;

    /// Returns the calling VP.
    fn vp(&self) -> usize;

    /// Returns MPIDR_EL1 of a VP, as that VP reads it.
    fn mpidr(&self, vp: usize) -> u64;

    /// Runs `work` on another VP and waits for its end. Called only on the boot processor.
    fn run_on(&self, vp: usize, work: &(dyn Fn() + Sync));

    /// Returns the guest physical address of scratch page `n` below [`PAGES`]: 4096 bytes used by nothing else.
    fn page(&self, n: usize) -> u64;

    /// Copies bytes out of scratch pages.
    fn read(&self, gpa: u64, into: &mut [u8]);

    /// Copies bytes into scratch pages.
    fn write(&self, gpa: u64, from: &[u8]);

    /// Loads a word of a scratch page once, with acquire ordering.
    fn load(&self, gpa: u64) -> u32;

    /// Stores a word of a scratch page once, with release ordering.
    fn store(&self, gpa: u64, value: u32);

    /// Returns the guest's page size in bytes.
    fn granule(&self) -> u64;

    /// Returns the counter, CNTVCT_EL0.
    fn counter(&self) -> u64;

    /// Returns the counter frequency in Hz.
    fn frequency(&self) -> u64;

    /// Waits with interrupts unmasked: at most this many ticks, or until an interrupt is taken.
    fn idle(&self, ticks: u64);

    /// Returns INTIDs of private or shared interrupts that are free for SINTs, timers and IPIs, edge-triggered: at
    /// least one.
    fn intids(&self) -> &[u32];

    /// Enables an interrupt on the calling VP, and counts how often it is taken from then on.
    fn listen(&self, intid: u32);

    /// Returns how often the calling VP has taken the interrupt.
    fn taken(&self, intid: u32) -> u64;

    /// Returns true if the partition was unused before the suite. Firmware may have used it, and then its state says
    /// nothing about the initial state of a partition.
    fn fresh(&self) -> bool {
        true
    }

    /// Returns true if the host is set up with the connections of [`crate::loopback`].
    fn loopback(&self) -> bool {
        false
    }

    /// Returns true if the host half of VMBus is present.
    fn vmbus(&self) -> bool {
        false
    }

    /// Returns a guest physical address at which the video memory may be placed, in VMBus's address window.
    fn video_window(&self) -> Option<u64> {
        None
    }

    /// Returns the virtual address of a page that [`point_window`](Self::point_window) can move.
    fn window(&self) -> Option<u64> {
        None
    }

    /// Returns TTBR0_EL1 or TTBR1_EL1, whichever translates the window.
    fn address_space(&self) -> u64 {
        0
    }

    /// Maps page 0 or page 1 at the window, in the translation tables only, without TLB maintenance.
    fn point_window(&self, page: usize) {
        let _ = page;
    }

    /// Returns which of the two pages the calling VP sees at the window.
    fn look_through_window(&self) -> usize {
        0
    }

    /// Switches a VP off, as by PSCI CPU_OFF on it, and waits until it is off. Not for the boot processor.
    fn stop(&self, vp: usize) -> bool {
        let _ = vp;
        false
    }

    /// Returns a context with which HvCallStartVirtualProcessor returns a stopped VP to where [`run_on`](Self::run_on)
    /// can use it.
    fn start_context(&self, vp: usize) -> Option<InitialVpContext> {
        let _ = vp;
        None
    }

    /// Starts a stopped VP by other means, such as PSCI CPU_ON.
    fn start(&self, vp: usize) -> bool {
        let _ = vp;
        false
    }

    /// Waits for a while until a started VP is ready; returns true if it is.
    fn wait_online(&self, vp: usize) -> bool {
        let _ = vp;
        false
    }

    /// Returns the last crash recorded by the host, if the environment can query it, and clears it.
    fn take_crash(&self) -> Option<CrashReport> {
        None
    }

    /// Returns true if [`take_crash`](Self::take_crash) can query the host.
    fn sees_crashes(&self) -> bool {
        false
    }

    /// Returns true if the host answers SMCCC's general queries. What it runs on may keep them to itself: Linux KVM
    /// does, and says SMCCC 1.1.
    fn has_arm_functions(&self) -> bool {
        true
    }

    /// Returns true if a crash report leaves the guest running, so the suite may make one.
    fn survives_crashes(&self) -> bool {
        false
    }

    /// Migrates the guest to a host with another counter frequency. Returns false if that is not possible.
    fn migrate(&self, frequency: u64) -> bool {
        let _ = frequency;
        false
    }

    /// Makes the reference TSC page invalid, or valid again. Returns false if that is not possible.
    fn set_tsc_page_valid(&self, valid: bool) -> bool {
        let _ = valid;
        false
    }
}
