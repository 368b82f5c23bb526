//! A broken or hostile hypervisor gets an error out of the guest, never a panic or an endless loop.

use std::cell::{Cell, RefCell};

use hv_guest::conduit::{Conduit, Counter, FAST_WORDS, FastOutput};
use hv_guest::detect;
use hv_guest::hypercall::{self, RepError};
use hv_guest::page::Page;
use hv_guest::partition::VpError;
use hv_guest::vp_map::{MapError, VpMap};
use hv_testbed::{Config, Testbed};
use hv_tlfs::guest_id::GuestOsId;
use hv_tlfs::hypercall::{HypercallCode, HypercallInput, HypercallOutput};
use hv_tlfs::status::HvStatus;

/// A hypervisor that answers each call with the next of these results, and every register with `value`.
struct Says {
    results: RefCell<Vec<u64>>,
    value: u64,
    starts: RefCell<Vec<u16>>,
    calls: Cell<usize>,
}

fn says(results: &[u64], value: u64) -> Says {
    let results = results.iter().rev().copied().collect();
    Says { results: RefCell::new(results), value, starts: RefCell::default(), calls: Cell::new(0) }
}

#[expect(unsafe_code, reason = "as the trait has it; nothing is behind it")]
impl Conduit for Says {
    unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
        self.calls.set(self.calls.get() + 1);
        self.starts.borrow_mut().push(control.rep_start());
        block.fill(self.value);
        HypercallOutput(self.results.borrow_mut().pop().unwrap_or(0))
    }

    fn fast_output(&self) -> FastOutput {
        FastOutput::AfterInput
    }

    unsafe fn smccc(&self, _: u32, _: [u64; 3]) -> [u64; 4] {
        [0x4d32_ba58, 0xcd24_4764, 0x8eef_6c75, 0x1659_7024]
    }
}

impl Counter for Says {
    fn counter(&self) -> u64 {
        self.calls.get() as u64
    }
}

fn done(reps: u64) -> u64 {
    reps << 32
}

/// Issues a rep hypercall to such a hypervisor.
fn repeat(host: &Says) -> Result<(), RepError> {
    // SAFETY: nothing is behind it.
    #[expect(unsafe_code, reason = "a hypercall without a host")]
    unsafe {
        hypercall::repeat(host, TEN, [0; 2])
    }
}

const TEN: HypercallInput = HypercallInput::from_code(HypercallCode::GET_VP_REGISTERS).with_rep_count(10);

#[test]
fn a_call_left_half_done_is_continued_where_it_stopped() {
    let host = says(&[done(3), done(4), done(10)], 0);
    assert_eq!(repeat(&host), Ok(()));
    assert_eq!(*host.starts.borrow(), [0, 3, 4]);
}

#[test]
fn a_host_that_does_nothing_and_calls_it_success_is_found_out() {
    let host = says(&[done(3), done(3)], 0);
    let stuck = RepError::Stuck { completed: 3 };
    assert_eq!((repeat(&host), stuck.error()), (Err(stuck), None));
    // Going back is doing nothing.
    let host = says(&[done(3), done(2)], 0);
    assert_eq!(repeat(&host), Err(RepError::Stuck { completed: 3 }));
}

#[test]
fn more_done_than_was_asked_for_is_all_of_it() {
    let host = says(&[done(0xfff)], 0);
    assert_eq!(repeat(&host), Ok(()));
    let host = says(&[done(0xfff) | 5], 0);
    let error = repeat(&host).unwrap_err();
    assert_eq!(
        (error.completed(), error.error().map(|error| error.status())),
        (10, Some(HvStatus::INVALID_PARAMETER))
    );
}

#[test]
fn an_error_after_some_elements_keeps_their_number_and_the_status() {
    let host = says(&[done(4), done(6) | u64::from(HvStatus::INVALID_PARAMETER.0)], 0);
    let error = repeat(&host).unwrap_err();
    assert!(
        matches!(error, RepError::Status { error, completed: 6 } if error.status() == HvStatus::INVALID_PARAMETER),
        "{error}"
    );
}

#[test]
fn the_index_that_means_none_is_no_index() {
    let host = says(&[], u64::from(u32::MAX));
    let partition = detect::vendor_uid(host).unwrap().identify(GuestOsId::linux(1)).unwrap();
    let map = VpMap::<1>::new();
    assert_eq!(partition.vp(&map, 0).err(), Some(VpError::Map(MapError::InvalidIndex)));
    assert_eq!(map.online(), 0);
}

#[test]
fn a_page_that_never_stands_still_sends_the_clock_to_the_register() {
    /// Changes the sequence whenever the counter is read.
    struct Restless(Says, &'static Page);
    #[expect(unsafe_code, reason = "as the trait has it; nothing is behind it")]
    impl Conduit for Restless {
        unsafe fn call(&self, control: HypercallInput, block: &mut [u64; FAST_WORDS]) -> HypercallOutput {
            // SAFETY: nothing is behind it.
            unsafe { self.0.call(control, block) }
        }
        fn fast_output(&self) -> FastOutput {
            FastOutput::AfterInput
        }
        unsafe fn smccc(&self, function: u32, arguments: [u64; 3]) -> [u64; 4] {
            // SAFETY: nothing is behind it.
            unsafe { self.0.smccc(function, arguments) }
        }
    }
    impl Counter for Restless {
        fn counter(&self) -> u64 {
            let sequence = self.1.load_u32(0).unwrap();
            self.1.store_u32(0, sequence + 1).unwrap();
            u64::from(sequence)
        }
    }
    // Every register reads as all ones: every privilege, and this time.
    let bed = Testbed::new(Config::new(24_000_000), 1);
    let page = bed.page();
    let host = Restless(says(&[], u64::MAX), page);
    let partition = detect::vendor_uid(host).unwrap().identify(GuestOsId::linux(1)).unwrap();
    let clock = partition.start_clock(page, bed.memory()).unwrap();
    page.store_u32(0, 1).unwrap();
    assert_eq!(clock.now().unwrap().ticks(), u64::MAX);
}
