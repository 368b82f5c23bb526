//! The teardown on every VP: the next kernel finds reset state.

use hv_guest::clock::Clock;
use hv_guest::page::Page;
use hv_guest::partition::Partition;
use hv_guest::registers::{self, Register};
use hv_guest::synic::SintIndex;
use hv_guest::teardown::{self, LeaveError};
use hv_guest::timer::{Schedule, Timer, TimerIndex};
use hv_guest::tlfs::guest_id::GuestOsId;
use hv_guest::tlfs::page::SIZE;
use hv_guest::tlfs::register::RegisterName;
use hv_guest::tlfs::time::{ReferenceTime, ReferenceTscRegister};
use hv_guest::tlfs::vp::VpIndex;
use hv_guest::vp_map::VpMap;

use super::synic::SINT;
use super::{Cx, MAX_VPS, Os, discovery, on_each};

/// Checks the registers in which a kernel leaves traces, on every VP.
pub(crate) fn found_in_reset_state(os: &impl Os) {
    on_each(os, |n| {
        let timers = (0..4).flat_map(|i| [RegisterName::stimer_config(i), RegisterName::stimer_count(i)]);
        let pages = [RegisterName::SIMP, RegisterName::SIEFP, RegisterName::SCONTROL];
        let zero = timers.chain(pages).map(|name| (name, 0));
        let masked = (0..16).map(|sint| (RegisterName::sint(sint), 0x1_0000));
        for (name, expected) in zero.chain(masked) {
            let value = registers::get_raw(&os.conduit(), VpIndex::SELF, name).map(|value| value.low);
            assert_eq!(value, Ok(expected), "{name:?} of VP {n} is in reset state");
        }
    });
}

/// Checks that no reference TSC page is lent to the partition.
pub(crate) fn found_without_page(os: &impl Os) {
    assert_eq!(registers::get(&os.conduit(), Register::REFERENCE_TSC), Ok(ReferenceTscRegister(0)));
}

/// Shuts down with every handle at hand.
pub(crate) fn in_order<O: Os>(
    os: &O,
    hv: &Partition<O::Conduit>,
    clock: Clock<'_, O::Conduit>,
    map: &VpMap<MAX_VPS>,
) {
    let cx = Cx { os, hv, clock: &clock, map };
    cx.on_each(|n| {
        let synic = cx.synic(n, SINT);
        let mut timer = Timer::message(&synic, TimerIndex::ALL[0], SINT).expect("a timer");
        timer.start(synic.vp(), Schedule::Every(ReferenceTime(1000))).expect("it starts");
        assert_eq!(hv.leave(map), Err(LeaveError::CpusOnline(1)));
        timer.release(synic.vp(), os).expect("it stops a timer");
        cx.down(synic);
    });
    let page = clock.stop().expect("it gives the page back");
    page.clear();
    found_in_reset_state(os);
    found_without_page(os);
    hv.leave(map).expect("it lets us go");
    assert_eq!(registers::get(&os.conduit(), Register::GUEST_OS_ID), Ok(GuestOsId(0)));
}

/// Cleans up after a crash: everything is in use on every VP, and no handle is left.
pub(crate) fn handles_lost(os: &impl Os) {
    let hv = discovery::identify(os);
    let map = VpMap::new();
    let clock = hv.start_clock(&os.pages()[0], os.memory()).expect("it has a clock");
    let cx = Cx { os, hv: &hv, clock: &clock, map: &map };
    let [_, intid, _] = os.intids();
    cx.on_each(|n| {
        let mut synic = cx.synic(n, SINT);
        let other = SintIndex::new(9).expect("there are 16");
        synic.unmask(other, os.intids()[0], os).expect("a source");
        let direct = Timer::direct(synic.vp(), TimerIndex::ALL[3], intid, os).expect("a timer");
        let message = Timer::message(&synic, TimerIndex::ALL[1], other).expect("a timer");
        for mut timer in [direct, message] {
            timer.start(synic.vp(), Schedule::Every(ReferenceTime(5000))).expect("it starts");
        }
    });
    cx.until("timers are at work on every VP", || (0..os.vps()).all(|n| os.taken(n, intid) != 0));
    let conduit = os.conduit();
    cx.on_each(|_| teardown::vp(&conduit).expect("every step succeeds"));
    found_in_reset_state(os);
    teardown::partition(&conduit).expect("every step succeeds");
    assert_eq!(registers::get(&conduit, Register::GUEST_OS_ID), Ok(GuestOsId(0)));
    // The pages are ours again: whatever is written now comes from a writer that should have stopped.
    os.pages().iter().for_each(Page::clear);
    cx.on_each(|_| (0..4).for_each(|_| os.pass()));
    let taken: [u64; MAX_VPS] = core::array::from_fn(|n| if n < os.vps() { os.taken(n, intid) } else { 0 });
    cx.on_each(|_| (0..20).for_each(|_| os.pass()));
    assert!((0..os.vps()).all(|n| os.taken(n, intid) == taken[n]), "no timer is left");
    let is_clear = |page: &Page| {
        let mut bytes = [1; SIZE];
        page.read(0, &mut bytes);
        bytes == [0; SIZE]
    };
    assert!(os.pages().iter().all(is_clear), "pages that were taken back stay as they are");
}
