//! The reference counter and the reference TSC page.

use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::{CLOCK_HZ, ReferenceTime};

use crate::cx::Cx;
use crate::outcome::{Outcome, Stop, fail};

cases! {
    "clock";
    "Timers", "Reference Counter":
        the_counter_advances,
        the_counter_never_goes_back,
        the_counter_never_goes_back_between_vps,
        the_counter_counts_100_ns,
        every_vp_reads_the_same_counter;
    "Timers", "Partition Reference Counter Register":
        the_counter_cannot_be_written,
        a_refused_write_leaves_the_counter;
    "Timers", "Reference Time Stamp Counter (TSC) Page Register":
        the_page_is_off_at_first,
        the_page_register_reads_as_written,
        the_page_register_is_the_partitions,
        a_page_beyond_the_address_space_is_no_error,
        a_page_that_is_not_enabled_is_not_written,
        the_page_can_be_moved;
    "Timers", "Partition Reference TSC Mechanism":
        the_page_has_a_sequence_and_a_scale,
        the_page_tells_the_time_of_the_register,
        the_page_tells_the_time_on_every_vp,
        the_page_does_not_drift,
        the_page_stays_as_it_is,
        the_sequence_register_is_the_pages,
        the_page_is_the_same_when_it_is_enabled_again,
        an_invalid_page_has_sequence_0,
        a_migration_changes_the_sequence,
        the_page_tells_the_time_after_a_migration,
        the_counter_goes_on_after_a_migration;
    "Virtual Processors", "Virtual Processor Run Time Register":
        the_run_time_advances,
        the_run_time_is_within_the_partitions_time;
    "Feature Discovery", "Frequency registers (HvRegisterProcessorClockFrequency)":
        frequencies_are_told;
}

const TSC: PartitionPrivileges =
    PartitionPrivileges(0).with_access_reference_tsc(true).with_access_reference_counter(true);

/// Skips without reference TSC page; sets one up.
fn page(cx: &Cx<'_>) -> Result<u64, Stop> {
    cx.need(TSC, "the partition has no reference TSC page")?;
    let page = cx.page()?;
    cx.write_register(RegisterName::REFERENCE_TSC, page | 1)?;
    Ok(page)
}

fn sequence(cx: &Cx<'_>, page: u64) -> u32 {
    cx.env.load(page)
}

/// Returns the scale and the offset of the page.
fn scale_and_offset(cx: &Cx<'_>, page: u64) -> (u64, u64) {
    (cx.read(page + 8), cx.read(page + 16))
}

/// Returns the time by the page, as the TLFS computes it.
fn page_time(cx: &Cx<'_>, page: u64) -> Result<u64, Stop> {
    for _ in 0..1000 {
        let before = sequence(cx, page);
        skip_if!(before == 0, "the host says that the page is not reliable");
        let counter = cx.env.counter();
        let (scale, offset) = scale_and_offset(cx, page);
        if sequence(cx, page) == before {
            let scaled = (u128::from(counter) * u128::from(scale)) >> 64;
            return Ok((scaled as u64).wrapping_add(offset));
        }
    }
    Err(fail("the page stands still"))
}

/// Checks that the page's time lies between two reads of the register, give or take a unit for rounding.
fn agrees(cx: &Cx<'_>, page: u64) -> Outcome {
    for _ in 0..20 {
        let before = cx.now()?;
        let time = page_time(cx, page)?;
        let after = cx.now()?;
        check!(before <= time + 1);
        check!(time <= after + 1);
    }
    Ok(())
}

fn the_counter_advances(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    let before = cx.now()?;
    cx.pause(ReferenceTime(1_000));
    check!(cx.now()? >= before + 999);
    Ok(())
}

fn the_counter_never_goes_back(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    let mut last = cx.now()?;
    for _ in 0..1000 {
        let now = cx.now()?;
        check!(now >= last);
        last = now;
    }
    Ok(())
}

fn the_counter_never_goes_back_between_vps(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    cx.other()?;
    let mut last = cx.now()?;
    for round in 0..20 {
        for vp in 1..cx.env.vp_count() {
            let there = cx.on(vp, |cx| cx.now().ok()).ok_or_else(|| fail("the counter can be read"))?;
            check!(there >= last);
            last = cx.now()?;
            check!(last >= there);
        }
        cx.pause(ReferenceTime(round));
    }
    Ok(())
}

