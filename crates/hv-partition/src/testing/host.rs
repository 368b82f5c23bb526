//! The embedder: memory, clock and record.

use std::boxed::Box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::MessageType;

use hv_host::{Action, Connections, Event, Flush, Host, Retarget, VpContext, VpMask};
use hv_memory::GuestMemory;
pub use hv_memory::testing::Memory;
use hv_vmbus::{DeviceId, Never, Pages, Started, Token};

use crate::event::{BusEvent, BusObserver};
use crate::port::HostBackend;

/// First guest physical address of the memory.
pub const RAM: u64 = 0x4000_0000;
/// Bytes of it.
pub const RAM_SIZE: u64 = 0x10_0000;

/// An effect on the embedder, or a report to the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// [`Host::assert_interrupt`].
    Interrupt {
        /// Target.
        vp: usize,
        /// INTID.
        intid: u32,
    },
    /// [`Host::start_vp`].
    Start {
        /// VP.
        vp: usize,
        /// Its registers.
        context: VpContext,
    },
    /// [`Host::flush_tlb`].
    Flush {
        /// Targets.
        targets: VpMask,
        /// Scope.
        what: Flush,
    },
    /// [`Host::retarget_interrupt`].
    Retarget {
        /// Device.
        device: u64,
        /// Address and data of its MSI.
        msi: (u64, u32),
        /// Vector.
        vector: u32,
        /// Targets.
        targets: VpMask,
        /// To all of them.
        multicast: bool,
    },
    /// [`Event::Crash`].
    Crash {
        /// Control register.
        control: u64,
        /// Parameters.
        parameters: [u64; 5],
        /// Message.
        text: Vec<u8>,
    },
    /// A call that does not simply return ([`Action`]), for an embedder that carries out none.
    Power {
        /// VP.
        vp: usize,
        /// The action.
        action: Action,
    },
}

/// The model of an embedder: memory, a counter that tests set, deadlines. Effects go to `W`, in tests a [`Recorder`].
#[derive(Debug, Default)]
pub struct TestHost<W = Recorder, M = Memory> {
    memory: M,
    counter: AtomicU64,
    /// Ticks that each read of the counter adds.
    step: AtomicU64,
    deadlines: Vec<Deadline>,
    watch: W,
}

/// A VP's deadline, in a cache line of its own: VPs on threads do not wait for each other's.
#[derive(Debug)]
#[repr(align(128))]
struct Deadline(
    /// [`NEVER`]: none.
    AtomicU64,
);

/// The counter value that no counter reaches.
const NEVER: u64 = u64::MAX;

/// Observer of a partition's effects on a [`TestHost`], called with locks of the partition held.
pub trait Watch {
    /// Receives an effect.
    fn effect(&self, effect: Effect);

    /// Receives an interrupt.
    fn interrupt(&self, vp: usize, intid: u32) {
        self.effect(Effect::Interrupt { vp, intid });
    }

    /// Receives an event.
    fn observe(&self, observed: &Observed<'_>) {
        let _ = observed;
    }

    /// Returns true to receive packets as well.
    fn sees_packets(&self) -> bool {
        false
    }
}

/// Ignores everything.
impl Watch for () {
    fn effect(&self, _: Effect) {}

    fn interrupt(&self, _: usize, _: u32) {}
}

/// Records effects, and events in their `Debug` form.
#[derive(Debug, Default)]
pub struct Recorder {
    effects: Mutex<Vec<Effect>>,
    events: Mutex<Vec<std::string::String>>,
    observer: Mutex<Option<Observer>>,
}

impl Watch for Recorder {
    fn effect(&self, effect: Effect) {
        lock(&self.effects).push(effect);
    }

    fn observe(&self, observed: &Observed<'_>) {
        let text = match observed {
            Observed::Hypervisor(event) => std::format!("{event:?}"),
            Observed::Bus(event) => std::format!("{event:?}"),
        };
        lock(&self.events).push(text);
        if let Some(Observer(observer)) = &mut *lock(&self.observer) {
            observer(observed);
        }
    }

    /// Returns true if there is an observer: packets are not recorded.
    fn sees_packets(&self) -> bool {
        lock(&self.observer).is_some()
    }
}

