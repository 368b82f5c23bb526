//! The handles of the partition and of each VP.
//!
//! Source: TLFS, "Feature and Interface Discovery", "Hypervisor Feature Registers"; "Virtual Processors", "Virtual
//! Processor Indices".

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use hv_tlfs::features::{Enlightenments, Features, HypervisorVersion, ImplementationLimits};
use hv_tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_tlfs::status::HvError;
use hv_tlfs::vp::{VP_INDEX_UNKNOWN, VpIndex};

use crate::conduit::{Conduit, Counter, FAST_WORDS, FastOutput};
use crate::registers::{self, Register};
use crate::sync::AtomicU32;
use crate::vp_map::{Entry, MapError, VpMap};

/// What the hypervisor reports about itself and about the privileges of this partition.
#[doc(alias = "ms_hyperv_info")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Information {
    /// Privileges and features.
    pub features: Features,
    /// Recommendations of the hypervisor.
    pub enlightenments: Enlightenments,
    /// Implementation limits.
    pub limits: ImplementationLimits,
    /// The hypervisor's version.
    pub version: HypervisorVersion,
}

/// A partition to which the guest has identified itself. Its existence means that Hyper-V is present and initialized.
///
/// It is a [`Conduit`] itself, like [`Vp`] and [`Synic`](crate::synic::Synic), so any of them can be passed to make a
/// hypercall. Usually it is in a static.
#[doc(alias = "hv_is_hyperv_initialized")]
pub struct Partition<C> {
    conduit: C,
    information: Information,
}

impl<C> fmt::Debug for Partition<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").field("information", &self.information).finish_non_exhaustive()
    }
}

impl<C: Conduit> Partition<C> {
    pub(crate) const fn new(conduit: C, information: Information) -> Self {
        Self { conduit, information }
    }

    /// Returns the conduit.
    #[must_use]
    pub const fn conduit(&self) -> &C {
        &self.conduit
    }

    /// Returns what the hypervisor reported when the guest identified itself.
    #[must_use]
    pub const fn information(&self) -> &Information {
        &self.information
    }

    /// Creates the handle of the calling VP, and records it as CPU number `cpu` in the map. Call it once on each CPU,
    /// as it comes up.
    ///
    /// # Errors
    ///
    /// [`VpError`]: the CPU is already in the map or beyond it, or reading the VP index failed.
    #[doc(alias = "hv_common_cpu_init")]
    #[doc(alias = "hv_get_vp_index")]
    pub fn vp<'a, const CPUS: usize>(
        &'a self,
        map: &'a VpMap<CPUS>,
        cpu: usize,
    ) -> Result<Vp<'a, C>, VpError> {
        let index = registers::get(self, Register::VP_INDEX)?;
        let entry = map.enter(cpu, index)?;
        Ok(Vp { partition: self, index, entry, timers: Cell::new(0), not_send: PhantomData })
    }
}

impl<const CPUS: usize> VpMap<CPUS> {
    /// Creates a map without CPUs.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: [const { Entry(AtomicU32::new(VP_INDEX_UNKNOWN)) }; CPUS] }
    }
}

impl<const CPUS: usize> Default for VpMap<CPUS> {
    fn default() -> Self {
        Self::new()
    }
}

/// Reason why there is no handle for a VP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum VpError {
    /// The VP map rejected the CPU.
    Map(MapError),
    /// The hypervisor's status.
    Hypervisor(HvError),
}

impl fmt::Display for VpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for VpError {}

impl From<MapError> for VpError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

impl From<HvError> for VpError {
    fn from(error: HvError) -> Self {
        Self::Hypervisor(error)
    }
}

/// The calling VP. It is bound to its CPU: it is not `Send`.
///
/// Dropping it does not take the CPU offline; [`offline`](Self::offline) does.
pub struct Vp<'a, C> {
    partition: &'a Partition<C>,
    index: VpIndex,
    entry: &'a Entry,
    /// Bit n: timer n has a handle.
    timers: Cell<u8>,
    not_send: PhantomData<*const ()>,
}

impl<C> fmt::Debug for Vp<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vp")
            .field("index", &self.index)
            .field("timers", &self.timers.get())
            .finish_non_exhaustive()
    }
}

impl<'a, C> Vp<'a, C> {
    /// Returns the partition.
    #[must_use]
    pub fn partition(&self) -> &'a Partition<C> {
        self.partition
    }

    /// Returns the VP's index.
    #[must_use]
    pub fn index(&self) -> VpIndex {
        self.index
    }

    /// Marks timers as having a handle; returns false if one of them already has one.
    pub(crate) fn claim_timers(&self, timers: u8) -> bool {
        let free = self.timers.get() & timers == 0;
        if free {
            self.timers.set(self.timers.get() | timers);
        }
        free
    }

    pub(crate) fn release_timers(&self, timers: u8) {
        self.timers.set(self.timers.get() & !timers);
    }

    pub(crate) fn entry(&self) -> &'a Entry {
        self.entry
    }
}

/// Prints CPU numbers and VP indices.
impl<const CPUS: usize> fmt::Debug for VpMap<CPUS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries((0..CPUS).filter_map(|cpu| Some((cpu, self.vp(cpu)?.0)))).finish()
    }
}

crate::conduit::passes_on! {
    [C: Conduit] Partition<C>: |partition| partition.conduit;
    [C: Conduit] Vp<'_, C>: |vp| vp.partition.conduit;
}

/// Implements the counter for a handle, through the conduit of its partition.
macro_rules! counter_through {
    ($($handle:ty: |$this:ident| $conduit:expr;)*) => {$(
        impl<C: Conduit + Counter> Counter for $handle {
            #[inline]
            fn counter(&self) -> u64 {
                let $this = self;
                $conduit.counter()
            }
        }
    )*};
}
counter_through! {
    Partition<C>: |partition| partition.conduit;
    Vp<'_, C>: |vp| vp.partition.conduit;
}
