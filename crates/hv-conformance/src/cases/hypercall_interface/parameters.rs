//! Parameters in memory: alignment, pages, overlap, and what is left alone.

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::page::SIZE;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, OWN, get, set, simple};
use crate::facts::GUEST_ID;
use crate::outcome::{Outcome, Stop};

cases! {
    "parameters";
    "Hypercall Interface", "Common Hypercall Status Codes":
        input_at_an_odd_address_is_refused,
        output_at_an_odd_address_is_refused,
        a_set_at_an_odd_address_is_refused_and_does_nothing,
        a_post_at_an_odd_address_is_refused,
        a_header_across_a_page_is_refused,
        a_list_across_a_page_is_refused,
        output_across_a_page_is_refused,
        a_message_across_a_page_is_refused,
        input_beyond_the_address_space_is_refused,
        output_beyond_the_address_space_is_refused,
        addresses_at_the_end_of_64_bits_are_refused;
    "Hypercall Interface", "Alignment Requirements":
        a_multiple_of_8_is_enough,
        input_may_end_with_its_page,
        output_may_end_with_its_page,
        a_message_may_end_with_its_page,
        input_and_output_must_not_overlap,
        input_and_output_may_share_a_page,
        input_and_output_may_touch,
        the_output_address_is_ignored_without_output,
        the_input_address_is_ignored_without_input;
    "Hypercall Interface", "Hypercall Interface":
        nothing_is_written_around_the_output,
        the_input_is_not_written,
        padding_behind_the_last_name_is_ignored;
}

const NAME: RegisterName = RegisterName::GUEST_OS_ID;

/// Makes a Get of the guest OS id with the input at one address and the output at another.
fn get_at(cx: &Cx<'_>, input: u64, output: u64) -> HvStatus {
    cx.memory(get(1), input, output).status()
}

/// Returns a page with the input of that Get at this offset, as far as it fits.
fn page_with_input(cx: &Cx<'_>, offset: u64) -> Result<u64, Stop> {
    let page = cx.page()?;
    cx.write_names(page + offset, &[NAME]);
    Ok(page + offset)
}

fn input_at_an_odd_address_is_refused(cx: &Cx<'_>) -> Outcome {
    let (page, output) = (cx.page()?, cx.page()?);
    for offset in [1, 2, 4, 7, 12, 0x104] {
        cx.write_names(page + offset, &[NAME]);
        check_eq!(get_at(cx, page + offset, output), HvStatus::INVALID_ALIGNMENT);
    }
    Ok(())
}

fn output_at_an_odd_address_is_refused(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (page_with_input(cx, 0)?, cx.page()?);
    for offset in [1, 2, 4, 7, 12, 0x104] {
        check_eq!(get_at(cx, input, output + offset), HvStatus::INVALID_ALIGNMENT);
    }
    check!(cx.read::<[u64; 40]>(output) == [0; 40]);
    Ok(())
}

fn a_set_at_an_odd_address_is_refused_and_does_nothing(cx: &Cx<'_>) -> Outcome {
    let page = cx.page()?;
    for offset in [1, 4] {
        cx.write_values(page + offset, &[(NAME, 0x8100_0000_0000_0001)]);
        check_eq!(cx.memory(set(1), page + offset, 0).status(), HvStatus::INVALID_ALIGNMENT);
        check_eq!(cx.get(NAME), Ok(GUEST_ID));
    }
    Ok(())
}

fn a_post_at_an_odd_address_is_refused(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.post_messages(), "the partition may not post messages");
    let page = cx.page()?;
    for offset in [1, 4] {
        let result = cx.memory(simple(HypercallCode::POST_MESSAGE), page + offset, 0);
        check_eq!(result.status(), HvStatus::INVALID_ALIGNMENT);
    }
    Ok(())
}

