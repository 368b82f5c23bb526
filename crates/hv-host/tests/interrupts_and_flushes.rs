//! TLFS, "Virtual Interrupt Controller" and "Virtual MMU": calls whose targets are sets of VPs.

use hv_host::{Config, Flush, VpMask};
use hv_partition::testing::{Effect, RAM, TestMachine, rep, run, simple};
use hv_tlfs::hypercall::HypercallCode as Code;
use hv_tlfs::hypercall::HypercallInput;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::PARTITION_ID_SELF;

fn with(vps: usize, test: impl FnOnce(&TestMachine<'_>)) {
    run(Config::new(62_500_000), vps, &[], test);
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn call(m: &TestMachine<'_>, control: HypercallInput, words: &[u64]) -> HvStatus {
    m.call(0, control, &bytes(words), 0).0.status()
}

#[test]
fn an_ipi_goes_to_the_vps_of_the_mask() {
    with(4, |m| {
        let (result, _) = m.fast(0, simple(Code::SEND_IPI), &[0x20, 0b1010]);
        assert_eq!(result.status(), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(1, 0x20), (3, 0x20)]);
        assert_eq!(call(m, simple(Code::SEND_IPI), &[0x20, !0]), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts().len(), 4, "VPs that do not exist are left out");
    });
}

#[test]
fn an_ipis_vector_is_0x10_to_0xff() {
    with(1, |m| {
        for (vector, status) in [
            (0, HvStatus::INVALID_PARAMETER),
            (0xf, HvStatus::INVALID_PARAMETER),
            (0x10, HvStatus::SUCCESS),
            (0xff, HvStatus::SUCCESS),
            (0x100, HvStatus::INVALID_PARAMETER),
            (0xffff_ffff, HvStatus::INVALID_PARAMETER),
        ] {
            assert_eq!(call(m, simple(Code::SEND_IPI), &[vector, 1]), status, "{vector:#x}");
            assert_eq!(call(m, simple(Code::SEND_IPI_EX), &[vector, 1, 0]), status, "{vector:#x}");
        }
        assert_eq!(m.host.take_interrupts().len(), 4);
    });
}

#[test]
fn an_ipis_vtl_and_reserved_bytes_are_checked() {
    with(1, |m| {
        for (bits, status) in [
            (0x10, HvStatus::SUCCESS),
            (0x11, HvStatus::ACCESS_DENIED),
            (0x20, HvStatus::INVALID_PARAMETER),
            (0x100, HvStatus::INVALID_PARAMETER),
        ] {
            assert_eq!(call(m, simple(Code::SEND_IPI), &[0x20 | bits << 32, 1]), status, "{bits:#x}");
            assert_eq!(call(m, simple(Code::SEND_IPI_EX), &[0x20 | bits << 32, 1, 0]), status, "{bits:#x}");
        }
    });
}

#[test]
fn an_ipi_to_a_sparse_set_finds_its_banks() {
    with(150, |m| {
        let control = simple(Code::SEND_IPI_EX).with_variable_header_size(2);
        // Banks 0 and 2: VPs 0, 5 and 130.
        assert_eq!(call(m, control, &[0x20, 0, 0b101, 0x21, 0x04]), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(0, 0x20), (5, 0x20), (130, 0x20)]);
        let (result, _) = m.fast(0, control, &[0x20, 0, 0b101, 1, 1]);
        assert_eq!(result.status(), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(0, 0x20), (128, 0x20)]);
        assert_eq!(call(m, simple(Code::SEND_IPI_EX), &[0x20, 1, 0]), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts().len(), 150, "format 1 is all VPs");
    });
}

#[test]
fn a_sets_banks_fit_the_variable_header() {
    with(4, |m| {
        for (size, valid) in [(0, 1), (1, 0), (1, 0b11), (3, 0b11), (2, u64::MAX)] {
            let control = simple(Code::SEND_IPI_EX).with_variable_header_size(size);
            let status = call(m, control, &[0x20, 0, valid, 1, 1, 1]);
            assert_eq!(status, HvStatus::INVALID_HYPERCALL_INPUT, "{size} words for {valid:#b}");
        }
        assert_eq!(
            call(m, simple(Code::SEND_IPI_EX), &[0x20, 2, 0]),
            HvStatus::INVALID_PARAMETER,
            "format 2"
        );
        let control = simple(Code::SEND_IPI_EX).with_variable_header_size(64);
        assert_eq!(call(m, control, &[&[0x20, 0, u64::MAX], &[1; 64][..]].concat()), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), [(0, 0x20)]);
    });
}

