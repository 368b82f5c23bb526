//! A partition whose VMBus is served by a server of the caller's, in the same process: another project's, for example.
//!
//! A [`ForeignBed`] is the hypervisor alone (`hv-host`), with guest memory of any size, a counter that runs by the wall
//! clock, and VPs that are threads of the test. What the guest posts and signals goes to the server
//! ([`Connections`]) on the VP's thread; the server answers when it likes, on any thread, by
//! [`post`](ForeignBed::post) and [`signal`](ForeignBed::signal). Nothing else wakes a VP: where the server loses a
//! signal, [`wait`](ForeignBed::wait) returns without one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, thread};

use hv_guest::page::{CallPage, Page};
use hv_host::{Action, Config, Convention, Flush, Host, Partition, Vp, VpContext, VpMask};
use hv_partition::testing::{Effect, Lock};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

pub use hv_host::Connections;

use crate::wire::{Behind, Gic};
use crate::{Ram, VpInterrupts, Wire, lock};

/// A partition with its surroundings, and a VMBus server of the caller's.
pub struct ForeignBed {
    partition: Partition<'static, Lock>,
    ram: Ram,
    vps: Vec<Interrupted>,
    deadlines: Mutex<Vec<Option<u64>>>,
    changed: Condvar,
    began: Instant,
    effects: Mutex<Vec<Effect>>,
    hypercalls: AtomicUsize,
    server: OnceLock<Box<dyn Connections + Send + Sync>>,
}

impl fmt::Debug for ForeignBed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignBed").field("partition", &self.partition).finish_non_exhaustive()
    }
}

/// The interrupt controller of a VP, and who waits for it.
#[derive(Debug, Default)]
struct Interrupted {
    gic: Mutex<Gic>,
    raised: Condvar,
}

