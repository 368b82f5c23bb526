//! A machine over the model of KVM: the test is the guest.

mod vmbus;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::thread;

use hv_partition::{
    Bus, BusObserver, Config, DeviceId, Event, HostBackend, Never, Pages, Partition, Started, Token, Vp,
    VpContext,
};
use hv_tlfs::psci;
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use parking_lot::RawMutex;

use crate::fake::{Access, Cpu, FREQUENCY, FakeVm, RAM};
use crate::kvm::Exit;
use crate::layout::Layout;
use crate::machine::Machine;
use crate::observer::Observer;
use crate::outcome::RunOutcome;
use crate::register::Register;

/// Where VP 0 starts.
pub(crate) const ENTRY: u64 = RAM + 0x8_0000;
pub(crate) const UART: u64 = Layout::VIRT.uart;
/// The calling VP of its own partition.
const SELF: [u64; 2] = [u64::MAX, 0xffff_fffe];
/// Control words of a fast Get and Set of one register.
const GET: u64 = 0x1_0001_0050;
const SET: u64 = 0x1_0001_0051;
/// A timer's configuration: on as soon as it has a count, in direct mode, with interrupt 18.
pub(crate) const DIRECT_18: u64 = 1 << 3 | 1 << 12 | 18 << 4;

#[derive(Default)]
pub(crate) struct Console(Mutex<Vec<u8>>);

impl Observer for Console {
    fn console(&self, byte: u8) {
        self.0.lock().unwrap().push(byte);
    }
}

impl BusObserver for Console {}

impl HostBackend<Never> for Console {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

/// A guest, from outside: its machine and its virtual CPUs.
pub(crate) struct Guest<'m, S = Console> {
    machine: &'m Machine<FakeVm, S>,
}

impl<S: Observer> Guest<'_, S> {
    pub(crate) fn vm(&self) -> &FakeVm {
        self.machine.vm()
    }

    pub(crate) fn cpu(&self, vp: usize) -> std::sync::Arc<Cpu> {
        self.vm().cpu(vp)
    }

    /// Makes an `hvc` with these registers, and returns X0.
    fn call(&self, vp: usize, x: &[u64]) -> u64 {
        let cpu = self.cpu(vp);
        cpu.settle();
        for (n, value) in x.iter().enumerate() {
            cpu.put(Register::x(n), *value);
        }
        let _ = cpu.take_accesses();
        cpu.exit(Exit::Call { function: x[0] as u32, smc: false });
        cpu.peek(Register::x(0))
    }

    pub(crate) fn psci(&self, vp: usize, function: u32, arguments: [u64; 3]) -> u64 {
        let [a, b, c] = arguments;
        self.call(vp, &[function.into(), a, b, c])
    }

    /// Makes an `hvc` after which the VP does not run.
    pub(crate) fn last_call(&self, vp: usize, function: u32) {
        let cpu = self.cpu(vp);
        cpu.settle();
        cpu.post(Exit::Call { function, smc: false });
    }

    /// Reports the guest's identity, without which it may do little.
    pub(crate) fn identify(&self) {
        self.set(0, RegisterName::GUEST_OS_ID, 1 << 63);
    }

    /// Sets a register of VP `vp` by a fast call.
    pub(crate) fn set(&self, vp: usize, name: RegisterName, value: u64) {
        let [partition, index] = SELF;
        let x = [HYPERCALL.into(), SET, partition, index, name.0.into(), 0, value, 0];
        assert_eq!(self.call(vp, &x), 1 << 32, "{name:?}");
    }
}

/// What ends a machine also if the test panics: the threads have to end.
struct End<'m, S: Observer>(&'m Machine<FakeVm, S>);