#[test]
fn an_empty_set_is_valid() {
    with(2, |m| {
        assert_eq!(call(m, simple(Code::SEND_IPI_EX), &[0x20, 0, 0]), HvStatus::SUCCESS);
        let control = simple(Code::SEND_IPI_EX).with_variable_header_size(1);
        assert_eq!(call(m, control, &[0x20, 0, 1, 0]), HvStatus::SUCCESS);
        assert_eq!(m.host.take_interrupts(), []);
    });
}

#[test]
fn a_flush_names_address_space_and_targets() {
    with(4, |m| {
        let flush = |flags, mask| {
            assert_eq!(
                call(m, simple(Code::FLUSH_VIRTUAL_ADDRESS_SPACE), &[0xabc000, flags, mask]),
                HvStatus::SUCCESS
            );
            m.host.take_effects()
        };
        let all = |address_space, non_global_only| Flush::All { address_space, non_global_only };
        let expect = |targets, what| [Effect::Flush { targets, what }];
        assert_eq!(flush(0, 0b110), expect(VpMask::from_mask(4, 0b110), all(Some(0xabc000), false)));
        assert_eq!(flush(1, 0b110), expect(VpMask::all(4), all(Some(0xabc000), false)));
        assert_eq!(flush(2, 1), expect(VpMask::from_mask(4, 1), all(None, false)));
        assert_eq!(flush(4, 1), expect(VpMask::from_mask(4, 1), all(Some(0xabc000), true)));
    });
}

#[test]
fn a_flushs_reserved_flags_are_zero() {
    with(1, |m| {
        for bit in [3, 4, 5, 8, 9, 63] {
            let words = [0, 1 << bit, 1, 0];
            for code in [Code::FLUSH_VIRTUAL_ADDRESS_SPACE, Code::FLUSH_VIRTUAL_ADDRESS_SPACE_EX] {
                assert_eq!(call(m, simple(code), &words), HvStatus::INVALID_PARAMETER, "{code:?} {bit}");
            }
        }
        for bit in [2, 4, 5, 8, 63] {
            for code in [Code::FLUSH_VIRTUAL_ADDRESS_LIST, Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX] {
                let status = call(m, rep(code, 1), &[0, 1 << bit, 1, 0, 0]);
                assert_eq!(
                    status,
                    HvStatus::INVALID_PARAMETER,
                    "{code:?} {bit}: bit 2 is invalid with a list"
                );
            }
        }
        assert_eq!(m.host.take_effects(), []);
    });
}

fn flush_list(m: &TestMachine<'_>, ranges: &[u64]) -> Vec<Flush> {
    let words: Vec<u64> = [0x1000, 0, 0b11].into_iter().chain(ranges.iter().copied()).collect();
    let count = ranges.len() as u16;
    let (result, _) = m.call(0, rep(Code::FLUSH_VIRTUAL_ADDRESS_LIST, count), &bytes(&words), 0);
    assert_eq!((result.status(), result.reps_completed()), (HvStatus::SUCCESS, count));
    let effect = |effect| match effect {
        Effect::Flush { targets, what } if targets == VpMask::from_mask(4, 0b11) => what,
        other => panic!("{other:?}"),
    };
    m.host.take_effects().into_iter().map(effect).collect()
}

fn pages(address: u64, pages: u64) -> Flush {
    Flush::Pages { address_space: Some(0x1000), address, pages }
}

const EVERYTHING: Flush = Flush::All { address_space: Some(0x1000), non_global_only: false };

#[test]
fn a_list_of_few_pages_flushes_range_by_range() {
    with(4, |m| {
        let expected = [pages(0x7000_0000, 1), pages(0x8000_0000, 60), pages(0x9000_0000, 3)];
        assert_eq!(flush_list(m, &[0x7000_0000, 0x8000_003b, 0x9000_0002]), expected);
        let ranges: Vec<u64> = (0..64).map(|n| n << 12).collect();
        assert_eq!(flush_list(m, &ranges), ranges.iter().map(|&n| pages(n, 1)).collect::<Vec<_>>());
    });
}

#[test]
fn a_list_of_many_pages_flushes_everything_once() {
    with(4, |m| {
        assert_eq!(flush_list(m, &[0x8000_0fff, 0x7000_0000]), [EVERYTHING]);
        let few_then_many = [0x7000_0000, 0x8000_003f, 0x9000_0000];
        assert_eq!(flush_list(m, &few_then_many), [pages(0x7000_0000, 1), EVERYTHING]);
        let ranges: Vec<u64> = (0..477).map(|n| n << 12).collect();
        assert_eq!(flush_list(m, &ranges), [EVERYTHING]);
    });
}

