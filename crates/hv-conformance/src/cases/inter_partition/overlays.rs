//! Pages of the hypervisor's over the guest's: what lies below comes back, and what they hold stays.
//!
//! That an overlay covers, and uncovers when it is disabled or moved, stands in the TLFS 6.0b, section 5.2.1, "GPA
//! Overlay Pages".

use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::register::RegisterName;

use crate::cases::virtual_processors::{cycle, need_start};
use crate::cx::Cx;
use crate::loopback::{EVENT, EVENT_BASE, EVENT_SINT, MESSAGE, MESSAGE_SINT as SINT};
use crate::outcome::{Outcome, Stop};

cases! {
    "overlays";
    "Inter-Partition Communication", "SIM Page":
        a_message_page_that_is_off_again_uncovers_the_guests_bytes,
        a_message_page_that_moves_uncovers_the_guests_bytes,
        a_message_stays_in_its_slot_while_the_page_is_off,
        a_message_moves_with_its_page,
        a_restarted_vp_has_an_empty_message_page;
    "Inter-Partition Communication", "SIEF Page":
        an_event_flags_page_that_is_off_again_uncovers_the_guests_bytes,
        an_event_flags_page_that_moves_uncovers_the_guests_bytes,
        a_flag_stays_set_while_the_page_is_off,
        a_restarted_vp_has_an_empty_event_flags_page;
    "Virtual Processors", "Virtual Processor Assist Page":
        an_assist_page_that_is_off_again_uncovers_the_guests_bytes;
    "Timers", "Partition Reference Time Stamp Counter Page":
        a_clock_page_that_is_off_again_uncovers_the_guests_bytes,
        a_clock_page_that_moves_uncovers_the_guests_bytes,
        the_clock_page_is_zero_where_it_is_reserved;
}

/// A byte that the guest's pages are filled with.
const GUESTS: u8 = 0xa5;

/// Returns two guest pages with its bytes.
fn pages(cx: &Cx<'_>) -> Result<[u64; 2], Stop> {
    let pages = [cx.page()?, cx.page()?];
    pages.iter().for_each(|&page| cx.fill(page, GUESTS));
    Ok(pages)
}

/// Checks that the guest finds its bytes in a page.
#[track_caller]
fn check_bytes(cx: &Cx<'_>, page: u64) -> Outcome {
    for offset in (0..4096).step_by(4) {
        check_eq!(cx.env.load(page + offset), u32::from_le_bytes([GUESTS; 4]));
    }
    Ok(())
}

/// Enables a page and disables it.
fn uncovers(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    let [page, _] = pages(cx)?;
    cx.write_register(name, page | 1)?;
    check!(cx.env.load(page + 2048) != u32::from_le_bytes([GUESTS; 4]));
    cx.write_register(name, 0)?;
    check_bytes(cx, page)
}

/// Enables a page, and moves it.
fn uncovers_when_it_moves(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    let [from, to] = pages(cx)?;
    cx.write_register(name, from | 1)?;
    cx.write_register(name, to | 1)?;
    check_bytes(cx, from)?;
    check!(cx.env.load(to + 2048) != u32::from_le_bytes([GUESTS; 4]));
    cx.write_register(name, 0)?;
    check_bytes(cx, to)
}

fn a_message_page_that_is_off_again_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    uncovers(cx, RegisterName::SIMP)
}

fn a_message_page_that_moves_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    uncovers_when_it_moves(cx, RegisterName::SIMP)
}

fn a_message_stays_in_its_slot_while_the_page_is_off(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 7, b"kept")?;
    cx.write_register(RegisterName::SIMP, 0)?;
    check_eq!(cx.slot_type(&synic, SINT), 0);
    cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.message_type.0, 7);
    check!(message.payload[..4] == *b"kept");
    Ok(())
}

fn a_message_moves_with_its_page(cx: &Cx<'_>) -> Outcome {
    cx.need_messages()?;
    let mut synic = cx.synic(&[SINT])?;
    cx.posted(MESSAGE, 8, b"moved")?;
    synic.messages = cx.page()?;
    cx.write_register(RegisterName::SIMP, synic.messages | 1)?;
    let message = cx.take(&synic, SINT)?;
    check_eq!(message.header.message_type.0, 8);
    check!(message.payload[..5] == *b"moved");
    Ok(())
}

/// Leaves something in a page of another VP's, restarts the VP, and checks that the page shows nothing when it is
/// enabled.
fn is_empty_after_a_restart(cx: &Cx<'_>, name: RegisterName) -> Outcome {
    need_start(cx)?;
    cx.need_synic()?;
    let other = cx.other()?;
    let page = cx.page()?;
    cx.check_on(other, |cx| cx.write_register(name, page | 1))?;
    cx.fill(page, 1);
    cycle(cx, other)?;
    cx.check_on(other, |cx| cx.write_register(name, page | 1))?;
    for offset in (0..4096).step_by(256) {
        check_eq!(cx.env.load(page + offset), 0);
    }
    Ok(())
}

fn a_restarted_vp_has_an_empty_message_page(cx: &Cx<'_>) -> Outcome {
    is_empty_after_a_restart(cx, RegisterName::SIMP)
}

fn an_event_flags_page_that_is_off_again_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    uncovers(cx, RegisterName::SIEFP)
}

fn an_event_flags_page_that_moves_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    cx.need_synic()?;
    uncovers_when_it_moves(cx, RegisterName::SIEFP)
}

fn a_flag_stays_set_while_the_page_is_off(cx: &Cx<'_>) -> Outcome {
    cx.need_events()?;
    let synic = cx.synic(&[EVENT_SINT])?;
    check_eq!(cx.signal(EVENT, 3), hv_tlfs::status::HvStatus::SUCCESS);
    cx.write_register(RegisterName::SIEFP, 0)?;
    check!(!cx.flag(&synic, EVENT_SINT, EVENT_BASE + 3));
    cx.write_register(RegisterName::SIEFP, synic.events | 1)?;
    check!(cx.flag(&synic, EVENT_SINT, EVENT_BASE + 3));
    Ok(())
}

fn a_restarted_vp_has_an_empty_event_flags_page(cx: &Cx<'_>) -> Outcome {
    is_empty_after_a_restart(cx, RegisterName::SIEFP)
}

fn an_assist_page_that_is_off_again_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    skip_if!(cx.get(RegisterName::VP_ASSIST_PAGE).is_err(), "the partition has no VP assist page");
    uncovers(cx, RegisterName::VP_ASSIST_PAGE)
}

/// Skips without reference TSC page.
fn need_clock_page(cx: &Cx<'_>) -> Outcome {
    let privilege = PartitionPrivileges(0).with_access_reference_tsc(true);
    cx.need(privilege, "the partition has no reference TSC page")
}

fn a_clock_page_that_is_off_again_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    need_clock_page(cx)?;
    uncovers(cx, RegisterName::REFERENCE_TSC)
}

fn a_clock_page_that_moves_uncovers_the_guests_bytes(cx: &Cx<'_>) -> Outcome {
    need_clock_page(cx)?;
    uncovers_when_it_moves(cx, RegisterName::REFERENCE_TSC)
}

fn the_clock_page_is_zero_where_it_is_reserved(cx: &Cx<'_>) -> Outcome {
    need_clock_page(cx)?;
    let [page, _] = pages(cx)?;
    cx.write_register(RegisterName::REFERENCE_TSC, page | 1)?;
    check_eq!(cx.env.load(page + 4), 0);
    for offset in (24..4096).step_by(4) {
        check_eq!(cx.env.load(page + offset), 0);
    }
    Ok(())
}
