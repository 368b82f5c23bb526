//! The map from CPU numbers to VP indices.
//!
//! An OS assigns its own CPU numbers; hypercalls that target processors take VP indices. A VP's index can only be read
//! on that VP, so each CPU records its own as it comes up ([`Partition::vp`](crate::partition::Partition::vp)), and any
//! CPU can look up the others.
//!
//! Source: TLFS, "Virtual Processors", "Virtual Processor Indices"; Linux, drivers/hv/hv_common.c,
//! `hv_common_cpu_init`.
//!
//! (`tests/loom` compiles this file against loom's atomics, which cannot be created in constants; so `VpMap::new` is in
//! `partition.rs`.)

use core::fmt;

use hv_tlfs::vp::{VP_INDEX_UNKNOWN, VpIndex};

use crate::sync::{AtomicU32, Ordering};

/// The map for up to `CPUS` CPUs. Usually a static.
#[doc(alias = "hv_vp_index")]
#[repr(transparent)]
pub struct VpMap<const CPUS: usize> {
    pub(crate) entries: [Entry; CPUS],
}

/// One CPU's entry: a VP index, or [`VP_INDEX_UNKNOWN`] before it is known.
#[repr(transparent)]
pub(crate) struct Entry(pub(crate) AtomicU32);

/// Reason why a CPU could not be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapError {
    /// The map has no such CPU.
    NoSuchCpu,
    /// The CPU is already in the map.
    AlreadyOnline,
    /// The VP is already in the map, as this CPU.
    OtherCpu(usize),
    /// The hypervisor returned the index that stands for "none".
    InvalidIndex,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherCpu(cpu) => return write!(f, "the VP is already online as CPU {cpu}"),
            Self::NoSuchCpu => "the CPU number is beyond the VP map; raise its `CPUS`",
            Self::AlreadyOnline => "the CPU is already online",
            Self::InvalidIndex => "the hypervisor returned the invalid VP index 0xffff_ffff",
        })
    }
}

impl core::error::Error for MapError {}

impl Entry {
    /// Loads the entry with acquire: a CPU that sees it also sees what the other CPU set up before it recorded itself.
    fn load(&self) -> Option<VpIndex> {
        match self.0.load(Ordering::Acquire) {
            VP_INDEX_UNKNOWN => None,
            index => Some(VpIndex(index)),
        }
    }

    fn claim(&self, index: VpIndex) -> Result<(), MapError> {
        if index.0 == VP_INDEX_UNKNOWN {
            return Err(MapError::InvalidIndex);
        }
        self.0
            .compare_exchange(VP_INDEX_UNKNOWN, index.0, Ordering::AcqRel, Ordering::Relaxed)
            .map_or(Err(MapError::AlreadyOnline), |_| Ok(()))
    }

    /// Removes the CPU again.
    pub(crate) fn release(&self) {
        self.0.store(VP_INDEX_UNKNOWN, Ordering::Release);
    }
}

impl<const CPUS: usize> VpMap<CPUS> {
    /// Records a CPU, once. It is the calling one, so no other CPU records the same VP at the same time.
    pub(crate) fn enter(&self, cpu: usize, index: VpIndex) -> Result<&Entry, MapError> {
        let entry = self.entries.get(cpu).ok_or(MapError::NoSuchCpu)?;
        if let Some((other, _)) = self.iter().find(|&(other, online)| other != cpu && online == index) {
            return Err(MapError::OtherCpu(other));
        }
        entry.claim(index)?;
        Ok(entry)
    }

    /// Returns the VP of a CPU; `None` if the CPU has not come up.
    #[doc(alias = "hv_cpu_number_to_vp_number")]
    #[doc(alias = "VP_INVAL")]
    #[must_use]
    pub fn vp(&self, cpu: usize) -> Option<VpIndex> {
        self.entries.get(cpu)?.load()
    }

    /// Iterates over the online CPUs and their VPs.
    pub fn iter(&self) -> impl Iterator<Item = (usize, VpIndex)> {
        self.entries.iter().enumerate().filter_map(|(cpu, entry)| Some((cpu, entry.load()?)))
    }

    /// Returns the number of online CPUs.
    #[must_use]
    pub fn online(&self) -> usize {
        self.iter().count()
    }

    /// Returns the highest VP index of the online CPUs.
    #[doc(alias = "hv_max_vp_index")]
    #[must_use]
    pub fn highest(&self) -> Option<VpIndex> {
        self.iter().map(|(_, index)| index).max()
    }
}
