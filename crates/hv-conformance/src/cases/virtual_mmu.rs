//! Flushes of translations: a stale one must be gone when the call returns.

use hv_tlfs::flush::FlushFlags;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::sets::GenericSetFormat;
use hv_tlfs::status::HvStatus;

use crate::cx::{Cx, rep, simple};
use crate::outcome::{Outcome, Stop};

cases! {
    "virtual_mmu";
    "HvCallFlushVirtualAddressSpace", "HvCallFlushVirtualAddressSpace":
        a_flush_of_everything_drops_a_stale_translation,
        a_flush_by_mask_drops_the_callers_translation,
        a_flush_of_the_address_space_drops_its_translations,
        a_flush_of_non_global_translations_drops_the_windows,
        a_flush_reaches_another_vp,
        a_flush_by_mask_reaches_another_vp,
        a_flush_by_mask_reaches_every_vp,
        a_flush_in_registers_does_the_same,
        the_mask_is_ignored_with_all_processors,
        vps_beyond_the_partitions_are_ignored,
        reserved_flags_of_a_flush_must_be_zero;
    "HvCallFlushVirtualAddressSpaceEx", "Input Parameters":
        a_flush_with_the_set_of_all_reaches_every_vp,
        a_flush_with_a_sparse_set_reaches_another_vp,
        a_flush_with_an_empty_set_does_nothing_wrong,
        a_flush_with_a_set_in_registers_does_the_same,
        an_unknown_set_format_of_a_flush_is_refused,
        missing_banks_of_a_flush_are_refused;
    "HvCallFlushVirtualAddressList", "HvCallFlushVirtualAddressList":
        a_list_with_the_window_drops_it,
        a_range_around_the_window_drops_it,
        a_list_reaches_another_vp,
        a_list_of_many_ranges_completes,
        a_list_must_not_spare_global_translations,
        reserved_flags_of_a_list_must_be_zero,
        a_list_without_ranges_is_refused,
        addresses_beyond_the_virtual_are_ignored;
    "HvCallFlushVirtualAddressListEx", "Input Parameters":
        a_list_with_the_set_of_all_reaches_every_vp,
        a_list_with_a_sparse_set_reaches_another_vp,
        missing_banks_of_a_list_are_refused;
}

const EVERYTHING: u64 = FlushFlags::ALL_PROCESSORS.0 | FlushFlags::ALL_VIRTUAL_ADDRESS_SPACES.0;
const ALL_SPACES: u64 = FlushFlags::ALL_VIRTUAL_ADDRESS_SPACES.0;
const ALL_PROCESSORS: u64 = FlushFlags::ALL_PROCESSORS.0;
const SPARSE: u64 = GenericSetFormat::SPARSE_4K.0 as u64;
const ALL: u64 = GenericSetFormat::ALL.0 as u64;

const SPACE: HypercallInput = simple(HypercallCode::FLUSH_VIRTUAL_ADDRESS_SPACE);
const SPACE_EX: HypercallInput = simple(HypercallCode::FLUSH_VIRTUAL_ADDRESS_SPACE_EX);

const fn list(count: u16) -> HypercallInput {
    rep(HypercallCode::FLUSH_VIRTUAL_ADDRESS_LIST, count)
}

const fn list_ex(count: u16) -> HypercallInput {
    rep(HypercallCode::FLUSH_VIRTUAL_ADDRESS_LIST_EX, count)
}

/// Makes a call with these words as its input, in memory.
fn call(cx: &Cx<'_>, control: HypercallInput, input: &[u64]) -> HvStatus {
    let page = cx.parameters();
    cx.write(page, input);
    cx.memory(control, page, 0).status()
}

/// Skips where a flush of lists is not offered, which the TLFS has for x64 only.
fn need_lists(cx: &Cx<'_>) -> Outcome {
    let status = call(cx, list(1), &[0, EVERYTHING, 0, 0]);
    skip_if!(status == HvStatus::INVALID_HYPERCALL_CODE, "no flush of lists on this host");
    Ok(())
}

fn need_sets(cx: &Cx<'_>) -> Outcome {
    skip_if!(!cx.facts.enlightenments.hints.use_ex_processor_masks(), "no hint to use VP sets");
    Ok(())
}

fn window(cx: &Cx<'_>) -> Result<u64, Stop> {
    cx.env.window().ok_or(Stop::Skip("the environment cannot move a page"))
}

