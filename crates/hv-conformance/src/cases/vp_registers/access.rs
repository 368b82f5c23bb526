//! Whose register, which register, and what it takes.

use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::{ANY_VP, PARTITION_ID_SELF, VP_INDEX_SELF};

use crate::cx::{Cx, OWN, get, set};
use crate::facts::GUEST_ID;
use crate::outcome::Outcome;

cases! {
    "vp_registers";
    "HvCallGetVpRegisters", "Input Parameters":
        the_vp_can_name_itself_by_its_index,
        another_vps_register_can_be_read,
        an_unknown_vp_index_is_refused,
        any_vp_is_no_vp,
        an_unknown_partition_is_refused,
        partition_zero_is_refused,
        another_vtl_is_refused,
        a_vtl_that_is_not_to_be_used_is_ignored,
        reserved_bytes_of_the_header_must_be_zero,
        reserved_bits_of_the_vtl_must_be_zero;
    "HvCallGetVpRegisters", "Input List Element":
        an_unknown_register_is_refused,
        an_x64_register_number_names_nothing,
        a_register_beyond_the_sints_names_nothing;
    "HvCallSetVpRegisters", "Input Parameters":
        a_set_for_an_unknown_vp_is_refused,
        a_set_for_an_unknown_partition_is_refused,
        a_set_with_reserved_bytes_in_the_header_is_refused;
    "HvCallSetVpRegisters", "Input List Element":
        reserved_words_of_an_element_must_be_zero,
        an_unknown_register_cannot_be_set;
    "HvCallSetVpRegisters", "HvCallSetVpRegisters":
        bits_beyond_the_register_must_be_zero,
        the_vp_index_is_read_only,
        the_vp_runtime_is_read_only,
        the_synic_version_is_read_only,
        frequencies_are_read_only,
        a_list_sets_several_registers,
        a_set_takes_effect_at_once;
}

/// Makes a fast Get of one register with this header; returns its status.
fn get_with(cx: &Cx<'_>, partition: u64, vp_and_vtl: u64, name: RegisterName) -> HvStatus {
    cx.fast(get(1), &[partition, vp_and_vtl, name.0.into()]).0.status()
}

/// Makes a fast Set of the guest OS id with this header; returns its status. A wrong header must change nothing.
fn set_with(cx: &Cx<'_>, partition: u64, vp_and_vtl: u64) -> HvStatus {
    let input = [partition, vp_and_vtl, RegisterName::GUEST_OS_ID.0.into(), 0, GUEST_ID ^ 0xff, 0];
    cx.fast(set(1), &input).0.status()
}

const ID: RegisterName = RegisterName::GUEST_OS_ID;

