//! Tests that callers are served in order of arrival.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;

use hv_lock::{Mutex, Wait};

const CALLERS: usize = 4;
/// Each is a turn of the scheduler on a busy machine.
const CALLS: u64 = 500;

/// How often each caller has been served.
static SERVED: [AtomicU64; CALLERS] = [const { AtomicU64::new(0) }; CALLERS];

thread_local! {
    /// [`SERVED`] when this caller joined the queue, and the number of callers ahead at that time.
    static ARRIVAL: Cell<Option<([u64; CALLERS], u32)>> = const { Cell::new(None) };
}

/// Callers that have joined the queue so far.
static QUEUED: AtomicU32 = AtomicU32::new(0);

fn served() -> [u64; CALLERS] {
    SERVED.each_ref().map(|count| count.load(Ordering::Relaxed))
}

struct Counting;

impl Wait for Counting {
    fn queued(ahead: u32) {
        ARRIVAL.set(Some((served(), ahead)));
        QUEUED.fetch_add(1, Ordering::Relaxed);
    }

    fn relax() {
        thread::yield_now();
    }
}

/// Checks that between a caller's arrival and its turn each other caller is served at most once, and no more in total
/// than were ahead. The callers count under the lock, so thread scheduling does not matter.
#[test]
fn each_other_caller_is_served_at_most_once_before() {
    static LOCK: Mutex<Counting, u64> = Mutex::new(0);
    let queued = AtomicU32::new(0);
    thread::scope(|scope| {
        // Held until each caller waits, so that some do however they are scheduled.
        let first = LOCK.lock();
        for (own, turns_served) in SERVED.iter().enumerate() {
            let queued = &queued;
            scope.spawn(move || {
                for _ in 0..CALLS {
                    let mut count = LOCK.lock();
                    *count += 1;
                    if let Some((before, ahead)) = ARRIVAL.take() {
                        let mut others: Vec<u64> =
                            served().iter().zip(before).map(|(now, before)| now - before).collect();
                        assert_eq!(others.remove(own), 0, "a caller waits for itself");
                        assert!(others.iter().all(|&times| times <= 1), "served before: {others:?}");
                        // Some of those ahead may have been served between the draw of the ticket and `queued`.
                        let turns = others.iter().sum::<u64>();
                        assert!(turns <= u64::from(ahead), "{turns} turns, {ahead} callers ahead");
                        queued.fetch_add(1, Ordering::Relaxed);
                    }
                    turns_served.fetch_add(1, Ordering::Relaxed);
                    // Others join the queue while the lock is held, even on a machine with one CPU.
                    if count.is_multiple_of(16) {
                        thread::yield_now();
                    }
                }
            });
        }
        while QUEUED.load(Ordering::Relaxed) < CALLERS as u32 {
            thread::yield_now();
        }
        drop(first);
    });
    assert_eq!(*LOCK.lock(), CALLS * CALLERS as u64, "one caller at a time");
    assert!(queued.into_inner() >= CALLERS as u32, "a caller never waited");
}

/// Checks that `try_lock` succeeds only if the lock is free.
#[test]
fn a_try_fails_while_it_is_held() {
    let lock = Mutex::<Counting, _>::new(());
    let guard = lock.try_lock();
    assert!(guard.is_some() && lock.is_locked() && lock.try_lock().is_none());
    drop(guard);
    assert!(!lock.is_locked() && lock.try_lock().is_some());
}
