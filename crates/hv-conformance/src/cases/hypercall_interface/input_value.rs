//! The hypercall input value: its checks, exact to the status.

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, OWN, get, rep, set, simple};
use crate::outcome::Outcome;

cases! {
    "input_value";
    "Hypercall Interface", "Common Hypercall Status Codes":
        an_unknown_code_is_refused,
        code_zero_is_refused,
        an_unknown_extended_code_is_refused,
        a_rep_call_without_reps_is_refused,
        a_rep_call_without_reps_is_refused_in_memory_form,
        a_simple_call_with_reps_is_refused,
        a_simple_call_with_a_start_index_is_refused,
        a_start_index_at_the_count_is_refused,
        a_start_index_beyond_the_count_is_refused;
    "Hypercall Interface", "Hypercall Inputs":
        bits_30_to_27_must_be_zero,
        bits_47_to_44_must_be_zero,
        bits_63_to_60_must_be_zero,
        reserved_bits_count_in_memory_form_too,
        reserved_bits_count_for_a_simple_call_too,
        a_refused_call_does_nothing;
    "Hypercall Interface", "Variable Sized Hypercall Input Headers":
        a_get_takes_no_variable_header,
        a_set_takes_no_variable_header,
        a_post_takes_no_variable_header,
        a_signal_takes_no_variable_header,
        a_flush_with_a_mask_takes_no_variable_header;
    "Hypercall Interface", "Reporting the Guest OS Identity":
        a_call_needs_the_guest_id;
    "HvCallNotifyLongSpinWait", "Return Values":
        a_long_spin_wait_succeeds,
        a_long_spin_wait_succeeds_in_memory_form,
        a_long_spin_wait_succeeds_on_every_vp;
}

/// Makes a fast Get of the guest OS id with this control word.
fn status_of_get(cx: &Cx<'_>, control: HypercallInput) -> HvStatus {
    cx.fast(control, &[OWN[0], OWN[1], RegisterName::GUEST_OS_ID.0.into()]).0.status()
}

fn an_unknown_code_is_refused(cx: &Cx<'_>) -> Outcome {
    for code in [0x0fff, 0x3fff, 0x7fff] {
        let (result, _) = cx.fast(simple(HypercallCode(code)), &[]);
        check_eq!(result.status(), HvStatus::INVALID_HYPERCALL_CODE);
        let page = cx.parameters();
        let result = cx.memory(simple(HypercallCode(code)), page, page);
        check_eq!(result.status(), HvStatus::INVALID_HYPERCALL_CODE);
    }
    Ok(())
}

fn code_zero_is_refused(cx: &Cx<'_>) -> Outcome {
    check_eq!(cx.fast(simple(HypercallCode(0)), &[]).0.status(), HvStatus::INVALID_HYPERCALL_CODE);
    Ok(())
}

fn an_unknown_extended_code_is_refused(cx: &Cx<'_>) -> Outcome {
    let (result, _) = cx.fast(simple(HypercallCode(0xffff)), &[]);
    check!(result.status() != HvStatus::SUCCESS);
    Ok(())
}

