//! The embedder of the partition under test: memory, a counter, interrupts and TLBs.
//!
//! Time either advances with each look at the counter, so that a run in one thread is always the same, or it is the
//! wall's: then each VP is a thread ([`threads`](super::threads)), and a timer's thread makes the call at its deadline.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hv_conformance::CrashReport;
use hv_partition::testing::Memory;
use hv_partition::{
    BusObserver, DeviceId, Event, Flush, Host, HostBackend, Never, Pages, Partition, Started, Token,
    VpContext, VpMask,
};
use hv_tlfs::register::RegisterName;

pub(crate) use hv_partition::testing::{Lock, RAM, RAM_SIZE};

use super::devices::{DISK, SuiteBus};
use super::threads::{Door, Meeting};

/// The partition under test.
pub(crate) type SuitePartition<'p> = Partition<'p, Lock, SuiteBus>;

/// Virtual address of the window, and the translation table base that translates it.
pub(crate) const WINDOW: u64 = 0x7000_0000;
pub(crate) const ADDRESS_SPACE: u64 = 0x4_2000;
/// Looks at the counter and effects after which a run counts as endless; one that ends has less than a twentieth.
const PATIENCE: u64 = 10_000_000;
/// Pages at the window: no translation cached.
const NOT_CACHED: usize = usize::MAX;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the hardware of a VP holds.
struct VpHardware {
    /// Interrupts taken, by INTID; `None` while interrupts are not recorded.
    taken: Mutex<[Option<u64>; 256]>,
    /// When it wants to be called.
    deadline: Mutex<Option<u64>>,
    /// The deadline has changed, or the machine ends.
    deadline_changed: Condvar,
    /// An interrupt was taken.
    interrupted: Condvar,
    /// The translation of the window that its TLB holds.
    tlb: AtomicUsize,
    /// The way to its thread.
    door: Door,
}

/// What moves the counter on.
enum Clock {
    /// Each look at it.
    Looks(AtomicU64),
    /// The wall's clock, from this moment on, with this frequency.
    Wall(Instant, u64),
}

/// The machine around the partition.
pub(crate) struct SuiteHost {
    pub(crate) memory: Memory,
    clock: Clock,
    ended: AtomicBool,
    /// Looks at the counter and effects so far.
    steps: AtomicU64,
    vps: Vec<VpHardware>,
    /// What the translation tables say of the window.
    window: AtomicUsize,
    crash: Mutex<Option<CrashReport>>,
    /// The disk, whose blocks differ.
    pub(crate) disk: Mutex<Vec<u8>>,
    /// Holds VPs inside the partition.
    pub(crate) meeting: Meeting,
    /// What VPs found wrong in calls of their own.
    failures: Mutex<Vec<String>>,
}

impl SuiteHost {
    /// Creates a machine whose counter each look moves on.
    pub(crate) fn new(vps: usize) -> Self {
        Self::with_clock(vps, Clock::Looks(AtomicU64::new(1)))
    }

    /// Creates a machine by the wall's clock. [`Self::serve`] and [`Door::serve`] have to run in threads, for each VP.
    pub(crate) fn by_the_wall(vps: usize, frequency: u64) -> Self {
        Self::with_clock(vps, Clock::Wall(Instant::now(), frequency))
    }

    fn with_clock(vps: usize, clock: Clock) -> Self {
        let hardware = || VpHardware {
            taken: Mutex::new([None; 256]),
            deadline: Mutex::default(),
            deadline_changed: Condvar::new(),
            interrupted: Condvar::new(),
            tlb: AtomicUsize::new(NOT_CACHED),
            door: Door::default(),
        };
        Self {
            memory: Memory::new(RAM, RAM_SIZE),
            clock,
            ended: AtomicBool::new(false),
            steps: AtomicU64::new(0),
            vps: (0..vps).map(|_| hardware()).collect(),
            window: AtomicUsize::new(0),
            crash: Mutex::default(),
            disk: Mutex::new((0..DISK).map(|n| (n / 512 * 31 + n % 509) as u8).collect()),
            meeting: Meeting::default(),
            failures: Mutex::default(),
        }
    }

    pub(crate) fn vp_count(&self) -> usize {
        self.vps.len()
    }

    /// Counts what a host or a case does again and again if it never ends.
    fn step(&self) {
        let steps = self.steps.fetch_add(1, Ordering::Relaxed);
        assert!(steps < PATIENCE || self.is_by_the_wall(), "the run does not end");
    }

    /// Returns the counter.
    pub(crate) fn counter(&self) -> u64 {
        match &self.clock {
            Clock::Looks(counter) => {
                self.step();
                counter.fetch_add(1, Ordering::Relaxed)
            }
            Clock::Wall(start, frequency) => {
                (start.elapsed().as_nanos() * u128::from(*frequency) / 1_000_000_000) as u64 + 1
            }
        }
    }

    /// Returns true if VPs are threads.
    pub(crate) fn is_by_the_wall(&self) -> bool {
        matches!(self.clock, Clock::Wall(..))
    }

    fn duration(&self, ticks: u64) -> Duration {
        match &self.clock {
            Clock::Looks(_) => Duration::ZERO,
            Clock::Wall(_, frequency) => {
                // A long wait may be cut: whoever waits looks again.
                let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(*frequency);
                Duration::from_nanos(nanos.min(1_000_000_000) as u64 + 1)
            }
        }
    }