/// Returns a reference time, and counter values before and after it was read.
fn bracketed(cx: &Cx<'_>) -> Result<(u64, u64, u64), Stop> {
    let before = cx.env.counter();
    let time = cx.now()?;
    Ok((time, before, cx.env.counter()))
}

fn the_counter_counts_100_ns(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    let units =
        |ticks: u64| (u128::from(ticks) * u128::from(CLOCK_HZ) / u128::from(cx.env.frequency())) as u64;
    let (begin, first, second) = bracketed(cx)?;
    cx.pause(ReferenceTime(1_000_000));
    let (end, third, fourth) = bracketed(cx)?;
    // Within one part in 5,000: clocks of two kinds need not agree better.
    let (least, most) = (units(third - second), units(fourth - first));
    check!(end - begin >= least - least / 5_000 - 2);
    check!(end - begin <= most + most / 5_000 + 2);
    Ok(())
}

fn every_vp_reads_the_same_counter(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    cx.other()?;
    for vp in 1..cx.env.vp_count() {
        let before = cx.now()?;
        let there = cx.on(vp, |cx| cx.now().ok()).ok_or_else(|| fail("the counter can be read"))?;
        let after = cx.now()?;
        check!((before..=after).contains(&there));
    }
    Ok(())
}

fn the_counter_cannot_be_written(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    for value in [0, 1, u64::MAX] {
        check_eq!(cx.set(RegisterName::TIME_REF_COUNT, value), HvStatus::INVALID_PARAMETER);
    }
    Ok(())
}

fn a_refused_write_leaves_the_counter(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    let before = cx.now()?;
    cx.set(RegisterName::TIME_REF_COUNT, 1 << 50);
    let between = cx.now()?;
    cx.set(RegisterName::TIME_REF_COUNT, 1);
    let after = cx.now()?;
    check!(before <= between && between < before + 100 * CLOCK_HZ);
    check!(between <= after);
    Ok(())
}

fn the_page_is_off_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    cx.need(TSC, "the partition has no reference TSC page")?;
    check_eq!(cx.facts.reference_tsc, Ok(0));
    Ok(())
}

fn the_page_register_reads_as_written(cx: &Cx<'_>) -> Outcome {
    cx.need(TSC, "the partition has no reference TSC page")?;
    let page = cx.page()?;
    for value in [page, page | 1, 0] {
        cx.write_and_read(RegisterName::REFERENCE_TSC, value)?;
    }
    Ok(())
}

fn the_page_register_is_the_partitions(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    let page = page(cx)?;
    check!(cx.on(other, |cx| cx.get(RegisterName::REFERENCE_TSC).ok()) == Some(page | 1));
    cx.check_on(other, |cx| cx.write_register(RegisterName::REFERENCE_TSC, 0))?;
    check_eq!(cx.get(RegisterName::REFERENCE_TSC), Ok(0));
    Ok(())
}

fn a_page_beyond_the_address_space_is_no_error(cx: &Cx<'_>) -> Outcome {
    cx.need(TSC, "the partition has no reference TSC page")?;
    cx.write_register(RegisterName::REFERENCE_TSC, 1 << 60 | 1)?;
    cx.now()?;
    cx.write_and_read(RegisterName::REFERENCE_TSC, 0)
}

fn a_page_that_is_not_enabled_is_not_written(cx: &Cx<'_>) -> Outcome {
    cx.need(TSC, "the partition has no reference TSC page")?;
    let page = cx.page()?;
    cx.fill(page, 0x3c);
    cx.write_register(RegisterName::REFERENCE_TSC, page)?;
    check!(cx.read::<[u8; 64]>(page) == [0x3c; 64]);
    Ok(())
}

fn the_page_can_be_moved(cx: &Cx<'_>) -> Outcome {
    page(cx)?;
    let second = page(cx)?;
    agrees(cx, second)
}

fn the_page_has_a_sequence_and_a_scale(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    check!(sequence(cx, page) != 0);
    check!(scale_and_offset(cx, page).0 != 0);
    check_eq!(cx.env.load(page + 4), 0);
    Ok(())
}

fn the_page_tells_the_time_of_the_register(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    agrees(cx, page)
}

fn the_page_tells_the_time_on_every_vp(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    cx.other()?;
    for vp in 1..cx.env.vp_count() {
        cx.check_on(vp, |cx| agrees(cx, page))?;
    }
    Ok(())
}

fn the_page_does_not_drift(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    agrees(cx, page)?;
    cx.pause(ReferenceTime(2_000_000));
    agrees(cx, page)
}

