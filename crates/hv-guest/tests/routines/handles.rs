//! Handles as an integrator meets them: errors with `?`, `Debug` of any conduit, and handles on the wrong CPU.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};

use hv_guest::conduit::{Conduit, FAST_WORDS, FastOutput};
use hv_guest::detect;
use hv_guest::page::{Memory, Page};
use hv_guest::partition::Vp;
use hv_guest::per_cpu::{PerCpu, PutError};
use hv_guest::registers::Register;
use hv_guest::synic::{SintIndex, Synic, SynicError};
use hv_guest::tlfs::guest_id::GuestOsId;
use hv_guest::tlfs::hypercall::{HypercallInput, HypercallOutput};
use hv_guest::tlfs::status::{HvError, HvStatus};
use hv_guest::tlfs::vp::VpIndex;
use hv_guest::vp_map::{MapError, VpMap};
use hv_testbed::{Config, Convention, Testbed, Wire};

use crate::common::everywhere;

/// A conduit that is on whichever CPU it is told, and prints nothing.
struct Anywhere {
    bed: &'static Testbed,
    cpu: AtomicUsize,
}

impl Anywhere {
    fn new(vps: usize) -> Self {
        Self { bed: Testbed::new(Config::new(24_000_000), vps), cpu: AtomicUsize::new(0) }
    }

    fn wire(&self) -> Wire {
        self.bed.wire(self.cpu.load(Ordering::Relaxed), Convention::Smccc)
    }
}

impl Conduit for Anywhere {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        self.wire().raw().call(control, block)
    }

    fn fast_output(&self) -> FastOutput {
        self.wire().fast_output()
    }

    unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
        self.wire().raw().smccc(function, arguments)
    }
}

