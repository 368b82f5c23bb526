//! A machine over the model of KVM is saved and restored.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hv_memory::save::{RestoreError as ImageError, Writer};
use hv_partition::{Bus, Partition, Vp, VpContext};
use hv_tlfs::psci;
use hv_tlfs::register::RegisterName;
use parking_lot::RawMutex;

use super::{MAGIC, RestoreError, SaveError, VERSION};
use crate::fake::{Access, FPSR, FakeVm, RAM, V0};
use crate::gic::{GicRegister, control, cpu, distributor, redistributor};
use crate::kvm::{Exit, Parts, SError, Vm as _};
use crate::layout::Layout;
use crate::machine::Machine;
use crate::outcome::RunOutcome;
use crate::register::Register;
use crate::tests::{Console, DIRECT_18, ENTRY, Guest, UART, beside, config};

type OwnMachine = Machine<FakeVm, Console>;
type OwnPartition<'p> = Partition<'p, RawMutex, Bus<RawMutex>>;

/// Calls a function with a new machine and its partition.
fn on<T>(parts: Parts<FakeVm>, work: impl FnOnce(&OwnMachine, &OwnPartition<'_>) -> T) -> T {
    let vps = parts.vps.len();
    let machine = Machine::new(parts, Console::default()).unwrap();
    let states: Vec<Vp<RawMutex>> = (0..vps).map(|_| Vp::new()).collect();
    let bus = Bus::new(config().vmbus);
    work(&machine, &Partition::new(config().hypervisor, &states, &[], &bus))
}

/// Runs a machine from its start, and `test` beside it, which ends it.
fn begin(machine: &OwnMachine, partition: &OwnPartition<'_>, test: impl FnOnce(&Guest<'_>)) -> RunOutcome {
    beside(machine, || machine.run(partition, &VpContext::at(ENTRY, 7)), test)
}

/// Does the same with one that goes on.
fn go_on(machine: &OwnMachine, partition: &OwnPartition<'_>, test: impl FnOnce(&Guest<'_>)) -> RunOutcome {
    beside(machine, || machine.resume(partition), test)
}

fn image(machine: &OwnMachine, partition: &OwnPartition<'_>) -> Vec<u8> {
    let mut image = Vec::new();
    machine.save(machine.embedder(), partition, &mut |part| image.extend_from_slice(part)).unwrap();
    image
}

fn restore(machine: &OwnMachine, partition: &OwnPartition<'_>, image: &[u8]) -> Result<(), RestoreError> {
    machine.restore(machine.embedder(), partition, image)
}

/// Returns an image of two VPs that run.
fn plain_image() -> Vec<u8> {
    on(FakeVm::create(2), |machine, partition| {
        begin(machine, partition, |guest| {
            assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [1, RAM + 0x100, 3]), 0);
            guest.cpu(1).settle();
            machine.stop();
        });
        image(machine, partition)
    })
}

/// Returns the body of an image: what is between its version and its hash.
fn body(image: &[u8]) -> &[u8] {
    &image[12..image.len() - 8]
}

/// Frames the body of an image.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut image = Vec::new();
    let mut sink = |part: &[u8]| image.extend_from_slice(part);
    let mut writer = Writer::begin(&mut sink, MAGIC, VERSION);
    writer.bytes(body);
    writer.finish();
    image
}

/// Returns where the partition's part of an image is.
fn partition_at(image: &[u8]) -> usize {
    image.windows(8).position(|bytes| bytes == b"hv-part\0").unwrap()
}

/// Numbers without a pattern.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Gives the interrupt controller of a machine that does not run numbers in all registers.
fn fill_gic(vm: &FakeVm, vps: usize, numbers: &mut Numbers) {
    let mut fill = |register: GicRegister| {
        let value = numbers.next();
        let value = if register.size() == 4 { value & u64::from(u32::MAX) } else { value };
        vm.set_gic(register, value).unwrap();
    };
    distributor().for_each(|entry| fill(entry.register));
    for vp in 0..vps {
        redistributor(vp).for_each(|entry| fill(entry.register));
        fill(control(vp).register);
        // As many as there can be.
        cpu(vp, 6 << 8).for_each(|entry| fill(entry.register));
    }
}

