//! Who the hypervisor is and what it offers.

use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::{self, HYPERCALL, NOT_SUPPORTED, VENDOR_HYP_UID, VENDOR_UID};
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, OWN, get, simple};
use crate::outcome::Outcome;

cases! {
    "feature_discovery";
    "Feature Discovery", "Hypervisor Discovery":
        the_vendor_uid_names_hyper_v,
        the_vendor_uid_has_four_words_of_32_bits,
        the_vendor_uid_is_the_same_on_every_vp,
        the_vendor_uid_comes_without_a_guest_id;
    "Arm SMC Calling Convention (DEN0028)", "General service queries":
        smccc_is_of_version_1_2_or_later,
        an_unknown_function_is_not_supported,
        an_unknown_function_of_the_hypervisor_service_is_not_supported,
        an_unknown_function_keeps_registers_beyond_x3,
        the_vendor_uid_keeps_registers_beyond_x3,
        features_are_told_for_functions_that_exist_and_not_for_others;
    "Hypercall Interface", "Hypercall Register Conventions (ARM64 SMCCC)":
        another_function_number_is_no_hypercall,
        a_32_bit_function_is_no_hypercall,
        the_function_is_in_w0;
    "Feature Discovery", "Hypervisor System Identity":
        the_version_is_told;
    "Feature Discovery", "Hypervisor Feature Identification":
        discovery_registers_are_the_same_on_every_vp,
        discovery_registers_do_not_change,
        discovery_registers_are_read_only,
        discovery_registers_read_alike_in_a_list,
        reserved_feature_words_are_zero;
    "Feature Discovery", "Implementation Limits":
        the_partition_is_within_the_limit_of_vps;
    "Feature Discovery", "Implementation Recommendations":
        reset_by_register_is_not_recommended,
        cluster_ipis_work_where_they_are_recommended;
    "Partition Properties", "Partition Privilege Flags":
        the_vp_runtime_register_follows_its_privilege,
        the_reference_counter_follows_its_privilege,
        synic_registers_follow_their_privilege,
        timer_registers_follow_their_privilege,
        the_vp_index_follows_its_privilege,
        the_reference_tsc_register_follows_its_privilege,
        frequency_registers_follow_their_privilege,
        the_vp_assist_page_follows_its_privilege,
        crash_registers_follow_their_feature_bit,
        posting_messages_follows_its_privilege,
        signalling_events_follows_its_privilege,
        starting_vps_follows_its_privilege,
        the_partition_id_follows_its_privilege,
        extended_hypercalls_follow_their_privilege;
}

/// SMCCC 1.2, the first that lets results come in X4 to X17.
const VERSION_1_2: u64 = 0x1_0002;
/// A function of the vendor-specific hypervisor service that is undefined.
const UNKNOWN_HYPERVISOR_FUNCTION: u32 = 0xc600_7e57;
/// A function of an OEM service that is undefined.
const UNKNOWN_OEM_FUNCTION: u32 = 0xc300_7e57;

const DISCOVERY: [RegisterName; 5] = [
    RegisterName::HYPERVISOR_VERSION,
    RegisterName::PRIVILEGES_AND_FEATURES_INFO,
    RegisterName::FEATURES_INFO,
    RegisterName::IMPLEMENTATION_LIMITS_INFO,
    RegisterName::HARDWARE_FEATURES_INFO,
];

fn uid(cx: &Cx<'_>) -> [u64; 4] {
    cx.env.conduit().smccc(VENDOR_HYP_UID, [0; 3])
}

fn the_vendor_uid_names_hyper_v(cx: &Cx<'_>) -> Outcome {
    for (got, want) in uid(cx).iter().zip(VENDOR_UID) {
        check_eq!(*got as u32, want);
    }
    Ok(())
}

fn the_vendor_uid_has_four_words_of_32_bits(cx: &Cx<'_>) -> Outcome {
    for word in uid(cx) {
        check_eq!(word >> 32, 0);
    }
    Ok(())
}