/// Returns a page with another after it.
fn two_pages(cx: &Cx<'_>) -> Result<u64, Stop> {
    let (first, second) = (cx.page()?, cx.page()?);
    skip_if!(second != first + SIZE as u64, "the environment's pages do not lie side by side");
    Ok(first)
}

fn a_header_across_a_page_is_refused(cx: &Cx<'_>) -> Outcome {
    let (pages, output) = (two_pages(cx)?, cx.page()?);
    let input = pages + SIZE as u64 - 8;
    cx.write_names(input, &[NAME]);
    check_eq!(get_at(cx, input, output), HvStatus::INVALID_ALIGNMENT);
    Ok(())
}

fn a_list_across_a_page_is_refused(cx: &Cx<'_>) -> Outcome {
    let (pages, output) = (two_pages(cx)?, cx.page()?);
    // The header and two names fit, the third does not.
    let input = pages + SIZE as u64 - 24;
    cx.write_names(input, &[NAME; 3]);
    check_eq!(cx.memory(get(3), input, output).status(), HvStatus::INVALID_ALIGNMENT);
    check_eq!(cx.memory(get(2), input, output).status(), HvStatus::SUCCESS);
    Ok(())
}

fn output_across_a_page_is_refused(cx: &Cx<'_>) -> Outcome {
    let (pages, input) = (two_pages(cx)?, page_with_input(cx, 0)?);
    check_eq!(get_at(cx, input, pages + SIZE as u64 - 8), HvStatus::INVALID_ALIGNMENT);
    check_eq!(cx.read::<u64>(pages + SIZE as u64 - 8), 0);
    Ok(())
}

fn a_message_across_a_page_is_refused(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.post_messages(), "the partition may not post messages");
    let input = two_pages(cx)? + SIZE as u64 - 248;
    let result = cx.memory(simple(HypercallCode::POST_MESSAGE), input, 0);
    check_eq!(result.status(), HvStatus::INVALID_ALIGNMENT);
    Ok(())
}

/// Beyond any ARM64 guest's physical addresses.
const BEYOND: u64 = 1 << 60;

fn input_beyond_the_address_space_is_refused(cx: &Cx<'_>) -> Outcome {
    let output = cx.page()?;
    check_eq!(get_at(cx, BEYOND, output), HvStatus::INVALID_ALIGNMENT);
    check_eq!(cx.memory(set(1), BEYOND, 0).status(), HvStatus::INVALID_ALIGNMENT);
    Ok(())
}

fn output_beyond_the_address_space_is_refused(cx: &Cx<'_>) -> Outcome {
    let input = page_with_input(cx, 0)?;
    check_eq!(get_at(cx, input, BEYOND), HvStatus::INVALID_ALIGNMENT);
    Ok(())
}

fn addresses_at_the_end_of_64_bits_are_refused(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (page_with_input(cx, 0)?, cx.page()?);
    for end in [u64::MAX - 7, u64::MAX - 4095, 1 << 63] {
        check_eq!(get_at(cx, end, output), HvStatus::INVALID_ALIGNMENT);
        check_eq!(get_at(cx, input, end), HvStatus::INVALID_ALIGNMENT);
    }
    Ok(())
}

fn a_multiple_of_8_is_enough(cx: &Cx<'_>) -> Outcome {
    let output = cx.page()?;
    let input = page_with_input(cx, 8)?;
    check_eq!(get_at(cx, input, output + 0x18), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(output + 0x18), GUEST_ID);
    Ok(())
}

fn input_may_end_with_its_page(cx: &Cx<'_>) -> Outcome {
    // 20 bytes of input; padded they end with the page.
    let (input, output) = (page_with_input(cx, SIZE as u64 - 24)?, cx.page()?);
    check_eq!(get_at(cx, input, output), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(output), GUEST_ID);
    Ok(())
}

fn output_may_end_with_its_page(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (page_with_input(cx, 0)?, cx.page()? + SIZE as u64 - 16);
    check_eq!(get_at(cx, input, output), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(output), GUEST_ID);
    Ok(())
}

