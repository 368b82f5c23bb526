//! SynIC registers: reset values and what they take.

use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::VERSION_1;

use crate::cx::Cx;
use crate::outcome::{Outcome, Stop};

cases! {
    "synic";
    "Inter-Partition Communication", "SCONTROL Register":
        the_synic_is_off_at_first,
        the_control_register_reads_as_written;
    "Inter-Partition Communication", "SVERSION Register":
        the_version_is_1;
    "Inter-Partition Communication", "SIMP Register":
        the_message_page_is_off_at_first,
        the_message_page_register_reads_as_written,
        a_message_page_beyond_the_address_space_is_no_error;
    "Inter-Partition Communication", "SIEFP Register":
        the_event_flags_page_is_off_at_first,
        the_event_flags_page_register_reads_as_written,
        an_event_flags_page_beyond_the_address_space_is_no_error;
    "Inter-Partition Communication", "SINTx Registers":
        sints_are_masked_at_first,
        a_vector_below_16_is_refused,
        a_refused_vector_leaves_the_sint_as_it_was,
        vectors_from_16_to_255_are_taken,
        the_reset_value_can_be_written_back,
        every_sint_is_a_register_of_its_own,
        polling_reads_as_written_where_it_is_offered;
    "Inter-Partition Communication", "EOM Register":
        the_end_of_message_reads_as_zero,
        an_end_of_message_without_messages_does_nothing;
    "Inter-Partition Communication", "SynIC Registers":
        each_vp_has_its_own_synic,
        all_vps_have_a_synic_at_once;
    "Inter-Partition Communication", "SIM Page":
        the_message_page_has_empty_slots,
        a_message_page_that_is_off_is_not_written;
    "Inter-Partition Communication", "SIEF Page":
        the_event_flags_page_has_no_flag_set,
        an_event_flags_page_that_is_off_is_not_written;
}

fn the_synic_is_off_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    cx.need_synic()?;
    for vp in 0..cx.env.vp_count() {
        check_eq!(cx.facts.vps[vp].control, Ok(0));
    }
    Ok(())
}

fn the_control_register_reads_as_written(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    for value in [1, 0, 1] {
        cx.write_and_read(RegisterName::SCONTROL, value)?;
    }
    Ok(())
}

fn the_version_is_1(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    check_eq!(cx.read_register(RegisterName::SVERSION)? & 0xffff_ffff, VERSION_1);
    Ok(())
}

fn the_message_page_is_off_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    cx.need_synic()?;
    for vp in 0..cx.env.vp_count() {
        check_eq!(cx.facts.vps[vp].message_page, Ok(0));
    }
    Ok(())
}

/// Checks that a page register takes addresses with and without the enable bit.
fn page_register(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    cx.need_synic()?;
    let (first, second) = (cx.page()?, cx.page()?);
    for value in [first, first | 1, second | 1, second, 0] {
        cx.write_and_read(name, value)?;
    }
    Ok(())
}

fn page_beyond(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    cx.need_synic()?;
    cx.write_register(name, 1 << 60 | 1)?;
    // It is not accessible, and the hypervisor is well.
    cx.write_register(RegisterName::SCONTROL, 1)?;
    cx.eom()?;
    cx.write_and_read(name, 0)
}

fn the_message_page_register_reads_as_written(cx: &Cx<'_>) -> Outcome {
    page_register(cx, RegisterName::SIMP)
}

fn a_message_page_beyond_the_address_space_is_no_error(cx: &Cx<'_>) -> Outcome {
    page_beyond(cx, RegisterName::SIMP)
}

fn the_event_flags_page_is_off_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    cx.need_synic()?;
    for vp in 0..cx.env.vp_count() {
        check_eq!(cx.facts.vps[vp].event_page, Ok(0));
    }
    Ok(())
}

fn the_event_flags_page_register_reads_as_written(cx: &Cx<'_>) -> Outcome {
    page_register(cx, RegisterName::SIEFP)
}

fn an_event_flags_page_beyond_the_address_space_is_no_error(cx: &Cx<'_>) -> Outcome {
    page_beyond(cx, RegisterName::SIEFP)
}

fn sints_are_masked_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    cx.need_synic()?;
    for vp in 0..cx.env.vp_count() {
        for sint in cx.facts.vps[vp].sints {
            check_eq!(sint, Ok(0x1_0000));
        }
    }
    Ok(())
}