/// Returns what `?` makes of each error that hands something back: the error alone, boxed too.
fn up_and_down<C: Conduit>(
    vp: Vp<'_, C>,
    pages: [&'static Page; 2],
    memory: &impl Memory,
    bed: &'static Testbed,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    fn enable<'a, C: Conduit>(
        vp: Vp<'a, C>,
        pages: [&'static Page; 2],
        memory: &impl Memory,
    ) -> Result<Synic<'a, C>, SynicError> {
        Ok(vp.enable_synic(pages[0], pages[1], memory)?)
    }
    let synic = enable(vp, pages, memory)?;
    let (vp, _) = synic.disable(&bed.interrupts(0)).map_err(SynicError::from)?;
    Ok(vp.offline()?)
}

#[test]
fn errors_that_hand_something_back_work_with_the_question_mark() {
    everywhere(|guest| {
        let (page, memory) = (guest.bed.page(), guest.bed.memory());
        let error = up_and_down(guest.vp(0), [page, page], memory, guest.bed).expect_err("one page");
        assert_eq!(error.downcast_ref(), Some(&SynicError::Pages));
    });
    let hv = Anywhere::new(1);
    let partition = detect::vendor_uid(&hv).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    let map = VpMap::<1>::new();
    let pages = [hv.bed.page(), hv.bed.page()];
    up_and_down(partition.vp(&map, 0).unwrap(), pages, hv.bed.memory(), hv.bed).unwrap();
}

#[test]
fn a_place_that_takes_no_value_hands_it_back_and_says_why() {
    let hv = Testbed::new(Config::new(24_000_000), 2).wire(0, Convention::Smccc);
    let partition = detect::vendor_uid(hv).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    let map = VpMap::<3>::new();
    let places = PerCpu::<Vp<'_, Wire>, 2>::new();
    let vp = partition.vp(&map, 0).unwrap();
    let (vp, error) = places.put(2, vp).expect_err("CPUs 0 and 1").into_parts();
    assert_eq!(error, PutError::NoSuchCpu);
    places.put(1, vp).unwrap();
    let other = partition_of_vp_1(hv.bed());
    let mut vp = Some(other.vp(&map, 1).unwrap());
    let failed = places.put(1, vp.take().unwrap()).expect_err("full");
    assert_eq!(failed.error(), &PutError::Full);
    vp = Some(failed.into_inner());
    places.with(1, |_| {
        let failed = places.put(1, vp.take().unwrap()).expect_err("in use");
        assert_eq!(failed.to_string(), "the CPU's value is in use by interrupted code");
        vp = Some(failed.into_inner());
    });
    assert_eq!(vp.unwrap().index(), VpIndex(1));
}

fn partition_of_vp_1(bed: &'static Testbed) -> hv_guest::partition::Partition<Wire> {
    let hv = detect::vendor_uid(bed.wire(1, Convention::Smccc)).unwrap();
    hv.identify(GuestOsId::linux(0x06_0c_00)).unwrap()
}

#[test]
fn pages_are_lent_and_taken_back_on_the_vp_of_the_handle_only() {
    let hv = Anywhere::new(2);
    let partition = detect::vendor_uid(&hv).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    let map = VpMap::<2>::new();
    let vp = partition.vp(&map, 0).unwrap();
    let on = |cpu| hv.cpu.store(cpu, Ordering::Relaxed);

    on(1);
    let failed = vp.enable_synic(hv.bed.page(), hv.bed.page(), hv.bed.memory()).expect_err("VP 1 calls");
    assert_eq!(failed.error(), &SynicError::OtherVp(VpIndex(1)));
    assert!(hv.bed.post(1, 2, hv_guest::vmbus::MESSAGE_TYPE, &[]).is_err(), "VP 1 has no SynIC");

    on(0);
    let vp = failed.into_inner();
    let synic = vp.enable_synic(hv.bed.page(), hv.bed.page(), hv.bed.memory()).unwrap();
    on(1);
    let failed = synic.disable(&hv.bed.interrupts(1)).expect_err("VP 1 calls");
    assert_eq!(failed.error(), &SynicError::OtherVp(VpIndex(1)));
    // The hypervisor still has the pages of VP 0.
    hv.bed.post(0, 2, hv_guest::vmbus::MESSAGE_TYPE, &[]).unwrap();
}

#[test]
fn one_vp_is_one_cpu_of_the_map() {
    let hv = Anywhere::new(2);
    let partition = detect::vendor_uid(&hv).unwrap().identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    let map = VpMap::<3>::new();
    let vp = partition.vp(&map, 2).unwrap();
    let error = partition.vp(&map, 0).expect_err("VP 0 is CPU 2");
    assert_eq!(error, MapError::OtherCpu(2).into());
    hv.cpu.store(1, Ordering::Relaxed);
    let other = partition.vp(&map, 0).unwrap();
    hv.cpu.store(0, Ordering::Relaxed);
    vp.offline().unwrap();
    assert_eq!(partition.vp(&map, 1).unwrap().index(), VpIndex(0));
    assert_eq!(other.index(), VpIndex(1));
}

#[test]
fn debug_needs_nothing_of_the_conduit_and_prints_names() {
    let hv = Anywhere::new(1);
    let detected = detect::vendor_uid(&hv).unwrap();
    assert_eq!(format!("{detected:?}"), "Detected { .. }");
    let partition = detected.identify(GuestOsId::linux(0x06_0c_00)).unwrap();
    assert!(format!("{partition:?}").starts_with("Partition { information: Information { features: "));
    let map = VpMap::<1>::new();
    let vp = partition.vp(&map, 0).unwrap();
    assert_eq!(format!("{vp:?}"), "Vp { index: VpIndex(0x0), timers: 0, .. }");
    let failed = vp.enable_synic(hv.bed.page(), hv.bed.page(), &Nowhere(hv.bed)).expect_err("not a page");
    assert_eq!(format!("{failed:?}"), "Failed { error: Pages, .. }");
    assert_eq!(format!("{:?}", Register::SIMP), "Register(RegisterName(SIMP))");
    assert_eq!(
        format!("{:?} {:?}", SintIndex::VMBUS, SintIndex::new(3)),
        "SintIndex(VMBUS) Some(SintIndex(3))"
    );
    let error: HvError = HvStatus::INVALID_PARAMETER.to_result().unwrap_err();
    assert_eq!(format!("{error:?}"), "HvError(INVALID_PARAMETER)");
}

/// Memory in which no page can be.
struct Nowhere(&'static Testbed);

// SAFETY: the address is not a multiple of 4096, at which no page is lent.
unsafe impl Memory for Nowhere {
    fn gpa(&self, page: &Page) -> u64 {
        self.0.memory().gpa(page) | 1
    }
}
