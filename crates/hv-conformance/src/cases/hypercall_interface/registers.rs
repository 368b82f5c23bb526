//! Which registers carry what, and which are left alone, in both conventions.

use hv_tlfs::hypercall::{HypercallCode, HypercallOutput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::smccc::HYPERCALL;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, OWN, Registers, get, set, simple};
use crate::env::Convention;
use crate::facts::GUEST_ID;
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "calling_convention";
    "Hypercall Interface", "Volatile Registers (ARM64 SMCCC) and (ARM64 HVC #1)":
        a_fast_get_changes_only_its_output,
        a_fast_set_changes_only_the_result,
        a_fast_call_that_fails_keeps_its_input,
        a_memory_call_keeps_its_addresses,
        a_memory_call_that_fails_keeps_its_addresses,
        an_unknown_call_keeps_the_registers,
        a_refused_input_value_keeps_the_registers,
        a_slow_rep_call_changes_only_the_start_index,
        registers_are_kept_on_every_vp;
    "Hypercall Interface", "Register Fast Call Output (ARM64 SMCCC) and (ARM64 HVC #1)":
        one_register_comes_back_where_guests_look_for_it,
        two_registers_come_back_behind_the_input,
        four_registers_come_back_in_the_last_registers,
        the_high_half_of_a_small_register_is_zero;
    "Hypercall Interface", "Register Fast Call Input (ARM64 SMCCC) and (ARM64 HVC #1)":
        registers_beyond_the_input_are_ignored,
        padding_behind_the_input_is_ignored,
        three_registers_are_set_by_one_fast_call,
        input_beyond_128_bytes_is_refused,
        output_that_does_not_fit_behind_the_input_is_refused,
        a_message_does_not_fit_into_registers;
    "Hypercall Interface", "Hypercall Outputs":
        a_simple_call_completes_no_reps,
        fast_and_memory_forms_give_the_same;
    "Hypercall Interface", "Hypercall Register Conventions (ARM64 SMCCC) and (ARM64 HVC #1)":
        both_conventions_give_the_same,
        both_conventions_take_the_same_parameters_in_memory,
        an_immediate_without_meaning_does_no_harm;
}

/// Makes a fast Get of these registers by hand.
fn fast_get(cx: &Cx<'_>, names: &[RegisterName]) -> Result<Registers, Stop> {
    let mut input = [0u64; 16];
    input[..2].copy_from_slice(&OWN);
    for (n, name) in names.iter().enumerate() {
        input[2 + n / 2] |= u64::from(name.0) << (n % 2 * 32);
    }
    let control = get(names.len() as u16).with_fast(true);
    // Words after the input keep their pattern: they are not parameters.
    let words = 2 + names.len().div_ceil(2);
    cx.raw(control, &input[..words]).map_err(|_| fail("the call returns"))
}

fn raw(cx: &Cx<'_>, control: hv_tlfs::hypercall::HypercallInput, input: &[u64]) -> Result<Registers, Stop> {
    cx.raw(control, input).map_err(|_| fail("the call returns"))
}

fn status(registers: &Registers) -> HvStatus {
    HypercallOutput(registers.after[0]).status()
}

/// Returns the register of the control word, and the pair in which one register comes back.
const fn places(convention: Convention) -> (usize, [usize; 2]) {
    match convention {
        Convention::Smccc => (1, [6, 7]),
        Convention::Hvc1 => (0, [15, 16]),
    }
}

fn a_fast_get_changes_only_its_output(cx: &Cx<'_>) -> Outcome {
    let (control, output) = places(cx.env.convention());
    let x = fast_get(cx, &[RegisterName::GUEST_OS_ID])?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    x.kept_but(control, &output)
}

fn set_guest_id(cx: &Cx<'_>) -> Result<Registers, Stop> {
    let input = [OWN[0], OWN[1], RegisterName::GUEST_OS_ID.0.into(), 0, GUEST_ID, 0];
    raw(cx, set(1).with_fast(true), &input)
}

fn a_fast_set_changes_only_the_result(cx: &Cx<'_>) -> Outcome {
    let x = set_guest_id(cx)?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    x.kept_but(cx.env.convention().control(), &[])
}

fn a_fast_call_that_fails_keeps_its_input(cx: &Cx<'_>) -> Outcome {
    let input = [OWN[0], OWN[1], RegisterName::TIME_REF_COUNT.0.into(), 0, 1, 0];
    let x = raw(cx, set(1).with_fast(true), &input)?;
    check!(status(&x) != HvStatus::SUCCESS);
    x.kept_but(cx.env.convention().control(), &[])
}

fn a_memory_call_keeps_its_addresses(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, &[RegisterName::GUEST_OS_ID]);
    let x = raw(cx, get(1), &[input, output])?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    x.kept_but(cx.env.convention().control(), &[])
}

fn a_memory_call_that_fails_keeps_its_addresses(cx: &Cx<'_>) -> Outcome {
    let x = raw(cx, get(1), &[cx.page()? + 1, cx.page()?])?;
    check_eq!(status(&x), HvStatus::INVALID_ALIGNMENT);
    x.kept_but(cx.env.convention().control(), &[])
}

