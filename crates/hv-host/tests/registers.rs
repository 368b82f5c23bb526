//! TLFS, HvCallGetVpRegisters and HvCallSetVpRegisters, and "Feature Discovery": who may read and write which register.

use hv_host::{Config, Profile};
use hv_partition::testing::{LINUX_ID, TestMachine, rep, run, run_bare};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::register::RegisterName as Name;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vp::{PARTITION_ID_SELF, VP_INDEX_SELF};

const FREQUENCY: u64 = 62_500_000;

fn two(test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(FREQUENCY), 2, &[], test);
}

fn get_of(m: &TestMachine<'_>, partition: u64, vp_and_vtl: u64, name: Name) -> Result<u64, HvStatus> {
    let (result, x) = m.fast(0, rep(Code::GET_VP_REGISTERS, 1), &[partition, vp_and_vtl, u64::from(name.0)]);
    if result.status() == HvStatus::SUCCESS { Ok(x[4]) } else { Err(result.status()) }
}

fn set_of(m: &TestMachine<'_>, partition: u64, vp_and_vtl: u64, name: u64, reserved: u64) -> HvStatus {
    let input = [partition, vp_and_vtl, name, reserved, 0x12, 0];
    m.fast(0, rep(Code::SET_VP_REGISTERS, 1), &input).0.status()
}

#[test]
fn the_early_list_can_be_read_before_the_guest_os_id() {
    run_bare(Config::new(FREQUENCY), 1, &[], |m| {
        m.online(0);
        let early = [
            Name::GUEST_OS_ID,
            Name::HYPERVISOR_VERSION,
            Name::PRIVILEGES_AND_FEATURES_INFO,
            Name::FEATURES_INFO,
            Name::IMPLEMENTATION_LIMITS_INFO,
            Name::HARDWARE_FEATURES_INFO,
            Name::TIME_REF_COUNT,
            Name::SYNTHETIC_VBAR_EL1,
            Name::SYNTHETIC_ESR_EL1,
            Name::GUEST_CRASH_CTL,
            Name::GUEST_CRASH_P0,
            Name::GUEST_CRASH_P1,
            Name::GUEST_CRASH_P2,
            Name::GUEST_CRASH_P3,
            Name::GUEST_CRASH_P4,
        ];
        for name in early {
            assert!(m.get(0, name).is_ok(), "{name:?}");
        }
        for name in [
            Name::VP_INDEX,
            Name::SCONTROL,
            Name::SINT0,
            Name::SIMP,
            Name::STIMER0_CONFIG,
            Name::REFERENCE_TSC,
        ] {
            assert_eq!(m.get(0, name), Err(HvStatus::ACCESS_DENIED), "{name:?}");
        }
    });
}

#[test]
fn the_early_list_can_be_written_before_the_guest_os_id() {
    run_bare(Config::new(FREQUENCY), 1, &[], |m| {
        m.online(0);
        for name in [Name::SCONTROL, Name::SINT2, Name::EOM, Name::REFERENCE_TSC, Name::STIMER0_COUNT] {
            assert_eq!(m.set(0, name, 0), Err(HvStatus::ACCESS_DENIED), "{name:?}");
        }
        assert_eq!(m.set(0, Name::SYNTHETIC_ESR_EL1, 0), Err(HvStatus::INVALID_PARAMETER), "read only");
        for name in [
            Name::SYNTHETIC_VBAR_EL1,
            Name::GUEST_CRASH_P0,
            Name::GUEST_CRASH_P4,
            Name::GUEST_CRASH_CTL,
            Name::GUEST_OS_ID,
        ] {
            assert_eq!(m.set(0, name, 5), Ok(()), "{name:?}");
        }
        assert_eq!(m.get(0, Name::SYNTHETIC_VBAR_EL1), Ok(5));
        m.offline(0);
        m.online(0);
        assert_eq!(m.get(0, Name::SYNTHETIC_VBAR_EL1), Ok(0), "each VP starts with its reset values");
        assert_eq!(m.set(0, Name::SCONTROL, 0), Ok(()));
    });
}

