//! A place for each CPU's [`Vp`], [`Synic`] and [`Timer`]s, for a kernel that keeps them in a static with no `unsafe` of its own.
//!
//! They cannot be sent, because what they do acts on the CPU that does it. A kernel puts them here on the CPU that they
//! belong to, and uses them there:
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

/// Why a value was not put into its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutError {
    /// The CPU's number is too high.
    NoSuchCpu,
    /// The CPU has a value already.
    Full,
    /// The place is in use.
    InUse,
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchCpu => "no place for a CPU of that number",
            Self::Full => "the CPU's place is full",
            Self::InUse => "the CPU's place is in use",
        })
    }
}

impl core::error::Error for PutError {}

without_value!(PutError);

/// A value for each of `CPUS` CPUs, by the kernel's numbers.
///
/// The number is believed: every method is to be called on the CPU that it names, with preemption off if the kernel moves
/// threads between CPUs. With another number a handle acts on the VP of the CPU that calls: it starts that VP's timers,
/// and ends its messages. No memory is at risk: [`Synic::disable`] and
/// [`Vp::enable_synic`](crate::partition::Vp::enable_synic) ask the hypervisor which VP calls, and refuse another one's pages.
pub struct PerCpu<T, const CPUS: usize>([Place<T>; CPUS]);

/// One CPU's value, and whether it is in use.
struct Place<T> {
    in_use: AtomicU32,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: a value is reached by one caller at a time (`in_use`), whichever CPU calls. A handle in it is made of shared
// references to what is `Sync`, and of numbers, so any thread may use it (`CpuBound` is sealed, and asks `C: Sync`). What a
// wrong CPU does with it acts on that CPU's VP, which writes only to pages that are lent to it for ever.
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
    /// Nothing for any CPU.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { Place { in_use: AtomicU32::new(0), value: UnsafeCell::new(None) } }; CPUS])
    }

    /// Puts `value` in the place of CPU `cpu`, which calls.
    ///
    /// # Errors
    ///
    /// [`PutError`], with `value`.
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

    /// Takes the value of CPU `cpu`, which calls. `None` if there is none, or if it is in use.
    #[must_use]
    pub fn take(&self, cpu: usize) -> Option<T> {
        self.enter(cpu, Option::take).flatten()
    }

    /// Uses the value of CPU `cpu`, which calls. `None` if there is none, or if it is in use: in code that an interrupt
    /// interrupted, say. Outside of the handlers that use it too, mask their interrupts for so long.
    pub fn with<R>(&self, cpu: usize, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.enter(cpu, |place| place.as_mut().map(work)).flatten()
    }

    /// Enters a place, unless somebody is there.
    fn enter<R>(&self, cpu: usize, work: impl FnOnce(&mut Option<T>) -> R) -> Option<R> {
        /// Leaves, by panic too.
        struct Leave<'a>(&'a AtomicU32);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(0, Ordering::Release);
            }
        }
        let place = self.0.get(cpu)?;
        place.in_use.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).ok()?;
        let _leave = Leave(&place.in_use);
        // SAFETY: nobody else is in the place until `_leave` is dropped, after the last use of the reference.
        Some(work(unsafe { &mut *place.value.get() }))
    }
}
