//! A lock for hypervisors: it spins, and serves in the order of arrival.
//!
//! A guest can make one VP's calls take a lock without end. Under a lock that anybody may take who finds it free, such a VP
//! takes it again and again before another one sees it free. Here each caller draws a ticket, and the tickets are
//! served in their order: so between the arrival of a caller and its turn, each other CPU is served at most once.
//!
//! [`Wait::queued`] is told how many callers are ahead. That is why this is not one of the ticket locks that exist: it lets a
//! hypervisor report its longest queue, and tests count.
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

/// What a caller does until its turn comes.
pub trait Wait {
    /// Takes notice that a caller takes the lock or waits for it: for tests that count.
    fn arrived() {}

    /// Takes notice, once per wait and before the first [`relax`](Self::relax), that this many callers are served first.
    fn queued(ahead: u32) {
        let _ = ahead;
    }

    /// Lets time pass, for a moment.
    fn relax();
}

/// A lock whose callers are served in the order of their arrival.
///
/// It is a [`RawMutex`]: use it by [`Mutex`]. At most 2³² callers may wait at a time.
pub struct FairLock<W> {
    /// The next ticket.
    next: AtomicU32,
    /// The ticket that is served, or that is served next.
    serving: AtomicU32,
    wait: PhantomData<fn() -> W>,
}

impl<W> fmt::Debug for FairLock<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FairLock").field("next", &self.next).field("serving", &self.serving).finish()
    }
}

impl<W: Wait> FairLock<W> {
    /// Waits until the ticket is served; `ahead` were, when it was drawn.
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
// SAFETY: a ticket is drawn by one caller alone, and `serving` goes on by one at each unlock: so one caller at a time is between
// `lock` and `unlock`. Each reads with acquire order what the one before it wrote with release order.
unsafe impl<W: Wait> RawMutex for FairLock<W> {
    const INIT: Self = Self { next: AtomicU32::new(0), serving: AtomicU32::new(0), wait: PhantomData };

    type GuardMarker = GuardSend;

    #[inline]
    fn lock(&self) {
        W::arrived();
        // Acquire and release: who has drawn before this has seen its own earlier turns end, and so does this one.
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
        // Only the holder writes it.
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

    /// After the last ticket comes the first.
    #[test]
    #[expect(unsafe_code, reason = "the lock is unlocked by hand")]
    fn tickets_wrap_around() {
        let (next, serving) = (AtomicU32::new(u32::MAX), AtomicU32::new(u32::MAX));
        let lock = FairLock::<Never> { next, serving, wait: PhantomData };
        for _ in 0..3 {
            lock.lock();
            assert!(lock.is_locked() && !lock.try_lock());
            // SAFETY: it was locked above.
            unsafe { lock.unlock() };
            assert!(!lock.is_locked());
        }
        assert_eq!(lock.next.into_inner(), 2);
    }
}