#[test]
fn a_saved_machine_is_the_same_again() {
    for seed in 1..30 {
        let mut numbers = Numbers(seed);
        let saved = on(FakeVm::create(3), |machine, partition| {
            fill_gic(machine.vm(), 3, &mut numbers);
            let outcome = begin(machine, partition, |guest| {
                guest.identify();
                guest.vm().advance(numbers.next() >> 40);
                guest.set(0, RegisterName::STIMER0_CONFIG, DIRECT_18);
                guest.set(0, RegisterName::STIMER0_COUNT, 1 << 40);
                assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [2, RAM + 0x100, 3]), 0);
                assert_eq!(guest.psci(2, psci::CPU_SUSPEND | psci::SMC64, [0; 3]), 0);
                guest.cpu(0).exit(Exit::Write { address: UART + 0x38, size: 4, value: 1 << 6 });
                assert_eq!(machine.input(b"typed"), 5);
                for vp in [0, 2] {
                    let cpu = guest.cpu(vp);
                    cpu.settle();
                    (0..31).for_each(|n| cpu.put(Register::x(n), numbers.next()));
                    cpu.put_wide(V0, u128::from(numbers.next()) << 64 | u128::from(numbers.next()));
                    cpu.put(FPSR, numbers.next() >> 32);
                }
                let syndrome = (seed % 2 == 0).then(|| numbers.next());
                guest.cpu(2).put_serror(SError { syndrome });
                machine.stop();
            });
            assert!(matches!(outcome, RunOutcome::Stopped), "{outcome:?}");
            image(machine, partition)
        });
        on(FakeVm::create(3), |machine, partition| {
            restore(machine, partition, &saved).unwrap();
            assert!(image(machine, partition) == saved, "seed {seed}");
            // The level of the console's interrupt, which is no state of the interrupt controller.
            assert_eq!(machine.vm().take_spis(), [(33, true)]);
            let cpu = machine.vm().cpu(2);
            assert!(cpu.is_suspended());
            assert_eq!(cpu.peek_serror().unwrap().syndrome.is_some(), seed % 2 == 0);
            assert_ne!(machine.vm().cpu(0).peek_wide(V0) >> 64, 0);
        });
    }
}

#[test]
fn a_restored_machine_goes_on_where_the_saved_one_was() {
    let saved = on(FakeVm::create(3), |machine, partition| {
        begin(machine, partition, |guest| {
            guest.identify();
            guest.vm().advance(5000);
            guest.set(0, RegisterName::STIMER0_CONFIG, DIRECT_18);
            guest.set(0, RegisterName::STIMER0_COUNT, 100);
            assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [1, RAM + 0x100, 3]), 0);
            let cpu = guest.cpu(1);
            cpu.settle();
            cpu.put(Register::PC, RAM + 0x1234);
            machine.stop();
        });
        image(machine, partition)
    });
    let outcome = on(FakeVm::create(3), |machine, partition| {
        restore(machine, partition, &saved).unwrap();
        let vm = machine.vm();
        assert_eq!(vm.counter(), 5000);
        go_on(machine, partition, |guest| {
            let cpu = guest.cpu(1);
            cpu.settle();
            assert_eq!(
                (cpu.peek(Register::PC), cpu.peek(Register::x(0)), cpu.resets()),
                (RAM + 0x1234, 3, 0)
            );
            // The timer is at 10,000 ns.
            vm.advance(4999);
            guest.cpu(0).settle();
            assert_eq!(vm.take_helper_accesses(), []);
            vm.advance(2);
            guest.cpu(0).settle();
            let pended = Layout::VIRT.pending(0, 18).unwrap();
            assert_eq!(vm.take_helper_accesses(), [Access::Store { address: pended.0, value: pended.1 }]);
            // The one that was off starts; all but the last go off again.
            assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [2, RAM + 0x200, 4]), 0);
            guest.cpu(2).settle();
            assert_eq!(guest.cpu(2).peek(Register::PC), RAM + 0x200);
            for vp in 0..3 {
                guest.last_call(vp, psci::CPU_OFF);
            }
        })
    });
    assert!(matches!(outcome, RunOutcome::AllVpsOff), "{outcome:?}");
}

