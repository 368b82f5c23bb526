//! Before and after the guest OS id.

use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::PARTITION_ID_SELF;

use super::super::virtual_processors::{need_start, restart, start, stop};
use crate::cx::{Cx, get};
use crate::facts::GUEST_ID;
use crate::outcome::{Outcome, Stop};

cases! {
    "early_registers";
    "Hypercall Interface", "Reporting the Guest OS Identity":
        the_guest_id_is_zero_at_first,
        the_guest_id_reads_as_written,
        the_guest_id_is_the_partitions,
        the_guest_id_can_be_written_again,
        the_guest_id_takes_a_proprietary_systems_word,
        a_zero_guest_id_closes_registers_again,
        the_guest_id_opens_registers_for_every_vp,
        messages_need_the_guest_id,
        vps_are_not_started_without_the_guest_id;
    "HvCallGetVpRegisters", "Early Register List (ARM64)":
        the_guest_id_is_readable_early,
        the_version_is_readable_early,
        features_are_readable_early,
        hints_are_readable_early,
        limits_are_readable_early,
        hardware_features_are_readable_early,
        the_reference_counter_is_readable_early,
        crash_registers_are_readable_early,
        the_vp_index_is_not_readable_early,
        synic_registers_are_not_readable_early,
        timer_registers_are_not_readable_early,
        the_reference_tsc_register_is_not_readable_early,
        an_early_list_is_readable_at_once,
        an_early_list_stops_at_a_late_register;
    "HvCallSetVpRegisters", "Early Register List (ARM64)":
        crash_registers_are_writable_early,
        synic_registers_are_not_writable_early,
        timer_registers_are_not_writable_early,
        the_reference_tsc_register_is_not_writable_early;
}

fn the_guest_id_is_zero_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    check_eq!(cx.facts.guest_id, Ok(0));
    Ok(())
}

fn the_guest_id_reads_as_written(cx: &Cx<'_>) -> Outcome {
    check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(GUEST_ID));
    Ok(())
}

fn the_guest_id_is_the_partitions(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    let id = GUEST_ID + 5;
    cx.check_on(other, |cx| cx.write_register(RegisterName::GUEST_OS_ID, id))?;
    check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(id));
    for vp in 1..cx.env.vp_count() {
        check!(cx.on(vp, |cx| cx.get(RegisterName::GUEST_OS_ID).ok()) == Some(id));
    }
    Ok(())
}

fn the_guest_id_can_be_written_again(cx: &Cx<'_>) -> Outcome {
    for id in [GUEST_ID + 1, GuestOsId::linux(0x06_0c_75).0, GUEST_ID] {
        cx.write_and_read(RegisterName::GUEST_OS_ID, id)?;
    }
    Ok(())
}

fn the_guest_id_takes_a_proprietary_systems_word(cx: &Cx<'_>) -> Outcome {
    // Vendor 1 is Microsoft, system 4 Windows NT: what Windows writes.
    cx.write_and_read(RegisterName::GUEST_OS_ID, 0x0001_0406_0300_1db1)
}

fn a_zero_guest_id_closes_registers_again(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    check!(cx.get(RegisterName::SCONTROL).is_ok());
    cx.unidentified(|| {
        check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(0));
        check!(cx.get(RegisterName::SCONTROL).is_err());
        Ok(())
    })?;
    check!(cx.get(RegisterName::SCONTROL).is_ok());
    Ok(())
}

fn the_guest_id_opens_registers_for_every_vp(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    let other = cx.other()?;
    cx.unidentified(|| {
        check!(cx.on(other, |cx| cx.get(RegisterName::SCONTROL).is_err()));
        Ok(())
    })?;
    check!(cx.on(other, |cx| cx.get(RegisterName::SCONTROL).is_ok()));
    Ok(())
}

fn messages_need_the_guest_id(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[crate::loopback::MESSAGE_SINT])?;
    cx.unidentified(|| {
        check!(cx.post(crate::loopback::MESSAGE, 1, &[1])? != HvStatus::SUCCESS);
        Ok(())
    })?;
    check_eq!(cx.slot_type(&synic, crate::loopback::MESSAGE_SINT), 0);
    Ok(())
}

fn vps_are_not_started_without_the_guest_id(cx: &Cx<'_>) -> Outcome {
    need_start(cx)?;
    let other = cx.other()?;
    let Some(context) = cx.env.start_context(other) else {
        return Err(Stop::Skip("the environment has no context for a start by hypercall"));
    };
    stop(cx, other)?;
    let refused = cx.unidentified(|| {
        let status = start(cx, PARTITION_ID_SELF, cx.index(other), 0, context)?;
        check!(status != HvStatus::SUCCESS);
        Ok(())
    });
    if refused.is_err() {
        // It was started: the suite needs it further on.
        cx.env.wait_online(other);
        return refused;
    }
    restart(cx, other)
}

