//! The embedder of the partition under test: memory, a counter that each look moves on, interrupts and TLBs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hv_conformance::CrashReport;
use hv_partition::{BadAddress, BusObserver, Event, Flush, GuestMemory, Host, Partition, VpContext, VpMask};

/// First guest physical address of the memory, and bytes of it.
pub(crate) const RAM: u64 = 0x4000_0000;
const RAM_SIZE: u64 = 0x10_0000;
/// Virtual address of the window, and the translation table base that translates it.
pub(crate) const WINDOW: u64 = 0x7000_0000;
pub(crate) const ADDRESS_SPACE: u64 = 0x4_2000;
/// Looks at the counter and effects after which a run counts as endless; one that ends has far less.
const PATIENCE: u64 = 50_000_000;
/// Pages at the window: no translation cached.
const NOT_CACHED: usize = usize::MAX;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Guest memory.
pub(crate) struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn with<R>(&self, gpa: u64, len: u64, work: impl FnOnce(&mut [u8]) -> R) -> Result<R, BadAddress> {
        if !self.contains(gpa, len) {
            return Err(BadAddress);
        }
        let from = (gpa - RAM) as usize;
        Ok(work(&mut lock(&self.0)[from..from + len as usize]))
    }

    fn with_word<R>(&self, gpa: u64, work: impl FnOnce(&mut u32) -> R) -> Result<R, BadAddress> {
        if gpa % 4 != 0 {
            return Err(BadAddress);
        }
        self.with(gpa, 4, |bytes| {
            let mut word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let result = work(&mut word);
            bytes.copy_from_slice(&word.to_le_bytes());
            result
        })
    }
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.with(gpa, buf.len() as u64, |bytes| buf.copy_from_slice(bytes))
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.with(gpa, data.len() as u64, |bytes| bytes.copy_from_slice(data))
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        self.with_word(gpa, |word| *word)
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.with_word(gpa, |word| *word = value)
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        self.with_word(gpa, |word| {
            let before = *word;
            *word |= bits;
            before
        })
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        gpa >= RAM && gpa.checked_add(len).is_some_and(|end| end <= RAM + RAM_SIZE)
    }
}

/// What the hardware of a VP holds.
struct VpHardware {
    /// Interrupts taken, by INTID; `None` while nobody listens.
    taken: Mutex<[Option<u64>; 256]>,
    /// When it wants to be called.
    deadline: Mutex<Option<u64>>,
    /// The translation of the window that its TLB holds.
    tlb: AtomicUsize,
}

/// The machine around the partition.
pub(crate) struct Machine {
    pub(crate) memory: Memory,
    counter: AtomicU64,
    /// Looks at the counter and effects so far.
    steps: AtomicU64,
    vps: Vec<VpHardware>,
    /// What the translation tables say of the window.
    window: AtomicUsize,
    crash: Mutex<Option<CrashReport>>,
    starting: Mutex<Vec<usize>>,
}

impl Machine {
    pub(crate) fn new(vps: usize) -> Self {
        let hardware = || VpHardware {
            taken: Mutex::new([None; 256]),
            deadline: Mutex::default(),
            tlb: AtomicUsize::new(NOT_CACHED),
        };
        Self {
            memory: Memory(Mutex::new(vec![0; RAM_SIZE as usize])),
            counter: AtomicU64::new(1),
            steps: AtomicU64::new(0),
            vps: (0..vps).map(|_| hardware()).collect(),
            window: AtomicUsize::new(0),
            crash: Mutex::default(),
            starting: Mutex::default(),
        }
    }

    pub(crate) fn vp_count(&self) -> usize {
        self.vps.len()
    }

    /// Counts what a host or a case does again and again if it never ends.
    fn step(&self) {
        assert!(self.steps.fetch_add(1, Ordering::Relaxed) < PATIENCE, "the run does not end");
    }

    /// The counter; each look moves it on.
    pub(crate) fn counter(&self) -> u64 {
        self.step();
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets the timers expire that are due.
    pub(crate) fn settle(&self, partition: &Partition<'_>) {
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

    /// Moves the clock to the next deadline, or by this many ticks if there is none before.
    pub(crate) fn idle(&self, ticks: u64) {
        let end = self.counter() + ticks;
        let deadlines = self.vps.iter().filter_map(|vp| *lock(&vp.deadline));
        let next = deadlines.min().map_or(end, |deadline| deadline.min(end));
        self.counter.fetch_max(next, Ordering::Relaxed);
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

    /// What a VP finds at the window: what its TLB says, or else the tables.
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

    /// Whether a VP was asked to start since the last time.
    pub(crate) fn take_start(&self, vp: usize) -> bool {
        let mut starting = lock(&self.starting);
        let place = starting.iter().position(|&n| n == vp);
        place.map(|place| starting.remove(place)).is_some()
    }
}

/// Whether a flush drops the window's translation. The window is not global.
fn drops_window(what: Flush) -> bool {
    let ours = |space: Option<u64>| space.is_none_or(|space| space == ADDRESS_SPACE);
    match what {
        Flush::All { address_space, .. } => ours(address_space),
        Flush::Pages { address_space, address, pages } => {
            ours(address_space) && (address..address.saturating_add(pages * 4096)).contains(&WINDOW)
        }
    }
}

impl BusObserver for Machine {}

impl Host for Machine {
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
            // An INTID beyond the table is nobody's.
            if let Some(Some(taken)) = lock(&vp.taken).get_mut(intid as usize) {
                *taken += 1;
            }
        }
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        *lock(&self.vps[vp].deadline) = counter;
    }

    fn start_vp(&self, vp: usize, _: &VpContext) {
        lock(&self.starting).push(vp);
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
        if let Event::Crash { control, parameters, text: message, .. } = *event {
            let mut text = [0; 32];
            let len = message.len().min(text.len());
            text[..len].copy_from_slice(&message[..len]);
            *lock(&self.crash) = Some(CrashReport { control, parameters, text, text_len: message.len() });
        }
    }
}
