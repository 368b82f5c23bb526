//! Crash reports, the partition's id, extended hypercalls.

use hv_tlfs::crash::CrashControl;
use hv_tlfs::hypercall::HypercallCode;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, simple};
use crate::env::CrashReport;
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "partitions";
    "Partition Properties", "Guest Crash Enlightenment Interface":
        crash_parameters_are_zero_at_first,
        crash_parameters_read_as_written,
        every_crash_parameter_is_a_register_of_its_own,
        crash_parameters_are_the_partitions;
    "Partition Properties", "Determining Guest Crash Capabilities":
        the_control_register_tells_that_notify_is_supported,
        the_control_register_is_the_same_on_every_vp;
    "Partition Properties", "Invoking Guest Crash Capabilities":
        a_write_without_notify_reports_nothing,
        a_notification_reports_the_parameters,
        a_notification_with_message_reports_the_message,
        a_notification_without_message_reports_no_text,
        a_message_across_two_pages_is_reported,
        a_message_that_is_not_there_is_reported_without_text,
        a_message_longer_than_a_page_is_cut,
        a_notification_comes_from_any_vp,
        the_capabilities_stay_after_a_write,
        the_parameters_stay_after_a_notification,
        a_crash_can_be_reported_before_the_guest_id;
    "Hypercall Reference", "HvCallGetPartitionId":
        the_partition_id_is_told,
        the_partition_id_names_the_own_partition;
    "HvExtCallQueryCapabilities", "Output Parameters":
        capabilities_have_no_reserved_bit;
}

const PARAMETERS: [RegisterName; 5] = [
    RegisterName::GUEST_CRASH_P0,
    RegisterName::GUEST_CRASH_P1,
    RegisterName::GUEST_CRASH_P2,
    RegisterName::GUEST_CRASH_P3,
    RegisterName::GUEST_CRASH_P4,
];

const NOTIFY: u64 = CrashControl::CRASH_NOTIFY.0;
const MESSAGE: u64 = CrashControl::CRASH_NOTIFY_MSG.0;

fn need(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.c.guest_crash(), "no crash registers");
    Ok(())
}

/// Skips unless a crash can be reported.
fn may_crash(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    skip_if!(!cx.env.survives_crashes(), "a reported crash would end the run");
    // One of an earlier case is not ours.
    cx.env.take_crash();
    Ok(())
}

/// Returns the crash that the host has recorded, or nothing where it cannot be asked.
fn recorded(cx: &Cx<'_>) -> Result<Option<CrashReport>, Stop> {
    if !cx.env.sees_crashes() {
        return Ok(None);
    }
    cx.env.take_crash().map(Some).ok_or_else(|| fail("the host records the crash"))
}

fn crash_parameters_are_zero_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    need(cx)?;
    for parameter in cx.facts.crash {
        check_eq!(parameter, Ok(0));
    }
    Ok(())
}

fn crash_parameters_read_as_written(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    for name in PARAMETERS {
        for value in [1, 0xfedc_ba98_7654_3210, u64::MAX, 0] {
            cx.write_and_read(name, value)?;
        }
    }
    Ok(())
}

fn every_crash_parameter_is_a_register_of_its_own(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    for (n, name) in (1..).zip(PARAMETERS) {
        cx.write_register(name, n)?;
    }
    for (n, name) in (1..).zip(PARAMETERS) {
        check_eq!(cx.get(name), Ok(n));
    }
    Ok(())
}

fn crash_parameters_are_the_partitions(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let other = cx.other()?;
    cx.check_on(other, |cx| cx.write_register(PARAMETERS[2], 0x77))?;
    check_eq!(cx.get(PARAMETERS[2]), Ok(0x77));
    Ok(())
}

fn the_control_register_tells_that_notify_is_supported(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    check!(cx.read_register(RegisterName::GUEST_CRASH_CTL)? & NOTIFY != 0);
    Ok(())
}

fn the_control_register_is_the_same_on_every_vp(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let own = cx.get(RegisterName::GUEST_CRASH_CTL).ok();
    for vp in 1..cx.env.vp_count() {
        check!(cx.on(vp, |cx| cx.get(RegisterName::GUEST_CRASH_CTL).ok()) == own);
    }
    Ok(())
}

fn a_write_without_notify_reports_nothing(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    skip_if!(!cx.env.sees_crashes(), "the host cannot be asked what it recorded");
    for control in [0, MESSAGE, 1 << 61] {
        // Whether that is an error is not said.
        cx.set(RegisterName::GUEST_CRASH_CTL, control);
        check!(cx.env.take_crash().is_none());
    }
    Ok(())
}

fn a_notification_reports_the_parameters(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    for (n, name) in (1..).zip(PARAMETERS) {
        cx.write_register(name, n * 0x1111_0000_0000_1111)?;
    }
    cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY)?;
    if let Some(report) = recorded(cx)? {
        check_eq!(report.control, NOTIFY);
        for (n, parameter) in (1..).zip(report.parameters) {
            check_eq!(parameter, n * 0x1111_0000_0000_1111);
        }
        check_eq!(report.text_len, 0);
    }
    Ok(())
}

