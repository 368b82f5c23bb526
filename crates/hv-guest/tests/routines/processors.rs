//! Hypercalls that name processors: IPIs, flushes, starts, retargeted interrupts.

use crate::common::{FREQUENCY, Guest, everywhere, everywhere_on, intid, often};
use hv_guest::flush::{self, GvaRange, Mask, Space};
use hv_guest::hypercall::RepError;
use hv_guest::interrupts::Interrupts;
use hv_guest::processors::{self, DeviceInterrupt};
use hv_guest::sets::VpSet;
use hv_testbed::{Config, Effect, Flush, Testbed, VpMask};
use hv_tlfs::start_vp::InitialVpContext;
use hv_tlfs::status::HvStatus;
use hv_tlfs::vp::VpIndex;

fn interrupted(guest: &Guest, number: u8) -> Vec<usize> {
    (0..guest.vps).filter(|n| guest.bed.take_interrupt(*n) == Some(number)).collect()
}

fn set(indices: impl IntoIterator<Item = usize>) -> VpSet<2> {
    let mut set = VpSet::new();
    for index in indices {
        set.insert(VpIndex(index as u32)).unwrap();
    }
    set
}

#[test]
fn the_map_knows_each_cpu_that_came_up() {
    everywhere(|guest| {
        let last = guest.vps - 1;
        assert_eq!(guest.map.vp(last), None);
        let vp = guest.vp(last);
        assert_eq!((vp.index(), guest.map.vp(last)), (VpIndex(last as u32), Some(VpIndex(last as u32))));
        assert_eq!((guest.map.online(), guest.map.highest()), (1, Some(VpIndex(last as u32))));
        assert!(guest.partition_on(last).vp(guest.map, last).is_err(), "a CPU comes up once");
        vp.offline().unwrap();
        assert_eq!(guest.map.vp(last), None);
    });
}

#[test]
fn an_ipi_reaches_the_vps_of_the_mask_and_no_others() {
    everywhere(|guest| {
        (0..guest.vps).for_each(|n| guest.bed.interrupts(n).enable(intid(40)));
        for mask in 1..1_u64 << guest.vps {
            processors::send_ipi(guest.partition, intid(40), mask).unwrap();
            let expected: Vec<usize> = (0..guest.vps).filter(|n| mask >> n & 1 != 0).collect();
            assert_eq!(interrupted(guest, 40), expected);
        }
    });
}

#[test]
fn an_ipi_to_a_set_reaches_the_set() {
    everywhere(|guest| {
        (0..guest.vps).for_each(|n| guest.bed.interrupts(n).enable(intid(41)));
        let mut page = guest.bed.call_page();
        let evens = set((0..guest.vps).step_by(2));
        processors::send_ipi_ex(guest.partition, &mut page, intid(41), &evens).unwrap();
        assert_eq!(interrupted(guest, 41), (0..guest.vps).step_by(2).collect::<Vec<_>>());
        processors::send_ipi_ex(guest.partition, &mut page, intid(41), &VpSet::<0>::all()).unwrap();
        assert_eq!(interrupted(guest, 41), (0..guest.vps).collect::<Vec<_>>());
    });
}

fn only_flush(bed: &Testbed) -> (VpMask, Flush) {
    let mut effects = bed.take_effects();
    assert_eq!(effects.len(), 1, "{effects:?}");
    match effects.remove(0) {
        Effect::Flush { targets, what } => (targets, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_address_space_is_flushed_on_the_vps_named() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        let table = Space::Table(0x4123_4000);
        flush::address_space(guest.partition, Mask::Of(1), table, true).unwrap();
        let (targets, what) = only_flush(guest.bed);
        assert_eq!(targets.iter().collect::<Vec<_>>(), [0]);
        assert_eq!(what, Flush::All { address_space: Some(0x4123_4000), non_global_only: true });

        flush::address_space(guest.partition, Mask::All, Space::All, false).unwrap();
        let (targets, what) = only_flush(guest.bed);
        assert_eq!(targets.iter().count(), guest.vps);
        assert_eq!(what, Flush::All { address_space: None, non_global_only: false });

        let last = set([guest.vps - 1]);
        flush::address_space_ex(guest.partition, &mut page, &last, table, false).unwrap();
        let (targets, what) = only_flush(guest.bed);
        assert_eq!(targets.iter().collect::<Vec<_>>(), [guest.vps - 1]);
        assert_eq!(what, Flush::All { address_space: Some(0x4123_4000), non_global_only: false });
    });
}

