//! PSCI, SMCCC, HvCallStartVirtualProcessor, crash registers, and the partition's reset.

use hv_host::{Action, Config, GuestMemory, Host, Power, Profile, VpContext, psci, smccc};
use hv_partition::testing::{Effect, LINUX_ID, RAM, RAM_SIZE, TestMachine, rep, run, run_bare, simple};
use hv_tlfs::crash::CrashControl;
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

const NOT_SUPPORTED: u64 = u64::MAX;

/// Runs a test with four VPs of which only the first is on.
fn booted(test: impl FnOnce(&TestMachine<'_>)) {
    run_bare(Config::new(62_500_000), 4, &[], |m| {
        m.online(0);
        m.set(0, Name::GUEST_OS_ID, LINUX_ID).unwrap();
        m.host.take_effects();
        test(m);
    });
}

#[test]
fn psci_is_1_1_and_lists_its_functions() {
    booted(|m| {
        assert_eq!(m.smccc(0, psci::VERSION, [0; 3]).0, 0x1_0001);
        let features = |function: u32| m.smccc(0, psci::FEATURES, [u64::from(function), 0, 0]).0;
        for function in [
            psci::VERSION,
            psci::CPU_SUSPEND,
            psci::CPU_SUSPEND | psci::SMC64,
            psci::CPU_OFF,
            psci::CPU_ON,
            psci::CPU_ON | psci::SMC64,
            psci::AFFINITY_INFO,
            psci::AFFINITY_INFO | psci::SMC64,
            psci::MIGRATE_INFO_TYPE,
            psci::SYSTEM_OFF,
            psci::SYSTEM_RESET,
            psci::FEATURES,
            smccc::VERSION,
        ] {
            assert_eq!(features(function), 0, "{function:#x}");
        }
        for function in [0x8400_0005, 0x8400_0012, 0xc400_0000, 0xc400_0002, 0x8400_0014, 0x4600_0001, 0] {
            assert_eq!(features(function), NOT_SUPPORTED, "{function:#x}");
        }
    });
}

#[test]
fn unknown_functions_are_not_supported_and_change_nothing_else() {
    booted(|m| {
        for function in [
            0u32,
            1,
            0x8400_0012,
            0x8400_0050,
            0xc400_0002,
            0x8000_0002,
            0x8600_ff00,
            0x4600_0002,
            0xffff_ffff,
        ] {
            for smc in [false, true] {
                let mut x = [0x55; 31];
                x[0] = u64::from(function);
                let action = if smc { m.smc(0, &mut x) } else { m.hvc(0, 0, &mut x) };
                assert_eq!((action, x[0]), (Action::Resume, NOT_SUPPORTED), "{function:#x}");
                assert_eq!(x[1..], [0x55; 30]);
            }
        }
    });
}

#[test]
fn smccc_is_1_2_at_least_and_features_can_be_asked_for() {
    booted(|m| {
        assert_eq!(m.smccc(0, smccc::VERSION, [0; 3]).0, 0x1_0002);
        for (function, answer) in [
            (smccc::VERSION, 0),
            (smccc::ARCH_FEATURES, 0),
            (0x8000_8000, NOT_SUPPORTED),
            (0x8000_7fff, NOT_SUPPORTED),
        ] {
            assert_eq!(
                m.smccc(0, smccc::ARCH_FEATURES, [u64::from(function), 0, 0]).0,
                answer,
                "{function:#x}"
            );
        }
    });
}

#[test]
fn the_function_id_is_in_w0() {
    booted(|m| {
        let mut x = [0; 31];
        x[0] = 0xdead_beef_0000_0000 | u64::from(psci::VERSION);
        assert_eq!(m.hvc(0, 0, &mut x), Action::Resume);
        assert_eq!(x[0], psci::VERSION_1_1);
    });
}

#[test]
fn the_vendor_uid_is_hyper_vs_in_both_forms_and_by_both_conduits() {
    booted(|m| {
        for function in [0x8600_ff01u64, 0xc600_ff01] {
            for smc in [false, true] {
                let mut x = [0x55; 31];
                x[0] = function;
                let action = if smc { m.smc(0, &mut x) } else { m.hvc(0, 0, &mut x) };
                assert_eq!(action, Action::Resume);
                assert_eq!(x[..4], [0x4d32_ba58, 0xcd24_4764, 0x8eef_6c75, 0x1659_7024]);
                assert_eq!(x[4], 0x55);
            }
        }
    });
}

#[test]
fn cpu_on_starts_a_vp_with_its_context_id() {
    booted(|m| {
        let entry = RAM + 0x8_0000;
        assert_eq!(m.smccc(0, psci::CPU_ON | psci::SMC64, [2, entry, 0x1_2345_6789]).0, psci::SUCCESS);
        let context = VpContext::at(entry, 0x1_2345_6789);
        assert_eq!(context.sctlr, 0x30d0_0800);
        assert_eq!(m.host.take_effects(), [Effect::Start { vp: 2, context }]);
        assert_eq!(m.partition.power(2), Some(Power::Starting));
        assert_eq!(m.smccc(0, psci::CPU_ON | psci::SMC64, [2, entry, 0]).0, psci::ON_PENDING);
        m.online(2);
        assert_eq!(m.smccc(0, psci::CPU_ON | psci::SMC64, [2, entry, 0]).0, psci::ALREADY_ON);
        assert_eq!(m.smccc(2, psci::CPU_ON | psci::SMC64, [0, entry, 0]).0, psci::ALREADY_ON);
        assert_eq!(m.host.take_effects(), []);
    });
}

#[test]
fn cpu_on_in_its_32_bit_form_takes_32_bit_arguments() {
    booted(|m| {
        let high = 0xffff_ffff_0000_0000;
        assert_eq!(m.smccc(0, psci::CPU_ON, [high | 1, high | RAM, high | 7]).0, psci::SUCCESS);
        assert_eq!(m.host.take_effects(), [Effect::Start { vp: 1, context: VpContext::at(RAM, 7) }]);
    });
}

#[test]
fn cpu_on_refuses_wrong_targets_and_entries() {
    booted(|m| {
        for target in [4, 16, 0x100, 1 << 31, 1 << 40, u64::MAX] {
            let (result, _) = m.smccc(0, psci::CPU_ON | psci::SMC64, [target, RAM, 0]);
            assert_eq!(result, psci::INVALID_PARAMETERS, "{target:#x}");
        }
        for entry in [0, RAM - 4, RAM + RAM_SIZE, u64::MAX] {
            let (result, _) = m.smccc(0, psci::CPU_ON | psci::SMC64, [1, entry, 0]);
            assert_eq!(result, psci::INVALID_ADDRESS, "{entry:#x}");
        }
        assert_eq!(m.partition.power(1), Some(Power::Off));
        assert_eq!(m.host.take_effects(), []);
    });
}

#[test]
fn a_vp_is_named_by_its_affinity() {
    run_bare(Config::new(62_500_000), 40, &[], |m| {
        m.online(0);
        assert_eq!(m.smccc(0, psci::CPU_ON | psci::SMC64, [0x201, RAM, 0]).0, psci::SUCCESS);
        assert_eq!(m.host.take_effects(), [Effect::Start { vp: 33, context: VpContext::at(RAM, 0) }]);
    });
}

#[test]
fn of_many_that_start_a_vp_one_succeeds() {
    run(Config::new(62_500_000), 4, &[], |m| {
        for _ in 0..200 {
            m.offline(3);
            m.host.take_effects();
            let start = |vp| m.smccc(vp, psci::CPU_ON | psci::SMC64, [3, RAM, 0]).0;
            let started = std::thread::scope(|scope| {
                let threads = [0, 1, 2].map(|vp| scope.spawn(move || start(vp)));
                threads.map(|thread| thread.join().unwrap()).iter().filter(|&&r| r == psci::SUCCESS).count()
            });
            assert_eq!((started, m.host.take_effects().len()), (1, 1));
        }
    });
}

#[test]
fn affinity_info_tells_the_state() {
    booted(|m| {
        let info = |target, level| m.smccc(0, psci::AFFINITY_INFO | psci::SMC64, [target, level, 0]).0;
        assert_eq!((info(0, 0), info(1, 0)), (psci::INFO_ON, psci::INFO_OFF));
        let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [1, RAM, 0]);
        assert_eq!(info(1, 0), psci::INFO_ON_PENDING);
        m.online(1);
        assert_eq!(info(1, 0), psci::INFO_ON);
        assert_eq!(m.smccc(1, psci::CPU_OFF, [0; 3]).1, Action::VpOff);
        assert_eq!(info(1, 0), psci::INFO_ON, "not off before its CPU can be started again");
        m.offline(1);
        assert_eq!(info(1, 0), psci::INFO_OFF);
        assert_eq!((info(2, 1), info(0, 3)), (psci::INFO_ON, psci::INFO_ON), "any of the cluster");
        assert_eq!(info(9, 0), psci::INVALID_PARAMETERS);
        assert_eq!(info(0, 4), psci::INVALID_PARAMETERS);
    });
}