impl<S: Observer> Drop for End<'_, S> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs a machine until its end, and `test` beside it.
fn with(vps: usize, config: Config, test: impl FnOnce(&Guest<'_>)) -> RunOutcome {
    let machine = Machine::new(FakeVm::create(vps), Console::default()).unwrap();
    let states: Vec<Vp<RawMutex>> = (0..vps).map(|_| Vp::new()).collect();
    let bus: Bus<RawMutex> = Bus::new(config.vmbus);
    let partition = Partition::new(config.hypervisor, &states, &[], &bus);
    beside(&machine, || machine.run(&partition, &VpContext::at(ENTRY, 7)), test)
}

/// Calls `run`, which runs a machine until its end, and `test` beside it.
pub(crate) fn beside(
    machine: &Machine<FakeVm, Console>,
    run: impl FnOnce() -> RunOutcome + Send,
    test: impl FnOnce(&Guest<'_>),
) -> RunOutcome {
    thread::scope(|scope| {
        let run = scope.spawn(run);
        let end = End(machine);
        test(&Guest { machine });
        std::mem::forget(end);
        run.join().unwrap()
    })
}

pub(crate) fn config() -> Config {
    Config::new(FREQUENCY)
}

/// Hears of what happens to a partition as a whole.
#[derive(Default)]
struct Order(Mutex<Vec<&'static str>>);

impl Observer for Order {
    fn console(&self, _: u8) {}

    fn observe(&self, event: &Event<'_>) {
        match event {
            Event::Reset => self.0.lock().unwrap().push("reset"),
            Event::VpOnline { .. } => self.0.lock().unwrap().push("VP"),
            _ => {}
        }
    }
}

impl BusObserver for Order {}

impl HostBackend<Never> for Order {
    fn start(&self, _: DeviceId, _: Token, request: &Never, _: Pages<'_>) -> Started<Never> {
        match *request {}
    }
}

#[test]
fn threads_beside_the_vps_have_helpers_of_their_own() {
    let machine = Machine::new(FakeVm::create(1), Console::default()).unwrap();
    let helper = || {
        let [first, second] = [(); 2].map(|()| std::ptr::from_ref(machine.embedder().helper()) as usize);
        assert_eq!(first, second);
        first
    };
    let found: BTreeSet<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..Layout::OTHERS).map(|_| scope.spawn(helper)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    // Threads of other tests are numbered in between.
    assert!(found.len() > 1, "{found:x?}");
}

#[test]
fn devices_are_served_from_the_reset_on_and_before_the_first_vp_starts() {
    let machine = Machine::new(FakeVm::create(1), Order::default()).unwrap();
    let states = [Vp::<RawMutex>::new()];
    let bus: Bus<RawMutex> = Bus::new(config().vmbus);
    let partition = Partition::new(config().hypervisor, &states, &[], &bus);
    let begin = || {
        machine.observer().0.lock().unwrap().push("begin");
        machine.stop();
    };
    machine.run_as(machine.embedders(), &partition, &VpContext::at(ENTRY, 7), begin);
    assert_eq!(machine.observer().0.lock().unwrap()[..2], ["reset", "begin"]);
}

#[test]
fn the_first_vp_starts_as_firmware_leaves_it_and_the_guest_powers_off() {
    let outcome = with(2, config(), |guest| {
        let cpu = guest.cpu(0);
        cpu.settle();
        assert_eq!((cpu.peek(Register::PC), cpu.peek(Register::x(0))), (ENTRY, 7));
        assert_eq!(cpu.peek(Register::PSTATE), 0x3c5);
        assert_eq!(cpu.peek(Register::SCTLR_EL1), VpContext::SCTLR_RESET);
        assert_eq!(guest.psci(0, psci::VERSION, [0; 3]), 0x1_0001);
        guest.last_call(0, psci::SYSTEM_OFF);
    });
    assert!(matches!(outcome, RunOutcome::PowerOff), "{outcome:?}");
}

#[test]
fn a_reset_by_smc_is_an_outcome() {
    let outcome = with(1, config(), |guest| {
        let cpu = guest.cpu(0);
        cpu.settle();
        cpu.post(Exit::Call { function: psci::SYSTEM_RESET, smc: true });
    });
    assert!(matches!(outcome, RunOutcome::Reset), "{outcome:?}");
}

#[test]
fn a_fast_get_costs_four_reads_and_three_writes_by_smccc() {
    with(1, config(), |guest| {
        guest.identify();
        let [partition, index] = SELF;
        let x = [HYPERCALL.into(), GET, partition, index, RegisterName::VP_INDEX.0.into(), 0, 9, 9];
        assert_eq!(guest.call(0, &x), 1 << 32);
        let cpu = guest.cpu(0);
        let reads = (1..=4).map(|n| (false, Register::x(n)));
        let writes = [0, 6, 7].map(|n| (true, Register::x(n)));
        assert_eq!(cpu.take_accesses(), reads.chain(writes).collect::<Vec<_>>());
        assert_eq!((cpu.peek(Register::x(6)), cpu.peek(Register::x(7))), (0, 0));
        guest.machine.stop();
    });
}

#[test]
fn a_fast_signal_costs_two_reads_and_one_write() {
    with(1, config(), |guest| {
        guest.identify();
        let cpu = guest.cpu(0);
        // To no connection.
        for (x, reads) in [(&[HYPERCALL.into(), 0x1_005d, 7, 8][..], [1, 2]), (&[0x1_005d, 7, 8], [0, 1])] {
            assert_eq!(guest.call(0, x), 0x12, "invalid connection id");
            let reads = reads.map(|n| (false, Register::x(n)));
            assert_eq!(cpu.take_accesses(), [&reads[..], &[(true, Register::x(0))]].concat());
        }
        guest.machine.stop();
    });
}

#[test]
fn a_fast_get_by_the_other_convention_has_its_output_in_the_last_registers() {
    with(1, config(), |guest| {
        guest.identify();
        let [partition, index] = SELF;
        let mut x = [0; 17];
        x[..4].copy_from_slice(&[GET, partition, index, RegisterName::VP_INDEX.0.into()]);
        (x[15], x[16]) = (9, 9);
        assert_eq!(guest.call(0, &x), 1 << 32);
        let cpu = guest.cpu(0);
        assert_eq!((cpu.peek(Register::x(15)), cpu.peek(Register::x(16))), (0, 0));
        guest.machine.stop();
    });
}

#[test]
fn a_call_that_is_repeated_goes_back_with_what_it_has_done() {
    let mut config = config();
    config.hypervisor.rep_budget = 0;
    with(1, config, |guest| {
        guest.identify();
        let cpu = guest.cpu(0);
        cpu.settle();
        cpu.put(Register::PC, ENTRY + 4);
        let [partition, index] = SELF;
        let [first, second] =
            [RegisterName::GUEST_CRASH_P0, RegisterName::GUEST_CRASH_P1].map(|name| name.0.into());
        let x = [HYPERCALL.into(), 0x2_0001_0051, partition, index, first, 0, 7, 0, second, 0, 8, 0];
        guest.call(0, &x);
        assert_eq!(cpu.peek(Register::PC), ENTRY, "the call is executed again");
        assert_eq!(cpu.peek(Register::x(1)), 1 << 48 | 0x2_0001_0051, "from its second element");
        let get = |name| {
            guest.call(0, &[HYPERCALL.into(), 0x1_0001_0050, partition, index, name, 0, 9, 9]);
            cpu.peek(Register::x(6))
        };
        assert_eq!([first, second].map(get), [7, 0], "the first is set");
        guest.machine.stop();
    });
}

#[test]
fn a_direct_timer_pends_its_interrupt_once() {
    with(2, config(), |guest| {
        guest.identify();
        let vm = guest.vm();
        guest.set(0, RegisterName::STIMER0_CONFIG, DIRECT_18);
        guest.set(0, RegisterName::STIMER0_COUNT, 10);
        vm.advance(990);
        guest.cpu(0).settle();
        assert_eq!(vm.take_helper_accesses(), []);
        vm.advance(11);
        guest.cpu(0).settle();
        vm.advance(1_000_000);
        guest.cpu(0).settle();
        assert_eq!(vm.take_helper_accesses(), [Access::Store { address: 0x080b_0200, value: 1 << 18 }]);
        guest.machine.stop();
    });
}

#[test]
fn a_timer_in_the_past_is_due_at_once() {
    with(1, config(), |guest| {
        guest.identify();
        let vm = guest.vm();
        vm.advance(5000);
        guest.set(0, RegisterName::STIMER0_CONFIG, DIRECT_18);
        guest.set(0, RegisterName::STIMER0_COUNT, 1);
        guest.cpu(0).settle();
        assert_eq!(vm.take_helper_accesses(), [Access::Store { address: 0x080b_0200, value: 1 << 18 }]);
        guest.machine.stop();
    });
}

#[test]
fn an_ipi_goes_to_the_redistributor_of_its_target_and_a_flush_to_all() {
    let mut config = config();
    let enlightenments = &mut config.hypervisor.profile.enlightenments;
    enlightenments.hints = enlightenments.hints.with_use_synthetic_cluster_ipi(true);
    with(2, config, |guest| {
        guest.identify();
        // HvCallSendSyntheticClusterIpi of interrupt 20 to VP 1, fast.
        let x = [HYPERCALL.into(), 0x1_000b, 20, 0b10];
        assert_eq!(guest.call(0, &x), 0);
        // HvCallFlushVirtualAddressSpace of all processors and all spaces, fast.
        assert_eq!(guest.call(0, &[HYPERCALL.into(), 0x1_0002, 0, 3, 0]), 0);
        let ipi = Layout::VIRT.pending(1, 20).unwrap();
        let store = Access::Store { address: ipi.0, value: ipi.1 };
        assert_eq!(guest.vm().take_helper_accesses(), [store, Access::Flush]);
        guest.machine.stop();
    });
}

#[test]
fn a_vp_starts_goes_off_and_starts_again_with_reset_registers() {
    with(2, config(), |guest| {
        let cpu = guest.cpu(1);
        assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [1, RAM + 0x100, 3]), 0);
        cpu.settle();
        assert_eq!((cpu.peek(Register::PC), cpu.peek(Register::x(0)), cpu.resets()), (RAM + 0x100, 3, 0));
        guest.last_call(1, psci::CPU_OFF);
        while guest.psci(0, psci::AFFINITY_INFO | psci::SMC64, [1, 0, 0]) != psci::INFO_OFF {
            thread::yield_now();
        }
        cpu.put(Register::TPIDR_EL1, 1);
        assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [1, RAM + 0x200, 4]), 0);
        cpu.settle();
        assert_eq!((cpu.peek(Register::PC), cpu.peek(Register::x(0)), cpu.resets()), (RAM + 0x200, 4, 1));
        assert_eq!(cpu.peek(Register::TPIDR_EL1), 0);
        guest.machine.stop();
    });
}