/// Lets a VP cache the window's translation, moves the window, has `flush` flush it, and looks again on that VP.
fn drops(cx: &Cx<'_>, vp: usize, flush: impl Fn(u64) -> HvStatus) -> Outcome {
    let window = window(cx)?;
    let look =
        || if vp == 0 { cx.env.look_through_window() } else { cx.on(vp, |cx| cx.env.look_through_window()) };
    cx.env.point_window(0);
    // What other cases left in the TLB is not this one's matter.
    check_eq!(call(cx, SPACE, &[0, EVERYTHING, 0]), HvStatus::SUCCESS);
    check_eq!(look(), 0);
    for page in [1, 0] {
        cx.env.point_window(page);
        check_eq!(flush(window), HvStatus::SUCCESS);
        check_eq!(look(), page);
    }
    Ok(())
}

/// Returns the mask of a VP.
fn mask(cx: &Cx<'_>, vp: usize) -> Result<u64, Stop> {
    skip_if!(cx.index(vp) >= 64, "the VP index does not fit into a mask");
    Ok(1 << cx.index(vp))
}

/// Returns the bank mask and the bank of a VP.
fn bank(cx: &Cx<'_>, vp: usize) -> [u64; 2] {
    let index = cx.index(vp);
    [1 << (index / 64), 1 << (index % 64)]
}

fn a_flush_of_everything_drops_a_stale_translation(cx: &Cx<'_>) -> Outcome {
    drops(cx, 0, |_| call(cx, SPACE, &[0, EVERYTHING, 0]))
}

fn a_flush_by_mask_drops_the_callers_translation(cx: &Cx<'_>) -> Outcome {
    let mask = mask(cx, 0)?;
    drops(cx, 0, |_| call(cx, SPACE, &[0, ALL_SPACES, mask]))
}

fn a_flush_of_the_address_space_drops_its_translations(cx: &Cx<'_>) -> Outcome {
    let space = cx.env.address_space();
    drops(cx, 0, |_| call(cx, SPACE, &[space, ALL_PROCESSORS, 0]))
}

fn a_flush_of_non_global_translations_drops_the_windows(cx: &Cx<'_>) -> Outcome {
    let flags = EVERYTHING | FlushFlags::NON_GLOBAL_MAPPINGS_ONLY.0;
    // The window's own translation may be global: then it need not go, and only the status counts.
    window(cx)?;
    check_eq!(call(cx, SPACE, &[0, flags, 0]), HvStatus::SUCCESS);
    Ok(())
}

fn a_flush_reaches_another_vp(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    drops(cx, other, |_| call(cx, SPACE, &[0, EVERYTHING, 0]))
}

fn a_flush_by_mask_reaches_another_vp(cx: &Cx<'_>) -> Outcome {
    let other = cx.other()?;
    let mask = mask(cx, other)?;
    drops(cx, other, |_| call(cx, SPACE, &[0, ALL_SPACES, mask]))
}

fn a_flush_by_mask_reaches_every_vp(cx: &Cx<'_>) -> Outcome {
    let mut all = 0;
    for vp in 0..cx.env.vp_count() {
        all |= mask(cx, vp)?;
    }
    for vp in 0..cx.env.vp_count() {
        drops(cx, vp, |_| call(cx, SPACE, &[0, ALL_SPACES, all]))?;
    }
    Ok(())
}

fn a_flush_in_registers_does_the_same(cx: &Cx<'_>) -> Outcome {
    drops(cx, 0, |_| cx.fast(SPACE, &[0, EVERYTHING, 0]).0.status())
}

fn the_mask_is_ignored_with_all_processors(cx: &Cx<'_>) -> Outcome {
    let last = cx.env.vp_count() - 1;
    drops(cx, last, |_| call(cx, SPACE, &[0, EVERYTHING, 1 << 63]))
}

fn vps_beyond_the_partitions_are_ignored(cx: &Cx<'_>) -> Outcome {
    drops(cx, 0, |_| call(cx, SPACE, &[0, ALL_SPACES, u64::MAX]))
}