fn an_unknown_call_keeps_the_registers(cx: &Cx<'_>) -> Outcome {
    let x = raw(cx, simple(HypercallCode(0x7fff)).with_fast(true), &[])?;
    check_eq!(status(&x), HvStatus::INVALID_HYPERCALL_CODE);
    x.kept_but(cx.env.convention().control(), &[])
}

fn a_refused_input_value_keeps_the_registers(cx: &Cx<'_>) -> Outcome {
    let x = raw(cx, get(0).with_fast(true), &OWN)?;
    check_eq!(status(&x), HvStatus::INVALID_HYPERCALL_INPUT);
    x.kept_but(cx.env.convention().control(), &[])
}

fn a_slow_rep_call_changes_only_the_start_index(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    let names = [RegisterName::GUEST_OS_ID; 256];
    cx.write_names(input, &names);
    let x = raw(cx, get(256), &[input, output])?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    check_eq!(HypercallOutput(x.after[0]).reps_completed(), 256);
    x.kept_but(cx.env.convention().control(), &[])
}

fn registers_are_kept_on_every_vp(cx: &Cx<'_>) -> Outcome {
    cx.other()?;
    for vp in 1..cx.env.vp_count() {
        cx.check_on(vp, a_fast_get_changes_only_its_output)?;
        cx.check_on(vp, a_fast_set_changes_only_the_result)?;
    }
    Ok(())
}

fn one_register_comes_back_where_guests_look_for_it(cx: &Cx<'_>) -> Outcome {
    let (_, [low, high]) = places(cx.env.convention());
    let x = fast_get(cx, &[RegisterName::GUEST_OS_ID])?;
    check_eq!(HypercallOutput(x.after[0]).reps_completed(), 1);
    check_eq!(x.after[low], GUEST_ID);
    check_eq!(x.after[high], 0);
    Ok(())
}

fn two_registers_come_back_behind_the_input(cx: &Cx<'_>) -> Outcome {
    let first = match cx.env.convention() {
        Convention::Smccc => 6,
        Convention::Hvc1 => 13,
    };
    let x = fast_get(cx, &[RegisterName::HYPERVISOR_VERSION, RegisterName::GUEST_OS_ID])?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    check_eq!(HypercallOutput(x.after[0]).reps_completed(), 2);
    let version = cx.facts.version.to_register();
    check_eq!(x.after[first], version.low);
    check_eq!(x.after[first + 1], version.high);
    check_eq!(x.after[first + 2], GUEST_ID);
    x.kept_but(cx.env.convention().control(), &[first, first + 1, first + 2, first + 3])
}

fn four_registers_come_back_in_the_last_registers(cx: &Cx<'_>) -> Outcome {
    // 32 bytes of input, 64 of output.
    let first = match cx.env.convention() {
        Convention::Smccc => 6,
        Convention::Hvc1 => 9,
    };
    let x = fast_get(cx, &[RegisterName::GUEST_OS_ID; 4])?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    for n in 0..4 {
        check_eq!(x.after[first + 2 * n], GUEST_ID);
        check_eq!(x.after[first + 2 * n + 1], 0);
    }
    Ok(())
}

fn the_high_half_of_a_small_register_is_zero(cx: &Cx<'_>) -> Outcome {
    for name in [RegisterName::GUEST_OS_ID, RegisterName::VP_INDEX, RegisterName::TIME_REF_COUNT] {
        if let Ok(value) = cx.get_wide(name) {
            check_eq!(value.high, 0);
        }
    }
    Ok(())
}

fn registers_beyond_the_input_are_ignored(cx: &Cx<'_>) -> Outcome {
    // One word of input; the rest holds the pattern of `Cx::raw`.
    let x = raw(cx, simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT).with_fast(true), &[5])?;
    check_eq!(status(&x), HvStatus::SUCCESS);
    Ok(())
}

fn padding_behind_the_input_is_ignored(cx: &Cx<'_>) -> Outcome {
    // The name has four bytes; the other four of its word, and the word after it, are padding.
    let name = u64::from(RegisterName::GUEST_OS_ID.0) | 0xdead_beef << 32;
    let (result, block) = cx.fast(get(1), &[OWN[0], OWN[1], name, u64::MAX]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    let first = cx.env.conduit().fast_output().first_word(20, 16).unwrap_or(0);
    check_eq!(block[first], GUEST_ID);
    Ok(())
}

fn three_registers_are_set_by_one_fast_call(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.c.guest_crash(), "no crash registers");
    let names = [RegisterName::GUEST_CRASH_P0, RegisterName::GUEST_CRASH_P2, RegisterName::GUEST_CRASH_P4];
    let mut input = [0; 14];
    input[..2].copy_from_slice(&OWN);
    for (n, name) in names.iter().enumerate() {
        input[2 + n * 4] = name.0.into();
        input[4 + n * 4] = 0x1111 * (n as u64 + 1);
    }
    let (result, _) = cx.fast(set(3), &input);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 3);
    for (n, name) in (1..).zip(names) {
        check_eq!(cx.get(name), Ok(0x1111 * n));
    }
    Ok(())
}