#[test]
fn the_guest_os_id_is_the_partitions() {
    two(|m| {
        assert_eq!(m.get(1, Name::GUEST_OS_ID), Ok(LINUX_ID));
        m.set(1, Name::GUEST_OS_ID, 0x1_0004_0a00_0000).unwrap();
        assert_eq!(m.get(0, Name::GUEST_OS_ID), Ok(0x1_0004_0a00_0000));
    });
}

#[test]
fn the_partition_is_named_by_self_or_by_its_id() {
    two(|m| {
        let vp = u64::from(VP_INDEX_SELF);
        let id = m.partition.config().partition_id;
        assert_eq!(get_of(m, id, vp, Name::VP_INDEX), Ok(0));
        for other in [0, id + 1, u64::MAX - 1] {
            assert_eq!(get_of(m, other, vp, Name::VP_INDEX), Err(HvStatus::INVALID_PARTITION_ID));
            assert_eq!(set_of(m, other, vp, u64::from(Name::SINT2.0), 0), HvStatus::INVALID_PARTITION_ID);
        }
    });
}

#[test]
fn the_vp_is_named_by_self_or_by_its_index() {
    two(|m| {
        assert_eq!(get_of(m, PARTITION_ID_SELF, 0, Name::VP_INDEX), Ok(0));
        assert_eq!(get_of(m, PARTITION_ID_SELF, 1, Name::VP_INDEX), Ok(1), "another VP's can be read");
        for none in [2, 64, 0xffff_ffff, 0xffff_fffd] {
            assert_eq!(get_of(m, PARTITION_ID_SELF, none, Name::VP_INDEX), Err(HvStatus::INVALID_VP_INDEX));
            assert_eq!(
                set_of(m, PARTITION_ID_SELF, none, u64::from(Name::SINT2.0), 0),
                HvStatus::INVALID_VP_INDEX
            );
        }
    });
}

#[test]
fn only_a_vps_own_registers_can_be_written() {
    two(|m| {
        let sint2 = u64::from(Name::SINT2.0);
        assert_eq!(set_of(m, PARTITION_ID_SELF, 1, sint2, 0), HvStatus::INVALID_PARAMETER);
        assert_eq!(m.get(1, Name::SINT2), Ok(0x1_0000));
        assert_eq!(set_of(m, PARTITION_ID_SELF, 0, sint2, 0), HvStatus::SUCCESS);
        assert_eq!(m.get(0, Name::SINT2), Ok(0x12));
    });
}

#[test]
fn there_is_no_other_vtl() {
    two(|m| {
        let vp = u64::from(VP_INDEX_SELF);
        let vtl = |bits: u64| vp | bits << 32;
        assert_eq!(get_of(m, PARTITION_ID_SELF, vtl(0x10), Name::VP_INDEX), Ok(0), "VTL 0 by name");
        assert_eq!(get_of(m, PARTITION_ID_SELF, vtl(0x01), Name::VP_INDEX), Ok(0), "not used");
        assert_eq!(get_of(m, PARTITION_ID_SELF, vtl(0x11), Name::VP_INDEX), Err(HvStatus::ACCESS_DENIED));
    });
}

#[test]
fn reserved_fields_of_header_and_element_are_zero() {
    two(|m| {
        let vp = u64::from(VP_INDEX_SELF);
        for reserved in [0x20, 0x80, 0x100, 0x100_0000] {
            let header = vp | reserved << 32;
            assert_eq!(
                get_of(m, PARTITION_ID_SELF, header, Name::VP_INDEX),
                Err(HvStatus::INVALID_PARAMETER),
                "{reserved:#x}"
            );
        }
        let sint2 = u64::from(Name::SINT2.0);
        for (name, reserved) in [(sint2 | 1 << 32, 0), (sint2, 1)] {
            for vp in [vp, 0] {
                assert_eq!(set_of(m, PARTITION_ID_SELF, vp, name, reserved), HvStatus::INVALID_PARAMETER);
            }
        }
        assert_eq!(m.get(0, Name::SINT2), Ok(0x1_0000), "nothing was written");
    });
}