    /// Waits for the deadlines of a VP and calls the partition when one has come, until the machine ends.
    pub(crate) fn serve(&self, partition: &SuitePartition<'_>, vp: usize) {
        let VpHardware { deadline, deadline_changed, .. } = &self.vps[vp];
        let mut next = lock(deadline);
        while !self.ended.load(Ordering::Relaxed) {
            let now = self.counter();
            next = match *next {
                None => deadline_changed.wait(next).unwrap_or_else(PoisonError::into_inner),
                Some(counter) if counter > now => {
                    let rest = self.duration(counter - now);
                    deadline_changed.wait_timeout(next, rest).unwrap_or_else(PoisonError::into_inner).0
                }
                Some(_) => {
                    *next = None;
                    drop(next);
                    partition.timer_expired(self, vp);
                    lock(deadline)
                }
            };
        }
    }

    /// Lets [`Self::serve`] and [`Door::serve`] return.
    pub(crate) fn end(&self) {
        for vp in &self.vps {
            vp.door.end();
            // Under the lock, so that no VP begins to wait in between.
            let _deadline = lock(&vp.deadline);
            self.ended.store(true, Ordering::Relaxed);
            vp.deadline_changed.notify_all();
        }
    }

    /// Lets the timers expire that are due.
    pub(crate) fn settle(&self, partition: &SuitePartition<'_>) {
        if self.is_by_the_wall() {
            return;
        }
        // A timer that a wrong host arms for the past again and again must not keep us here.
        for _ in 0..100 {
            let now = self.counter();
            let due =
                self.vps.iter().position(|vp| lock(&vp.deadline).is_some_and(|deadline| deadline <= now));
            let Some(vp) = due else { return };
            // The deadline is over; the partition asks for the next one.
            *lock(&self.vps[vp].deadline) = None;
            partition.timer_expired(self, vp);
        }
    }

    /// Lets time pass on a VP: this many ticks, or until the next deadline or interrupt.
    pub(crate) fn idle(&self, vp: usize, ticks: u64) {
        match &self.clock {
            Clock::Looks(counter) => {
                let end = self.counter() + ticks;
                let deadlines = self.vps.iter().filter_map(|vp| *lock(&vp.deadline));
                let next = deadlines.min().map_or(end, |deadline| deadline.min(end));
                counter.fetch_max(next, Ordering::Relaxed);
            }
            Clock::Wall(..) => {
                let VpHardware { taken, interrupted, .. } = &self.vps[vp];
                let taken = lock(taken);
                let before = *taken;
                let wait = self.duration(ticks);
                let _ = interrupted.wait_timeout_while(taken, wait, |taken| *taken == before);
            }
        }
    }

    pub(crate) fn listen(&self, vp: usize, intid: u32) {
        lock(&self.vps[vp].taken)[intid as usize].get_or_insert(0);
    }

    pub(crate) fn taken(&self, vp: usize, intid: u32) -> u64 {
        lock(&self.vps[vp].taken)[intid as usize].unwrap_or(0)
    }

    pub(crate) fn point_window(&self, page: usize) {
        self.window.store(page, Ordering::Relaxed);
    }

    /// Returns what a VP finds at the window: what its TLB says, or else the tables.
    pub(crate) fn look(&self, vp: usize) -> usize {
        let tlb = &self.vps[vp].tlb;
        if tlb.load(Ordering::Relaxed) == NOT_CACHED {
            tlb.store(self.window.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        tlb.load(Ordering::Relaxed)
    }

    pub(crate) fn take_crash(&self) -> Option<CrashReport> {
        lock(&self.crash).take()
    }

    /// Returns the way to a VP's thread.
    pub(crate) fn door(&self, vp: usize) -> &Door {
        &self.vps[vp].door
    }

    /// Records what a VP found wrong in calls of its own.
    pub(crate) fn fail(&self, failure: String) {
        lock(&self.failures).push(failure);
    }

    /// Returns what VPs found wrong in calls of their own.
    pub(crate) fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.failures))
    }
}

/// Returns true if a flush drops the window's translation. The window is not global.
fn drops_window(what: Flush) -> bool {
    let ours = |space: Option<u64>| space.is_none_or(|space| space == ADDRESS_SPACE);
    match what {
        Flush::All { address_space, .. } => ours(address_space),
        Flush::Pages { address_space, address, pages } => {
            ours(address_space) && (address..address.saturating_add(pages * 4096)).contains(&WINDOW)
        }
    }
}

impl BusObserver for SuiteHost {}

impl HostBackend<Never> for SuiteHost {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Host for SuiteHost {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn counter(&self) -> u64 {
        Self::counter(self)
    }

    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.step();
        if let Some(vp) = self.vps.get(vp) {
            // An INTID beyond the table has no handler.
            if let Some(Some(taken)) = lock(&vp.taken).get_mut(intid as usize) {
                *taken += 1;
                vp.interrupted.notify_all();
            }
        }
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        *lock(&self.vps[vp].deadline) = counter;
        self.vps[vp].deadline_changed.notify_all();
    }

    fn start_vp(&self, vp: usize, _: &VpContext) {
        self.vps[vp].door.start();
    }

    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        for (n, vp) in self.vps.iter().enumerate() {
            if targets.contains(n) && drops_window(what) {
                vp.tlb.store(NOT_CACHED, Ordering::Relaxed);
            }
        }
    }

    fn observe(&self, event: &Event<'_>) {
        self.step();
        if let Event::RegisterGet { vp, name: RegisterName::VP_INDEX, .. } = *event {
            self.meeting.attend(vp);
        }
        if let Event::Crash { control, parameters, text: message, .. } = *event {
            let mut text = [0; 32];
            let len = message.len().min(text.len());
            text[..len].copy_from_slice(&message[..len]);
            *lock(&self.crash) = Some(CrashReport { control, parameters, text, text_len: message.len() });
        }
    }
}
