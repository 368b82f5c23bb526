//! Interrupts by hypercall: to masks and sets of VPs, and retargeting of devices.

use hv_tlfs::hypercall::{HypercallCode, HypercallInput};
use hv_tlfs::interrupt::{
    InterruptEntry, InterruptSource, InterruptTarget, InterruptTargetFlags, MsiEntry, RetargetInterruptInput,
};
use hv_tlfs::sets::GenericSetFormat;
use hv_tlfs::status::HvStatus;
use hv_tlfs::time::ReferenceTime;
use hv_tlfs::vp::{PARTITION_ID_SELF, PartitionId};

use crate::cx::{Cx, simple};
use crate::outcome::{Outcome, Stop};

cases! {
    "virtual_interrupts";
    "HvCallSendSyntheticClusterIpi", "Input Parameters":
        an_ipi_reaches_its_sender,
        an_ipi_in_memory_form_reaches_its_sender,
        an_ipi_reaches_another_vp,
        an_ipi_reaches_every_vp_of_its_mask,
        an_ipi_reaches_nobody_else,
        an_ipi_with_an_empty_mask_reaches_nobody,
        vps_of_the_mask_that_do_not_exist_are_ignored,
        another_vp_can_send_an_ipi,
        a_vector_below_16_of_an_ipi_is_refused,
        a_vector_beyond_255_of_an_ipi_is_refused,
        an_ipi_to_another_vtl_is_refused,
        a_refused_ipi_reaches_nobody;
    "HvCallSendSyntheticClusterIpiEx", "Input Parameters":
        an_ipi_to_all_reaches_every_vp,
        an_ipi_to_a_sparse_set_reaches_its_vp,
        an_ipi_to_an_empty_set_reaches_nobody,
        an_ipi_to_a_set_in_registers_does_the_same,
        banks_without_vps_are_ignored,
        an_unknown_set_format_of_an_ipi_is_refused,
        missing_banks_of_an_ipi_are_refused,
        a_bad_vector_to_a_set_is_refused;
    "HvCallRetargetDeviceInterrupt", "Input Parameters":
        an_unknown_device_is_not_retargeted,
        a_device_of_an_unknown_partition_is_not_retargeted,
        an_interrupt_that_is_no_msi_is_not_retargeted;
}

const IPI: HypercallInput = simple(HypercallCode::SEND_IPI);
const IPI_EX: HypercallInput = simple(HypercallCode::SEND_IPI_EX);
const SPARSE: u64 = GenericSetFormat::SPARSE_4K.0 as u64;
const ALL: u64 = GenericSetFormat::ALL.0 as u64;

fn need_ipi(cx: &Cx<'_>) -> Outcome {
    let hints = cx.facts.enlightenments.hints;
    skip_if!(!hints.use_synthetic_cluster_ipi(), "no hint to send IPIs by hypercall");
    Ok(())
}

fn need_sets(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    skip_if!(!cx.facts.enlightenments.hints.use_ex_processor_masks(), "no hint to use VP sets");
    Ok(())
}

/// Makes a call with these words as its input, in memory.
fn memory(cx: &Cx<'_>, control: HypercallInput, input: &[u64]) -> HvStatus {
    let page = cx.parameters();
    cx.write(page, input);
    cx.memory(control, page, 0).status()
}

fn fast(cx: &Cx<'_>, control: HypercallInput, input: &[u64]) -> HvStatus {
    cx.fast(control, input).0.status()
}

fn mask(cx: &Cx<'_>, vp: usize) -> Result<u64, Stop> {
    skip_if!(cx.index(vp) >= 64, "the VP index does not fit into a mask");
    Ok(1 << cx.index(vp))
}

/// Returns the number of interrupts that a VP has taken.
fn taken(cx: &Cx<'_>, vp: usize) -> u64 {
    let intid = cx.intid();
    if vp == 0 { cx.env.taken(intid) } else { cx.on(vp, |cx| cx.env.taken(intid)) }
}

