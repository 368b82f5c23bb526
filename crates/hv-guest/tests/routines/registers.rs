//! VP registers: one at a time and in lists.

use crate::common::{FREQUENCY, ID};
use crate::common::{everywhere, everywhere_on, often};
use hv_guest::hypercall::RepError;
use hv_guest::registers::{self, Register};
use hv_guest::synic::SintIndex;
use hv_testbed::Config;
use hv_tlfs::register::{RegisterName, RegisterValue, SetVpRegistersElement};
use hv_tlfs::status::HvStatus;
use hv_tlfs::synic::Sint;
use hv_tlfs::vp::VpIndex;

#[test]
fn a_register_reads_back_what_was_written() {
    everywhere(|guest| {
        for n in 0..guest.vps {
            let wire = guest.bed.wire(n, guest.convention);
            let sint = Register::sint(SintIndex::new(5).unwrap());
            assert_eq!(registers::get(&wire, sint), Ok(Sint::RESET));
            registers::set(&wire, sint, Sint(0x77)).unwrap();
            assert_eq!(registers::get(&wire, sint), Ok(Sint(0x77)));
        }
    });
}

#[test]
fn both_halves_of_a_wide_register_arrive() {
    everywhere(|guest| {
        let value =
            registers::get_raw(guest.partition, VpIndex::SELF, RegisterName::HYPERVISOR_VERSION).unwrap();
        let version = guest.partition.information().version;
        assert_eq!(value, version.to_register());
        assert_ne!(value.high, 0);
    });
}

#[test]
fn each_vp_reads_its_own_index() {
    everywhere(|guest| {
        for n in 0..guest.vps {
            let wire = guest.bed.wire(n, guest.convention);
            assert_eq!(registers::get(&wire, Register::VP_INDEX), Ok(VpIndex(n as u32)));
        }
    });
}

#[test]
fn what_the_hypervisor_refuses_is_an_error_and_not_a_panic() {
    everywhere(|guest| {
        let numbers = [RegisterName(0x0bad), RegisterName::TIME_REF_COUNT];
        // SAFETY: registers that cannot be written.
        let [unknown, read_only] = numbers.map(|name| unsafe { Register::<u64>::writable(name) });
        assert!(registers::get(guest.partition, unknown).is_err());
        assert!(registers::set(guest.partition, unknown, 1).is_err());
        let error = registers::set(guest.partition, read_only, 1).unwrap_err();
        assert_eq!(error.status(), HvStatus::INVALID_PARAMETER);
    });
}

/// Returns the names of some registers that read as something other than zero, again and again.
fn names(count: usize) -> Vec<RegisterName> {
    let some = [RegisterName::GUEST_OS_ID, RegisterName::SVERSION, RegisterName::SINT3];
    some.into_iter().cycle().take(count).collect()
}

#[test]
fn a_list_of_any_length_is_read_in_as_few_calls_as_fit_into_a_page() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        for (count, calls) in
            [(0, 0), (1, 1), (205, 2), (100, 1), (204, 1), (1000, 5)].into_iter().take(2 + often(4))
        {
            let names = names(count);
            let mut values = vec![RegisterValue::from_u64(0xdead); count];
            let before = guest.bed.hypercalls();
            registers::get_list(guest.partition, &mut page, &names, &mut values).unwrap();
            assert_eq!(guest.bed.hypercalls() - before, calls, "{count} registers");
            for (name, value) in names.iter().zip(&values) {
                assert_eq!(registers::get_raw(guest.partition, VpIndex::SELF, *name), Ok(*value));
            }
        }
    });
}

#[test]
fn a_list_is_written_in_order() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        for count in [128, 1, 127, 300].into_iter().take(often(4)) {
            let list: Vec<_> = (0..count)
                .map(|i| SetVpRegistersElement::new(RegisterName::GUEST_CRASH_P0, RegisterValue::from_u64(i)))
                .collect();
            // SAFETY: a number for the host's log.
            unsafe { registers::set_list(guest.partition, &mut page, &list) }.unwrap();
            let register: Register<u64, _> = Register::new(RegisterName::GUEST_CRASH_P0);
            assert_eq!(registers::get(guest.partition, register), Ok(count - 1));
        }
    });
}

#[test]
fn a_list_tells_how_far_it_got() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        for bad in [204, 0, 1, 203, 299].into_iter().take(often(5)) {
            let mut names = names(300);
            names[bad] = RegisterName(0x0bad);
            let mut values = vec![RegisterValue::from_u64(0); 300];
            let error = registers::get_list(guest.partition, &mut page, &names, &mut values).unwrap_err();
            assert!(
                matches!(error, RepError::Status { completed, .. } if completed == bad),
                "{bad}: {error}"
            );
            assert!(values[..bad].iter().all(|value| value.low != 0), "{bad}: what was read before is there");
            assert!(values[bad..].iter().all(|value| value.low == 0));
        }
    });
}

#[test]
fn lists_of_different_length_are_refused() {
    everywhere(|guest| {
        let mut page = guest.bed.call_page();
        let mut values = [RegisterValue::from_u64(0); 2];
        let result = registers::get_list(guest.partition, &mut page, &names(3), &mut values);
        assert_eq!(result, Err(RepError::Shape));
    });
}

#[test]
fn a_hypervisor_that_does_one_element_at_a_time_gets_them_all_done() {
    let mut config = Config::new(FREQUENCY);
    config.hypervisor.rep_budget = 0;
    everywhere_on(config, |guest| {
        let mut page = guest.bed.call_page();
        let mut values = [RegisterValue::from_u64(0); 50];
        registers::get_list(guest.partition, &mut page, &[RegisterName::GUEST_OS_ID; 50], &mut values)
            .unwrap();
        assert_eq!(values, [RegisterValue::from_u64(ID.bits()); 50]);
    });
}
