//! Every routine of `hv-guest`, by the rows of the 2018 patch's table. Nothing here knows whether it runs on a machine
//! (`main.rs`) or in a test (`crates/hv-guest/tests/rows.rs`): [`Os`] abstracts the two.
//!
//! | the patch | here |
//! |---|---|
//! | hv_do_hvc, hv_do_hvc_fast_get, hv_do_hypercall, hv_do_fast_hypercall8 | [`calls`] |
//! | hv_set_vpreg, hv_get_vpreg, hv_get_vpreg_128 | [`calls`] |
//! | hv_init_timer, hv_init_timer_config, hv_get_current_tick | [`timers`] |
//! | hv_get/set_simp, siefp, synic_state, synint_state, hv_signal_eom | [`synic`] |
//! | vmbus_signal_eom | [`messages`] |
//! | hv_get_vp_index, hv_vp_index, hv_max_vp_index, hv_cpu_number_to_vp_number | [`processors`] |
//! | hv_read_hwclock, hv_read_tsc_page_tsc, hyperv_cs | [`clock`] |
//! | hv_setup/remove/enable/disable_vmbus_irq, the same of stimer0 | [`synic`], [`timers`] |
//! | hv_setup/remove_kexec_handler, hyperv_cleanup | [`teardown`] |
//! | hv_setup/remove_crash_handler, hyperv_report_panic(_msg), hv_get_crash_ctl | [`crash`] |
//! | generate_guest_id, hv_is_hyperv_initialized, ms_hyperv_info | [`discovery`] |
//! | hypercall codes | [`processors`], [`messages`], [`calls`] |

#[expect(unsafe_code, reason = "hypercalls made by hand")]
pub(crate) mod calls;
#[expect(unsafe_code, reason = "a page is lent by hand")]
pub(crate) mod clock;
pub(crate) mod crash;
pub(crate) mod discovery;
pub(crate) mod messages;
#[expect(unsafe_code, reason = "starts VPs")]
pub(crate) mod processors;
pub(crate) mod synic;
pub(crate) mod teardown;
pub(crate) mod timers;

use hv_guest::clock::Clock;
use hv_guest::conduit::{Conduit, Counter};
use hv_guest::interrupts::{Interrupts, Intid};
use hv_guest::page::{CallPage, Memory, Page};
use hv_guest::partition::{Partition, Vp};
use hv_guest::registers::{self, Register};
use hv_guest::tlfs::start_vp::InitialVpContext;
use hv_guest::tlfs::time::CLOCK_HZ;
use hv_guest::vp_map::VpMap;

/// Maximum number of VPs in a run.
pub(crate) const MAX_VPS: usize = 8;
/// Pages that a run needs: three for each VP, and two more.
pub(crate) const PAGES: usize = 3 * MAX_VPS + 2;

/// The surroundings of a run. The first VP, number 0, runs all of it; a VP's number is its place in the OS's list.
pub(crate) trait Os: Interrupts + Sync {
    /// Conduit through which the calling VP issues hypercalls.
    type Conduit: Conduit + Counter + Copy + Sync;

    /// Returns the conduit.
    fn conduit(&self) -> Self::Conduit;
    /// Returns the translator of pages to physical addresses.
    fn memory(&self) -> &(impl Memory + Sync);
    /// Returns [`PAGES`] pages.
    fn pages(&self) -> &'static [Page];
    /// Returns the number of VPs; all are up except those that were stopped.
    fn vps(&self) -> usize;
    /// Runs `work` on a VP, and waits until it is done.
    fn on(&self, vp: usize, work: &(dyn Fn() + Sync));
    /// Returns the number of times that a VP has taken an interrupt.
    fn taken(&self, vp: usize, intid: Intid) -> u64;
    /// Lets a little time pass, with interrupts unmasked on the calling VP.
    fn pass(&self);
    /// Returns the INTIDs of VMBus and of timers that firmware describes, and an unused one.
    fn intids(&self) -> [Intid; 3];
    /// Returns the number of migrations that happen while the clock is checked.
    fn migrations(&self) -> u32 {
        0
    }
    /// Switches a VP off.
    fn stop(&self, vp: usize);
    /// Returns the context in which a stopped VP is restarted by hypercall.
    fn start_context(&self, vp: usize) -> InitialVpContext;
    /// Waits until a started VP is up.
    fn wait_up(&self, vp: usize);
    /// Reports that a row is done.
    fn done(&self, row: &str);
}

