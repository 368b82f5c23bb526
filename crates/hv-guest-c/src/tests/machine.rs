//! The processor in tests: a VP of a testbed, under the names of the processor's own conduits.
#![expect(unsafe_code, reason = "required by the trait; the calls go to a model")]

use std::sync::{Mutex, PoisonError};

use hv_guest::conduit::{Conduit, Counter, FAST_WORDS, FastOutput};
use hv_testbed::{Convention, Testbed, Wire};
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};

/// The partition, and the calling VP.
static CURRENT: Mutex<Option<(&'static Testbed, usize)>> = Mutex::new(None);

/// Makes VP `vp` of `bed` the calling VP from now on.
pub(crate) fn be(bed: &'static Testbed, vp: usize) {
    *CURRENT.lock().unwrap_or_else(PoisonError::into_inner) = Some((bed, vp));
}

/// Returns the partition, and the calling VP.
pub(crate) fn current() -> (&'static Testbed, usize) {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner).expect("a test selects the calling VP")
}

/// A host of VMBus beside the testbed, which has none of the devices: it gets the calls of VMBus.
pub(crate) trait Vmbus: Send + Sync {
    /// Serves a call; `None` if it is none of VMBus.
    fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> Option<HypercallOutput>;

    /// Lets the host continue while the guest waits.
    fn go_on(&self);

    /// Returns the guest physical address of memory that it shares with the guest.
    fn gpa(&self, address: usize) -> Option<u64>;
}

static VMBUS: Mutex<Option<&'static dyn Vmbus>> = Mutex::new(None);

/// Has this host serve VMBus from now on.
pub(crate) fn serve(host: Option<&'static dyn Vmbus>) {
    *VMBUS.lock().unwrap_or_else(PoisonError::into_inner) = host;
}

/// Returns the host of VMBus.
pub(crate) fn vmbus() -> Option<&'static dyn Vmbus> {
    *VMBUS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wire(convention: Convention) -> Wire {
    let (bed, vp) = current();
    bed.wire(vp, convention)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Either {
    Smccc,
    Hvc1,
}

impl Either {
    pub(crate) fn probe() -> Self {
        Self::Smccc
    }

    fn wire(self) -> Wire {
        wire(match self {
            Self::Smccc => Convention::Smccc,
            Self::Hvc1 => Convention::Hvc1,
        })
    }
}

impl Conduit for Either {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        if let Some(served) = vmbus().and_then(|host| host.call(control, block)) {
            return served;
        }
        self.wire().raw().call(control, block)
    }

    fn fast_output(&self) -> FastOutput {
        self.wire().fast_output()
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        self.wire().raw().smccc(function, arguments)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cntvct;

impl Counter for Cntvct {
    fn counter(&self) -> u64 {
        wire(Convention::Smccc).counter()
    }
}
