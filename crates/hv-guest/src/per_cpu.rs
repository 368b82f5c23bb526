//! Storage for each CPU's [`Vp`], [`Synic`] and [`Timer`]s, for a kernel that keeps them in a static without `unsafe`
//! of its own.
//!
//! They are not `Send`, because they act on the CPU that uses them. A kernel puts them here on the CPU they belong to,
//! and uses them there:
//!
//! ```
//! use hv_guest::{per_cpu::PerCpu, synic::{SintIndex, Synic}};
//! use hv_testbed::Wire as Hv; // On a machine, hv_guest::arch::Smccc.
//!
//! static SYNICS: PerCpu<Synic<'static, Hv>, 64> = PerCpu::new();
//!
//! fn vmbus_interrupt(cpu: usize) {
//!     SYNICS.with(cpu, |synic| synic.take_events(SintIndex::VMBUS, |flag| println!("{flag}")));
//! }
//! # vmbus_interrupt(0);
//! ```

use core::cell::UnsafeCell;
use core::fmt;

use crate::failed::{Failed, without_value};
use crate::partition::Vp;
use crate::sync::{AtomicU32, Ordering};
use crate::synic::Synic;
use crate::timer::Timer;

mod sealed {
    pub trait Sealed {}
}

/// A handle that belongs to one CPU.
pub trait CpuBound: sealed::Sealed {}

macro_rules! cpu_bound {
    ($([$($generics:tt)*] $ty:ty;)*) => {$(
        impl<$($generics)*> sealed::Sealed for $ty {}
        impl<$($generics)*> CpuBound for $ty {}
    )*};
}
cpu_bound! {
    ['a, C: Sync] Vp<'a, C>;
    ['a, C: Sync] Synic<'a, C>;
    [] Timer;
    [T: CpuBound, const N: usize] [T; N];
    [A: CpuBound, B: CpuBound] (A, B);
}

/// Reason why a value was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// The CPU number is too high.
    NoSuchCpu,
    /// The CPU already has a value.
    Full,
    /// The slot is in use.
    InUse,
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchCpu => "the CPU number is beyond the container; raise its `CPUS`",
            Self::Full => "the CPU already has a value; take it out first",
            Self::InUse => "the CPU's value is in use by interrupted code",
        })
    }
}

impl core::error::Error for PutError {}

without_value!(PutError);

/// A value for each of `CPUS` CPUs, indexed by the kernel's CPU numbers.
///
/// The number is trusted: call each method on the CPU that the number names, with preemption disabled if the kernel
/// migrates threads between CPUs. With another number a handle acts on the VP of the calling CPU: it starts that VP's
/// timers and ends its messages. Memory safety does not depend on it: [`Synic::disable`] and
/// [`Vp::enable_synic`](crate::partition::Vp::enable_synic) query the calling VP's index and reject another VP's pages.
pub struct PerCpu<T, const CPUS: usize>([Place<T>; CPUS]);

/// One CPU's value, and whether it is in use.
struct Place<T> {
    in_use: AtomicU32,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: `in_use` admits one caller at a time to a value, on whichever CPU. A handle consists of numbers and of shared
// references to `Sync` types, so any thread may use it (`CpuBound` is sealed, and requires `C: Sync`). If the wrong CPU
// uses it, it acts on that CPU's VP, which writes only to pages that are lent to it for `'static`.
unsafe impl<T: CpuBound, const CPUS: usize> Sync for PerCpu<T, CPUS> {}

impl<T, const CPUS: usize> fmt::Debug for PerCpu<T, CPUS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PerCpu of {CPUS} CPUs")
    }
}

impl<T: CpuBound, const CPUS: usize> Default for PerCpu<T, CPUS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: CpuBound, const CPUS: usize> PerCpu<T, CPUS> {
    /// Creates a container without values.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { Place { in_use: AtomicU32::new(0), value: UnsafeCell::new(None) } }; CPUS])
    }

    /// Stores `value` for CPU `cpu`, the calling one.
    ///
    /// # Errors
    ///
    /// [`PutError`], together with `value`.
    pub fn put(&self, cpu: usize, value: T) -> Result<(), Failed<T, PutError>> {
        if cpu >= CPUS {
            return Err(Failed::new(value, PutError::NoSuchCpu));
        }
        let mut value = Some(value);
        let entered = self.enter(cpu, |place| {
            if place.is_none() {
                *place = value.take();
            }
        });
        let error = if entered.is_some() { PutError::Full } else { PutError::InUse };
        value.map_or(Ok(()), |value| Err(Failed::new(value, error)))
    }

    /// Takes out the value of CPU `cpu`, the calling one. Returns `None` if there is none, or if it is in use.
    #[must_use]
    pub fn take(&self, cpu: usize) -> Option<T> {
        self.enter(cpu, Option::take).flatten()
    }

    /// Calls `work` with the value of CPU `cpu`, the calling one. Returns `None` if there is none, or if it is in use,
    /// for example by code that the current interrupt interrupted. Outside the interrupt handlers that use the value
    /// too, mask their interrupts meanwhile.
    pub fn with<R>(&self, cpu: usize, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.enter(cpu, |place| place.as_mut().map(work)).flatten()
    }

    /// Enters a slot, unless it is in use.
    fn enter<R>(&self, cpu: usize, work: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        /// Leaves the slot on drop, even on panic.
        struct Leave<'a>(&'a AtomicU32);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Release);
            }
        }
        let place = self.0.get(cpu)?;
        place.in_use.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let _leave = Leave(&place.in_use);
        // SAFETY: `in_use` was clear and is now set, so no other reference to the value exists until `_leave` is
        // dropped, after the last use of this one.
        Some(work(unsafe { &mut *place.value.get() }))
    }
}
