//! A host with injected faults.

use core::ops::Deref;

use hv_tlfs::status::HvStatus;

use crate::connections::Connections;
use crate::event::Event;
use crate::faults::{Faults, Raise};
use crate::host::{Flush, Host, Retarget, VpContext};
use crate::sets::VpMask;
use hv_tlfs::synic::MessageType;

/// A decorator of any [`Host`]: behaves like it, except where `F` injects a fault.
///
/// `F` is an [`Injector`](crate::faults::Injector) with its plan, or delegates to one. A host that is not decorated has
/// no faults, and no code for them in the compiled program.
///
/// ```
/// use hv_host::faults::{Injector, Plan};
/// use hv_host::{Faulty, Host};
///
/// fn lossy<H: Host>(host: H) -> impl Host {
///     let plan = Plan::parse("lost=18@/4", &|_, _| None).unwrap();
///     Faulty::new(host, Injector::new(plan))
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Faulty<H, F> {
    host: H,
    faults: F,
}

impl<H, F> Faulty<H, F> {
    /// Decorates a host with these faults.
    #[inline(always)]
    pub const fn new(host: H, faults: F) -> Self {
        Self { host, faults }
    }

    /// Returns the faults.
    #[inline(always)]
    pub const fn plan(&self) -> &F {
        &self.faults
    }
}

/// Gives access to the decorated host.
impl<H, F> Deref for Faulty<H, F> {
    type Target = H;

    #[inline(always)]
    fn deref(&self) -> &H {
        &self.host
    }
}

impl<H: Host, F: Faults> Host for Faulty<H, F> {
    type Memory = H::Memory;

    #[inline(always)]
    fn memory(&self) -> &H::Memory {
        self.host.memory()
    }

    #[inline(always)]
    fn counter(&self) -> u64 {
        self.host.counter()
    }

    /// Asserts an interrupt as often as the plan says.
    #[inline]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        let times = match self.faults.interrupt(intid) {
            Raise::Once => 1,
            Raise::Lost => 0,
            Raise::Twice => 2,
        };
        for _ in 0..times {
            self.host.assert_interrupt(vp, intid);
        }
    }

    #[inline(always)]
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        self.host.set_deadline(vp, counter);
    }

    #[inline(always)]
    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.host.start_vp(vp, context);
    }

    #[inline(always)]
    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.host.flush_tlb(targets, what);
    }

    #[inline(always)]
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        self.host.retarget_interrupt(request)
    }

    #[inline(always)]
    fn observe(&self, event: &Event<'_>) {
        self.host.observe(event);
    }

    #[inline(always)]
    fn faults(&self) -> impl Faults {
        &self.faults
    }
}

impl<H: Connections, F> Connections for Faulty<H, F> {
    #[inline(always)]
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.host.post_message(vp, connection, message_type, payload)
    }

    #[inline(always)]
    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus> {
        self.host.signal_event(vp, connection, flag)
    }

    #[inline(always)]
    fn buffer_freed(&self, vp: usize) {
        self.host.buffer_freed(vp);
    }
}