fn the_vendor_uid_is_the_same_on_every_vp(cx: &Cx<'_>) -> Outcome {
    let own = uid(cx);
    for vp in 1..cx.env.vp_count() {
        check!(cx.on(vp, uid) == own);
    }
    Ok(())
}

fn the_vendor_uid_comes_without_a_guest_id(cx: &Cx<'_>) -> Outcome {
    cx.unidentified(|| {
        check!(uid(cx) == VENDOR_UID.map(u64::from));
        Ok(())
    })
}

/// Why the Arm architecture's functions are not this host's.
const KEPT: &str = "what the host runs on answers the Arm architecture's functions itself";

fn smccc_is_of_version_1_2_or_later(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.env.has_arm_functions(), KEPT);
    let [version, ..] = cx.env.conduit().smccc(smccc::VERSION, [0; 3]);
    check!((VERSION_1_2..1 << 31).contains(&version));
    Ok(())
}

fn an_unknown_function_is_not_supported(cx: &Cx<'_>) -> Outcome {
    check_eq!(cx.env.conduit().smccc(UNKNOWN_OEM_FUNCTION, [0; 3])[0], NOT_SUPPORTED);
    Ok(())
}

fn an_unknown_function_of_the_hypervisor_service_is_not_supported(cx: &Cx<'_>) -> Outcome {
    check_eq!(cx.env.conduit().smccc(UNKNOWN_HYPERVISOR_FUNCTION, [0; 3])[0], NOT_SUPPORTED);
    Ok(())
}

/// Executes `hvc #0` with a function and a pattern, and checks that X4 to X29 come back.
fn keeps_registers(cx: &Cx<'_>, function: u32) -> Outcome {
    let before: [u64; 31] =
        core::array::from_fn(|n| if n == 0 { function.into() } else { 0xfeed_0000 + n as u64 });
    let mut x = before;
    check!(cx.env.hvc(0, &mut x).is_ok());
    for n in 4..30 {
        check_eq!(x[n], before[n]);
    }
    Ok(())
}

fn an_unknown_function_keeps_registers_beyond_x3(cx: &Cx<'_>) -> Outcome {
    keeps_registers(cx, UNKNOWN_OEM_FUNCTION)
}

fn the_vendor_uid_keeps_registers_beyond_x3(cx: &Cx<'_>) -> Outcome {
    keeps_registers(cx, VENDOR_HYP_UID)
}

fn features_are_told_for_functions_that_exist_and_not_for_others(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.env.has_arm_functions(), KEPT);
    let features = |function: u32| cx.env.conduit().smccc(smccc::ARCH_FEATURES, [function.into(), 0, 0])[0];
    check_eq!(features(smccc::VERSION), 0);
    check_eq!(features(smccc::ARCH_FEATURES), 0);
    check_eq!(features(UNKNOWN_OEM_FUNCTION), NOT_SUPPORTED);
    Ok(())
}

/// Makes a Get of the VP index by `hvc #0` with this value in X0.
fn with_function(cx: &Cx<'_>, function: u64) -> Option<[u64; 31]> {
    let mut x = [0; 31];
    x[..6].copy_from_slice(&[
        function,
        get(1).with_fast(true).0,
        OWN[0],
        OWN[1],
        RegisterName::GUEST_OS_ID.0.into(),
        0,
    ]);
    cx.env.hvc(0, &mut x).ok()?;
    Some(x)
}

fn another_function_number_is_no_hypercall(cx: &Cx<'_>) -> Outcome {
    for number in [0u64, 2, 0xffff] {
        let x0 = with_function(cx, u64::from(HYPERCALL) & !0xffff | number).map(|x| x[0]);
        check!(x0 == Some(NOT_SUPPORTED));
    }
    Ok(())
}

fn a_32_bit_function_is_no_hypercall(cx: &Cx<'_>) -> Outcome {
    let x0 = with_function(cx, u64::from(HYPERCALL) & !(1 << 30)).map(|x| x[0]);
    check!(x0 == Some(NOT_SUPPORTED));
    Ok(())
}

fn the_function_is_in_w0(cx: &Cx<'_>) -> Outcome {
    let x = with_function(cx, u64::from(HYPERCALL) | 0xdead_beef << 32);
    check!(x.is_some_and(|x| x[0] & 0xffff == 0 && x[6] == crate::facts::GUEST_ID));
    Ok(())
}

