//! The embedder: memory, clock and record.

use std::boxed::Box;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use hv_tlfs::status::HvStatus;

use hv_host::{Event, Flush, Host, Retarget, VpContext, VpMask};
use hv_memory::{BadAddress, GuestMemory};
use hv_vmbus::{DeviceId, Never, Pages, Started, Token};

use crate::event::{BusEvent, BusObserver};
use crate::port::HostBackend;

/// First guest physical address of the memory.
pub const RAM: u64 = 0x4000_0000;
/// Bytes of it.
pub const RAM_SIZE: u64 = 0x10_0000;

/// Guest memory: [`RAM_SIZE`] bytes from [`RAM`] on, zero at first.
#[derive(Debug)]
pub struct Memory(Vec<AtomicU32>);

impl Default for Memory {
    fn default() -> Self {
        Self((0..RAM_SIZE / 4).map(|_| AtomicU32::new(0)).collect())
    }
}

impl Memory {
    /// Copies all of another one's contents.
    pub fn copy_from(&self, other: &Self) {
        for (to, from) in self.0.iter().zip(&other.0) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    fn word(&self, gpa: u64) -> Result<&AtomicU32, BadAddress> {
        let offset = gpa.checked_sub(RAM).filter(|offset| offset % 4 == 0).ok_or(BadAddress)?;
        self.0.get((offset / 4) as usize).ok_or(BadAddress)
    }

    fn check(&self, gpa: u64, len: u64) -> Result<(), BadAddress> {
        if self.contains(gpa, len) { Ok(()) } else { Err(BadAddress) }
    }
}

impl GuestMemory for Memory {
    fn read(&self, gpa: u64, buf: &mut [u8]) -> Result<(), BadAddress> {
        self.check(gpa, buf.len() as u64)?;
        for (address, byte) in (gpa..).zip(buf) {
            let word = self.word(address & !3)?.load(Ordering::Relaxed);
            *byte = word.to_le_bytes()[(address % 4) as usize];
        }
        Ok(())
    }

    fn write(&self, gpa: u64, data: &[u8]) -> Result<(), BadAddress> {
        self.check(gpa, data.len() as u64)?;
        for (address, byte) in (gpa..).zip(data) {
            let shift = address % 4 * 8;
            let set = |word| Some(word & !(0xff << shift) | u32::from(*byte) << shift);
            let _ = self.word(address & !3)?.fetch_update(Ordering::Relaxed, Ordering::Relaxed, set);
        }
        Ok(())
    }

    fn load_acquire(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.load(Ordering::Acquire))
    }

    fn store_release(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn fetch_or(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.fetch_or(bits, Ordering::AcqRel))
    }

    fn swap(&self, gpa: u64, value: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.swap(value, Ordering::AcqRel))
    }

    fn contains(&self, gpa: u64, len: u64) -> bool {
        gpa >= RAM && gpa.checked_add(len).is_some_and(|end| end <= RAM + RAM_SIZE)
    }
}

/// Something that the partition asked of the embedder, or told the observer.
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
        /// What.
        what: Flush,
    },
    /// [`Host::retarget_interrupt`].
    Retarget {
        /// Device.
        device: u64,
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
}

/// The embedder.
#[derive(Debug)]
pub struct TestHost {
    pub(super) memory: Memory,
    pub(super) counter: AtomicU64,
    /// Ticks that each look at the counter adds.
    step: AtomicU64,
    deadlines: Mutex<Vec<Option<u64>>>,
    effects: Mutex<Vec<Effect>>,
    events: Mutex<Vec<std::string::String>>,
    observer: Mutex<Option<Observer>>,
}

/// What an observer is told.
#[derive(Clone, Copy, Debug)]
pub enum Observed<'a> {
    /// Something happened in the hypervisor.
    Hypervisor(Event<'a>),
    /// Something happened on VMBus.
    Bus(BusEvent<'a>),
}

/// Who is told of everything.
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
    /// An embedder of a partition with this many VPs.
    #[must_use]
    pub fn new(vps: usize) -> Self {
        Self {
            memory: Memory::default(),
            counter: AtomicU64::new(0),
            step: AtomicU64::new(0),
            deadlines: Mutex::new(std::vec![None; vps]),
            effects: Mutex::default(),
            events: Mutex::default(),
            observer: Mutex::default(),
        }
    }

    /// Sets the guest's counter.
    pub fn set_counter(&self, counter: u64) {
        self.counter.store(counter, Ordering::Relaxed);
    }

    /// Makes every look at the counter move it on by this much: time passes inside of a hypercall.
    pub fn set_counter_step(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// The deadline that a VP has asked for.
    pub fn deadline(&self, vp: usize) -> Option<u64> {
        lock(&self.deadlines)[vp]
    }

    /// The effects since the last call.
    pub fn take_effects(&self) -> Vec<Effect> {
        std::mem::take(&mut *lock(&self.effects))
    }

    /// The interrupts among the effects since the last call, as target and INTID; other effects are dropped.
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

    /// Tells `observer` of every event from now on.
    pub fn set_observer(&self, observer: impl FnMut(&Observed<'_>) + Send + 'static) {
        *lock(&self.observer) = Some(Observer(Box::new(observer)));
    }

    /// The events since the last call, in their `Debug` form.
    pub fn take_events(&self) -> Vec<std::string::String> {
        std::mem::take(&mut *lock(&self.events))
    }

    fn tell(&self, text: std::string::String, observed: &Observed<'_>) {
        lock(&self.events).push(text);
        if let Some(Observer(observer)) = &mut *lock(&self.observer) {
            observer(observed);
        }
    }

    fn record(&self, effect: Effect) {
        lock(&self.effects).push(effect);
    }
}

impl BusObserver for TestHost {
    fn observe_bus(&self, event: &BusEvent<'_>) {
        self.tell(std::format!("{event:?}"), &Observed::Bus(*event));
    }
}

impl HostBackend<Never> for TestHost {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

impl Host for TestHost {
    type Memory = Memory;

    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn counter(&self) -> u64 {
        self.counter.fetch_add(self.step.load(Ordering::Relaxed), Ordering::Relaxed)
    }

    fn assert_interrupt(&self, vp: usize, intid: u32) {
        self.record(Effect::Interrupt { vp, intid });
    }

    fn set_deadline(&self, vp: usize, counter: Option<u64>) {
        lock(&self.deadlines)[vp] = counter;
    }

    fn start_vp(&self, vp: usize, context: &VpContext) {
        self.record(Effect::Start { vp, context: *context });
    }

    fn flush_tlb(&self, targets: &VpMask, what: Flush) {
        self.record(Effect::Flush { targets: targets.clone(), what });
    }

    /// Knows device 7 only.
    fn retarget_interrupt(&self, request: &Retarget<'_>) -> Result<(), HvStatus> {
        let Retarget { device, vector, multicast, targets, .. } = *request;
        if device != 7 {
            return Err(HvStatus::INVALID_DEVICE_ID);
        }
        self.record(Effect::Retarget { device, vector, targets: targets.clone(), multicast });
        Ok(())
    }

    fn observe(&self, event: &Event<'_>) {
        self.tell(std::format!("{event:?}"), &Observed::Hypervisor(*event));
        if let Event::Crash { control, parameters, text, .. } = *event {
            self.record(Effect::Crash { control, parameters, text: text.to_vec() });
        }
    }
}