/// What the rows have in common.
pub(crate) struct Cx<'a, O: Os> {
    pub(crate) os: &'a O,
    pub(crate) hv: &'a Partition<O::Conduit>,
    pub(crate) clock: &'a Clock<'a, O::Conduit>,
    pub(crate) map: &'a VpMap<MAX_VPS>,
}

impl<'a, O: Os> Cx<'a, O> {
    /// Runs `work` on each VP in turn, with the VP's number.
    pub(crate) fn on_each(&self, work: impl Fn(usize) + Sync) {
        on_each(self.os, work);
    }

    /// Enters the calling VP, `n`, into the map.
    pub(crate) fn vp(&self, n: usize) -> Vp<'a, O::Conduit> {
        self.hv.vp(self.map, n).expect("a CPU comes up once")
    }

    /// Returns the page for the parameters of VP `n`'s hypercalls.
    pub(crate) fn call_page(&self, n: usize) -> CallPage<'static> {
        CallPage::new(&self.os.pages()[2 + 3 * n], self.os.memory())
    }

    /// Returns the message page and event flags page of VP `n`.
    pub(crate) fn synic_pages(&self, n: usize) -> [&'static Page; 2] {
        let pages = self.os.pages();
        [&pages[3 + 3 * n], &pages[4 + 3 * n]]
    }

    /// Returns the time, in 100 ns.
    pub(crate) fn now(&self) -> u64 {
        self.clock.now().expect("it tells the time").ticks()
    }

    /// Waits until a condition holds, as it soon must.
    pub(crate) fn until(&self, what: &str, condition: impl FnMut() -> bool) {
        until(self.os, what, condition);
    }
}

fn on_each(os: &impl Os, work: impl Fn(usize) + Sync) {
    for n in 0..os.vps() {
        os.on(n, &|| work(n));
    }
}

/// Waits until a condition holds: at most two minutes. What takes longer will not come, however busy the machine is.
fn until(os: &impl Os, what: &str, mut condition: impl FnMut() -> bool) {
    let now = || registers::get(&os.conduit(), Register::TIME_REF_COUNT).expect("it tells the time").ticks();
    let end = now() + 120 * CLOCK_HZ;
    while !condition() {
        assert!(now() < end, "it does not come: {what}");
        os.pass();
    }
}

type Row<O> = fn(&Cx<'_, O>);

/// Runs everything but the crash. Another kernel may have used the machine before.
pub(crate) fn run<O: Os>(os: &O) {
    let hv = discovery::identify(os);
    discovery::told(os, &hv);
    teardown::found_in_reset_state(os);
    teardown::found_without_page(os);
    os.done("discovery");
    let map = VpMap::new();
    let clock = hv.start_clock(&os.pages()[0], os.memory()).expect("it has a clock");
    let cx = Cx { os, hv: &hv, clock: &clock, map: &map };
    let rows: [(&str, Row<O>); 7] = [
        ("hypercalls", calls::hypercalls),
        ("registers", calls::registers),
        ("clock", clock::clock),
        ("synic", synic::synic),
        ("messages", messages::messages),
        ("timers", timers::timers),
        ("processors", processors::processors),
    ];
    for (name, row) in rows {
        row(&cx);
        os.done(name);
    }
    teardown::in_order(os, &hv, clock, &map);
    teardown::handles_lost(os);
    os.done("teardown");
}
