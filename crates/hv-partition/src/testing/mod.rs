//! A small embedder for tests: fake memory, a settable clock, recorded effects.
//!
//! ```
//! use hv_partition::testing::{TestMachine, run};
//! use hv_partition::Config;
//! use hv_tlfs::register::RegisterName;
//!
//! run(Config::new(62_500_000), 2, &[], |machine: &TestMachine<'_>| {
//!     assert_eq!(machine.get(1, RegisterName::VP_INDEX), Ok(1));
//! });
//! ```

mod host;

use std::boxed::Box;
use std::vec::Vec;

use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::Message;
use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};
use zerocopy::FromBytes as _;

use hv_host::faults::{Injector, Plan, Timed};
use hv_host::{Action, Faulty, Host, Port, Vp};
use hv_memory::GuestMemory;
pub use hv_memory::testing::rehash;

use crate::{Bus, Config, Partition, Served};

pub use host::{Effect, Memory, Observed, RAM, RAM_SIZE, Recorder, TestHost, Watch};

/// A page that [`TestMachine::call`] uses for the input of VP 0; the ones for its output and for other VPs follow.
const PARAMETERS: u64 = RAM + RAM_SIZE / 2;
/// Guest OS id that [`run`] writes: Linux 6.12.
pub const LINUX_ID: u64 = 0x8100_0006_0c00_0000;

/// Returns the control word of a simple hypercall.
#[must_use]
pub const fn simple(code: HypercallCode) -> HypercallInput {
    HypercallInput::from_code(code)
}

/// Returns the control word of a rep hypercall with this many elements.
#[must_use]
pub const fn rep(code: HypercallCode, count: u16) -> HypercallInput {
    HypercallInput::from_code(code).with_rep_count(count)
}

/// The lock of this embedder, which runs in threads.
pub type Lock = parking_lot::RawMutex;

/// The embedder with a fault plan, which may be [`Plan::NONE`].
pub type FaultyHost = Faulty<TestHost, Injector>;

/// A bus for this embedder's partitions, whatever its devices: the embedder serves their requests.
pub trait Driven: for<'h> Served<'h, Lock, FaultyHost> {}

impl<B: for<'h> Served<'h, Lock, FaultyHost>> Driven for B {}

/// A partition in its embedder.
#[derive(Debug)]
pub struct TestMachine<'a, B = Bus<Lock>> {
    /// The partition.
    pub partition: Partition<'a, Lock, B>,
    /// The embedder.
    pub host: FaultyHost,
}

