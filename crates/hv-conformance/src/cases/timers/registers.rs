//! Timer registers: reset values, what they take, and what a write does to the other one.

use hv_tlfs::features::PartitionPrivileges;
use hv_tlfs::register::RegisterName;
use hv_tlfs::status::HvStatus;
use hv_tlfs::timer::StimerConfig;

use crate::cx::Cx;
use crate::outcome::Outcome;

cases! {
    "timer_registers";
    "Timers", "Synthetic Timer Configuration Register":
        timers_are_off_at_first,
        a_configuration_reads_as_written,
        reserved_bits_of_a_configuration_do_not_stay,
        an_enabled_timer_with_sint_0_is_disabled_at_once,
        a_direct_timer_may_have_sint_0,
        a_disabled_timer_may_have_sint_0,
        auto_enable_sets_the_enable_bit,
        without_auto_enable_a_count_enables_nothing,
        auto_enable_needs_a_sint;
    "Timers", "Synthetic Timer Count Register":
        a_count_reads_as_written,
        a_zero_count_disables_the_timer,
        a_zero_count_disables_an_auto_enabled_timer,
        a_far_count_is_no_error;
    "Timers", "Synthetic Timer Registers":
        every_timer_has_registers_of_its_own,
        each_vp_has_its_own_timers;
    "Timers", "Direct Synthetic Timers":
        direct_mode_is_refused_where_it_is_not_offered;
}

const TIMERS: PartitionPrivileges = PartitionPrivileges(0).with_access_synthetic_timers(true);

/// Skips on a host without synthetic timers.
pub(super) fn need(cx: &Cx<'_>) -> Outcome {
    cx.need(TIMERS, "the partition has no synthetic timers")
}

pub(super) const fn config(n: u8) -> RegisterName {
    RegisterName::stimer_config(n)
}

pub(super) const fn count(n: u8) -> RegisterName {
    RegisterName::stimer_count(n)
}

/// Returns a time that does not come while a case runs, in 100 ns: a day after now.
pub(super) fn far(cx: &Cx<'_>) -> Result<u64, crate::outcome::Stop> {
    Ok(cx.now()? + 864_000_000_000)
}

fn timers_are_off_at_first(cx: &Cx<'_>) -> Outcome {
    cx.fresh()?;
    need(cx)?;
    for vp in 0..cx.env.vp_count() {
        for [config, count] in cx.facts.vps[vp].timers {
            check_eq!(config, Ok(0));
            check_eq!(count, Ok(0));
        }
    }
    Ok(())
}

fn a_configuration_reads_as_written(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    for value in [0x2_0000, 0xf_0000, 0xf_000e, 0x3_0002, 0x5_0004, 0x7_0008, 0] {
        cx.write_and_read(config(0), value)?;
    }
    Ok(())
}

fn reserved_bits_of_a_configuration_do_not_stay(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    for bit in [13, 15, 20, 31, 32, 63] {
        // Refused or dropped: the TLFS asks for zero there and says no more.
        if cx.set(config(1), 0x2_0000 | 1 << bit) == HvStatus::SUCCESS {
            check_eq!(cx.get(config(1)), Ok(0x2_0000));
        }
        cx.write_and_read(config(1), 0)?;
    }
    Ok(())
}

fn an_enabled_timer_with_sint_0_is_disabled_at_once(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_register(count(0), far(cx)?)?;
    for bits in [1, 3, 9] {
        cx.write_register(config(0), bits)?;
        check!(!StimerConfig(cx.read_register(config(0))?).enable());
    }
    Ok(())
}

fn a_direct_timer_may_have_sint_0(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    skip_if!(!cx.facts.features.c.direct_synthetic_timers(), "no direct timers");
    cx.write_register(count(0), far(cx)?)?;
    let value = StimerConfig(1).with_direct_mode(true).with_vector(cx.intid() as u8);
    cx.write_and_read(config(0), value.0)
}

fn a_disabled_timer_may_have_sint_0(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_and_read(config(0), 0b1010)
}

fn auto_enable_sets_the_enable_bit(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_register(config(2), 0x4_0008)?;
    check!(!StimerConfig(cx.read_register(config(2))?).enable());
    cx.write_register(count(2), far(cx)?)?;
    check_eq!(cx.get(config(2)), Ok(0x4_0009));
    Ok(())
}

fn without_auto_enable_a_count_enables_nothing(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_register(config(2), 0x4_0000)?;
    cx.write_register(count(2), far(cx)?)?;
    check_eq!(cx.get(config(2)), Ok(0x4_0000));
    Ok(())
}

fn auto_enable_needs_a_sint(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_register(config(2), 0b1000)?;
    cx.write_register(count(2), far(cx)?)?;
    check!(!StimerConfig(cx.read_register(config(2))?).enable());
    Ok(())
}

fn a_count_reads_as_written(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    for value in [1, 0x0123_4567_89ab_cdef, u64::MAX, 0] {
        cx.write_and_read(count(3), value)?;
    }
    Ok(())
}

fn a_zero_count_disables_the_timer(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_register(count(0), far(cx)?)?;
    cx.write_and_read(config(0), 0x3_0001)?;
    cx.write_register(count(0), 0)?;
    check!(!StimerConfig(cx.read_register(config(0))?).enable());
    Ok(())
}

fn a_zero_count_disables_an_auto_enabled_timer(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    cx.write_register(config(0), 0x3_0008)?;
    cx.write_register(count(0), far(cx)?)?;
    check!(StimerConfig(cx.read_register(config(0))?).enable());
    cx.write_register(count(0), 0)?;
    check!(!StimerConfig(cx.read_register(config(0))?).enable());
    Ok(())
}

fn a_far_count_is_no_error(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let synic = cx.synic(&[3])?;
    cx.no_interrupt(synic.intid, || {
        for value in [u64::MAX, u64::MAX - 1, 1 << 63] {
            cx.write_register(count(0), value)?;
            cx.write_and_read(config(0), 0x3_0001)?;
            cx.write_register(config(0), 0)?;
            cx.write_and_read(config(0), 0x3_0003)?;
            cx.write_register(config(0), 0)?;
        }
        Ok(())
    })?;
    check_eq!(cx.slot_type(&synic, 3), 0);
    Ok(())
}

fn every_timer_has_registers_of_its_own(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    for n in 0..4 {
        cx.write_register(config(n), u64::from(n + 2) << 16)?;
        cx.write_register(count(n), 0x1000 + u64::from(n))?;
    }
    for n in 0..4 {
        check_eq!(cx.get(config(n)), Ok(u64::from(n + 2) << 16));
        check_eq!(cx.get(count(n)), Ok(0x1000 + u64::from(n)));
    }
    Ok(())
}

fn each_vp_has_its_own_timers(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    let other = cx.other()?;
    cx.write_register(config(1), 0x9_0000)?;
    cx.write_register(count(1), 0x77)?;
    let seen = cx.on(other, |cx| Some((cx.get(config(1)), cx.get(count(1)))));
    check!(seen == Some((Ok(0), Ok(0))));
    Ok(())
}

fn direct_mode_is_refused_where_it_is_not_offered(cx: &Cx<'_>) -> Outcome {
    need(cx)?;
    skip_if!(cx.facts.features.c.direct_synthetic_timers(), "direct timers are offered");
    cx.write_register(count(0), far(cx)?)?;
    let value = StimerConfig(1).with_direct_mode(true).with_vector(cx.intid() as u8);
    let taken = cx.set(config(0), value.0) == HvStatus::SUCCESS;
    check!(!taken || !StimerConfig(cx.read_register(config(0))?).direct_mode());
    Ok(())
}
