//! Rules that hold for the table as a whole.

use std::collections::HashMap;

use hv_tlfs::abi;

/// Aliases that name more than one number, each with the reason. Their docs warn.
const AMBIGUOUS: &[(&str, &str)] = &[
    ("HV_REGISTER_FEATURES", "0x201 in the 2018 patch, 0x200 in Linux 6.12"),
    ("HV_FEATURE_GUEST_CRASH_MSR_AVAILABLE", "bit 8 on ARM64, bit 10 on x64 and in the 2018 patch"),
    ("HV_STIMER_DIRECT_MODE_AVAILABLE", "bit 13 on ARM64, bit 19 on x64 and in the 2018 patch"),
];

#[test]
fn names_are_unique() {
    let mut names = HashMap::new();
    for row in abi::constants() {
        assert!(names.insert(row.name, row.value).is_none(), "{} twice", row.name);
    }
    let mut names = HashMap::new();
    for row in abi::structs() {
        assert!(names.insert(row.name, row.size).is_none(), "{} twice", row.name);
    }
}

#[test]
fn no_structure_has_the_name_of_a_constant() {
    for row in abi::structs() {
        assert!(abi::constants().all(|constant| constant.name != row.name), "{}", row.name);
    }
}

/// Types whose numbers have no names of C's.
const NUMBERS: [&str; 4] =
    ["HV_VP_INDEX", "HV_PARTITION_ID", "vmbus_gpadl_id", "HV_ARM64_PENDING_EVENT_TYPE"];

#[test]
fn the_type_of_an_enumeration_has_values() {
    let without: Vec<_> = abi::structs()
        .filter(|row| row.fields.is_empty() && row.values().next().is_none())
        .map(|row| row.name)
        .collect();
    assert_eq!(without, NUMBERS);
}

#[test]
fn a_name_means_one_number_unless_its_doc_warns() {
    let mut values = HashMap::new();
    for row in abi::constants() {
        for name in row.aliases.iter().chain([&row.name]) {
            let value = *values.entry(*name).or_insert(row.value);
            let known = AMBIGUOUS.iter().any(|(ambiguous, _)| ambiguous == name);
            assert!(value == row.value || known, "{name} is {value:#x} and {:#x}", row.value);
        }
    }
    for (name, _) in AMBIGUOUS {
        let rows: Vec<_> = abi::constants().filter(|row| row.has_name(name)).collect();
        assert!(rows.len() > 1, "{name} is no longer ambiguous");
        for row in rows {
            let doc = row.doc.to_string();
            assert!(doc.contains("2018 patch") || doc.contains("x64"), "{} does not warn: {doc}", row.name);
        }
    }
}

#[test]
fn every_row_says_what_it_is_and_whence() {
    for (name, doc, sources) in abi::constants()
        .map(|row| (row.name, row.doc, row.sources))
        .chain(abi::structs().map(|row| (row.name, row.doc, row.sources)))
    {
        assert!(doc.summary().next().is_some(), "{name} has no doc");
        assert!(sources.iter().all(|source| !source.is_empty()), "{name} has no source");
    }
}

#[test]
fn bit_fields_fit_their_unit_and_do_not_overlap() {
    for row in abi::structs() {
        let mut units: HashMap<(usize, usize), u64> = HashMap::new();
        for field in row.fields {
            assert!(field.offset + field.size <= row.size, "{}.{}", row.name, field.name);
            // Members of a union overlap by design; the Rust accessors' fields never do.
            let (Some((low, width)), false) = (field.bits, field.ty.is_empty()) else { continue };
            assert!(width > 0 && (low + width) as usize <= field.size * 8, "{}.{}", row.name, field.name);
            let mask = (u64::MAX >> (64 - width)) << low;
            let used = units.entry((field.offset, field.size)).or_default();
            assert_eq!(*used & mask, 0, "{}.{} overlaps", row.name, field.name);
            *used |= mask;
        }
    }
}

#[test]
fn fields_lie_without_overlap_and_fill_the_structure() {
    for row in abi::structs() {
        let mut end = 0;
        let fields = row.fields.iter().filter(|field| !field.ty.is_empty() && field.bits.is_none());
        for field in fields.clone() {
            assert_eq!(field.offset, end, "{}.{} leaves a gap", row.name, field.name);
            end += field.size;
        }
        assert!(fields.count() == 0 || end == row.size, "{} has a gap at its end", row.name);
    }
}