fn a_rep_call_without_reps_is_refused(cx: &Cx<'_>) -> Outcome {
    check_eq!(status_of_get(cx, get(0)), HvStatus::INVALID_HYPERCALL_INPUT);
    let (result, _) = cx.fast(set(0), &OWN);
    check_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_rep_call_without_reps_is_refused_in_memory_form(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, &[]);
    check_eq!(cx.memory(get(0), input, output).status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_simple_call_with_reps_is_refused(cx: &Cx<'_>) -> Outcome {
    for count in [1, 0xfff] {
        let (result, _) = cx.fast(rep(HypercallCode::NOTIFY_LONG_SPIN_WAIT, count), &[1]);
        check_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    }
    Ok(())
}

fn a_simple_call_with_a_start_index_is_refused(cx: &Cx<'_>) -> Outcome {
    let control = simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT).with_rep_start(1);
    check_eq!(cx.fast(control, &[1]).0.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_start_index_at_the_count_is_refused(cx: &Cx<'_>) -> Outcome {
    check_eq!(status_of_get(cx, get(1).with_rep_start(1)), HvStatus::INVALID_HYPERCALL_INPUT);
    check_eq!(status_of_get(cx, get(2).with_rep_start(2)), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_start_index_beyond_the_count_is_refused(cx: &Cx<'_>) -> Outcome {
    check_eq!(status_of_get(cx, get(1).with_rep_start(2)), HvStatus::INVALID_HYPERCALL_INPUT);
    check_eq!(status_of_get(cx, get(2).with_rep_start(0xfff)), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

/// Checks that each of these bits alone makes a Get invalid.
fn bits_are_reserved(cx: &Cx<'_>, bits: impl Iterator<Item = u32>) -> Outcome {
    for bit in bits {
        let control = HypercallInput(get(1).0 | 1 << bit);
        check_eq!(status_of_get(cx, control), HvStatus::INVALID_HYPERCALL_INPUT);
    }
    Ok(())
}

fn bits_30_to_27_must_be_zero(cx: &Cx<'_>) -> Outcome {
    bits_are_reserved(cx, 27..=30)
}

fn bits_47_to_44_must_be_zero(cx: &Cx<'_>) -> Outcome {
    bits_are_reserved(cx, 44..=47)
}

fn bits_63_to_60_must_be_zero(cx: &Cx<'_>) -> Outcome {
    bits_are_reserved(cx, 60..=63)
}

fn reserved_bits_count_in_memory_form_too(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, &[RegisterName::GUEST_OS_ID]);
    for bit in [27, 30, 44, 47, 60, 63] {
        let result = cx.memory(HypercallInput(get(1).0 | 1 << bit), input, output);
        check_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    }
    Ok(())
}

fn reserved_bits_count_for_a_simple_call_too(cx: &Cx<'_>) -> Outcome {
    for bit in [27, 30, 44, 47, 60, 63] {
        let control = HypercallInput(simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT).0 | 1 << bit);
        check_eq!(cx.fast(control, &[1]).0.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    }
    Ok(())
}

fn a_refused_call_does_nothing(cx: &Cx<'_>) -> Outcome {
    let name = u64::from(RegisterName::GUEST_OS_ID.0);
    let input = [OWN[0], OWN[1], name, 0, 0x8100_0000_0000_0001, 0];
    for control in [HypercallInput(set(1).0 | 1 << 27), set(1).with_variable_header_size(1), set(0)] {
        check!(cx.fast(control, &input).0.status() != HvStatus::SUCCESS);
        check_eq!(cx.get(RegisterName::GUEST_OS_ID), Ok(crate::facts::GUEST_ID));
    }
    Ok(())
}

fn a_get_takes_no_variable_header(cx: &Cx<'_>) -> Outcome {
    for words in [1, 2, 0x3ff] {
        let control = get(1).with_variable_header_size(words);
        check_eq!(status_of_get(cx, control), HvStatus::INVALID_HYPERCALL_INPUT);
    }
    Ok(())
}

fn a_set_takes_no_variable_header(cx: &Cx<'_>) -> Outcome {
    let input = [OWN[0], OWN[1], RegisterName::GUEST_OS_ID.0.into(), 0, crate::facts::GUEST_ID, 0];
    let (result, _) = cx.fast(set(1).with_variable_header_size(1), &input);
    check_eq!(result.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_post_takes_no_variable_header(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.post_messages(), "the partition may not post messages");
    let input = cx.page()?;
    let control = simple(HypercallCode::POST_MESSAGE).with_variable_header_size(1);
    check_eq!(cx.memory(control, input, 0).status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_signal_takes_no_variable_header(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.signal_events(), "the partition may not signal events");
    let control = simple(HypercallCode::SIGNAL_EVENT).with_variable_header_size(1);
    check_eq!(cx.fast(control, &[0]).0.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_flush_with_a_mask_takes_no_variable_header(cx: &Cx<'_>) -> Outcome {
    let control = simple(HypercallCode::FLUSH_VIRTUAL_ADDRESS_SPACE).with_variable_header_size(1);
    check_eq!(cx.fast(control, &[0, 0b11, 1]).0.status(), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn a_call_needs_the_guest_id(cx: &Cx<'_>) -> Outcome {
    cx.unidentified(|| {
        let (result, _) = cx.fast(simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT), &[1]);
        check!(result.status() != HvStatus::SUCCESS);
        check!(cx.signal(crate::loopback::NOTHING, 0) != HvStatus::SUCCESS);
        let input = [0, 0b11, 1];
        let (result, _) = cx.fast(simple(HypercallCode::FLUSH_VIRTUAL_ADDRESS_SPACE), &input);
        check!(result.status() != HvStatus::SUCCESS);
        Ok(())
    })
}

fn a_long_spin_wait_succeeds(cx: &Cx<'_>) -> Outcome {
    for spins in [0, 1, u64::from(u32::MAX)] {
        let (result, _) = cx.fast(simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT), &[spins]);
        check_eq!(result.status(), HvStatus::SUCCESS);
    }
    Ok(())
}

fn a_long_spin_wait_succeeds_in_memory_form(cx: &Cx<'_>) -> Outcome {
    let input = cx.page()?;
    cx.write(input, &100u64);
    let result = cx.memory(simple(HypercallCode::NOTIFY_LONG_SPIN_WAIT), input, 0);
    check_eq!(result.status(), HvStatus::SUCCESS);
    Ok(())
}

fn a_long_spin_wait_succeeds_on_every_vp(cx: &Cx<'_>) -> Outcome {
    for vp in 1..cx.env.vp_count() {
        cx.check_on(vp, a_long_spin_wait_succeeds)?;
    }
    Ok(())
}
