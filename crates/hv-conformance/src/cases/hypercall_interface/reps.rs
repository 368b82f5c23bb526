//! Rep hypercalls: order, start index, errors in the middle, long lists.

use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::PARTITION_ID_SELF;

use crate::cx::{Cx, get, set};
use crate::facts::GUEST_ID;
use crate::outcome::{Outcome, Stop};

cases! {
    "reps";
    "Hypercall Interface", "Hypercall Classes":
        elements_are_processed_in_order,
        a_start_index_skips_elements,
        completed_reps_count_from_element_0,
        an_error_stops_at_its_element,
        a_set_before_an_error_is_done_and_one_behind_it_is_not,
        an_error_at_the_first_element_completes_none,
        a_wrong_header_completes_none,
        the_last_set_of_a_register_wins;
    "Hypercall Interface", "Hypercall Continuation":
        a_list_that_fills_a_page_completes,
        a_long_list_of_sets_completes,
        a_list_longer_than_a_page_is_refused;
}

const UNKNOWN: RegisterName = RegisterName(0x7fff_fff0);
/// What output is filled with beforehand.
const FILL: u64 = 0xa5a5_a5a5_a5a5_a5a5;

/// Returns pages for the input of a Get of these names, and for its output.
fn pages(cx: &Cx<'_>, names: &[RegisterName]) -> Result<(u64, u64), Stop> {
    let (input, output) = (cx.page()?, cx.page()?);
    cx.write_names(input, names);
    cx.fill(output, 0xa5);
    Ok((input, output))
}

/// Returns value `n` of a Get's output.
fn value(cx: &Cx<'_>, output: u64, n: u64) -> u64 {
    cx.read(output + n * 16)
}

const THREE: [RegisterName; 3] =
    [RegisterName::GUEST_OS_ID, RegisterName::HYPERVISOR_VERSION, RegisterName::FEATURES_INFO];

fn elements_are_processed_in_order(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &THREE)?;
    let result = cx.memory(get(3), input, output);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 3);
    for (n, name) in (0..).zip(THREE) {
        check_eq!(Ok(value(cx, output, n)), cx.get(name));
    }
    Ok(())
}

fn a_start_index_skips_elements(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &THREE)?;
    check_eq!(cx.memory(get(3).with_rep_start(2), input, output).status(), HvStatus::SUCCESS);
    check_eq!(value(cx, output, 0), FILL);
    check_eq!(value(cx, output, 1), FILL);
    check_eq!(Ok(value(cx, output, 2)), cx.get(THREE[2]));
    Ok(())
}

fn completed_reps_count_from_element_0(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &[RegisterName::GUEST_OS_ID; 10])?;
    let result = cx.memory(get(10).with_rep_start(5), input, output);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 10);
    Ok(())
}

fn an_error_stops_at_its_element(cx: &Cx<'_>) -> Outcome {
    let names = [RegisterName::GUEST_OS_ID, RegisterName::GUEST_OS_ID, UNKNOWN, RegisterName::GUEST_OS_ID];
    let (input, output) = pages(cx, &names)?;
    let result = cx.memory(get(4), input, output);
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 2);
    // The first two are done; the elements after the error are unspecified.
    let result = cx.memory(get(4).with_rep_start(1), input, output);
    check_eq!(result.reps_completed(), 2);
    Ok(())
}

fn a_set_before_an_error_is_done_and_one_behind_it_is_not(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.c.guest_crash(), "no crash registers");
    let input = cx.page()?;
    let values =
        [(RegisterName::GUEST_CRASH_P0, 0x11), (UNKNOWN, 0x22), (RegisterName::GUEST_CRASH_P1, 0x33)];
    cx.write_values(input, &values);
    let result = cx.memory(set(3), input, 0);
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 1);
    check_eq!(cx.get(RegisterName::GUEST_CRASH_P0), Ok(0x11));
    check_eq!(cx.get(RegisterName::GUEST_CRASH_P1), Ok(0));
    Ok(())
}

fn an_error_at_the_first_element_completes_none(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &[UNKNOWN, RegisterName::GUEST_OS_ID])?;
    let result = cx.memory(get(2), input, output);
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 0);
    Ok(())
}

fn a_wrong_header_completes_none(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &THREE)?;
    cx.write(input, &[PARTITION_ID_SELF, 0x00ff_ffff]);
    let result = cx.memory(get(3), input, output);
    check!(result.status() != HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 0);
    Ok(())
}

fn the_last_set_of_a_register_wins(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.c.guest_crash(), "no crash registers");
    let input = cx.page()?;
    cx.write_values(input, &[(RegisterName::GUEST_CRASH_P0, 1), (RegisterName::GUEST_CRASH_P0, 2)]);
    check_eq!(cx.memory(set(2), input, 0).reps_completed(), 2);
    check_eq!(cx.get(RegisterName::GUEST_CRASH_P0), Ok(2));
    Ok(())
}

fn a_list_that_fills_a_page_completes(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &[RegisterName::GUEST_OS_ID; 256])?;
    let result = cx.memory(get(256), input, output);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 256);
    for n in 0..256 {
        check_eq!(value(cx, output, n), GUEST_ID);
    }
    Ok(())
}

fn a_long_list_of_sets_completes(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.c.guest_crash(), "no crash registers");
    // 16 + 127 * 32 bytes: a page.
    let input = cx.page()?;
    let values: [_; 127] = core::array::from_fn(|n| (RegisterName::GUEST_CRASH_P3, n as u64));
    cx.write_values(input, &values);
    let result = cx.memory(set(127), input, 0);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(result.reps_completed(), 127);
    check_eq!(cx.get(RegisterName::GUEST_CRASH_P3), Ok(126));
    Ok(())
}

fn a_list_longer_than_a_page_is_refused(cx: &Cx<'_>) -> Outcome {
    let (input, output) = pages(cx, &[RegisterName::GUEST_OS_ID; 257])?;
    // The output has no room in its page; with the greatest count the input has none either.
    check_eq!(cx.memory(get(257), input, output).status(), HvStatus::INVALID_ALIGNMENT);
    check_eq!(cx.memory(get(0xfff), input, output).status(), HvStatus::INVALID_ALIGNMENT);
    check_eq!(value(cx, output, 0), FILL);
    Ok(())
}