#[test]
fn the_machine_is_switched_off_and_reset() {
    booted(|m| {
        assert_eq!(m.smccc(0, psci::SYSTEM_OFF, [0; 3]).1, Action::SystemOff);
        assert_eq!(m.smccc(0, psci::SYSTEM_RESET, [0; 3]).1, Action::SystemReset);
    });
}

#[test]
fn suspend_returns_success_after_the_wake_up() {
    booted(|m| {
        for form in [0, psci::SMC64] {
            for state in [0, 1 << 16] {
                let suspended = m.smccc(0, psci::CPU_SUSPEND | form, [state, RAM, 0]);
                assert_eq!(suspended, (psci::SUCCESS, Action::Suspend));
            }
        }
    });
}

#[test]
fn a_stopped_vp_comes_back_with_reset_registers() {
    booted(|m| {
        m.online(1);
        m.enable_synic(1, 2, 18);
        m.set(1, Name::VP_ASSIST_PAGE, 0x4000_0001).unwrap();
        m.set(1, Name::STIMER0_COUNT, 1 << 40).unwrap();
        m.set(1, Name::STIMER0_CONFIG, 1 | 1 << 12 | 17 << 4).unwrap();
        let _ = m.smccc(1, psci::CPU_OFF, [0; 3]);
        m.offline(1);
        assert_eq!(m.host.deadline(1), None);
        let _ = m.smccc(0, psci::CPU_ON | psci::SMC64, [1, RAM, 0]);
        m.online(1);
        for (name, value) in [
            (Name::SCONTROL, 0),
            (Name::SIMP, 0),
            (Name::SIEFP, 0),
            (Name::SINT2, 0x1_0000),
            (Name::STIMER0_CONFIG, 0),
            (Name::STIMER0_COUNT, 0),
            (Name::VP_ASSIST_PAGE, 0),
        ] {
            assert_eq!(m.get(1, name), Ok(value), "{name:?}");
        }
        assert_eq!(m.get(1, Name::GUEST_OS_ID), Ok(LINUX_ID), "the partition's stay");
    });
}

