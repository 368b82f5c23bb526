use std::collections::BTreeSet;

use proptest::prelude::*;

use super::table::FIELDS;
use super::*;

fn all_of(value: u64) -> Values {
    Values::visible(|_, _| value)
}

/// Returns the ISS of a trapped MRS.
fn iss(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64) -> u64 {
    op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | 7 << 5 | crm << 1 | 1
}

/// Returns the view of a CPU that implements only `value` in one field.
fn only(field: &Field, value: u64) -> Values {
    Values::visible(
        |crm, op2| if Register::new(crm, op2) == field.register { value << field.shift } else { 0 },
    )
}

#[test]
fn fields_do_not_overlap() {
    let mut taken = [0u64; 64];
    for field in FIELDS {
        assert!(field.shift + field.width <= 64, "{}", field.name);
        let bits = &mut taken[field.register.index()];
        assert_eq!(*bits & field.mask(), 0, "{} overlaps another field", field.name);
        *bits |= field.mask();
    }
}

#[test]
fn what_the_table_does_not_know_is_hidden() {
    let seen = all_of(u64::MAX);
    let known =
        |register| FIELDS.iter().filter(|f| f.register == register).fold(0, |bits, f| bits | f.mask());
    for index in 8..64 {
        let register = Register(index);
        assert_eq!(seen.get(register) & !known(register), 0, "CRm {} Op2 {}", index / 8, index % 8);
    }
    // Registers reserved by the architecture so far.
    for (crm, op2) in [(4, 3), (4, 6), (5, 2), (5, 7), (6, 4), (7, 5), (7, 7)] {
        assert_eq!(seen.get(Register::new(crm, op2)), 0);
    }
    // EL2 and EL3; SPE, TRBE and BRBE; NMI, MPAM, AMU and memory tags.
    assert_eq!(seen.get(Register::new(4, 0)) & (0xff << 8 | 0xff << 40), 0);
    assert_eq!(seen.get(Register::new(5, 0)) & (0xf << 32 | 0xf << 44 | 0xf << 52 | 0xf << 4), 0);
    assert_eq!(seen.get(Register::new(4, 1)) & (0xf << 36 | 0xf << 16), 0);
    assert_eq!(seen.get(Register::new(4, 1)) >> 8 & 0xf, 1);
}

#[test]
fn a_value_beyond_the_known_ones_shows_as_the_highest_known() {
    for field in FIELDS {
        let top = (1 << field.width) - 1;
        let (beyond, expected) = match field.kind {
            Kind::UpTo(max) => (top, u64::from(max)),
            Kind::UpToNot15(max) => (14, u64::from(max)),
            Kind::SignedUpTo(max) => (7, u64::from(max)),
            Kind::Any => (top, top),
        };
        assert_eq!(field.of(only(field, beyond).get(field.register)), expected, "{}", field.name);
        assert_eq!(field.of(only(field, 0).get(field.register)), 0, "{}", field.name);
        if let Kind::SignedUpTo(_) = field.kind {
            assert_eq!(field.of(only(field, 15).get(field.register)), 15, "{}: nothing there", field.name);
        }
    }
    let pmu = FIELDS.iter().find(|field| field.name == "PMUVer").expect("in the table");
    assert_eq!(only(pmu, 15).get(pmu.register), 0, "an IMPLEMENTATION DEFINED PMU");
}

#[test]
fn a_feature_is_enabled_exactly_where_it_is_seen() {
    assert_eq!(all_of(0).controls(), Controls::NONE);
    for field in FIELDS {
        for value in 0..1u64 << field.width.min(4) {
            let seen = only(field, value);
            let visible = field.of(seen.get(field.register));
            let needs = field.needs.iter().filter(|(from, _)| visible >= u64::from(*from));
            let wanted = needs.fold(Controls::NONE, |all, (_, one)| all.or(*one));
            assert_eq!(seen.controls(), wanted, "{} = {value}", field.name);
        }
    }
}

#[test]
fn enables_are_for_values_that_can_be_seen() {
    for field in FIELDS {
        for (from, controls) in field.needs {
            let (Kind::UpTo(max) | Kind::UpToNot15(max) | Kind::SignedUpTo(max)) = field.kind else {
                panic!("{} needs something, so its values must be bounded", field.name)
            };
            assert!(*from >= 1 && *from <= max, "{}", field.name);
            assert_ne!(*controls, Controls::NONE, "{}", field.name);
        }
    }
}