/// Sends by `send`, and checks that each VP takes one interrupt if it is a target, and none if it is not.
fn reaches(cx: &Cx<'_>, is_target: impl Fn(usize) -> bool, send: impl FnOnce() -> HvStatus) -> Outcome {
    let intid = cx.intid();
    let mut before = [0; crate::env::MAX_VPS];
    for (vp, count) in before.iter_mut().enumerate().take(cx.env.vp_count()) {
        if vp == 0 {
            cx.env.listen(intid);
        } else {
            cx.on(vp, |cx| cx.env.listen(intid));
        }
        *count = taken(cx, vp);
    }
    check_eq!(send(), HvStatus::SUCCESS);
    for (vp, &count) in before.iter().enumerate().take(cx.env.vp_count()) {
        if is_target(vp) {
            cx.soon("the target takes the interrupt", || taken(cx, vp) != count)?;
        }
    }
    cx.pause(ReferenceTime(2_000));
    for (vp, &count) in before.iter().enumerate().take(cx.env.vp_count()) {
        check_eq!(taken(cx, vp) - count, u64::from(is_target(vp)));
    }
    Ok(())
}

fn an_ipi_reaches_its_sender(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let mask = mask(cx, 0)?;
    reaches(cx, |vp| vp == 0, || fast(cx, IPI, &[cx.intid().into(), mask]))
}

fn an_ipi_in_memory_form_reaches_its_sender(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let mask = mask(cx, 0)?;
    reaches(cx, |vp| vp == 0, || memory(cx, IPI, &[cx.intid().into(), mask]))
}

fn an_ipi_reaches_another_vp(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let other = cx.other()?;
    let mask = mask(cx, other)?;
    reaches(cx, |vp| vp == other, || fast(cx, IPI, &[cx.intid().into(), mask]))
}

fn an_ipi_reaches_every_vp_of_its_mask(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let mut all = 0;
    for vp in 0..cx.env.vp_count() {
        all |= mask(cx, vp)?;
    }
    reaches(cx, |_| true, || fast(cx, IPI, &[cx.intid().into(), all]))
}

fn an_ipi_reaches_nobody_else(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    cx.other()?;
    for target in 0..cx.env.vp_count() {
        let mask = mask(cx, target)?;
        reaches(cx, |vp| vp == target, || fast(cx, IPI, &[cx.intid().into(), mask]))?;
    }
    Ok(())
}

fn an_ipi_with_an_empty_mask_reaches_nobody(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    reaches(cx, |_| false, || fast(cx, IPI, &[cx.intid().into(), 0]))
}

fn vps_of_the_mask_that_do_not_exist_are_ignored(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    mask(cx, cx.env.vp_count() - 1)?;
    reaches(cx, |_| true, || fast(cx, IPI, &[cx.intid().into(), u64::MAX]))
}

fn another_vp_can_send_an_ipi(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let other = cx.other()?;
    let mask = mask(cx, 0)?;
    let send = || cx.on(other, |cx| Some(fast(cx, IPI, &[cx.intid().into(), mask])));
    reaches(cx, |vp| vp == 0, || send().unwrap_or(HvStatus(u16::MAX)))
}