fn a_vector_below_16_is_refused(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    for vector in 0..16 {
        check!(cx.set(RegisterName::SINT5, vector) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn a_refused_vector_leaves_the_sint_as_it_was(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    cx.write_register(RegisterName::SINT5, 0x1_0020)?;
    check!(cx.set(RegisterName::SINT5, 15) != HvStatus::SUCCESS);
    check_eq!(cx.get(RegisterName::SINT5), Ok(0x1_0020));
    Ok(())
}

fn vectors_from_16_to_255_are_taken(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    for vector in [16, 17, 18, 31, 32, 127, 254, 255] {
        cx.write_and_read(RegisterName::SINT5, vector)?;
        cx.write_and_read(RegisterName::SINT5, vector | 0x1_0000)?;
    }
    Ok(())
}

fn the_reset_value_can_be_written_back(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    for sint in 0..16 {
        cx.write_register(RegisterName::sint(sint), 0x20)?;
        cx.write_and_read(RegisterName::sint(sint), 0x1_0000)?;
    }
    Ok(())
}

fn every_sint_is_a_register_of_its_own(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    for sint in 0..16 {
        cx.write_register(RegisterName::sint(sint), 0x1_0020 + u64::from(sint))?;
    }
    for sint in 0..16 {
        check_eq!(cx.get(RegisterName::sint(sint)), Ok(0x1_0020 + u64::from(sint)));
    }
    Ok(())
}

fn polling_reads_as_written_where_it_is_offered(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    skip_if!(!cx.facts.features.c.sint_polling_mode(), "no polling mode");
    cx.write_and_read(RegisterName::SINT5, 0x4_0000 | u64::from(cx.intid()))
}

fn the_end_of_message_reads_as_zero(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    check_eq!(cx.get(RegisterName::EOM), Ok(0));
    cx.eom()?;
    check_eq!(cx.get(RegisterName::EOM), Ok(0));
    Ok(())
}

fn an_end_of_message_without_messages_does_nothing(cx: &Cx<'_>) -> Outcome {
    let all: [u8; 16] = core::array::from_fn(|n| n as u8);
    let synic = cx.synic(&all)?;
    cx.no_interrupt(synic.intid, || {
        cx.eom()?;
        cx.eom()
    })?;
    for sint in 0..16 {
        check_eq!(cx.slot_type(&synic, sint), 0);
    }
    Ok(())
}

fn each_vp_has_its_own_synic(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    let other = cx.other()?;
    let page = cx.page()?;
    let names = [RegisterName::SCONTROL, RegisterName::SIMP, RegisterName::SIEFP, RegisterName::SINT7];
    let read = |cx: &Cx<'_>| names.map(|name| cx.get(name).unwrap_or(u64::MAX));
    let before = cx.on(other, |cx| Some(read(cx)));
    cx.write_register(RegisterName::SCONTROL, 1)?;
    cx.write_register(RegisterName::SIMP, page)?;
    cx.write_register(RegisterName::SIEFP, page)?;
    cx.write_register(RegisterName::SINT7, 0x1_0077)?;
    check!(cx.on(other, |cx| Some(read(cx))) == before);
    check!(before == Some([0, 0, 0, 0x1_0000]));
    Ok(())
}

fn all_vps_have_a_synic_at_once(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    for vp in 0..cx.env.vp_count() {
        let value = 0x1_0040 + vp as u64;
        if vp == 0 {
            cx.write_register(RegisterName::SINT2, value)?;
        } else {
            cx.check_on(vp, |cx| cx.write_register(RegisterName::SINT2, value))?;
        }
    }
    for vp in 0..cx.env.vp_count() {
        let value = if vp == 0 {
            cx.get(RegisterName::SINT2).ok()
        } else {
            cx.on(vp, |cx| cx.get(RegisterName::SINT2).ok())
        };
        check!(value == Some(0x1_0040 + vp as u64));
    }
    Ok(())
}

/// Switches a page on above memory that is not zero: no message and no flag of it shows.
fn enabled_above_garbage(cx: &Cx<'_>, name: RegisterName) -> Result<u64, Stop> {
    cx.need_synic()?;
    let page = cx.page()?;
    cx.fill(page, 0xa5);
    cx.write_register(name, page | 1)?;
    cx.write_register(RegisterName::SCONTROL, 1)?;
    Ok(page)
}

fn the_message_page_has_empty_slots(cx: &Cx<'_>) -> Outcome {
    let page = enabled_above_garbage(cx, RegisterName::SIMP)?;
    for sint in 0..16 {
        check_eq!(cx.env.load(page + sint * 256), 0);
    }
    Ok(())
}

fn the_event_flags_page_has_no_flag_set(cx: &Cx<'_>) -> Outcome {
    let page = enabled_above_garbage(cx, RegisterName::SIEFP)?;
    for offset in (0..4096).step_by(4) {
        check_eq!(cx.env.load(page + offset), 0);
    }
    Ok(())
}

/// Checks that a page that is named and not enabled stays what it is: the guest's memory.
fn named_above_garbage(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    cx.need_synic()?;
    let page = cx.page()?;
    cx.fill(page, 0xa5);
    cx.write_register(RegisterName::SCONTROL, 1)?;
    cx.write_register(name, page)?;
    for offset in (0..4096).step_by(256) {
        check_eq!(cx.env.load(page + offset), 0xa5a5_a5a5);
    }
    Ok(())
}

fn a_message_page_that_is_off_is_not_written(cx: &Cx<'_>) -> Outcome {
    named_above_garbage(cx, RegisterName::SIMP)
}

fn an_event_flags_page_that_is_off_is_not_written(cx: &Cx<'_>) -> Outcome {
    named_above_garbage(cx, RegisterName::SIEFP)
}