fn reserved_flags_of_a_flush_must_be_zero(cx: &Cx<'_>) -> Outcome {
    for bit in [5, 6, 7, 10, 31, 32, 63] {
        check!(call(cx, SPACE, &[0, EVERYTHING | 1 << bit, 0]) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn a_flush_with_the_set_of_all_reaches_every_vp(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    for vp in 0..cx.env.vp_count() {
        drops(cx, vp, |_| call(cx, SPACE_EX, &[0, ALL_SPACES, ALL, 0]))?;
    }
    Ok(())
}

fn a_flush_with_a_sparse_set_reaches_another_vp(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    for vp in 0..cx.env.vp_count() {
        let [banks, bank] = bank(cx, vp);
        let control = SPACE_EX.with_variable_header_size(1);
        drops(cx, vp, |_| call(cx, control, &[0, ALL_SPACES, SPARSE, banks, bank]))?;
    }
    Ok(())
}

fn a_flush_with_an_empty_set_does_nothing_wrong(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    check_eq!(call(cx, SPACE_EX, &[0, ALL_SPACES, SPARSE, 0]), HvStatus::SUCCESS);
    Ok(())
}

fn a_flush_with_a_set_in_registers_does_the_same(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    let [banks, bank] = bank(cx, 0);
    let control = SPACE_EX.with_variable_header_size(1);
    drops(cx, 0, |_| cx.fast(control, &[0, ALL_SPACES, SPARSE, banks, bank]).0.status())
}

fn an_unknown_set_format_of_a_flush_is_refused(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    for format in [2, 3, 1 << 32] {
        check!(call(cx, SPACE_EX, &[0, ALL_SPACES, format, 0]) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn missing_banks_of_a_flush_are_refused(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    check!(call(cx, SPACE_EX, &[0, ALL_SPACES, SPARSE, 1, 1]) != HvStatus::SUCCESS);
    let one = SPACE_EX.with_variable_header_size(1);
    check!(call(cx, one, &[0, ALL_SPACES, SPARSE, 0b11, 1, 1]) != HvStatus::SUCCESS);
    Ok(())
}

fn a_list_with_the_window_drops_it(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    drops(cx, 0, |window| call(cx, list(1), &[0, EVERYTHING, 0, window]))
}

fn a_range_around_the_window_drops_it(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    // 16 pages from eight before it.
    drops(cx, 0, |window| call(cx, list(1), &[0, EVERYTHING, 0, (window - 8 * 4096) | 15]))?;
    // The greatest range, of which it is the last page.
    drops(cx, 0, |window| call(cx, list(1), &[0, EVERYTHING, 0, (window - 0x7ff * 4096) | 0x7ff]))
}

fn a_list_reaches_another_vp(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    let other = cx.other()?;
    let mask = mask(cx, other)?;
    drops(cx, other, |window| call(cx, list(1), &[0, ALL_SPACES, mask, window]))
}

fn a_list_of_many_ranges_completes(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    const RANGES: usize = 500;
    let page = cx.page()?;
    drops(cx, 0, |window| {
        cx.write(page, &[0, EVERYTHING, 0]);
        // The window comes last.
        for n in 0..RANGES as u64 {
            cx.write(page + 24 + n * 8, &(window + (RANGES as u64 - 1 - n) * 4096));
        }
        let result = cx.memory(list(RANGES as u16), page, 0);
        if usize::from(result.reps_completed()) == RANGES { result.status() } else { HvStatus(u16::MAX) }
    })
}

fn a_list_must_not_spare_global_translations(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    let flags = EVERYTHING | FlushFlags::NON_GLOBAL_MAPPINGS_ONLY.0;
    check!(call(cx, list(1), &[0, flags, 0, 0x1000]) != HvStatus::SUCCESS);
    Ok(())
}

fn reserved_flags_of_a_list_must_be_zero(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    for bit in [5, 6, 7, 10, 31, 32, 63] {
        check!(call(cx, list(1), &[0, EVERYTHING | 1 << bit, 0, 0x1000]) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn a_list_without_ranges_is_refused(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    check_eq!(call(cx, list(0), &[0, EVERYTHING, 0]), HvStatus::INVALID_HYPERCALL_INPUT);
    Ok(())
}

fn addresses_beyond_the_virtual_are_ignored(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    drops(cx, 0, |window| {
        let ranges = [0x00ff_0000_0000_0000, u64::MAX, 1 << 60, window];
        let mut input = [0, EVERYTHING, 0, 0, 0, 0, 0];
        input[3..].copy_from_slice(&ranges);
        call(cx, list(4), &input)
    })
}

fn a_list_with_the_set_of_all_reaches_every_vp(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    need_sets(cx)?;
    for vp in 0..cx.env.vp_count() {
        drops(cx, vp, |window| call(cx, list_ex(1), &[0, ALL_SPACES, ALL, 0, window]))?;
    }
    Ok(())
}

fn a_list_with_a_sparse_set_reaches_another_vp(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    need_sets(cx)?;
    let last = cx.env.vp_count() - 1;
    let [banks, bank] = bank(cx, last);
    let control = list_ex(2).with_variable_header_size(1);
    drops(cx, last, |window| call(cx, control, &[0, ALL_SPACES, SPARSE, banks, bank, 0x1000, window]))
}

fn missing_banks_of_a_list_are_refused(cx: &Cx<'_>) -> Outcome {
    need_lists(cx)?;
    need_sets(cx)?;
    check!(call(cx, list_ex(1), &[0, ALL_SPACES, SPARSE, 1, 1, 0x1000]) != HvStatus::SUCCESS);
    Ok(())
}