#[test]
fn each_feature_has_its_bits() {
    let controls = |name: &str, value: u64| {
        let field = FIELDS.iter().find(|field| field.name == name).expect("in the table");
        only(field, value).controls()
    };
    assert_eq!(controls("APA", 1).hcr, 1 << 41 | 1 << 40);
    assert_eq!((controls("CSV2", 1).hcr, controls("CSV2", 2).hcr), (0, 1 << 53));
    assert_eq!((controls("SVE", 1).cptr_off, controls("SVE", 1).zcr), (1 << 8, 0xf));
    assert_eq!(controls("SME", 1).smcr, 1 << 31 | 0xf);
    assert_eq!(controls("SME", 2).smcr, 1 << 31 | 1 << 30 | 0xf);
    assert_eq!(controls("SME", 1).hcrx, 1 << 5);
    assert_eq!(controls("FPMR", 1).hcrx, 1 << 23);
    let gcs = controls("GCS", 1);
    assert_eq!((gcs.hcrx, gcs.hfgrtr, gcs.hfgitr), (1 << 22, 3 << 52, 7 << 57));
    assert_eq!([1, 2, 3].map(|value| controls("LS64", value).hcrx), [0b010, 0b110, 0b111]);
    assert_eq!(controls("MOPS", 1).hcrx, 1 << 11);
    assert_eq!((controls("TCRX", 1).hcrx, controls("SCTLRX", 1).hcrx), (1 << 14, 1 << 15));
    assert_eq!((controls("S1PIE", 1).hfgrtr, controls("S1POE", 1).hfgrtr), (3 << 57, 3 << 59));
}

#[test]
fn only_reads_of_the_trapped_registers_are_named() {
    assert_eq!(Register::of_read(iss(3, 0, 0, 4, 1)), Some(Register::new(4, 1)));
    assert_eq!(Register::of_read(iss(3, 0, 0, 7, 7)), Some(Register::new(7, 7)));
    for other in [
        iss(3, 0, 0, 0, 0),
        iss(3, 0, 0, 8, 0),
        iss(3, 1, 0, 4, 0),
        iss(3, 0, 1, 4, 0),
        iss(2, 0, 0, 4, 0),
        iss(3, 0, 0, 4, 1) & !1,
    ] {
        assert_eq!(Register::of_read(other), None, "{other:#x}");
    }
}

#[test]
fn an_old_cpu_shows_as_it_is() {
    // Cortex-A72 in QEMU: it has nothing new, but EL2 and EL3 are hidden from the guest.
    let (pfr0, dfr0, isar0, mmfr0) = (0x0000_2222, 0x1030_5106, 0x0001_1120, 0x0000_1124);
    let seen = Values::visible(|crm, op2| match (crm, op2) {
        (4, 0) => pfr0,
        (5, 0) => dfr0,
        (6, 0) => isar0,
        (7, 0) => mmfr0,
        _ => 0,
    });
    assert_eq!(seen.get(Register::new(4, 0)), 0x12);
    assert_eq!(seen.get(Register::new(5, 0)), dfr0);
    assert_eq!((seen.get(Register::new(6, 0)), seen.get(Register::new(7, 0))), (isar0, mmfr0));
    assert_eq!(seen.controls(), Controls::NONE);
}

#[test]
fn each_register_is_read_once() {
    let mut read = BTreeSet::new();
    let _ = Values::visible(|crm, op2| {
        assert!(read.insert((crm, op2)));
        0
    });
    assert_eq!(read.len(), 56);
    assert_eq!((read.first(), read.last()), (Some(&(1, 0)), Some(&(7, 7))));
}

proptest! {
    /// Checks that a guest never sees more than the CPU has, and that applying the table twice changes nothing.
    #[test]
    fn a_guest_sees_no_more_than_there_is(cpu in prop::collection::vec(any::<u64>(), 64)) {
        let seen = Values::visible(|crm, op2| cpu[usize::from(crm) * 8 + usize::from(op2)]);
        let again = Values::visible(|crm, op2| seen.get(Register::new(crm, op2)));
        prop_assert_eq!(&seen, &again);
        for field in FIELDS {
            let (had, has) = (field.of(cpu[field.register.index()]), field.of(seen.get(field.register)));
            prop_assert!(has <= had, "{}: {} of {}", field.name, has, had);
        }
    }
}
