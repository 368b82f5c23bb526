//! A small embedder for tests: fake memory, a settable clock, recorded effects.
//!
//! ```
//! use hv_host::testing::{Machine, run};
//! use hv_host::Config;
//! use hv_tlfs::register::RegisterName;
//!
//! run(Config::new(62_500_000), 2, &[], |machine: &Machine<'_>| {
//!     assert_eq!(machine.get(1, RegisterName::VP_INDEX), Ok(1));
//! });
//! ```

use std::boxed::Box;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::Message;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use zerocopy::FromBytes as _;

use crate::event::Event;
use crate::{
    Action, BadAddress, Config, Flush, GuestMemory, Host, Partition, Port, Retarget, Vp, VpContext, VpMask,
};

/// First guest physical address of the memory.
pub const RAM: u64 = 0x4000_0000;
/// Bytes of it.
pub const RAM_SIZE: u64 = 0x10_0000;
/// A page that [`Machine::call`] uses for the input of VP 0; the ones for its output and for other VPs follow.
const PARAMETERS: u64 = RAM + RAM_SIZE / 2;
/// Guest OS id that [`run`] writes: Linux 6.12.
pub const LINUX_ID: u64 = 0x8100_0006_0c00_0000;

/// Control word of a simple hypercall.
#[must_use]
pub const fn simple(code: HypercallCode) -> HypercallInput {
    HypercallInput::from_code(code)
}

/// Control word of a rep hypercall with this many elements.
#[must_use]
pub const fn rep(code: HypercallCode, count: u16) -> HypercallInput {
    HypercallInput::from_code(code).with_rep_count(count)
}

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

    fn load_u32(&self, gpa: u64) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.load(Ordering::Acquire))
    }

    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        self.word(gpa)?.store(value, Ordering::Release);
        Ok(())
    }

    fn fetch_or_u32(&self, gpa: u64, bits: u32) -> Result<u32, BadAddress> {
        Ok(self.word(gpa)?.fetch_or(bits, Ordering::SeqCst))
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
    memory: Memory,
    counter: AtomicU64,
    /// Ticks that each look at the counter adds.
    step: AtomicU64,
    current: AtomicUsize,
    deadlines: Mutex<Vec<Option<u64>>>,
    effects: Mutex<Vec<Effect>>,
    events: Mutex<Vec<std::string::String>>,
    observer: Mutex<Option<Observer>>,
}