fn start_input(partition: u64, vp: u32, vtl: u8, pc: u64) -> Vec<u8> {
    let mut input = partition.to_le_bytes().to_vec();
    input.extend(vp.to_le_bytes());
    input.extend([vtl, 0, 0, 0]);
    input.extend((0..9).flat_map(|n: u64| if n == 0 { pc } else { 0x100 + n }.to_le_bytes()));
    input
}

#[test]
fn start_vp_starts_with_all_given_registers() {
    booted(|m| {
        let pc = 0xffff_8000_1000_0000;
        let input = start_input(PARTITION_ID_SELF, 1, 0, pc);
        assert_eq!(m.call(0, simple(Code::START_VP), &input, 0).0.status(), HvStatus::SUCCESS);
        let mut context = VpContext::at(pc, 0);
        (context.x18, context.sp) = (0x108, 0x101);
        (context.sctlr, context.mair, context.tcr) = (0x102, 0x103, 0x104);
        (context.vbar, context.ttbr0, context.ttbr1) = (0x105, 0x106, 0x107);
        assert_eq!(m.host.take_effects(), [Effect::Start { vp: 1, context }]);
        assert_eq!(m.call(0, simple(Code::START_VP), &input, 0).0.status(), HvStatus::INVALID_VP_STATE);
        m.online(1);
        assert_eq!(m.call(0, simple(Code::START_VP), &input, 0).0.status(), HvStatus::INVALID_VP_STATE);
    });
}

#[test]
fn start_vp_checks_what_it_is_given() {
    booted(|m| {
        let status = |input: &[u8]| m.call(0, simple(Code::START_VP), input, 0).0.status();
        for (input, expected) in [
            (start_input(7, 1, 0, RAM), HvStatus::INVALID_PARTITION_ID),
            (start_input(PARTITION_ID_SELF, 4, 0, RAM), HvStatus::INVALID_VP_INDEX),
            (start_input(PARTITION_ID_SELF, u32::MAX, 0, RAM), HvStatus::INVALID_VP_INDEX),
            (start_input(PARTITION_ID_SELF, VP_INDEX_SELF, 0, RAM), HvStatus::INVALID_VP_STATE),
            (start_input(PARTITION_ID_SELF, 1, 1, RAM), HvStatus::INVALID_VTL_STATE),
            (start_input(PARTITION_ID_SELF, 1, 0, RAM + 2), HvStatus::INVALID_REGISTER_VALUE),
        ] {
            assert_eq!(status(&input), expected);
        }
        let mut input = start_input(PARTITION_ID_SELF, 1, 0, RAM);
        input[14] = 1;
        assert_eq!(status(&input), HvStatus::INVALID_PARAMETER);
        assert_eq!(m.host.take_effects(), []);
    });
}