/// Registers that every partition has.
const ALWAYS: [RegisterName; 6] = [
    RegisterName::GUEST_OS_ID,
    RegisterName::HYPERVISOR_VERSION,
    RegisterName::PRIVILEGES_AND_FEATURES_INFO,
    RegisterName::FEATURES_INFO,
    RegisterName::IMPLEMENTATION_LIMITS_INFO,
    RegisterName::HARDWARE_FEATURES_INFO,
];

/// Checks that the registers can be read, with the same value as later, or not, while the guest OS id is zero.
fn readable_early(cx: &Cx<'_>, names: &[RegisterName], readable: bool) -> Outcome {
    for &name in names {
        let late = cx.get(name);
        let optional = !ALWAYS.contains(&name);
        skip_if!(optional && late.is_err(), "the partition does not have the register");
        check!(late.is_ok());
        cx.unidentified(|| {
            let early = cx.get(name);
            check_eq!(early.is_ok(), readable);
            if readable && name != RegisterName::TIME_REF_COUNT && name != RegisterName::GUEST_OS_ID {
                check_eq!(early, late);
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn the_guest_id_is_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::GUEST_OS_ID], true)
}

fn the_version_is_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::HYPERVISOR_VERSION], true)
}

fn features_are_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::PRIVILEGES_AND_FEATURES_INFO], true)
}

fn hints_are_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::FEATURES_INFO], true)
}

fn limits_are_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::IMPLEMENTATION_LIMITS_INFO], true)
}

fn hardware_features_are_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::HARDWARE_FEATURES_INFO], true)
}

fn the_reference_counter_is_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::TIME_REF_COUNT], true)
}

fn crash_registers_are_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::GUEST_CRASH_P0, RegisterName::GUEST_CRASH_CTL], true)
}

fn the_vp_index_is_not_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::VP_INDEX], false)
}

fn synic_registers_are_not_readable_early(cx: &Cx<'_>) -> Outcome {
    let names = [RegisterName::SCONTROL, RegisterName::SIMP, RegisterName::SIEFP, RegisterName::SINT2];
    readable_early(cx, &names, false)
}

fn timer_registers_are_not_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::STIMER0_CONFIG, RegisterName::STIMER3_COUNT], false)
}

fn the_reference_tsc_register_is_not_readable_early(cx: &Cx<'_>) -> Outcome {
    readable_early(cx, &[RegisterName::REFERENCE_TSC], false)
}

fn an_early_list_is_readable_at_once(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, &[RegisterName::HYPERVISOR_VERSION, RegisterName::GUEST_OS_ID]);
    cx.unidentified(|| {
        let result = cx.memory(get(2), input, output);
        check_eq!(result.status(), HvStatus::SUCCESS);
        check_eq!(cx.read::<u64>(output), cx.facts.version.to_register().low);
        check_eq!(cx.read::<u64>(output + 16), 0);
        Ok(())
    })
}

fn an_early_list_stops_at_a_late_register(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, &[RegisterName::HYPERVISOR_VERSION, RegisterName::SCONTROL]);
    cx.unidentified(|| {
        let result = cx.memory(get(2), input, output);
        check!(result.status() != HvStatus::SUCCESS);
        check_eq!(result.reps_completed(), 1);
        Ok(())
    })
}

fn crash_registers_are_writable_early(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.c.guest_crash(), "no crash registers");
    cx.unidentified(|| cx.write_and_read(RegisterName::GUEST_CRASH_P1, 0x0123_4567_89ab_cdef))
}

/// Checks that a Set is refused, and does nothing, while the guest OS id is zero.
fn not_writable_early(cx: &Cx<'_>, names: &[RegisterName]) -> Outcome {
    for &name in names {
        let before = cx.get(name);
        skip_if!(before.is_err(), "the partition does not have the register");
        cx.unidentified(|| {
            check!(cx.set(name, 0x1_0012) != HvStatus::SUCCESS);
            Ok(())
        })?;
        check_eq!(cx.get(name), before);
    }
    Ok(())
}

fn synic_registers_are_not_writable_early(cx: &Cx<'_>) -> Outcome {
    not_writable_early(cx, &[RegisterName::SCONTROL, RegisterName::SIMP, RegisterName::SINT3])
}

fn timer_registers_are_not_writable_early(cx: &Cx<'_>) -> Outcome {
    not_writable_early(cx, &[RegisterName::STIMER1_CONFIG, RegisterName::STIMER1_COUNT])
}

fn the_reference_tsc_register_is_not_writable_early(cx: &Cx<'_>) -> Outcome {
    not_writable_early(cx, &[RegisterName::REFERENCE_TSC])
}