fn the_vp_can_name_itself_by_its_index(cx: &Cx<'_>) -> Outcome {
    super::super::virtual_processors::need_index(cx)?;
    let index = u64::from(cx.index(0));
    let (result, block) = cx.fast(get(1), &[PARTITION_ID_SELF, index, RegisterName::VP_INDEX.0.into()]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    let first = cx.env.conduit().fast_output().first_word(20, 16).unwrap_or(0);
    check_eq!(block[first], index);
    let input = [PARTITION_ID_SELF, index, ID.0.into(), 0, GUEST_ID, 0];
    check_eq!(cx.fast(set(1), &input).0.status(), HvStatus::SUCCESS);
    Ok(())
}

fn another_vps_register_can_be_read(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    cx.need_synic()?;
    cx.check_on(other, |cx| cx.write_register(RegisterName::SINT4, 0x1_0044))?;
    for (name, want) in
        [(RegisterName::VP_INDEX, u64::from(cx.index(other))), (RegisterName::SINT4, 0x1_0044)]
    {
        let (result, block) = cx.fast(get(1), &[PARTITION_ID_SELF, cx.index(other).into(), name.0.into()]);
        skip_if!(result.status() == HvStatus::INVALID_PARAMETER, "the host lets a VP read its own only");
        check_eq!(result.status(), HvStatus::SUCCESS);
        let first = cx.env.conduit().fast_output().first_word(20, 16).unwrap_or(0);
        check_eq!(block[first], want);
    }
    Ok(())
}

fn an_unknown_vp_index_is_refused(cx: &Cx<'_>) -> Outcome {
    for index in [0x0000_ffff, 0x7fff_ffff, 0xffff_fffd] {
        check!(get_with(cx, PARTITION_ID_SELF, index, ID) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn any_vp_is_no_vp(cx: &Cx<'_>) -> Outcome {
    check!(get_with(cx, PARTITION_ID_SELF, ANY_VP.into(), ID) != HvStatus::SUCCESS);
    Ok(())
}

fn an_unknown_partition_is_refused(cx: &Cx<'_>) -> Outcome {
    for partition in [0x7e57_7e57_7e57, u64::MAX - 1] {
        check!(get_with(cx, partition, OWN[1], ID) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn partition_zero_is_refused(cx: &Cx<'_>) -> Outcome {
    check!(get_with(cx, 0, OWN[1], ID) != HvStatus::SUCCESS);
    Ok(())
}

fn another_vtl_is_refused(cx: &Cx<'_>) -> Outcome {
    skip_if!(cx.facts.features.privileges.access_vsm(), "the partition has VTLs");
    for vtl in [1u64, 2, 15] {
        let vtl_word = (vtl | 1 << 4) << 32;
        check!(get_with(cx, PARTITION_ID_SELF, OWN[1] | vtl_word, ID) != HvStatus::SUCCESS);
    }
    // VTL 0 by its number is the caller's own.
    check_eq!(get_with(cx, PARTITION_ID_SELF, OWN[1] | 1 << 36, ID), HvStatus::SUCCESS);
    Ok(())
}

fn a_vtl_that_is_not_to_be_used_is_ignored(cx: &Cx<'_>) -> Outcome {
    for vtl in [1u64, 15] {
        check_eq!(get_with(cx, PARTITION_ID_SELF, OWN[1] | vtl << 32, ID), HvStatus::SUCCESS);
    }
    Ok(())
}

fn reserved_bytes_of_the_header_must_be_zero(cx: &Cx<'_>) -> Outcome {
    for byte in [5, 6, 7] {
        check!(get_with(cx, PARTITION_ID_SELF, OWN[1] | 1 << (byte * 8), ID) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn reserved_bits_of_the_vtl_must_be_zero(cx: &Cx<'_>) -> Outcome {
    for bit in [5, 6, 7] {
        check!(get_with(cx, PARTITION_ID_SELF, OWN[1] | 1 << (32 + bit), ID) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn an_unknown_register_is_refused(cx: &Cx<'_>) -> Outcome {
    for name in [0, 1, 0x0009_ffff, 0x000a_ffff, u32::MAX] {
        check!(cx.get(RegisterName(name)).is_err());
    }
    Ok(())
}

fn an_x64_register_number_names_nothing(cx: &Cx<'_>) -> Outcome {
    // HV_X64_MSR_GUEST_OS_ID, VP_INDEX, TIME_REF_COUNT, SCONTROL, SINT0, STIMER0_CONFIG.
    for number in [0x4000_0000, 0x4000_0002, 0x4000_0020, 0x4000_0080, 0x4000_0090, 0x4000_00b0] {
        check!(cx.get(RegisterName(number)).is_err());
        check!(cx.set(RegisterName(number), 1) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn a_register_beyond_the_sints_names_nothing(cx: &Cx<'_>) -> Outcome {
    // Between the last timer and the next block.
    for number in [RegisterName::STIMER3_COUNT.0 + 9, 0x000a_1000] {
        check!(cx.get(RegisterName(number)).is_err());
    }
    Ok(())
}

fn a_set_for_an_unknown_vp_is_refused(cx: &Cx<'_>) -> Outcome {
    for index in [0x0000_ffff, 0x7fff_ffff, u64::from(ANY_VP)] {
        check!(set_with(cx, PARTITION_ID_SELF, index) != HvStatus::SUCCESS);
        check_eq!(cx.get(ID), Ok(GUEST_ID));
    }
    Ok(())
}

fn a_set_for_an_unknown_partition_is_refused(cx: &Cx<'_>) -> Outcome {
    check!(set_with(cx, 0x7e57_7e57_7e57, OWN[1]) != HvStatus::SUCCESS);
    check_eq!(cx.get(ID), Ok(GUEST_ID));
    Ok(())
}

fn a_set_with_reserved_bytes_in_the_header_is_refused(cx: &Cx<'_>) -> Outcome {
    for byte in [5, 6, 7] {
        check!(set_with(cx, PARTITION_ID_SELF, OWN[1] | 1 << (byte * 8)) != HvStatus::SUCCESS);
        check_eq!(cx.get(ID), Ok(GUEST_ID));
    }
    Ok(())
}

fn reserved_words_of_an_element_must_be_zero(cx: &Cx<'_>) -> Outcome {
    let name = u64::from(ID.0);
    for (first, second) in [(name | 1 << 32, 0), (name | 1 << 63, 0), (name, 1), (name, 1 << 63)] {
        let (result, _) = cx.fast(set(1), &[OWN[0], OWN[1], first, second, GUEST_ID ^ 0xff, 0]);
        check!(result.status() != HvStatus::SUCCESS);
        check_eq!(cx.get(ID), Ok(GUEST_ID));
    }
    let input = cx.page()?;
    for reserved in [4, 8, 12] {
        cx.write_values(input, &[(ID, GUEST_ID ^ 0xff)]);
        cx.write(input + 16 + reserved, &1u32);
        check!(cx.memory(set(1), input, 0).status() != HvStatus::SUCCESS);
        check_eq!(cx.get(ID), Ok(GUEST_ID));
    }
    Ok(())
}

fn an_unknown_register_cannot_be_set(cx: &Cx<'_>) -> Outcome {
    for name in [0, 1, 0x0009_ffff, 0x000a_ffff, u32::MAX] {
        check!(cx.set(RegisterName(name), 0) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn bits_beyond_the_register_must_be_zero(cx: &Cx<'_>) -> Outcome {
    for high in [1, 1 << 63] {
        let (result, _) = cx.fast(set(1), &[OWN[0], OWN[1], ID.0.into(), 0, GUEST_ID ^ 0xff, high]);
        check!(result.status() != HvStatus::SUCCESS);
        check_eq!(cx.get(ID), Ok(GUEST_ID));
        for name in [RegisterName::GUEST_CRASH_P0, RegisterName::STIMER0_COUNT, RegisterName::SINT3] {
            let Ok(before) = cx.get(name) else { continue };
            let (result, _) = cx.fast(set(1), &[OWN[0], OWN[1], name.0.into(), 0, before ^ 0x40, high]);
            check!(result.status() != HvStatus::SUCCESS);
            check_eq!(cx.get(name), Ok(before));
        }
    }
    Ok(())
}

/// Checks that no Set of the register succeeds.
fn read_only(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    let before = cx.get(name);
    skip_if!(before.is_err(), "the partition does not have the register");
    for value in [0, 1, before.unwrap_or(0)] {
        check!(cx.set(name, value) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn the_vp_index_is_read_only(cx: &Cx<'_>) -> Outcome {
    let before = cx.get(RegisterName::VP_INDEX);
    read_only(cx, RegisterName::VP_INDEX)?;
    check_eq!(cx.get(RegisterName::VP_INDEX), before);
    Ok(())
}

fn the_vp_runtime_is_read_only(cx: &Cx<'_>) -> Outcome {
    read_only(cx, RegisterName::VP_RUNTIME)
}

fn the_synic_version_is_read_only(cx: &Cx<'_>) -> Outcome {
    read_only(cx, RegisterName::SVERSION)
}

fn frequencies_are_read_only(cx: &Cx<'_>) -> Outcome {
    read_only(cx, RegisterName::PROCESSOR_CLOCK_FREQUENCY)?;
    read_only(cx, RegisterName::INTERRUPT_CLOCK_FREQUENCY)
}

fn a_list_sets_several_registers(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    let input = cx.page()?;
    let values =
        [(RegisterName::SINT3, 0x1_0033), (RegisterName::SINT9, 0x1_0099), (RegisterName::SINT15, 0x1_00ff)];
    cx.write_values(input, &values);
    let result = cx.memory(set(3), input, 0);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 3);
    for (name, value) in values {
        check_eq!(cx.get(name), Ok(value));
    }
    Ok(())
}

fn a_set_takes_effect_at_once(cx: &Cx<'_>) -> Outcome {
    check_eq!(u64::from(VP_INDEX_SELF), OWN[1]);
    for n in 0..16 {
        cx.write_and_read(ID, GUEST_ID + n)?;
    }
    Ok(())
}