/// Skips unless messages are supported; reports a crash with one.
fn report_message(cx: &Cx<'_>, address: u64, length: u64) -> Result<Option<CrashReport>, Stop> {
    let capabilities = cx.read_register(RegisterName::GUEST_CRASH_CTL)?;
    skip_if!(capabilities & MESSAGE == 0, "crash messages are not supported");
    cx.write_register(PARAMETERS[3], address)?;
    cx.write_register(PARAMETERS[4], length)?;
    cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY | MESSAGE)?;
    recorded(cx)
}

const TEXT: [u8; 20] = *b"panic: out of coffee";

fn a_notification_with_message_reports_the_message(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    let address = cx.page()? + 0x123;
    cx.env.write(address, &TEXT);
    if let Some(report) = report_message(cx, address, TEXT.len() as u64)? {
        check_eq!(report.text_len, TEXT.len());
        check!(report.text[..TEXT.len()] == TEXT);
    }
    Ok(())
}

fn a_notification_without_message_reports_no_text(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    let address = cx.page()?;
    cx.env.write(address, &TEXT);
    cx.write_register(PARAMETERS[3], address)?;
    cx.write_register(PARAMETERS[4], TEXT.len() as u64)?;
    cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY)?;
    if let Some(report) = recorded(cx)? {
        check_eq!(report.text_len, 0);
    }
    Ok(())
}

fn a_message_across_two_pages_is_reported(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    let (first, second) = (cx.page()?, cx.page()?);
    skip_if!(second != first + 4096, "the environment's pages do not lie side by side");
    let address = second - 7;
    cx.env.write(address, &TEXT[..7]);
    cx.env.write(second, &TEXT[7..]);
    if let Some(report) = report_message(cx, address, TEXT.len() as u64)? {
        check_eq!(report.text_len, TEXT.len());
        check!(report.text[..TEXT.len()] == TEXT);
    }
    Ok(())
}

fn a_message_that_is_not_there_is_reported_without_text(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    for (address, length) in [(1 << 60, 100), (u64::MAX - 10, 100), (cx.page()?, 0)] {
        if let Some(report) = report_message(cx, address, length)? {
            check_eq!(report.text_len, 0);
            check_eq!(report.parameters[3], address);
        }
    }
    Ok(())
}

fn a_message_longer_than_a_page_is_cut(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    for length in [4097, u64::MAX] {
        if let Some(report) = report_message(cx, cx.page()?, length)? {
            check!(report.text_len <= 4096);
            check_eq!(report.parameters[4], length);
        }
    }
    Ok(())
}

fn a_notification_comes_from_any_vp(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    let other = cx.other()?;
    cx.write_register(PARAMETERS[0], 0xabc)?;
    cx.check_on(other, |cx| cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY))?;
    if let Some(report) = recorded(cx)? {
        check_eq!(report.parameters[0], 0xabc);
    }
    Ok(())
}

fn the_capabilities_stay_after_a_write(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    let before = cx.get(RegisterName::GUEST_CRASH_CTL);
    cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY)?;
    check_eq!(cx.get(RegisterName::GUEST_CRASH_CTL), before);
    Ok(())
}

fn the_parameters_stay_after_a_notification(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    cx.write_register(PARAMETERS[1], 0x1234)?;
    cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY)?;
    check_eq!(cx.get(PARAMETERS[1]), Ok(0x1234));
    Ok(())
}

fn a_crash_can_be_reported_before_the_guest_id(cx: &Cx<'_>) -> Outcome {
    may_crash(cx)?;
    cx.unidentified(|| {
        cx.write_register(PARAMETERS[4], 0x99)?;
        cx.write_register(RegisterName::GUEST_CRASH_CTL, NOTIFY)?;
        if let Some(report) = recorded(cx)? {
            check_eq!(report.parameters[4], 0x99);
        }
        Ok(())
    })
}

/// Returns the partition's id.
fn partition_id(cx: &Cx<'_>) -> Result<u64, Stop> {
    skip_if!(!cx.facts.features.privileges.access_partition_id(), "the partition may not ask for its id");
    let output = cx.page()?;
    let result = cx.memory(simple(HypercallCode::GET_PARTITION_ID), 0, output);
    check_eq!(result.status(), HvStatus::SUCCESS);
    Ok(cx.read(output))
}

fn the_partition_id_is_told(cx: &Cx<'_>) -> Outcome {
    let id = partition_id(cx)?;
    check!(id != 0 && id != u64::MAX);
    check_eq!(partition_id(cx)?, id);
    Ok(())
}

fn the_partition_id_names_the_own_partition(cx: &Cx<'_>) -> Outcome {
    let id = partition_id(cx)?;
    let name = u64::from(RegisterName::GUEST_OS_ID.0);
    let (result, _) = cx.fast(crate::cx::get(1), &[id, crate::cx::OWN[1], name]);
    check_eq!(result.status(), HvStatus::SUCCESS);
    Ok(())
}

fn capabilities_have_no_reserved_bit(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.features.privileges.enable_extended_hypercalls(), "no extended hypercalls");
    let output = cx.page()?;
    cx.fill(output, 0xff);
    let result = cx.memory(simple(HypercallCode::EXT_QUERY_CAPABILITIES), 0, output);
    check_eq!(result.status(), HvStatus::SUCCESS);
    check_eq!(cx.read::<u64>(output) & !0x1f, 0);
    check_eq!(cx.read::<u64>(output + 8), u64::MAX);
    Ok(())
}