/// Runs `test` with a machine whose VPs are all online and whose guest OS id is [`LINUX_ID`].
pub fn run<R>(
    config: impl Into<Config>,
    vps: usize,
    ports: &[Port],
    test: impl FnOnce(&TestMachine<'_>) -> R,
) -> R {
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

/// Runs `test` with a machine as after reset: all VPs off, no guest OS id.
pub fn run_bare<R>(
    config: impl Into<Config>,
    vps: usize,
    ports: &[Port],
    test: impl FnOnce(&TestMachine<'_>) -> R,
) -> R {
    run_with_faults(config, Plan::NONE, vps, ports, test)
}

/// Does the same as [`run_bare`], with injected faults.
pub fn run_with_faults<R>(
    config: impl Into<Config>,
    plan: Plan,
    vps: usize,
    ports: &[Port],
    test: impl FnOnce(&TestMachine<'_>) -> R,
) -> R {
    let config = config.into();
    let bus = Bus::with_offers(config.vmbus, config.offers);
    run_with(config.hypervisor, plan, &bus, vps, ports, test)
}

/// Does the same as [`run_bare`], with a bus of the caller's, used by no other machine.
pub fn run_bus<R, B: Driven>(
    config: hv_host::Config,
    bus: &B,
    vps: usize,
    ports: &[Port],
    test: impl FnOnce(&TestMachine<'_, B>) -> R,
) -> R {
    run_with(config, Plan::NONE, bus, vps, ports, test)
}

/// Does the same as [`run_bus`], with injected faults.
pub fn run_bus_with_faults<R, B: Driven>(
    config: hv_host::Config,
    plan: Plan,
    bus: &B,
    vps: usize,
    test: impl FnOnce(&TestMachine<'_, B>) -> R,
) -> R {
    run_with(config, plan, bus, vps, &[], test)
}

fn run_with<R, B: Driven>(
    config: hv_host::Config,
    plan: Plan,
    bus: &B,
    vps: usize,
    ports: &[Port],
    test: impl FnOnce(&TestMachine<'_, B>) -> R,
) -> R {
    let vps: Box<[Vp<Lock>]> = (0..vps).map(|_| Vp::new()).collect();
    let host = Faulty::new(TestHost::new(vps.len()), Injector::new(plan));
    let machine = TestMachine { partition: Partition::new(config, &vps, ports, bus), host };
    machine.partition.reset(&machine.host);
    machine.host.take_events();
    test(&machine)
}

impl<B: Driven> TestMachine<'_, B> {
    /// Returns the partition's saved image.
    ///
    /// # Panics
    /// If the partition cannot be saved now.
    pub fn image(&self) -> Vec<u8> {
        let mut image = Vec::new();
        self.partition.save(&self.host, &mut |bytes| image.extend_from_slice(bytes)).unwrap();
        image
    }

    /// Converts a duration in reference time to counter ticks, rounded up.
    pub fn ticks(&self, time: ReferenceTime) -> u64 {
        let frequency = u128::from(self.partition.config().counter_frequency);
        (u128::from(time.ticks()) * frequency).div_ceil(CLOCK_HZ.into()) as u64
    }

    /// Sets the clock so that the reference time is at least `time`, and expires due timers on all VPs.
    pub fn set_time(&self, time: ReferenceTime) {
        self.host.set_counter(self.ticks(time) + 1);
        self.inject_timed(time);
        self.host.due().for_each(|vp| self.expire(vp));
    }

    /// Injects the faults that are due.
    fn inject_timed(&self, now: ReferenceTime) {
        let partition = &self.partition;
        self.host.plan().tick(now, &mut |timed| match timed {
            Timed::Spurious(intid) => self.host.assert_interrupt(0, intid),
            Timed::Migrate => {
                let now = partition.reference_time(&self.host);
                partition.migrate(&self.host, partition.config().counter_frequency, now);
            }
            Timed::Disturb(what, random) => {
                (0..partition.vp_count()).for_each(|vp| partition.disturb(&self.host, vp, what, random));
            }
            // There is no network card.
            Timed::Link(_) => {}
            Timed::Resume => partition.resume_devices(&self.host),
            Timed::Rescan => (0..partition.vp_count()).for_each(|vp| partition.rescan(&self.host, vp)),
        });
    }

    /// Calls [`Partition::timer_expired`] on a VP.
    pub fn expire(&self, vp: usize) {
        self.partition.timer_expired(&self.host, vp);
    }

    /// Brings a VP online.
    pub fn online(&self, vp: usize) {
        self.partition.vp_online(&self.host, vp);
    }

    /// Takes a VP offline.
    pub fn offline(&self, vp: usize) {
        self.partition.vp_offline(&self.host, vp);
    }

    /// Executes an `hvc`, without repeating a call that must be repeated.
    pub fn hvc(&self, vp: usize, immediate: u16, x: &mut [u64; 31]) -> Action {
        self.partition.hvc(&self.host, vp, immediate, x)
    }

    /// Executes an `smc #0`.
    pub fn smc(&self, vp: usize, x: &mut [u64; 31]) -> Action {
        self.partition.smc(&self.host, vp, 0, x)
    }

    /// Calls an SMCCC function through `hvc #0`: returns the new X0, and the action.
    pub fn smccc(&self, vp: usize, function: u32, arguments: [u64; 3]) -> (u64, Action) {
        let mut x = [0; 31];
        x[0] = u64::from(function);
        x[1..4].copy_from_slice(&arguments);
        let action = self.hvc(vp, 0, &mut x);
        (x[0], action)
    }

    /// Makes a fast hypercall through `hvc #0`, repeating it until it is done: returns the result, and X2 to X17
    /// afterwards.
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

    /// Makes a hypercall with its parameters in memory at suitable addresses, through `hvc #0`, repeating it until it
    /// is done: returns the result and `output_size` bytes of output.
    pub fn call(
        &self,
        vp: usize,
        control: HypercallInput,
        input: &[u8],
        output_size: usize,
    ) -> (HypercallOutput, Vec<u8>) {
        let input_gpa = PARAMETERS + vp as u64 * 0x2000;
        let output_gpa = input_gpa + 0x1000;
        self.host.memory().write(input_gpa, input).expect("parameters fit");
        let result = self.call_at(vp, control, input_gpa, output_gpa);
        let mut output = std::vec![0; output_size];
        self.host.memory().read(output_gpa, &mut output).expect("output fits");
        (result, output)
    }

    /// Makes a hypercall with these parameter addresses, through `hvc #0`, repeating it until it is done.
    pub fn call_at(&self, vp: usize, control: HypercallInput, input: u64, output: u64) -> HypercallOutput {
        let mut x = [0; 31];
        x[2] = input;
        x[3] = output;
        self.until_done(vp, &mut x, control.0)
    }

    /// Reads a register of the VP itself.
    ///
    /// # Errors
    /// The status that the guest gets.
    pub fn get(&self, vp: usize, name: RegisterName) -> Result<u64, HvStatus> {
        self.get_wide(vp, name).map(|[low, _]| low)
    }

    /// Reads all 128 bits of a register of the VP itself, low half first.
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

    /// Writes a register of the VP itself.
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

    /// Returns the message page of a VP as set up by [`enable_synic`](Self::enable_synic); the event flags page
    /// follows.
    pub fn message_page(&self, vp: usize) -> u64 {
        RAM + 0x1_0000 + vp as u64 * 0x2000
    }

    /// Sets up a VP's SynIC like Linux: both pages, this SINT with this vector, SCONTROL.
    pub fn enable_synic(&self, vp: usize, sint: u8, vector: u8) {
        let page = self.message_page(vp);
        let set = |name, value| self.set(vp, name, value).expect("SynIC registers can be written");
        set(RegisterName::SIMP, page | 1);
        set(RegisterName::SIEFP, (page + 0x1000) | 1);
        set(RegisterName::sint(sint), u64::from(vector));
        set(RegisterName::SCONTROL, 1);
    }

    /// Returns the message in a slot.
    pub fn slot(&self, vp: usize, sint: u8) -> Message {
        let mut bytes = [0; 256];
        let slot = self.message_page(vp) + u64::from(sint) * 256;
        self.host.memory().read(slot, &mut bytes).expect("the message page is memory");
        Message::read_from_bytes(&bytes).expect("a message is 256 bytes")
    }

    /// Empties a slot like a guest: takes the message, sets the type to none, and writes EOM if messages are pending.
    /// Returns `None` if it was empty.
    pub fn take_message(&self, vp: usize, sint: u8) -> Option<Message> {
        let message = self.slot(vp, sint);
        if message.header.message_type.0 == 0 {
            return None;
        }
        let slot = self.message_page(vp) + u64::from(sint) * 256;
        self.host.memory().store_release(slot, 0).expect("the message page is memory");
        if self.slot(vp, sint).header.flags.message_pending() {
            self.set(vp, RegisterName::EOM, 0).expect("EOM can be written");
        }
        Some(message)
    }

    /// Returns true if an event flag is set.
    pub fn event_flag(&self, vp: usize, sint: u8, flag: u16) -> bool {
        let word = self.message_page(vp) + 0x1000 + u64::from(sint) * 256 + u64::from(flag / 32 * 4);
        self.host.memory().load_acquire(word).expect("the event flags page is memory") >> (flag % 32) & 1 != 0
    }
}
