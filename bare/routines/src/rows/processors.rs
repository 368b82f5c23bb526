//! The map from CPUs to VPs, and hypercalls that name processors.

use hv_guest::flush::{self, GvaRange, Mask, Space};
use hv_guest::hypercall::RepError;
use hv_guest::interrupts::Intid;
use hv_guest::processors::{self, DeviceInterrupt};
use hv_guest::sets::VpSet;
use hv_guest::tlfs::status::HvStatus;
use hv_guest::tlfs::vp::VpIndex;
use hv_guest::vp_map::VpMap;

use super::{Cx, MAX_VPS, Os};

/// Checks the map, IPIs, flushes, starts, and the rest.
pub(crate) fn processors<O: Os>(cx: &Cx<'_, O>) {
    map(cx);
    let [.., intid] = cx.os.intids();
    cx.on_each(|_| cx.os.enable(intid));
    ipis(cx, intid);
    cx.on_each(|_| cx.os.disable(intid));
    cx.on_each(|n| flushes(cx, n));
    starts(cx);
    cx.on_each(|n| rest(cx, n));
}

/// Enters each CPU on that CPU, and finds the others from any.
fn map<O: Os>(cx: &Cx<'_, O>) {
    let map = VpMap::<MAX_VPS>::new();
    let vps = cx.os.vps();
    for n in (0..vps).rev() {
        assert_eq!((map.vp(n), map.online()), (None, vps - 1 - n));
        cx.os.on(n, &|| assert_eq!(cx.hv.vp(&map, n).map(|vp| vp.index()), Ok(VpIndex(n as u32))));
        assert_eq!(map.highest(), Some(VpIndex(vps as u32 - 1)));
    }
    cx.on_each(|_| (0..vps).for_each(|n| assert_eq!(map.vp(n), Some(VpIndex(n as u32)))));
    assert_eq!((map.online(), map.vp(vps), map.vp(usize::MAX)), (vps, None, None));
}

fn set(vps: impl IntoIterator<Item = usize>) -> VpSet<1> {
    let mut set = VpSet::new();
    for vp in vps {
        set.insert(VpIndex(vp as u32)).expect("there are fewer than 64");
    }
    set
}

/// Sends interrupts to each VP alone, to every second, and to all, by mask and by set, from each VP.
fn ipis<O: Os>(cx: &Cx<'_, O>, intid: Intid) {
    let vps = cx.os.vps();
    let masks = (0..vps).map(|n| 1_u64 << n).chain([0x55 & ((1 << vps) - 1), (1 << vps) - 1]);
    for mask in masks {
        cx.on_each(|sender| {
            for by_set in [false, true] {
                let expected: [u64; MAX_VPS] =
                    core::array::from_fn(
                        |n| {
                            if n < vps { cx.os.taken(n, intid) + (mask >> n & 1) } else { 0 }
                        },
                    );
                if by_set {
                    let mut page = cx.call_page(sender);
                    let targets = set((0..vps).filter(|n| mask >> n & 1 != 0));
                    processors::send_ipi_ex(cx.hv, &mut page, intid, &targets).expect("it is sent");
                } else {
                    processors::send_ipi(cx.hv, intid, mask).expect("it is sent");
                }
                cx.until("an IPI", || (0..vps).all(|n| cx.os.taken(n, intid) >= expected[n]));
                assert!((0..vps).all(|n| cx.os.taken(n, intid) == expected[n]), "{mask:#b} and no other VP");
            }
        });
    }
    // Every VP's is waited for: one that is pending when the interrupt is disabled is taken by the next kernel.
    let before: [u64; MAX_VPS] = core::array::from_fn(|n| if n < vps { cx.os.taken(n, intid) } else { 0 });
    processors::send_ipi_ex(cx.hv, &mut cx.call_page(0), intid, &VpSet::<0>::all()).expect("it is sent");
    cx.until("an IPI to all", || (0..vps).all(|n| cx.os.taken(n, intid) > before[n]));
}

/// Makes all four flushes, from VP `n`. `hv-conformance` checks that translations are gone.
fn flushes<O: Os>(cx: &Cx<'_, O>, n: usize) {
    let vps = cx.os.vps();
    let mut page = cx.call_page(n);
    let table = Space::Table(0x5000);
    for (mask, set) in [(Mask::All, VpSet::all()), (Mask::Of((1 << vps) - 1), set(0..vps))] {
        for space in [Space::All, table] {
            for non_global in [false, true] {
                flush::address_space(cx.hv, mask, space, non_global).expect("a flush");
                flush::address_space_ex(cx.hv, &mut page, &set, space, non_global).expect("a flush");
            }
            let ranges = [GvaRange::new(0x1234_5678, 17).expect("17 pages"); 600];
            flush::address_list(cx.hv, &mut page, mask, space, &ranges).expect("a flush of a list");
            flush::address_list_ex(cx.hv, &mut page, &set, space, &ranges).expect("a flush of a list");
        }
    }
}

/// Takes the last VP off, and starts it again by hypercall.
fn starts<O: Os>(cx: &Cx<'_, O>) {
    let mut page = cx.call_page(0);
    let mut start = |vp| {
        let context = cx.os.start_context(0);
        // SAFETY: the OS gives the VP's start context; the host refuses the others.
        unsafe { processors::start_vp(cx.hv, &mut page, VpIndex(vp), &context) }
            .map_err(|error| error.status())
    };
    assert!(start(0).is_err(), "VP 0 runs");
    assert_eq!(start(cx.os.vps() as u32), Err(HvStatus::INVALID_VP_INDEX));
    let last = cx.os.vps() - 1;
    if last == 0 {
        return;
    }
    for _ in 0..3 {
        cx.os.stop(last);
        let context = cx.os.start_context(last);
        // SAFETY: the OS gives the VP's start context.
        unsafe { processors::start_vp(cx.hv, &mut page, VpIndex(last as u32), &context) }.expect("it starts");
        cx.os.wait_up(last);
        super::teardown::found_in_reset_state(cx.os);
    }
}

fn rest<O: Os>(cx: &Cx<'_, O>, n: usize) {
    processors::notify_long_spin_wait(cx.hv, 1 << 20).expect("it takes notice");
    let unowned = DeviceInterrupt::new(0x1234, 0x8_0000, 64, 64);
    let to_all = set(0..cx.os.vps());
    let error = processors::retarget_interrupt(cx.hv, &mut cx.call_page(n), &unowned, &to_all, true);
    assert!(matches!(error, Err(RepError::Status { .. })), "there is no such device: {error:?}");
}