#[test]
fn a_stopped_machine_goes_on_and_can_be_stopped_again() {
    on(FakeVm::create(2), |machine, partition| {
        begin(machine, partition, |guest| {
            assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [1, RAM, 0]), 0);
            guest.cpu(1).settle();
            guest.cpu(0).put(Register::PC, 0x42);
            machine.stop();
        });
        for _ in 0..3 {
            let outcome = go_on(machine, partition, |guest| {
                guest.cpu(0).settle();
                guest.cpu(1).settle();
                assert_eq!((guest.cpu(0).peek(Register::PC), guest.cpu(0).resets()), (0x42, 0));
                machine.stop();
            });
            assert!(matches!(outcome, RunOutcome::Stopped), "{outcome:?}");
        }
        // One that is off stays off, and starts as after a reset.
        go_on(machine, partition, |guest| {
            guest.last_call(1, psci::CPU_OFF);
            while guest.psci(0, psci::AFFINITY_INFO | psci::SMC64, [1, 0, 0]) != psci::INFO_OFF {
                std::thread::yield_now();
            }
            machine.stop();
        });
        let outcome = go_on(machine, partition, |guest| {
            assert_eq!(guest.psci(0, psci::CPU_ON | psci::SMC64, [1, RAM, 0]), 0);
            guest.cpu(1).settle();
            assert_eq!(guest.cpu(1).resets(), 1);
            guest.last_call(0, psci::SYSTEM_OFF);
        });
        assert!(matches!(outcome, RunOutcome::PowerOff), "{outcome:?}");
        let saved = machine.save(machine.embedder(), partition, &mut |_| ());
        assert!(matches!(saved, Err(SaveError::NotStopped)), "{saved:?}");
    });
}

#[test]
fn a_vp_that_has_not_started_yet_starts_in_the_restored_machine() {
    let saved = on(FakeVm::create(1), |machine, partition| {
        let saved = machine.save(machine.embedder(), partition, &mut |_| ());
        assert!(matches!(saved, Err(SaveError::NotStopped)), "{saved:?}");
        // What is wrong changes nothing.
        let resumed = catch_unwind(AssertUnwindSafe(|| machine.resume(partition)));
        assert!(resumed.is_err(), "{resumed:?}");
        machine.stop();
        begin(machine, partition, |_| ());
        image(machine, partition)
    });
    on(FakeVm::create(1), |machine, partition| {
        restore(machine, partition, &saved).unwrap();
        assert!(image(machine, partition) == saved);
        let again = restore(machine, partition, &saved);
        assert!(matches!(again, Err(RestoreError::NotNew)), "{again:?}");
        go_on(machine, partition, |guest| {
            let cpu = guest.cpu(0);
            cpu.settle();
            assert_eq!((cpu.peek(Register::PC), cpu.peek(Register::x(0))), (ENTRY, 7));
            assert_eq!(cpu.peek(Register::SCTLR_EL1), VpContext::SCTLR_RESET);
            machine.stop();
        });
    });
}

#[test]
fn a_guest_that_powers_off_while_the_machine_stops_has_powered_off() {
    on(FakeVm::create(1), |machine, _| {
        machine.stop();
        machine.shared.stop(RunOutcome::PowerOff);
        machine.stop();
        let outcome = machine.shared.end_run();
        assert!(matches!(outcome, RunOutcome::PowerOff), "{outcome:?}");
    });
}

#[test]
fn a_part_of_an_image_is_refused_and_changes_nothing() {
    let saved = plain_image();
    on(FakeVm::create(2), |machine, partition| {
        for len in 0..saved.len() {
            let cut = restore(machine, partition, &saved[..len]);
            assert!(matches!(cut, Err(RestoreError::Image(_))), "{len}: {cut:?}");
        }
        // With a hash that matches.
        let body = body(&saved);
        for len in 0..body.len() {
            let cut = restore(machine, partition, &framed(&body[..len]));
            assert!(matches!(cut, Err(RestoreError::Image(ImageError::Truncated))), "{len}: {cut:?}");
        }
        let longer = restore(machine, partition, &framed(&[body, &[0]].concat()));
        assert!(matches!(longer, Err(RestoreError::Image(ImageError::Invalid("length")))), "{longer:?}");
        restore(machine, partition, &saved).unwrap();
        assert!(image(machine, partition) == saved);
    });
}