fn input_beyond_128_bytes_is_refused(cx: &Cx<'_>) -> Outcome {
    // Four elements of 32 bytes and the header: the last one would be beyond the registers that carry parameters.
    let mut input = [0; 18];
    input[..2].copy_from_slice(&OWN);
    for element in input[2..].chunks_exact_mut(4) {
        element[0] = RegisterName::GUEST_OS_ID.0.into();
        element[2] = GUEST_ID;
    }
    let x = raw(cx, set(4).with_fast(true), &input)?;
    check!(status(&x) != HvStatus::SUCCESS);
    Ok(())
}

fn output_that_does_not_fit_behind_the_input_is_refused(cx: &Cx<'_>) -> Outcome {
    // 16 + 6 * 4 bytes of input, which is rounded up, and 96 of output: 144.
    let name = u64::from(RegisterName::GUEST_OS_ID.0);
    let pair = name | name << 32;
    check!(cx.fast(get(6), &[OWN[0], OWN[1], pair, pair, pair]).0.status() != HvStatus::SUCCESS);
    // With five it fits exactly: 48 and 80.
    let (result, _) = cx.fast(get(5), &[OWN[0], OWN[1], pair, pair, pair]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 5);
    Ok(())
}

fn a_message_does_not_fit_into_registers(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[crate::loopback::MESSAGE_SINT])?;
    let (result, _) = cx.fast(simple(HypercallCode::POST_MESSAGE), &[crate::loopback::MESSAGE.into(), 1]);
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(cx.slot_type(&synic, crate::loopback::MESSAGE_SINT), 0);
    Ok(())
}

fn a_simple_call_completes_no_reps(cx: &Cx<'_>) -> Outcome {
    let (result, _) = cx.fast(simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT), &[1]);
    check_eq!(result.0 & 0xfff_0000_0000, 0);
    Ok(())
}

fn fast_and_memory_forms_give_the_same(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    for name in [RegisterName::GUEST_OS_ID, RegisterName::HYPERVISOR_VERSION, RegisterName::FEATURES_INFO] {
        cx.write_names(input, &[name]);
        let result = cx.memory(get(1), input, output);
        check_eq!(result.status(), HvStatus::SUCCESS);
        check_eq!(result.reps_completed(), 1);
        let [low, high]: [u64; 2] = cx.read(output);
        check!(cx.get_wide(name).is_ok_and(|value| value.low == low && value.high == high));
    }
    Ok(())
}

/// Makes a Get of one register in a convention of our choice; returns status and value.
fn get_in(cx: &Cx<'_>, convention: Convention, name: RegisterName) -> Option<(u64, u64)> {
    let control = convention.control();
    let mut x = [0; 31];
    x[0] = HYPERCALL.into();
    x[control] = get(1).with_fast(true).0;
    x[control + 1] = OWN[0];
    x[control + 2] = OWN[1];
    x[control + 3] = name.0.into();
    cx.env.hvc(convention.immediate(), &mut x).ok()?;
    Some((x[0], x[places(convention).1[0]]))
}

fn both_conventions_give_the_same(cx: &Cx<'_>) -> Outcome {
    for name in [RegisterName::GUEST_OS_ID, RegisterName::HYPERVISOR_VERSION, RegisterName(0x1234_5678)] {
        let smccc = get_in(cx, Convention::Smccc, name);
        check!(smccc.is_some());
        let hvc1 = get_in(cx, Convention::Hvc1, name);
        if name == RegisterName(0x1234_5678) {
            // Where there is an error, the output is undefined.
            check!(smccc.map(|(result, _)| result) == hvc1.map(|(result, _)| result));
        } else {
            check!(smccc == hvc1);
        }
    }
    Ok(())
}

fn both_conventions_take_the_same_parameters_in_memory(cx: &Cx<'_>) -> Outcome {
    let input = cx.page()?;
    cx.write_names(input, &[RegisterName::GUEST_OS_ID]);
    for convention in [Convention::Smccc, Convention::Hvc1] {
        let output = cx.page()?;
        let control = convention.control();
        let mut x = [0; 31];
        x[0] = HYPERCALL.into();
        x[control] = get(1).0;
        x[control + 1] = input;
        x[control + 2] = output;
        check!(cx.env.hvc(convention.immediate(), &mut x).is_ok());
        check_eq!(HypercallOutput(x[0]).status(), HvStatus::SUCCESS);
        check_eq!(cx.read::<u64>(output), GUEST_ID);
    }
    Ok(())
}

fn an_immediate_without_meaning_does_no_harm(cx: &Cx<'_>) -> Outcome {
    for immediate in [5, 0x7e57, 0xffff] {
        let before: [u64; 31] = core::array::from_fn(|n| 0x1000 + n as u64);
        let mut x = before;
        // It may be an undefined instruction, or return; no more can be said than that the guest continues.
        if let Err(exception) = cx.env.hvc(immediate, &mut x) {
            check!(exception.undefined);
        }
        check!(x[4..30] == before[4..30]);
        check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(GUEST_ID));
    }
    Ok(())
}