#[test]
fn bits_beyond_a_registers_size_are_zero() {
    two(|m| {
        let input = [PARTITION_ID_SELF, u64::from(VP_INDEX_SELF), u64::from(Name::SCONTROL.0), 0, 1, 1];
        let (result, _) = m.fast(0, rep(Code::SET_VP_REGISTERS, 1), &input);
        assert_eq!(result.status(), HvStatus::INVALID_PARAMETER);
        assert_eq!(m.get(0, Name::SCONTROL), Ok(0));
    });
}

#[test]
fn an_x86_msr_number_is_no_register_name() {
    two(|m| {
        for msr in [0x4000_0000, 0x4000_0002, 0x4000_0083, 0x4000_0092] {
            assert_eq!(m.get(0, Name(msr)), Err(HvStatus::UNKNOWN_REGISTER_NAME));
            assert_eq!(m.set(0, Name(msr), 1), Err(HvStatus::UNKNOWN_REGISTER_NAME));
        }
    });
}

#[test]
fn read_only_registers_cannot_be_written() {
    two(|m| {
        for name in [
            Name::TIME_REF_COUNT,
            Name::VP_INDEX,
            Name::VP_RUNTIME,
            Name::SVERSION,
            Name::HYPERVISOR_VERSION,
            Name::PRIVILEGES_AND_FEATURES_INFO,
            Name::FEATURES_INFO,
            Name::IMPLEMENTATION_LIMITS_INFO,
            Name::HARDWARE_FEATURES_INFO,
            Name::REFERENCE_TSC_SEQUENCE,
            Name::PROCESSOR_CLOCK_FREQUENCY,
        ] {
            let before = m.get(0, name);
            assert_eq!(m.set(0, name, 1), Err(HvStatus::INVALID_PARAMETER), "{name:?}");
            assert_eq!(m.get(0, name), before, "{name:?}");
        }
    });
}

#[test]
fn registers_have_their_reset_values() {
    two(|m| {
        for vp in 0..2 {
            for n in 0..16 {
                assert_eq!(m.get(vp, Name::sint(n)), Ok(0x1_0000));
            }
            for n in 0..4 {
                assert_eq!(m.get(vp, Name::stimer_config(n)), Ok(0));
                assert_eq!(m.get(vp, Name::stimer_count(n)), Ok(0));
            }
            for name in [
                Name::SCONTROL,
                Name::SIMP,
                Name::SIEFP,
                Name::EOM,
                Name::REFERENCE_TSC,
                Name::VP_ASSIST_PAGE,
            ] {
                assert_eq!(m.get(vp, name), Ok(0), "{name:?}");
            }
            assert_eq!(m.get(vp, Name::SVERSION), Ok(1));
        }
    });
}

#[test]
fn preserved_bits_are_kept() {
    two(|m| {
        for (name, value) in [
            (Name::SCONTROL, 0xdead_beef_0000_0001),
            (Name::SIMP, 0x4000_1ffe),
            (Name::SIEFP, 0x4000_1aaa),
            (Name::SINT3, 0xffff_ffff_fff0_ff12),
            (Name::REFERENCE_TSC, 0x4000_0ffe),
        ] {
            assert_eq!(m.set(0, name, value), Ok(()), "{name:?}");
            assert_eq!(m.get(0, name), Ok(value), "{name:?}");
        }
    });
}

#[test]
fn a_sints_vector_is_16_to_255_unless_it_is_masked() {
    two(|m| {
        for vector in 0..16 {
            assert_eq!(m.set(0, Name::SINT4, vector), Err(HvStatus::INVALID_PARAMETER), "{vector}");
            assert_eq!(m.set(0, Name::SINT4, vector | 1 << 16), Ok(()), "{vector}");
        }
        assert_eq!(m.set(0, Name::SINT4, 16), Ok(()));
        assert_eq!(m.set(0, Name::SINT4, 255), Ok(()));
    });
}

#[test]
fn the_limits_name_the_partitions_vps() {
    two(|m| assert_eq!(m.get(0, Name::IMPLEMENTATION_LIMITS_INFO), Ok(2)));
}

#[test]
fn the_version_is_packed_like_cpuid() {
    two(|m| {
        let [low, high] = m.get_wide(0, Name::HYPERVISOR_VERSION).unwrap();
        assert_eq!(low, 26100 | 0xa_0000 << 32);
        assert_eq!(high, 1 << 32);
    });
}