impl ForeignBed {
    /// Creates a partition with `vps` VPs, all running, and this many pages of guest memory. It lives as long as the
    /// process, and so does the thread in which its timers expire.
    #[must_use]
    pub fn new(config: Config, vps: usize, pages: usize) -> &'static Self {
        let states: Vec<Vp<Lock>> = (0..vps).map(|_| Vp::new()).collect();
        let bed: &'static Self = Box::leak(Box::new(Self {
            partition: Partition::new(config, states.leak(), &[]),
            ram: Ram::new(pages),
            vps: (0..vps).map(|_| Interrupted::default()).collect(),
            deadlines: Mutex::new(vec![None; vps]),
            changed: Condvar::new(),
            began: Instant::now(),
            effects: Mutex::default(),
            hypercalls: AtomicUsize::new(0),
            server: OnceLock::new(),
        }));
        bed.partition.reset(&Surroundings(bed));
        (0..vps).for_each(|vp| bed.partition.vp_online(&Surroundings(bed), vp));
        thread::spawn(|| bed.expire());
        bed
    }

    /// Gives the partition its server. Before that no connection exists.
    ///
    /// # Panics
    ///
    /// If it has one.
    pub fn serve(&self, server: impl Connections + Send + Sync + 'static) {
        assert!(self.server.set(Box::new(server)).is_ok(), "the partition has a server already");
    }

    /// Returns the hypervisor.
    #[must_use]
    pub fn partition(&self) -> &Partition<'static, impl hv_host::RawMutex + use<>> {
        &self.partition
    }

    /// Returns guest memory: the guest's allocator, and what the server reads and writes.
    #[must_use]
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Allocates a page of guest memory, all zeros.
    ///
    /// # Panics
    ///
    /// If no page is left.
    #[must_use]
    pub fn page(&self) -> &'static Page {
        &self.ram.allocate(1).expect("the guest has no page left")[0]
    }

    /// Allocates a page of guest memory for the parameters of hypercalls.
    ///
    /// # Panics
    ///
    /// If no page is left.
    #[must_use]
    pub fn call_page(&self) -> CallPage<'static> {
        CallPage::new(self.page(), &self.ram)
    }

    /// Returns a VP, as the guest's code on it sees it.
    ///
    /// # Panics
    ///
    /// If there is no such VP.
    #[must_use]
    pub fn wire(&'static self, vp: usize, convention: Convention) -> Wire<Self> {
        assert!(vp < self.vps.len(), "the machine has no VP {vp}");
        Wire { bed: self, vp, convention }
    }

    /// Returns the interrupt controller of a VP.
    #[must_use]
    pub fn interrupts(&'static self, vp: usize) -> VpInterrupts<Self> {
        VpInterrupts { bed: self, vp }
    }

    /// Posts a message to a source of a VP, for the server.
    ///
    /// # Errors
    ///
    /// The hypervisor's status: [`HvStatus::INSUFFICIENT_BUFFERS`] while the VP has not taken earlier messages;
    /// [`Connections::buffer_freed`] says when it may have.
    pub fn post(
        &self,
        vp: usize,
        sint: u8,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.partition.post_message(&Surroundings(self), vp, sint, message_type, 0, payload)
    }

    /// Sets an event flag of a source of a VP, for the server. Returns true if the flag was clear.
    ///
    /// # Errors
    ///
    /// The hypervisor's status.
    pub fn signal(&self, vp: usize, sint: u8, flag: u16) -> Result<bool, HvStatus> {
        self.partition.signal_event(&Surroundings(self), vp, sint, flag)
    }

    /// Waits until an interrupt is pending and enabled on a VP, and takes the lowest one: what the CPU would
    /// acknowledge. `None` if there is none within `limit`.
    pub fn wait(&self, vp: usize, limit: Duration) -> Option<u8> {
        let Interrupted { gic, raised } = &self.vps[vp];
        let end = Instant::now().checked_add(limit);
        let mut gic = lock(gic);
        loop {
            if let Some(intid) = gic.take() {
                return Some(intid);
            }
            let left = match end {
                Some(end) => end.checked_duration_since(Instant::now())?,
                None => limit,
            };
            gic = raised.wait_timeout(gic, left).unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }

    /// Returns the number of hypercalls that the guest has made, on whichever VP.
    pub fn hypercalls(&self) -> usize {
        self.hypercalls.load(Ordering::Relaxed)
    }

    /// Returns what the hypervisor did beyond registers, memory and interrupts since the last call.
    pub fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *lock(&self.effects))
    }

    /// Returns how long it takes until the counter has this value.
    fn until(&self, counter: u64) -> Duration {
        let ticks = counter.saturating_sub(self.counter());
        Duration::from_secs_f64(ticks as f64 / self.partition.config().counter_frequency as f64)
    }

    /// Has the VPs' timers expire.
    fn expire(&self) {
        let mut deadlines = lock(&self.deadlines);
        loop {
            let now = self.counter();
            let is_due = |deadline: &Option<u64>| deadline.is_some_and(|deadline| deadline <= now);
            if let Some(vp) = deadlines.iter().position(is_due) {
                deadlines[vp] = None;
                drop(deadlines);
                self.partition.timer_expired(&Surroundings(self), vp);
                deadlines = lock(&self.deadlines);
                continue;
            }
            let first = deadlines.iter().flatten().min().map(|deadline| self.until(*deadline));
            let left = first.unwrap_or(Duration::MAX);
            let changed = self.changed.wait_timeout(deadlines, left);
            deadlines = changed.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

impl Behind for ForeignBed {
    fn hvc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action {
        self.partition.hvc(Surroundings(self), vp, immediate, x)
    }

    fn called(&self) {
        self.hypercalls.fetch_add(1, Ordering::Relaxed);
    }

    fn effect(&self, effect: Effect) {
        lock(&self.effects).push(effect);
    }

    fn counter(&self) -> u64 {
        let nanoseconds = self.began.elapsed().as_nanos();
        (nanoseconds * u128::from(self.partition.config().counter_frequency) / 1_000_000_000) as u64
    }

    fn gic(&self, vp: usize) -> MutexGuard<'_, Gic> {
        lock(&self.vps[vp].gic)
    }
}

/// The machine as the hypervisor sees it.
#[derive(Clone, Copy)]
struct Surroundings<'b>(&'b ForeignBed);

impl Host for Surroundings<'_> {
    type Memory = Ram;

    fn memory(&self) -> &Ram {
        &self.0.ram
    }

    fn counter(&self) -> u64 {
        self.0.counter()
    }

    fn assert_interrupt(&self, vp: usize, intid: u32) {
        let Interrupted { gic, raised } = &self.0.vps[vp];
        lock(gic).raise(intid);
        raised.notify_all();
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        lock(&self.0.deadlines)[vp] = counter;
        self.0.changed.notify_all();
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.0.effect(Effect::Start { vp, context: *context });
    }

    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.0.effect(Effect::Flush { targets: targets.clone(), what });
    }
}

impl Connections for Surroundings<'_> {
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        let server = self.0.server.get().ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        server.post_message(vp, connection, message_type, payload)
    }

    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus> {
        let server = self.0.server.get().ok_or(HvStatus::INVALID_CONNECTION_ID)?;
        server.signal_event(vp, connection, flag)
    }

    fn buffer_freed(&self, vp: usize) {
        if let Some(server) = self.0.server.get() {
            server.buffer_freed(vp);
        }
    }
}