#[test]
fn a_changed_image_is_refused_or_gives_a_machine_that_runs() {
    let saved = plain_image();
    let (body, mut numbers) = (body(&saved), Numbers(7));
    let (mut refused, mut taken) = (0, 0);
    for at in (0..body.len()).step_by(5) {
        let mut body = body.to_vec();
        body[at] ^= (numbers.next() as u8).max(1);
        on(FakeVm::create(2), |machine, partition| match restore(machine, partition, &framed(&body)) {
            Err(error) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
            Ok(()) => {
                machine.stop();
                let outcome = machine.resume(partition);
                assert!(matches!(outcome, RunOutcome::Stopped), "{at}: {outcome:?}");
                taken += 1;
            }
        });
    }
    assert!(refused > 400 && taken > 150, "{refused} and {taken}");
}

/// Returns the error with which a machine refuses an image.
fn error(parts: Parts<FakeVm>, image: &[u8]) -> String {
    on(parts, |machine, partition| restore(machine, partition, image).unwrap_err().to_string())
}

#[test]
fn a_machine_that_differs_refuses_and_says_what_was_expected() {
    let saved = plain_image();
    assert_eq!(error(FakeVm::create(3), &saved), "a machine with 2 VPs was saved; expected 3");
    let mut parts = FakeVm::create(2);
    parts.layout.uart += 0x1000;
    assert_eq!(error(parts, &saved), "the saved machine has its devices at other addresses");
    let mut other = body(&saved).to_vec();
    // After the number of VPs and six addresses.
    other[52..60].copy_from_slice(&25_000_000_u64.to_le_bytes());
    let frequency = error(FakeVm::create(2), &framed(&other));
    assert!(frequency.contains("25000000 Hz; expected, as here, 1000000000 Hz"), "{frequency}");
}

#[test]
fn a_register_that_cannot_be_set_is_named_with_what_was_expected() {
    let saved = plain_image();
    let parts = FakeVm::create(2);
    parts.vm.cpu(1).put(Register::MPIDR_EL1, 0x8000_0001);
    let mpidr = error(parts, &saved);
    assert!(mpidr.contains("VP 1 was saved with 0x0 in MPIDR_EL1"), "{mpidr}");
    assert!(mpidr.contains("expected, as here, 0x80000001"), "{mpidr}");
    let parts = FakeVm::create(2);
    parts.vm.cpu(0).refuse(Register::VBAR_EL1);
    let refused = error(parts, &saved);
    assert!(
        refused.contains("0x0 in S3_0_C12_C0_0 (0x603000000013c600), which KVM does not take (entity"),
        "{refused}"
    );
    let parts = FakeVm::create(2);
    parts.vm.refuse_gic(GicRegister::Redistributor { vp: 1, offset: 0x1_0200 });
    let refused = error(parts, &saved);
    assert!(refused.contains("VP 1's redistributor's register at 0x10200 was saved with 0x0"), "{refused}");
    // X30 under the number of a register that nothing has.
    let (x30, mut other) = (Register::x(30).0.to_le_bytes(), body(&saved).to_vec());
    let at = other.windows(8).position(|bytes| bytes == x30).unwrap();
    other[at..at + 8].copy_from_slice(&0x6030_0000_0013_ffff_u64.to_le_bytes());
    let missing = error(FakeVm::create(2), &framed(&other));
    assert!(
        missing.contains("S3_7_C15_C15_7 (0x603000000013ffff), which KVM does not have here"),
        "{missing}"
    );
}

#[test]
fn a_partition_with_other_vps_on_is_refused() {
    let saved = plain_image();
    let other = on(FakeVm::create(2), |machine, partition| {
        begin(machine, partition, |guest| {
            guest.cpu(0).settle();
            machine.stop();
        });
        image(machine, partition)
    });
    let part = &other[partition_at(&other)..other.len() - 8];
    let whole = &saved[12..partition_at(&saved) - 4];
    let mixed = [whole, &(part.len() as u32).to_le_bytes(), part].concat();
    assert_eq!(error(FakeVm::create(2), &framed(&mixed)), "invalid state of a VP in the saved state");
}