fn the_version_is_told(cx: &Cx<'_>) -> Outcome {
    check!(cx.facts.version.build_number != 0);
    check!(cx.facts.version.major_version != 0);
    Ok(())
}

fn discovery_registers_are_the_same_on_every_vp(cx: &Cx<'_>) -> Outcome {
    let read = |cx: &Cx<'_>| DISCOVERY.map(|name| cx.get_wide(name).ok().map(|v| (v.low, v.high)));
    let own = read(cx);
    check!(own.iter().all(Option::is_some));
    for vp in 1..cx.env.vp_count() {
        check!(cx.on(vp, |cx| read(cx)) == own);
    }
    Ok(())
}

fn discovery_registers_do_not_change(cx: &Cx<'_>) -> Outcome {
    let features = cx.get_wide(RegisterName::PRIVILEGES_AND_FEATURES_INFO).map(|value| value.low);
    check_eq!(features, Ok(cx.facts.features.privileges.0));
    cx.unidentified(|| {
        let early = cx.get_wide(RegisterName::PRIVILEGES_AND_FEATURES_INFO).map(|value| value.low);
        check_eq!(early, features);
        Ok(())
    })
}

fn discovery_registers_are_read_only(cx: &Cx<'_>) -> Outcome {
    for name in DISCOVERY {
        let before = cx.get(name);
        check!(cx.set(name, 0) != HvStatus::SUCCESS);
        check!(cx.set(name, 0x1234) != HvStatus::SUCCESS);
        check_eq!(cx.get(name), before);
    }
    Ok(())
}

fn discovery_registers_read_alike_in_a_list(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, &DISCOVERY);
    check_eq!(cx.memory(get(5), input, output).status(), HvStatus::SUCCESS);
    for (n, name) in (0..).zip(DISCOVERY) {
        let [low, high]: [u64; 2] = cx.read(output + n * 16);
        check!(cx.get_wide(name).is_ok_and(|value| value.low == low && value.high == high));
    }
    Ok(())
}

fn reserved_feature_words_are_zero(cx: &Cx<'_>) -> Outcome {
    check_eq!(cx.facts.features.d, 0);
    check!(cx.facts.enlightenments.reserved == [0; 2]);
    check_eq!(cx.facts.limits.reserved, 0);
    Ok(())
}

fn the_partition_is_within_the_limit_of_vps(cx: &Cx<'_>) -> Outcome {
    let limit = cx.facts.limits.max_virtual_processors;
    skip_if!(limit == 0, "the host does not tell the limit");
    check!(cx.env.vp_count() <= limit as usize);
    Ok(())
}

fn reset_by_register_is_not_recommended(cx: &Cx<'_>) -> Outcome {
    check!(!cx.facts.enlightenments.hints.use_hv_register_for_reset());
    Ok(())
}

fn cluster_ipis_work_where_they_are_recommended(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.enlightenments.hints.use_synthetic_cluster_ipi(), "no hint to send IPIs by hypercall");
    // No target at all: nothing happens.
    let (result, _) = cx.fast(simple(HypercallCode::SEND_IPI), &[u64::from(cx.intid()), 0]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    Ok(())
}

const NONE: PartitionPrivileges = PartitionPrivileges(0);

/// Checks that registers can be read exactly where the partition has a privilege.
fn registers_follow(cx: &Cx<'_>, needed: PartitionPrivileges, names: &[RegisterName]) -> Outcome {
    let granted = cx.facts.features.privileges.0 & needed.0 == needed.0;
    for &name in names {
        let status = cx.get(name).err().unwrap_or(HvStatus::SUCCESS);
        check_eq!(status, if granted { HvStatus::SUCCESS } else { HvStatus::ACCESS_DENIED });
        if !granted {
            check_eq!(cx.set(name, 0), HvStatus::ACCESS_DENIED);
        }
    }
    Ok(())
}

fn the_vp_runtime_register_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    registers_follow(cx, NONE.with_access_vp_runtime(true), &[RegisterName::VP_RUNTIME])
}