#[test]
fn the_last_vp_that_goes_off_ends_the_run() {
    let outcome = with(2, config(), |guest| guest.last_call(0, psci::CPU_OFF));
    assert!(matches!(outcome, RunOutcome::AllVpsOff), "{outcome:?}");
}

#[test]
fn a_stop_ends_vps_that_run_and_vps_that_are_off() {
    let outcome = with(4, config(), |guest| {
        assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [2, RAM, 0]), 0);
        guest.cpu(2).settle();
        guest.machine.stop();
    });
    assert!(matches!(outcome, RunOutcome::Stopped), "{outcome:?}");
}

#[test]
fn a_standby_waits_for_an_interrupt_and_returns() {
    with(1, config(), |guest| {
        let cpu = guest.cpu(0);
        assert_eq!(guest.psci(0, psci::CPU_SUSPEND | psci::SMC64, [0; 3]), 0);
        assert!(cpu.is_suspended());
        cpu.exit(Exit::Wakeup);
        assert!(!cpu.is_suspended());
        guest.machine.stop();
    });
}

#[test]
fn the_console_is_a_uart_with_a_level_interrupt() {
    with(1, config(), |guest| {
        let cpu = guest.cpu(0);
        cpu.exit(Exit::Read { address: UART + 0x18, size: 4 });
        assert_eq!(cpu.take_read(), Some(0x90));
        for byte in *b"ok\n" {
            cpu.exit(Exit::Write { address: UART, size: 1, value: byte.into() });
        }
        assert_eq!(*guest.machine.observer().0.lock().unwrap(), b"ok\n");
        // The receive timeout.
        cpu.exit(Exit::Write { address: UART + 0x38, size: 4, value: 1 << 6 });
        assert_eq!(guest.vm().take_spis(), []);
        assert_eq!(guest.machine.input(b"x"), 1);
        cpu.exit(Exit::Read { address: UART, size: 1 });
        assert_eq!(cpu.take_read(), Some(u64::from(b'x')));
        assert_eq!(guest.vm().take_spis(), [(33, true), (33, false)]);
        assert_eq!(cpu.aborts(), 0);
        guest.machine.stop();
    });
}

#[test]
fn an_access_to_nothing_is_an_external_abort() {
    with(1, config(), |guest| {
        let cpu = guest.cpu(0);
        cpu.exit(Exit::Read { address: 0x1000, size: 4 });
        cpu.exit(Exit::Write { address: UART + 0x1000, size: 4, value: 1 });
        cpu.exit(Exit::Write { address: UART, size: 8, value: 1 });
        cpu.exit(Exit::NoSyndrome);
        assert_eq!((cpu.aborts(), cpu.take_read()), (4, None));
        guest.machine.stop();
    });
}

#[test]
fn an_exit_without_meaning_ends_the_run_with_its_number() {
    let outcome = with(2, config(), |guest| {
        let cpu = guest.cpu(0);
        cpu.settle();
        cpu.post(Exit::Other(17));
    });
    let RunOutcome::Failed { error, .. } = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains("exit reason 17"), "{error}");
}