#[test]
fn vp_index_from_mpidr_finds_each_vp() {
    run(Config::new(62_500_000), 20, &[], |m| {
        let mut input = PARTITION_ID_SELF.to_le_bytes().to_vec();
        input.extend([0; 8]);
        // MPIDR_EL1 as a guest reads it has bit 31 set.
        input.extend([0x8000_0000u64, 0x8000_0103, 0x0000_000f].iter().flat_map(|mpidr| mpidr.to_le_bytes()));
        let (result, output) = m.call(0, rep(Code::GET_VP_ID_FROM_APIC_ID, 3), &input, 24);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, 3));
        let indices: Vec<u64> =
            output.chunks(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(indices, [0, 19, 15]);
        input.truncate(16);
        input.extend(0x104u64.to_le_bytes());
        let (result, _) = m.call(0, rep(Code::GET_VP_ID_FROM_APIC_ID, 1), &input, 8);
        assert_eq!((result.status(), result.reps_completed()), (HvStatus::INVALID_PARAMETER, 0));
        input[..8].copy_from_slice(&5u64.to_le_bytes());
        let (result, _) = m.call(0, rep(Code::GET_VP_ID_FROM_APIC_ID, 1), &input, 8);
        assert_eq!(result.status(), HvStatus::INVALID_PARTITION_ID);
    });
}

#[test]
fn get_partition_id_needs_the_privilege() {
    run(Config::new(62_500_000), 1, &[], |m| {
        let (result, _) = m.call(0, simple(Code::GET_PARTITION_ID), &[], 8);
        assert_eq!(result.status(), HvStatus::ACCESS_DENIED);
    });
    let mut profile = Profile::AZURE;
    profile.features.privileges = profile.features.privileges.with_access_partition_id(true);
    let config = Config::new(62_500_000).with_profile(profile).with_partition_id(0x1234);
    run(config, 1, &[], |m| {
        let (result, output) = m.call(0, simple(Code::GET_PARTITION_ID), &[], 8);
        assert_eq!((result.status(), &output[..2]), (HvStatus::SUCCESS, &[0x34, 0x12][..]));
        let (_, x) = m.fast(0, simple(Code::GET_PARTITION_ID), &[]);
        assert_eq!(x[0], 0x1234, "fast output starts where the input would");
    });
}

fn crash(m: &TestMachine<'_>, control: u64, address: u64, length: u64) -> Vec<Effect> {
    for (n, value) in [0x11, 0x22, 0x33, address, length].into_iter().enumerate() {
        m.set(0, Name(Name::GUEST_CRASH_P0.0 + n as u32), value).unwrap();
    }
    m.set(0, Name::GUEST_CRASH_CTL, control).unwrap();
    m.host.take_effects()
}

#[test]
fn crash_control_reads_as_what_is_supported() {
    booted(|m| {
        let both = CrashControl::CRASH_NOTIFY.0 | CrashControl::CRASH_NOTIFY_MSG.0;
        assert_eq!(m.get(0, Name::GUEST_CRASH_CTL), Ok(both));
        m.set(0, Name::GUEST_CRASH_CTL, 0).unwrap();
        assert_eq!(m.get(0, Name::GUEST_CRASH_CTL), Ok(both));
    });
}

#[test]
fn a_crash_is_reported_with_parameters_and_message() {
    booted(|m| {
        m.host.memory().write(RAM + 0x1ff8, b"it has gone wrong").unwrap();
        let control = 3 << 62;
        let parameters = [0x11, 0x22, 0x33, RAM + 0x1ff8, 17];
        let text = b"it has gone wrong".to_vec();
        let effects = crash(m, control, RAM + 0x1ff8, 17);
        assert_eq!(effects, [Effect::Crash { control, parameters, text }], "also across pages");
    });
}

#[test]
fn a_crash_without_the_message_bit_has_no_message() {
    booted(|m| {
        let effects = crash(m, 1 << 63, RAM, 17);
        let parameters = [0x11, 0x22, 0x33, RAM, 17];
        assert_eq!(effects, [Effect::Crash { control: 1 << 63, parameters, text: vec![] }]);
        assert_eq!(crash(m, 1 << 62, RAM, 17), [], "and without the notify bit there is no crash");
    });
}