/// Somebody who is told of every event.
struct Observer(Box<dyn FnMut(&Event<'_>) + Send>);

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Observer")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl TestHost {
    fn new(vps: usize) -> Self {
        Self {
            memory: Memory::default(),
            counter: AtomicU64::new(0),
            step: AtomicU64::new(0),
            current: AtomicUsize::new(0),
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
    pub fn set_observer(&self, observer: impl FnMut(&Event<'_>) + Send + 'static) {
        *lock(&self.observer) = Some(Observer(Box::new(observer)));
    }

    /// The events since the last call, in their `Debug` form.
    pub fn take_events(&self) -> Vec<std::string::String> {
        std::mem::take(&mut *lock(&self.events))
    }

    fn record(&self, effect: Effect) {
        lock(&self.effects).push(effect);
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

    fn set_deadline(&self, counter: Option<u64>) {
        lock(&self.deadlines)[self.current.load(Ordering::Relaxed)] = counter;
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
        lock(&self.events).push(std::format!("{event:?}"));
        if let Some(Observer(observer)) = &mut *lock(&self.observer) {
            observer(event);
        }
        if let Event::Crash { control, parameters, text, .. } = *event {
            self.record(Effect::Crash { control, parameters, text: text.to_vec() });
        }
    }
}

/// A partition in its embedder.
#[derive(Debug)]
pub struct Machine<'a> {
    /// The partition.
    pub partition: Partition<'a>,
    /// The embedder.
    pub host: TestHost,
}

/// Runs `test` with a machine whose VPs are all online and whose guest OS id is [`LINUX_ID`].
pub fn run<R>(config: Config, vps: usize, ports: &[Port], test: impl FnOnce(&Machine<'_>) -> R) -> R {
    run_bare(config, vps, ports, |machine| {
        for vp in 0..vps {
            machine.online(vp);
        }
        machine.set(0, RegisterName::GUEST_OS_ID, LINUX_ID).expect("the guest OS id can always be written");
        machine.host.take_effects();
        machine.host.take_events();
        test(machine)
    })
}

/// Runs `test` with a machine as it is after reset: all VPs off, no guest OS id.
pub fn run_bare<R>(config: Config, vps: usize, ports: &[Port], test: impl FnOnce(&Machine<'_>) -> R) -> R {
    let vps: Box<[Vp]> = (0..vps).map(|_| Vp::new()).collect();
    let machine = Machine { partition: Partition::new(config, &vps, ports), host: TestHost::new(vps.len()) };
    machine.partition.reset(&machine.host);
    machine.host.take_events();
    test(&machine)
}

impl Machine<'_> {
    /// Counter ticks of a span of reference time, rounded up.
    pub fn ticks(&self, units: u64) -> u64 {
        let frequency = u128::from(self.partition.config().counter_frequency);
        (u128::from(units) * frequency).div_ceil(10_000_000) as u64
    }

    /// Sets the clock so that the reference time is at least `units` of 100 ns, and lets due timers expire on all VPs.
    pub fn set_time(&self, units: u64) {
        self.host.set_counter(self.ticks(units) + 1);
        for vp in 0..self.partition.vp_count() {
            let now = self.host.counter.load(Ordering::Relaxed);
            if self.host.deadline(vp).is_some_and(|deadline| deadline <= now) {
                self.expire(vp);
            }
        }
    }

    /// Calls [`Partition::timer_expired`] on a VP.
    pub fn expire(&self, vp: usize) {
        self.host.current.store(vp, Ordering::Relaxed);
        self.partition.timer_expired(&self.host, vp);
    }

    /// Brings a VP online.
    pub fn online(&self, vp: usize) {
        self.host.current.store(vp, Ordering::Relaxed);
        self.partition.vp_online(&self.host, vp);
    }

    /// Takes a VP offline.
    pub fn offline(&self, vp: usize) {
        self.host.current.store(vp, Ordering::Relaxed);
        self.partition.vp_offline(&self.host, vp);
    }

    /// An `hvc`. A call that has to be made again is not.
    pub fn hvc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action {
        self.host.current.store(vp, Ordering::Relaxed);
        self.partition.hvc(&self.host, vp, immediate, x)
    }

    /// An `smc #0`.
    pub fn smc(&self, vp: usize, x: &mut [u64; 31]) -> Action {
        self.host.current.store(vp, Ordering::Relaxed);
        self.partition.smc(&self.host, vp, 0, x)
    }

    /// An SMCCC function by `hvc #0`: what X0 becomes, and the action.
    pub fn smccc(&self, vp: usize, function: u32, arguments: [u64; 3]) -> (u64, Action) {
        let mut x = [0; 31];
        x[0] = u64::from(function);
        x[1..4].copy_from_slice(&arguments);
        let action = self.hvc(vp, 0, &mut x);
        (x[0], action)
    }

    /// A fast hypercall by `hvc #0`: the result, and X2 to X17 as they are afterwards. Made again until it is done.
    pub fn fast(&self, vp: usize, control: HypercallInput, input: &[u64]) -> (HypercallOutput, [u64; 16]) {
        let mut x = [0; 31];
        x[2..2 + input.len()].copy_from_slice(input);
        let control = control.with_fast(true).0;
        let result = self.until_done(vp, &mut x, control);
        let mut output = [0; 16];
        output.copy_from_slice(&x[2..18]);
        (result, output)
    }

    fn until_done(&self, vp: usize, x: &mut [u64; 31], control: u64) -> HypercallOutput {
        x[0] = u64::from(HYPERCALL);
        x[1] = control;
        while self.hvc(vp, 0, x) == Action::Retry {}
        HypercallOutput(x[0])
    }

    /// A hypercall with its parameters in memory at addresses that fit, by `hvc #0`, made again until it is done:
    /// the result and `output_size` bytes of output.
    pub fn call(
        &self,
        vp: usize,
        control: HypercallInput,
        input: &[u8],
        output_size: usize,
    ) -> (HypercallOutput, Vec<u8>) {
        let input_gpa = PARAMETERS + vp as u64 * 0x2000;
        let output_gpa = input_gpa + 0x1000;
        self.host.memory.write(input_gpa, input).expect("parameters fit");
        let result = self.call_at(vp, control, input_gpa, output_gpa);
        let mut output = std::vec![0; output_size];
        self.host.memory.read(output_gpa, &mut output).expect("output fits");
        (result, output)
    }

    /// A hypercall with these parameter addresses, by `hvc #0`, made again until it is done.
    pub fn call_at(&self, vp: usize, control: HypercallInput, input: u64, output: u64) -> HypercallOutput {
        let mut x = [0; 31];
        x[2] = input;
        x[3] = output;
        self.until_done(vp, &mut x, control.0)
    }

    /// Reads a register of the VP's own.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn get(&self, vp: usize, name: RegisterName) -> Result<u64, HvStatus> {
        self.get_wide(vp, name).map(|[low, _]| low)
    }

    /// Reads all 128 bits of a register of the VP's own, low half first.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn get_wide(&self, vp: usize, name: RegisterName) -> Result<[u64; 2], HvStatus> {
        let control = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(1);
        let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(name.0)];
        let (result, x) = self.fast(vp, control, &input);
        match result.status() {
            HvStatus::SUCCESS => Ok([x[4], x[5]]),
            status => Err(status),
        }
    }

    /// Writes a register of the VP's own.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn set(&self, vp: usize, name: RegisterName, value: u64) -> Result<(), HvStatus> {
        let control = HypercallInput::from_code(HypercallCode::SET_VP_REGISTERS).with_rep_count(1);
        let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(name.0), 0, value, 0];
        match self.fast(vp, control, &input).0.status() {
            HvStatus::SUCCESS => Ok(()),
            status => Err(status),
        }
    }

    /// Message page of a VP as [`enable_synic`](Self::enable_synic) sets it up; the event flags page follows.
    pub fn message_page(&self, vp: usize) -> u64 {
        RAM + 0x1_0000 + vp as u64 * 0x2000
    }

    /// Sets up a VP's SynIC as Linux does: both pages, this SINT with this vector, SCONTROL.
    pub fn enable_synic(&self, vp: usize, sint: u8, vector: u8) {
        let page = self.message_page(vp);
        let set = |name, value| self.set(vp, name, value).expect("SynIC registers can be written");
        set(RegisterName::SIMP, page | 1);
        set(RegisterName::SIEFP, (page + 0x1000) | 1);
        set(RegisterName::sint(sint), u64::from(vector));
        set(RegisterName::SCONTROL, 1);
    }

    /// The message in a slot.
    pub fn slot(&self, vp: usize, sint: u8) -> Message {
        let mut bytes = [0; 256];
        let slot = self.message_page(vp) + u64::from(sint) * 256;
        self.host.memory.read(slot, &mut bytes).expect("the message page is memory");
        Message::read_from_bytes(&bytes).expect("a message is 256 bytes")
    }

    /// Empties a slot as a guest does: takes the message, sets the type to none, and writes EOM if messages are pending.
    /// `None` if it was empty.
    pub fn take_message(&self, vp: usize, sint: u8) -> Option<Message> {
        let message = self.slot(vp, sint);
        if message.header.message_type.0 == 0 {
            return None;
        }
        let slot = self.message_page(vp) + u64::from(sint) * 256;
        self.host.memory.store_u32(slot, 0).expect("the message page is memory");
        if self.slot(vp, sint).header.flags.message_pending() {
            self.set(vp, RegisterName::EOM, 0).expect("EOM can be written");
        }
        Some(message)
    }

    /// Whether an event flag is set.
    pub fn event_flag(&self, vp: usize, sint: u8, flag: u16) -> bool {
        let word = self.message_page(vp) + 0x1000 + u64::from(sint) * 256 + u64::from(flag / 32 * 4);
        self.host.memory.load_u32(word).expect("the event flags page is memory") >> (flag % 32) & 1 != 0
    }
}