fn a_vector_below_16_of_an_ipi_is_refused(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let mask = mask(cx, 0)?;
    for vector in 0..16 {
        check!(fast(cx, IPI, &[vector, mask]) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn a_vector_beyond_255_of_an_ipi_is_refused(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let mask = mask(cx, 0)?;
    for vector in [0x100, 0x100 + u64::from(cx.intid()), 0xffff_ffff] {
        check!(fast(cx, IPI, &[vector, mask]) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn an_ipi_to_another_vtl_is_refused(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    skip_if!(cx.facts.features.privileges.access_vsm(), "the partition has VTLs");
    let mask = mask(cx, 0)?;
    check!(fast(cx, IPI, &[u64::from(cx.intid()) | 0x11 << 32, mask]) != HvStatus::SUCCESS);
    Ok(())
}

fn a_refused_ipi_reaches_nobody(cx: &Cx<'_>) -> Outcome {
    need_ipi(cx)?;
    let (intid, mask) = (cx.intid(), mask(cx, 0)?);
    cx.env.listen(intid);
    cx.no_interrupt(intid, || {
        check!(fast(cx, IPI, &[0x100 + u64::from(intid), mask]) != HvStatus::SUCCESS);
        Ok(())
    })
}

fn an_ipi_to_all_reaches_every_vp(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    reaches(cx, |_| true, || memory(cx, IPI_EX, &[cx.intid().into(), ALL, 0]))
}

fn an_ipi_to_a_sparse_set_reaches_its_vp(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    for target in 0..cx.env.vp_count() {
        let index = cx.index(target);
        let control = IPI_EX.with_variable_header_size(1);
        let input = [cx.intid().into(), SPARSE, 1 << (index / 64), 1 << (index % 64)];
        reaches(cx, |vp| vp == target, || memory(cx, control, &input))?;
    }
    Ok(())
}

fn an_ipi_to_an_empty_set_reaches_nobody(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    reaches(cx, |_| false, || memory(cx, IPI_EX, &[cx.intid().into(), SPARSE, 0]))?;
    let control = IPI_EX.with_variable_header_size(1);
    reaches(cx, |_| false, || memory(cx, control, &[cx.intid().into(), SPARSE, 1, 0]))
}

fn an_ipi_to_a_set_in_registers_does_the_same(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    reaches(cx, |_| true, || fast(cx, IPI_EX, &[cx.intid().into(), ALL, 0]))?;
    let index = cx.index(0);
    let control = IPI_EX.with_variable_header_size(1);
    let input = [cx.intid().into(), SPARSE, 1 << (index / 64), 1 << (index % 64)];
    reaches(cx, |vp| vp == 0, || fast(cx, control, &input))
}

fn banks_without_vps_are_ignored(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    skip_if!(cx.index(0) >= 64, "the boot processor is not in the first bank");
    let control = IPI_EX.with_variable_header_size(2);
    let input = [cx.intid().into(), SPARSE, 1 << 63 | 1, 1 << cx.index(0), u64::MAX];
    reaches(cx, |vp| vp == 0, || memory(cx, control, &input))
}

fn an_unknown_set_format_of_an_ipi_is_refused(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    for format in [2, 3, 1 << 32] {
        check!(memory(cx, IPI_EX, &[cx.intid().into(), format, 0]) != HvStatus::SUCCESS);
    }
    Ok(())
}

fn missing_banks_of_an_ipi_are_refused(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    check!(memory(cx, IPI_EX, &[cx.intid().into(), SPARSE, 1, 1]) != HvStatus::SUCCESS);
    let one = IPI_EX.with_variable_header_size(1);
    check!(memory(cx, one, &[cx.intid().into(), SPARSE, 0b11, 1, 1]) != HvStatus::SUCCESS);
    Ok(())
}

fn a_bad_vector_to_a_set_is_refused(cx: &Cx<'_>) -> Outcome {
    need_sets(cx)?;
    for vector in [0, 15, 0x100, 0xffff_ffff] {
        check!(memory(cx, IPI_EX, &[vector, ALL, 0]) != HvStatus::SUCCESS);
    }
    Ok(())
}

/// Retargets an interrupt of a device that does not exist.
fn retarget(cx: &Cx<'_>, partition: u64, source: InterruptSource) -> HvStatus {
    let input = RetargetInterruptInput {
        partition_id: PartitionId(partition),
        device_id: 0x7e57_7e57,
        entry: InterruptEntry {
            source,
            reserved: 0,
            msi: MsiEntry { address: 0x8_0000, data: 64, reserved: 0 },
        },
        reserved: 0,
        target: InterruptTarget { vector: 64, flags: InterruptTargetFlags(0), mask_or_format: 1 },
    };
    let page = cx.parameters();
    cx.write(page, &input);
    cx.memory(simple(HypercallCode::RETARGET_INTERRUPT), page, 0).status()
}

fn an_unknown_device_is_not_retargeted(cx: &Cx<'_>) -> Outcome {
    check!(retarget(cx, PARTITION_ID_SELF, InterruptSource::MSI) != HvStatus::SUCCESS);
    Ok(())
}

fn a_device_of_an_unknown_partition_is_not_retargeted(cx: &Cx<'_>) -> Outcome {
    check_eq!(retarget(cx, 0x1234_5678, InterruptSource::MSI), HvStatus::INVALID_PARTITION_ID);
    Ok(())
}

fn an_interrupt_that_is_no_msi_is_not_retargeted(cx: &Cx<'_>) -> Outcome {
    check!(retarget(cx, PARTITION_ID_SELF, InterruptSource::IOAPIC) != HvStatus::SUCCESS);
    Ok(())
}