#[test]
fn a_crash_message_is_cut_to_4096_bytes_and_to_the_guests_memory() {
    booted(|m| {
        m.host.memory().write(RAM, &[b'x'; 8192]).unwrap();
        m.host.memory().write(RAM + RAM_SIZE - 10, &[b'y'; 10]).unwrap();
        for (address, length, expected) in [
            (RAM, 4096, vec![b'x'; 4096]),
            (RAM, u64::MAX, vec![b'x'; 4096]),
            (RAM + 1, 0, vec![]),
            (RAM + RAM_SIZE - 10, 100, vec![b'y'; 10]),
            (0, 100, vec![]),
            (u64::MAX - 5, 4096, vec![]),
        ] {
            let effects = crash(m, 3 << 62, address, length);
            let [Effect::Crash { text, .. }] = &effects[..] else { panic!("{effects:?}") };
            assert_eq!(*text, expected, "{address:#x} {length}");
        }
    });
}

#[test]
fn crash_parameters_are_the_partitions() {
    run(Config::new(62_500_000), 2, &[], |m| {
        m.set(1, Name::GUEST_CRASH_P2, 99).unwrap();
        assert_eq!(m.get(0, Name::GUEST_CRASH_P2), Ok(99));
    });
}

#[test]
fn reset_gives_the_state_after_creation_field_by_field() {
    run_bare(Config::new(62_500_000), 3, &[], |m| {
        let created = format!("{:#?}", m.partition);
        for vp in 0..3 {
            m.online(vp);
            m.set(vp, Name::GUEST_OS_ID, LINUX_ID).unwrap();
            m.enable_synic(vp, 2, 18);
            m.set(vp, Name::SIRBP, 5).unwrap();
            m.set(vp, Name::VP_ASSIST_PAGE, 5).unwrap();
            m.set(vp, Name::STIMER1_COUNT, 1 << 40).unwrap();
            m.set(vp, Name::STIMER1_CONFIG, 3 | 2 << 16).unwrap();
            for n in 0..5 {
                let message_type = hv_tlfs::synic::MessageType(1);
                m.partition.post_message(&m.host, vp, 2, message_type, n, b"payload").unwrap();
            }
        }
        for n in 0..5 {
            m.set(0, Name(Name::GUEST_CRASH_P0.0 + n), 7).unwrap();
        }
        m.set(0, Name::REFERENCE_TSC, RAM | 1).unwrap();
        m.partition.migrate(&m.host, 1_000_000_000, ReferenceTime(12_345));
        m.partition.set_reference_tsc_valid(&m.host, false);
        assert!(format!("{:#?}", m.partition) != created);
        m.partition.reset(&m.host);
        assert!(format!("{:#?}", m.partition) == created);
    });
}

#[test]
fn a_vp_that_does_not_exist_is_no_panic() {
    booted(|m| {
        let mut x = [0; 31];
        x[0] = 0x4600_0001;
        x[1] = 0x1_0001_0050;
        x[2] = PARTITION_ID_SELF;
        x[3] = u64::from(VP_INDEX_SELF);
        x[4] = u64::from(Name::SIMP.0);
        assert_eq!(m.partition.hvc(&m.host, 99, 0, &mut x), Action::Resume);
        assert_eq!(x[0], u64::from(HvStatus::INVALID_VP_INDEX.0));
        m.partition.timer_expired(&m.host, 99);
        m.partition.vp_online(&m.host, 99);
        m.partition.vp_offline(&m.host, 99);
        assert_eq!(m.partition.power(99), None);
    });
}

#[test]
fn a_partition_serves_100_vps_at_once() {
    run(Config::new(62_500_000), 100, &[], |m| {
        for vp in 0..100 {
            m.enable_synic(vp, 2, 18);
            m.set(vp, Name::STIMER0_COUNT, 5000).unwrap();
            m.set(vp, Name::STIMER0_CONFIG, 1 | 1 << 12 | 17 << 4).unwrap();
        }
        m.host.take_effects();
        std::thread::scope(|scope| {
            for first in 0..4 {
                scope.spawn(move || {
                    for vp in (first..100).step_by(4) {
                        assert_eq!(m.partition.signal_event(&m.host, vp, 2, vp as u16), Ok(true));
                        assert_eq!(m.get(vp, Name::VP_INDEX), Ok(vp as u64));
                    }
                });
            }
        });
        assert!((0..100).all(|vp| m.event_flag(vp, 2, vp as u16)));
        assert_eq!(m.host.take_interrupts().len(), 100);
        m.set_time(ReferenceTime(5000));
        let mut interrupts = m.host.take_interrupts();
        interrupts.sort_unstable();
        assert!(interrupts.into_iter().eq((0..100).map(|vp| (vp, 17))));
    });
}