#[test]
fn runs_of_pages_are_flushed_however_many() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        let table = Space::Table(0x5000);
        let run = |i| GvaRange::new(i << 24, 1 + i as usize).unwrap();
        let (few, many): (Vec<_>, Vec<_>) =
            ((0..6).map(run).collect(), (0..6 * often(100) as u64).map(run).collect());
        // Few, the host flushes by address.
        let check_few = |targets: usize| {
            let effects = guest.bed.take_effects();
            assert_eq!(effects.len(), few.len());
            for (i, effect) in (0_u64..).zip(effects) {
                let Effect::Flush { targets: vps, what } = effect else { panic!("{effect:?}") };
                assert_eq!(vps.iter().count(), targets);
                let (address, pages) = (i << 24, 1 + i);
                assert_eq!(what, Flush::Pages { address_space: Some(0x5000), address, pages });
            }
        };
        // Many, it flushes everything once a call.
        let check_many = |calls: usize| {
            let effects = guest.bed.take_effects();
            let whole = |effect: &&Effect| matches!(effect, Effect::Flush { what: Flush::All { .. }, .. });
            assert_eq!(effects.iter().filter(whole).count(), calls.min(many.len() / 65), "{effects:?}");
        };
        flush::address_list(guest.partition, &mut page, Mask::Of(1), table, &few).unwrap();
        check_few(1);
        flush::address_list(guest.partition, &mut page, Mask::Of(1), table, &many).unwrap();
        check_many(2);
        let all = VpSet::<1>::all();
        flush::address_list_ex(guest.partition, &mut page, &all, table, &few).unwrap();
        check_few(guest.vps);
        flush::address_list_ex(guest.partition, &mut page, &all, table, &many).unwrap();
        check_many(2);
    });
}

#[test]
fn a_host_without_these_calls_says_so() {
    everywhere_on(Config::new(FREQUENCY).with_profile(hv_testbed::Profile::MINIMAL), |guest| {
        let mut page = guest.bed.call_page();
        let all = VpSet::<0>::all();
        let error = flush::address_space_ex(guest.partition, &mut page, &all, Space::All, false).unwrap_err();
        assert!(matches!(error, RepError::Status { completed: 0, .. }), "{error}");
    });
}

#[test]
fn a_long_spin_is_noted() {
    everywhere(|guest| processors::notify_long_spin_wait(guest.partition, 0xffff_fffe).unwrap());
}

#[test]
fn a_vp_that_is_off_is_started_with_the_registers_given() {
    everywhere(|guest| {
        let last = guest.vps - 1;
        guest.bed.switch_off(last);
        let mut page = guest.bed.call_page();
        let context = InitialVpContext {
            pc: 0x4008_0000,
            sp_elh: 2,
            sctlr_el1: 3,
            mair_el1: 4,
            tcr_el1: 5,
            vbar_el1: 6,
            ttbr0_el1: 7,
            ttbr1_el1: 8,
            x18: 9,
        };
        let target = VpIndex(last as u32);
        // SAFETY: no VP of a testbed runs anything by itself.
        unsafe { processors::start_vp(guest.partition, &mut page, target, &context) }.unwrap();
        let effects = guest.bed.take_effects();
        assert!(
            matches!(effects[..], [Effect::Start { vp, context: started }]
                if vp == last && (started.pc, started.sp, started.ttbr1, started.x18) == (0x4008_0000, 2, 8, 9)),
            "{effects:?}"
        );
        let absent = VpIndex(guest.vps as u32);
        // SAFETY: there is no such VP.
        let error =
            unsafe { processors::start_vp(guest.partition, &mut page, absent, &context) }.unwrap_err();
        assert_eq!(error.status(), HvStatus::INVALID_VP_INDEX);
    });
}

#[test]
fn a_devices_interrupt_goes_where_it_is_sent() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        let interrupt = DeviceInterrupt::new(7, 0xfee0_0000, 0x4041, 0x60);
        let last = set([guest.vps - 1]);
        processors::retarget_interrupt(guest.partition, &mut page, &interrupt, &last, true).unwrap();
        let effects = guest.bed.take_effects();
        let [Effect::Retarget { msi, vector, targets, multicast, .. }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!((*msi, *vector, *multicast), ((0xfee0_0000, 0x4041), 0x60, true));
        assert_eq!(targets.iter().collect::<Vec<_>>(), [guest.vps - 1]);
        let other = DeviceInterrupt::new(8, 0xfee0_0000, 0x4041, 0x60);
        let error =
            processors::retarget_interrupt(guest.partition, &mut page, &other, &last, true).unwrap_err();
        assert!(matches!(error, RepError::Status { .. }), "{error}");
    });
}