#[test]
fn vp_run_time_counts_from_the_vps_start() {
    run_bare(Config::new(FREQUENCY), 2, &[], |m| {
        m.online(0);
        m.set(0, Name::GUEST_OS_ID, LINUX_ID).unwrap();
        m.set_time(ReferenceTime(5000));
        m.online(1);
        m.set_time(ReferenceTime(7000));
        assert!(m.get(0, Name::VP_RUNTIME).unwrap() >= 7000);
        let second = m.get(1, Name::VP_RUNTIME).unwrap();
        assert!((1999..=2001).contains(&second), "{second}");
    });
}

#[test]
fn frequencies_are_in_khz() {
    two(|m| assert_eq!(m.get(0, Name::PROCESSOR_CLOCK_FREQUENCY), Ok(62_500)));
}

#[test]
fn a_profile_refuses_what_it_does_not_offer() {
    let minimal = Config::new(FREQUENCY).with_profile(Profile::MINIMAL);
    run(minimal, 1, &[], |m| {
        for name in [
            Name::VP_RUNTIME,
            Name::STIMER0_CONFIG,
            Name::STIMER3_COUNT,
            Name::REFERENCE_TSC,
            Name::VP_ASSIST_PAGE,
            Name::GUEST_CRASH_P0,
            Name::GUEST_CRASH_CTL,
            Name::PROCESSOR_CLOCK_FREQUENCY,
        ] {
            assert_eq!(m.get(0, name), Err(HvStatus::ACCESS_DENIED), "{name:?}");
            assert_eq!(m.set(0, name, 0), Err(HvStatus::ACCESS_DENIED), "{name:?}");
        }
        for name in [Name::VP_INDEX, Name::SCONTROL, Name::SINT2, Name::SIMP, Name::TIME_REF_COUNT] {
            assert!(m.get(0, name).is_ok(), "{name:?}");
        }
        let control = rep(Code::START_VP, 0);
        assert_eq!(m.call(0, control, &[0; 88], 0).0.status(), HvStatus::ACCESS_DENIED);
        for (code, status) in [
            (Code::GET_PARTITION_ID, HvStatus::ACCESS_DENIED),
            (Code::EXT_QUERY_CAPABILITIES, HvStatus::ACCESS_DENIED),
            (Code::SEND_IPI, HvStatus::INVALID_HYPERCALL_CODE),
            (Code::SEND_IPI_EX, HvStatus::INVALID_HYPERCALL_CODE),
            (Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX, HvStatus::INVALID_HYPERCALL_CODE),
        ] {
            assert_eq!(m.call(0, rep(code, 0), &[0; 64], 0).0.status(), status, "{code:?}");
        }
    });
}

#[test]
fn the_2018_host_has_features_where_its_patch_looks_for_them_and_where_the_tlfs_has_them() {
    let config = Config::new(FREQUENCY).with_profile(Profile::PATCH_2018);
    run(config, 1, &[], |m| {
        let [_, c] = m.get_wide(0, Name::PRIVILEGES_AND_FEATURES_INFO).unwrap();
        for bit in [8, 10, 13, 19] {
            assert!(c >> bit & 1 != 0, "{bit}");
        }
        assert!(m.get(0, Name::FEATURES_INFO).unwrap() >> 9 & 1 != 0, "deprecating auto-EOI");
        assert!(m.get(0, Name::GUEST_CRASH_CTL).is_ok());
        m.set(0, Name::STIMER0_CONFIG, 1 | 1 << 12 | 17 << 4).unwrap();
    });
}

#[test]
fn all_profiles_serve_the_registers_that_detection_reads() {
    for number in 0..3 {
        let profile = Profile::by_number(number).unwrap();
        run(Config::new(FREQUENCY).with_profile(profile), 1, &[], |m| {
            let [ab, c] = m.get_wide(0, Name::PRIVILEGES_AND_FEATURES_INFO).unwrap();
            assert_eq!(ab, profile.features.privileges.0);
            assert_eq!(c as u32, profile.features.c.0);
            assert_eq!(m.get(0, Name::FEATURES_INFO).unwrap() as u32, profile.enlightenments.hints.0);
        });
    }
    assert!(Profile::by_number(3).is_none());
}