/// An event for an observer.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// An event of the hypervisor.
    Hypervisor(Event<'a>),
    /// An event of VMBus.
    Bus(BusEvent<'a>),
}

/// An observer of all events.
struct Observer(Box<dyn FnMut(&Observed<'_>) + Send>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl TestHost {
    /// Creates an embedder of a partition with this many VPs, with [`RAM_SIZE`] bytes of memory at [`RAM`].
    #[must_use]
    pub fn new(vps: usize) -> Self {
        Self::with(vps, Memory::new(RAM, RAM_SIZE), Recorder::default())
    }
}

impl<W, M> TestHost<W, M> {
    /// Creates an embedder of a partition with this many VPs.
    #[must_use]
    pub fn with(vps: usize, memory: M, watch: W) -> Self {
        Self {
            memory,
            counter: AtomicU64::new(0),
            step: AtomicU64::new(0),
            deadlines: (0..vps).map(|_| Deadline(AtomicU64::new(NEVER))).collect(),
            watch,
        }
    }

    /// Returns the watcher.
    pub const fn watch(&self) -> &W {
        &self.watch
    }

    /// Returns the guest's counter, without advancing it.
    pub fn counter_now(&self) -> u64 {
        self.counter.load(Ordering::Relaxed)
    }

    /// Sets the guest's counter.
    pub fn set_counter(&self, counter: u64) {
        self.counter.store(counter, Ordering::Relaxed);
    }

    /// Advances the guest's counter. Returns its new value.
    pub fn advance_counter(&self, ticks: u64) -> u64 {
        self.counter.fetch_add(ticks, Ordering::Relaxed).wrapping_add(ticks)
    }

    /// Makes every read of the counter advance it by this much: time passes during a hypercall.
    pub fn set_counter_step(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// Returns the deadline of a VP.
    pub fn deadline(&self, vp: usize) -> Option<u64> {
        Some(self.deadlines[vp].0.load(Ordering::Acquire)).filter(|&counter| counter != NEVER)
    }

    /// Returns the VPs whose deadline has expired.
    pub fn due(&self) -> impl Iterator<Item = usize> {
        let due = |vp: &usize| self.deadline(*vp).is_some_and(|deadline| deadline <= self.counter_now());
        (0..self.deadlines.len()).filter(due)
    }
}

impl<M> TestHost<Recorder, M> {
    /// Returns the effects since the last call.
    pub fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *lock(&self.watch.effects))
    }

    /// Returns the interrupts among the effects since the last call, as target and INTID; other effects are dropped.
    pub fn take_interrupts(&self) -> Vec<(usize, u32)> {
        let effects = self.take_effects();
        effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Interrupt { vp, intid } => Some((*vp, *intid)),
                _ => None,
            })
            .collect()
    }

    /// Passes every event to `observer` from now on.
    pub fn set_observer(&self, observer: impl FnMut(&Observed<'_>) + Send + 'static) {
        *lock(&self.watch.observer) = Some(Observer(Box::new(observer)));
    }

    /// Returns the events since the last call, in their `Debug` form.
    pub fn take_events(&self) -> Vec<std::string::String> {
        std::mem::take(&mut *lock(&self.watch.events))
    }
}

impl<W: Watch, M> BusObserver for TestHost<W, M> {
    #[inline]
    fn observe_bus(&self, event: &BusEvent<'_>) {
        self.watch.observe(&Observed::Bus(*event));
    }

    fn sees_packets(&self) -> bool {
        self.watch.sees_packets()
    }
}

impl<W, M> HostBackend<Never> for TestHost<W, M> {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl<W: Watch, M: GuestMemory> Host for TestHost<W, M> {
    type Memory = M;

    #[inline]
    fn memory(&self) -> &M {
        &self.memory
    }

    #[inline]
    fn counter(&self) -> u64 {
        // A counter that only tests move is read alone, as by VPs on threads.
        match self.step.load(Ordering::Relaxed) {
            0 => self.counter.load(Ordering::Relaxed),
            step => self.counter.fetch_add(step, Ordering::Relaxed),
        }
    }

    #[inline]
    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.watch.interrupt(vp, intid);
    }

    #[inline]
    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        self.deadlines[vp].0.store(counter.unwrap_or(NEVER), Ordering::Release);
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.watch.effect(Effect::Start { vp, context: *context });
    }

    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.watch.effect(Effect::Flush { targets: targets.clone(), what });
    }

    /// Has only device 7.
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        let Retarget { device, address, data, vector, multicast, targets, .. } = *request;
        if device != 7 {
            return Err(HvStatus::INVALID_DEVICE_ID);
        }
        let (msi, targets) = ((address, data), targets.clone());
        self.watch.effect(Effect::Retarget { device, msi, vector, targets, multicast });
        Ok(())
    }

    #[inline]
    fn observe(&self, event: &Event<'_>) {
        self.watch.observe(&Observed::Hypervisor(*event));
        if let Event::Crash { control, parameters, text, .. } = *event {
            self.watch.effect(Effect::Crash { control, parameters, text: text.to_vec() });
        }
    }
}

/// Connections that belong to no port go to the watcher, if it has any.
impl<W: Connections, M> Connections for TestHost<W, M> {
    fn post_message(
        &self,
        vp: usize,
        connection: u32,
        message_type: MessageType,
        payload: &[u8],
    ) -> Result<(), HvStatus> {
        self.watch.post_message(vp, connection, message_type, payload)
    }

    fn signal_event(&self, vp: usize, connection: u32, flag: u16) -> Result<(), HvStatus> {
        self.watch.signal_event(vp, connection, flag)
    }

    fn buffer_freed(&self, vp: usize) {
        self.watch.buffer_freed(vp);
    }
}