fn a_message_may_end_with_its_page(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.post_messages(), "the partition may not post messages");
    let input = cx.page()? + SIZE as u64 - 256;
    cx.write(input, &[crate::loopback::NOTHING, 0, 1, 240]);
    let result = cx.memory(simple(HypercallCode::POST_MESSAGE), input, 0);
    check_eq!(result.status(), HvStatus::INVALID_CONNECTION_ID);
    Ok(())
}

fn input_and_output_must_not_overlap(cx: &Cx<'_>) -> Outcome {
    let input = page_with_input(cx, 64)?;
    for output in [input, input + 8, input + 16, input - 8] {
        check!(get_at(cx, input, output) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn input_and_output_may_share_a_page(cx: &Cx<'_>) -> Outcome {
    let input = page_with_input(cx, 0)?;
    check_eq!(get_at(cx, input, input + 0x800), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(input + 0x800), GUEST_ID);
    Ok(())
}

fn input_and_output_may_touch(cx: &Cx<'_>) -> Outcome {
    let input = page_with_input(cx, 64)?;
    check_eq!(get_at(cx, input, input + 24), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(input + 24), GUEST_ID);
    check_eq!(get_at(cx, input, input - 16), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(input - 16), GUEST_ID);
    // Two names fill the input to a multiple of 8 bytes.
    cx.write_names(input, &[NAME, NAME]);
    check_eq!(cx.memory(get(2), input, input + 24).status(), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(input + 40), GUEST_ID);
    Ok(())
}

fn the_output_address_is_ignored_without_output(cx: &Cx<'_>) -> Outcome {
    let input = cx.page()?;
    cx.write_values(input, &[(NAME, GUEST_ID)]);
    for output in [0, 1, 0xfff, BEYOND, u64::MAX, input, input + 8] {
        check_eq!(cx.memory(set(1), input, output).status(), HvStatus::SUCCESS);
    }
    Ok(())
}

fn the_input_address_is_ignored_without_input(cx: &Cx<'_>) -> Outcome {
    let privileges = cx.facts.features.privileges;
    let control: HypercallInput = if privileges.enable_extended_hypercalls() {
        simple(HypercallCode::EXT_QUERY_CAPABILITIES)
    } else {
        skip_if!(!privileges.access_partition_id(), "no call without input is offered");
        simple(HypercallCode::GET_PARTITION_ID)
    };
    let output = cx.page()?;
    for input in [1, 0xfff, BEYOND, u64::MAX, output, output + 4] {
        check_eq!(cx.memory(control, input, output).status(), HvStatus::SUCCESS);
    }
    Ok(())
}

fn nothing_is_written_around_the_output(cx: &Cx<'_>) -> Outcome {
    let (input, page) = (page_with_input(cx, 0)?, cx.page()?);
    cx.fill(page, 0xa5);
    check_eq!(get_at(cx, input, page + 32), HvStatus::SUCCESS);
    check!(cx.read::<[u8; 32]>(page) == [0xa5; 32]);
    check!(cx.read::<[u64; 2]>(page + 32) == [GUEST_ID, 0]);
    check!(cx.read::<[u8; 256]>(page + 48) == [0xa5; 256]);
    Ok(())
}

fn the_input_is_not_written(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (page_with_input(cx, 0)?, cx.page()?);
    let before: [u64; 4] = cx.read(input);
    check_eq!(get_at(cx, input, output), HvStatus::SUCCESS);
    check!(cx.read::<[u64; 4]>(input) == before);
    check!(before[..2] == OWN);
    Ok(())
}

fn padding_behind_the_last_name_is_ignored(cx: &Cx<'_>) -> Outcome {
    let (input, output) = (page_with_input(cx, 0)?, cx.page()?);
    cx.write(input + 20, &u32::MAX);
    check_eq!(get_at(cx, input, output), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(output), GUEST_ID);
    Ok(())
}