fn the_reference_counter_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.access_reference_counter();
    let status = cx.get(RegisterName::TIME_REF_COUNT).err().unwrap_or(HvStatus::SUCCESS);
    check_eq!(status, if granted { HvStatus::SUCCESS } else { HvStatus::ACCESS_DENIED });
    Ok(())
}

fn synic_registers_follow_their_privilege(cx: &Cx<'_>) -> Outcome {
    let names = [
        RegisterName::SCONTROL,
        RegisterName::SVERSION,
        RegisterName::SIEFP,
        RegisterName::SIMP,
        RegisterName::EOM,
        RegisterName::SINT0,
        RegisterName::SINT15,
    ];
    registers_follow(cx, NONE.with_access_synic(true), &names)
}

fn timer_registers_follow_their_privilege(cx: &Cx<'_>) -> Outcome {
    let names = [0, 1, 2, 3].map(RegisterName::stimer_config);
    registers_follow(cx, NONE.with_access_synthetic_timers(true), &names)?;
    let names = [0, 1, 2, 3].map(RegisterName::stimer_count);
    registers_follow(cx, NONE.with_access_synthetic_timers(true), &names)
}

fn the_vp_index_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.access_vp_index();
    let status = cx.get(RegisterName::VP_INDEX).err().unwrap_or(HvStatus::SUCCESS);
    check_eq!(status, if granted { HvStatus::SUCCESS } else { HvStatus::ACCESS_DENIED });
    Ok(())
}

fn the_reference_tsc_register_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    registers_follow(cx, NONE.with_access_reference_tsc(true), &[RegisterName::REFERENCE_TSC])
}

fn frequency_registers_follow_their_privilege(cx: &Cx<'_>) -> Outcome {
    let names = [RegisterName::PROCESSOR_CLOCK_FREQUENCY, RegisterName::INTERRUPT_CLOCK_FREQUENCY];
    registers_follow(cx, NONE.with_access_frequency(true), &names)
}

fn the_vp_assist_page_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    registers_follow(cx, NONE.with_access_interrupt_control(true), &[RegisterName::VP_ASSIST_PAGE])
}

fn crash_registers_follow_their_feature_bit(cx: &Cx<'_>) -> Outcome {
    let offered = cx.facts.features.c.guest_crash();
    for name in [RegisterName::GUEST_CRASH_P0, RegisterName::GUEST_CRASH_P4, RegisterName::GUEST_CRASH_CTL] {
        check_eq!(cx.get(name).is_ok(), offered);
    }
    Ok(())
}

/// Checks that a hypercall is denied exactly where the partition lacks a privilege. With it, the parameters given are
/// still wrong, so that nothing happens.
fn call_follows(cx: &Cx<'_>, granted: bool, control: HypercallInput, input: &[u64]) -> Outcome {
    let (input_page, output) = (cx.page()?, cx.page()?);
    cx.write(input_page, input);
    let status = cx.memory(control, input_page, output).status();
    check_eq!(status == HvStatus::ACCESS_DENIED, !granted);
    Ok(())
}

fn posting_messages_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.post_messages();
    let input = [crate::loopback::NOTHING.into(), 1];
    call_follows(cx, granted, simple(HypercallCode::POST_MESSAGE), &input)
}

fn signalling_events_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.signal_events();
    call_follows(cx, granted, simple(HypercallCode::SIGNAL_EVENT), &[crate::loopback::NOTHING.into()])
}

fn starting_vps_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.start_virtual_processor();
    call_follows(cx, granted, simple(HypercallCode::START_VP), &[OWN[0], u64::from(u32::MAX)])
}

fn the_partition_id_follows_its_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.access_partition_id();
    call_follows(cx, granted, simple(HypercallCode::GET_PARTITION_ID), &[])
}

fn extended_hypercalls_follow_their_privilege(cx: &Cx<'_>) -> Outcome {
    let granted = cx.facts.features.privileges.enable_extended_hypercalls();
    call_follows(cx, granted, simple(HypercallCode::EXT_QUERY_CAPABILITIES), &[])
}