#[test]
fn a_list_behind_a_variable_header_is_found() {
    with(70, |m| {
        let control = rep(Code::FLUSH_VIRTUAL_ADDRESS_LIST_EX, 2).with_variable_header_size(2);
        let words = [0x1000, 2, 0, 0b11, 0b100, 0b10, 0x7000_0000, 0x8000_0001];
        assert_eq!(call(m, control, &words), HvStatus::SUCCESS);
        let effects = m.host.take_effects();
        let seen: Vec<_> = effects
            .iter()
            .map(|effect| {
                let Effect::Flush { targets, what: Flush::Pages { address_space: None, address, pages } } =
                    effect
                else {
                    panic!("{effect:?}")
                };
                (targets.iter().collect::<Vec<_>>(), *address, *pages)
            })
            .collect();
        assert_eq!(seen, [(vec![2, 65], 0x7000_0000, 1), (vec![2, 65], 0x8000_0000, 2)]);
    });
}

#[test]
fn a_long_list_of_flushes_is_continued() {
    let config = Config::new(62_500_000).with_rep_budget(0);
    run(config, 2, &[], |m| {
        let mut words = vec![0, 3, 0];
        words.extend((0..60).map(|n| n << 12));
        assert_eq!(call(m, rep(Code::FLUSH_VIRTUAL_ADDRESS_LIST, 60), &words), HvStatus::SUCCESS);
        assert_eq!(m.host.take_effects().len(), 60, "each range once");
    });
}

#[test]
fn a_list_that_flushes_everything_does_so_once_however_long_that_takes() {
    let config = Config::new(62_500_000).with_rep_budget(0);
    run(config, 4, &[], |m| {
        let singles: Vec<u64> = (0..477).map(|n| n << 12).collect();
        let large: Vec<u64> = (0..60).map(|n| n << 24 | 0xfff).collect();
        for ranges in [singles, large] {
            assert_eq!(flush_list(m, &ranges), [EVERYTHING]);
        }
    });
}

fn retarget(device: u64, source: u64, flags: u64, target: u64) -> Vec<u64> {
    vec![PARTITION_ID_SELF, device, source, RAM, 0x55, 0, 0x40 | flags << 32, target]
}

#[test]
fn a_device_interrupt_is_retargeted_by_mask_or_set() {
    with(70, |m| {
        assert_eq!(call(m, simple(Code::RETARGET_INTERRUPT), &retarget(7, 1, 0, 0b100)), HvStatus::SUCCESS);
        let mut words = retarget(7, 1, 3, 0);
        words.extend([0b10, 0b1]);
        let control = simple(Code::RETARGET_INTERRUPT).with_variable_header_size(2);
        assert_eq!(call(m, control, &words), HvStatus::SUCCESS);
        let effects = m.host.take_effects();
        let seen: Vec<_> = effects
            .iter()
            .map(|effect| {
                let Effect::Retarget { device: 7, vector: 0x40, targets, multicast, .. } = effect else {
                    panic!("{effect:?}")
                };
                (targets.iter().collect::<Vec<_>>(), *multicast)
            })
            .collect();
        assert_eq!(seen, [(vec![2], false), (vec![64], true)]);
    });
}

#[test]
fn a_retarget_is_checked() {
    with(4, |m| {
        let status = |words: &[u64]| call(m, simple(Code::RETARGET_INTERRUPT), words);
        assert_eq!(status(&retarget(8, 1, 0, 1)), HvStatus::INVALID_DEVICE_ID, "the embedder's answer");
        assert_eq!(status(&retarget(7, 2, 0, 1)), HvStatus::INVALID_PARAMETER, "source");
        assert_eq!(status(&retarget(7, 1, 8, 1)), HvStatus::INVALID_PARAMETER, "flags");
        let mut words = retarget(7, 1, 0, 1);
        words[5] = 1;
        assert_eq!(status(&words), HvStatus::INVALID_PARAMETER, "reserved");
        words = retarget(7, 1, 0, 1);
        words[0] = 99;
        assert_eq!(status(&words), HvStatus::INVALID_PARTITION_ID);
        assert_eq!(
            status(&retarget(7, 1, 2, 0)),
            HvStatus::INVALID_HYPERCALL_INPUT,
            "a set without its mask"
        );
    });
}

#[test]
fn a_long_spin_wait_is_advice() {
    with(1, |m| {
        let (result, _) = m.fast(0, simple(Code::NOTIFY_LONG_SPIN_WAIT), &[1000]);
        assert_eq!(result.0, 0);
        assert_eq!(m.host.take_effects(), []);
    });
}
