//! A spin lock for hypervisors that serves callers in order of arrival.
//!
//! A guest can make the calls of one VP take a lock endlessly. With an unfair lock such a VP may take it again and
//! again before another VP sees it free. Here each caller draws a ticket, and tickets are served in order: between the
//! arrival of a caller and its turn, every other CPU is served at most once.
//!
//! [`Wait::queued`] reports how many callers are ahead, which existing ticket locks do not: it lets a hypervisor report
//! its longest queue, and lets tests count.
//!
//! ```
//! use hv_lock::{Mutex, Wait};
//!
//! struct Spin;
//!
//! impl Wait for Spin {
//!     fn relax() {
//!         core::hint::spin_loop();
//!     }
//! }
//!
//! static COUNT: Mutex<Spin, u32> = Mutex::new(0);
//! *COUNT.lock() += 1;
//! assert_eq!(*COUNT.lock(), 1);
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU32, Ordering};

use lock_api::{GuardSend, RawMutex};

/// Data behind a [`FairLock`].
pub type Mutex<W, T> = lock_api::Mutex<FairLock<W>, T>;
/// A locked [`Mutex`].
pub type MutexGuard<'a, W, T> = lock_api::MutexGuard<'a, FairLock<W>, T>;

/// What a caller does until its turn.
pub trait Wait {
    /// Reports that a caller takes the lock or waits for it, for tests that count.
    fn arrived() {}

    /// Reports, once per wait and before the first [`relax`](Self::relax), the number of callers that are served first.
    fn queued(ahead: u32) {
        let _ = ahead;
    }

    /// Pauses for a moment.
    fn relax();
}

/// A lock that serves its callers in order of arrival.
///
/// It is a [`RawMutex`]: use it through [`Mutex`]. At most 2³² - 1 callers may wait at a time.
pub struct FairLock<W> {
    /// The next ticket.
    next: AtomicU32,
    /// The ticket being served, or the next one to be served.
    serving: AtomicU32,
    wait: PhantomData<fn() -> W>,
}

impl<W> fmt::Debug for FairLock<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairLock").field("next", &self.next).field("serving", &self.serving).finish()
    }
}

impl<W: Wait> FairLock<W> {
    /// Waits until the ticket is served; `ahead` tickets were ahead when it was drawn.
    #[cold]
    #[inline(never)]
    fn wait(&self, ticket: u32, ahead: u32) {
        W::queued(ahead);
        while self.serving.load(Ordering::Acquire) != ticket {
            W::relax();
        }
    }
}

#[expect(unsafe_code, reason = "the contract of a lock")]
// SAFETY: each ticket is drawn by one caller only, and `serving` advances by one on each unlock, so at most one caller
// at a time is between `lock` and `unlock`. Each caller reads with acquire ordering what the previous one wrote with
// release ordering.
unsafe impl<W: Wait> RawMutex for FairLock<W> {
    const INIT: Self = Self { next: AtomicU32::new(0), serving: AtomicU32::new(0), wait: PhantomData };

    type GuardMarker = GuardSend;

    #[inline]
    fn lock(&self) {
        W::arrived();
        // Acquire and release: each caller has seen its own earlier turns end before it draws a ticket, so this one
        // sees them end too, and does not count them as ahead.
        let ticket = self.next.fetch_add(1, Ordering::AcqRel);
        let ahead = ticket.wrapping_sub(self.serving.load(Ordering::Acquire));
        if ahead != 0 {
            self.wait(ticket, ahead);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let ticket = self.serving.load(Ordering::Acquire);
        let (next, order) = (ticket.wrapping_add(1), Ordering::AcqRel);
        self.next.compare_exchange(ticket, next, order, Ordering::Relaxed).is_ok()
    }

    #[inline]
    unsafe fn unlock(&self) {
        // Only the holder writes `serving`.
        let ticket = self.serving.load(Ordering::Relaxed);
        self.serving.store(ticket.wrapping_add(1), Ordering::Release);
    }

    #[inline]
    fn is_locked(&self) -> bool {
        let serving = self.serving.load(Ordering::Relaxed);
        self.next.load(Ordering::Relaxed) != serving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Never;

    impl Wait for Never {
        fn relax() {
            unreachable!("the lock is free");
        }
    }

    /// Tests that tickets wrap around.
    #[test]
    #[expect(unsafe_code, reason = "the lock is unlocked by hand")]
    fn tickets_wrap_around() {
        let (next, serving) = (AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX));
        let lock = FairLock::<Never> { next, serving, wait: PhantomData };
        for _ in 0..3 {
            lock.lock();
            assert!(lock.is_locked() && !lock.try_lock());
            // SAFETY: this thread holds the lock, locked above and not unlocked since.
            unsafe { lock.unlock() };
            assert!(!lock.is_locked());
        }
        assert_eq!(lock.next.into_inner(), 2);
    }
}