fn the_page_stays_as_it_is(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    let before = (sequence(cx, page), scale_and_offset(cx, page));
    cx.pause(ReferenceTime(100_000));
    // Nothing that a guest does with the clock changes it.
    cx.now()?;
    cx.read_register(RegisterName::REFERENCE_TSC)?;
    check!((sequence(cx, page), scale_and_offset(cx, page)) == before);
    Ok(())
}

fn the_page_is_the_same_when_it_is_enabled_again(cx: &Cx<'_>) -> Outcome {
    let first = page(cx)?;
    let before = scale_and_offset(cx, first);
    cx.write_register(RegisterName::REFERENCE_TSC, 0)?;
    let second = page(cx)?;
    check!(scale_and_offset(cx, second) == before);
    agrees(cx, second)
}

fn the_sequence_register_is_the_pages(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    let told = cx.get(RegisterName::REFERENCE_TSC_SEQUENCE);
    skip_if!(told.is_err(), "the partition does not have the register");
    check_eq!(told, Ok(sequence(cx, page).into()));
    Ok(())
}

fn an_invalid_page_has_sequence_0(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    let before = sequence(cx, page);
    skip_if!(!cx.env.set_tsc_page_valid(false), "the environment cannot make the page invalid");
    check_eq!(sequence(cx, page), 0);
    cx.now()?;
    cx.env.set_tsc_page_valid(true);
    check!(sequence(cx, page) != 0 && sequence(cx, page) != before);
    agrees(cx, page)
}

/// Migrates to a host with another frequency.
fn migrate(cx: &Cx<'_>) -> Outcome {
    let other = if cx.env.frequency() == 24_000_000 { 54_000_000 } else { 24_000_000 };
    skip_if!(!cx.env.migrate(other), "the environment cannot migrate the guest");
    Ok(())
}

fn a_migration_changes_the_sequence(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    let before = sequence(cx, page);
    migrate(cx)?;
    check!(sequence(cx, page) != before);
    check!(sequence(cx, page) != 0);
    Ok(())
}

fn the_page_tells_the_time_after_a_migration(cx: &Cx<'_>) -> Outcome {
    let page = page(cx)?;
    for _ in 0..3 {
        migrate(cx)?;
        agrees(cx, page)?;
        cx.pause(ReferenceTime(500_000));
        agrees(cx, page)?;
    }
    Ok(())
}

fn the_counter_goes_on_after_a_migration(cx: &Cx<'_>) -> Outcome {
    cx.need_counter()?;
    migrate(cx)?;
    // The longer the counter has run, the further it would be off.
    cx.pause(ReferenceTime(5 * CLOCK_HZ));
    let before = cx.now()?;
    migrate(cx)?;
    let after = cx.now()?;
    check!((before..before + CLOCK_HZ).contains(&after));
    the_counter_counts_100_ns(cx)
}

fn need_run_time(cx: &Cx<'_>) -> Outcome {
    let privileges = PartitionPrivileges(0).with_access_vp_runtime(true).with_access_reference_counter(true);
    cx.need(privileges, "the partition has no VP run time")
}

fn the_run_time_advances(cx: &Cx<'_>) -> Outcome {
    need_run_time(cx)?;
    let before = cx.read_register(RegisterName::VP_RUNTIME)?;
    for _ in 0..1000 {
        cx.now()?;
    }
    let after = cx.read_register(RegisterName::VP_RUNTIME)?;
    check!(after > before);
    Ok(())
}

fn the_run_time_is_within_the_partitions_time(cx: &Cx<'_>) -> Outcome {
    need_run_time(cx)?;
    for vp in 0..cx.env.vp_count() {
        let read = |cx: &Cx<'_>| cx.get(RegisterName::VP_RUNTIME).ok();
        let time = if vp == 0 { read(cx) } else { cx.on(vp, read) };
        let now = cx.now()?;
        check!(time.is_some_and(|time| time <= now));
    }
    Ok(())
}

fn frequencies_are_told(cx: &Cx<'_>) -> Outcome {
    let privilege = PartitionPrivileges(0).with_access_frequency(true);
    cx.need(privilege, "the partition has no frequency registers")?;
    for name in [RegisterName::PROCESSOR_CLOCK_FREQUENCY, RegisterName::INTERRUPT_CLOCK_FREQUENCY] {
        check!(cx.read_register(name)? != 0);
    }
    Ok(())
}
