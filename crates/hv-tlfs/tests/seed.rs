//! Checks the 2018 patch against the table: every name that it defined is found, with its value or layout.
//!
//! `seed.tsv` holds the patch's facts: kind, name, value, size, offset, lowest bit, width.

use hv_tlfs::abi;

/// Values that differ in the patch: name, the patch's value, the current one, and why.
const CHANGED: &[(&str, u64, u64, &str)] = &[(
    "HV_HYP_PAGE_MASK",
    0xffff_f000,
    0xffff_ffff_ffff_f000,
    "the patch's is a C int, negative, and becomes this mask where it is widened",
)];

/// The columns of a line; an empty one is "".
struct Fact<'a> {
    kind: &'a str,
    name: &'a str,
    value: &'a str,
    size: &'a str,
    offset: &'a str,
    low: &'a str,
    width: &'a str,
}

fn facts() -> impl Iterator<Item = Fact<'static>> {
    include_str!("seed.tsv").lines().map(|line| {
        let mut columns = line.split('\t');
        let mut next = || columns.next().expect("seven columns");
        Fact {
            kind: next(),
            name: next(),
            value: next(),
            size: next(),
            offset: next(),
            low: next(),
            width: next(),
        }
    })
}

fn hex(text: &str) -> u64 {
    u64::from_str_radix(text.strip_prefix("0x").expect("hexadecimal"), 16).expect("a number")
}

fn bare(name: &str) -> &str {
    ["struct ", "union ", "enum "].iter().find_map(|tag| name.strip_prefix(tag)).unwrap_or(name)
}

#[test]
fn every_constant_has_a_row_with_its_value() {
    let mut seen = 0;
    for fact in facts().filter(|fact| matches!(fact.kind, "macro" | "enum")) {
        let patch = hex(fact.value);
        let expected = match CHANGED.iter().find(|(name, ..)| *name == fact.name) {
            Some((_, from, to, _)) => {
                assert_eq!(*from, patch, "{}", fact.name);
                *to
            }
            None => patch,
        };
        let mut rows = abi::constants().filter(|row| row.has_name(fact.name)).peekable();
        assert!(rows.peek().is_some(), "{} has no row", fact.name);
        assert!(rows.any(|row| row.value == expected), "{} has no row with {expected:#x}", fact.name);
        seen += 1;
    }
    assert_eq!(seen, 118, "seed.tsv has lost lines");
}

#[test]
fn every_structure_has_a_row_with_its_size() {
    for fact in facts().filter(|fact| matches!(fact.kind, "struct" | "union" | "enumtype")) {
        let row = abi::structs().find(|row| row.has_name(bare(fact.name)));
        let row = row.unwrap_or_else(|| panic!("{} has no row", fact.name));
        assert_eq!(row.size.to_string(), fact.size, "{}", fact.name);
    }
}

#[test]
fn every_field_has_a_row_with_its_place() {
    for fact in facts().filter(|fact| matches!(fact.kind, "field" | "bitfield")) {
        let (structure, field) = bare(fact.name).split_once('.').expect("structure.field");
        let row = abi::structs().find(|row| row.has_name(structure));
        let row = row.unwrap_or_else(|| panic!("{structure} is not in the table"));
        let found = row.fields.iter().find(|row| row.name == field);
        let found = found.unwrap_or_else(|| panic!("{structure}.{field} is not in the table"));
        match found.bits {
            // The patch gives the byte that holds the field, the table the storage unit.
            Some((low, width)) => {
                assert_eq!((low.to_string().as_str(), width.to_string().as_str()), (fact.low, fact.width));
            }
            None => assert_eq!(found.offset.to_string(), fact.offset, "{structure}.{field}"),
        }
        assert_eq!(found.size.to_string(), fact.size, "{structure}.{field}");
    }
}

#[test]
fn every_function_and_guard_is_accounted_for() {
    for fact in facts().filter(|fact| matches!(fact.kind, "fnmacro" | "func" | "textmacro")) {
        assert!(
            abi::functions().any(|row| row.name == fact.name),
            "{} is not in the table of functions",
            fact.name
        );
    }
}

#[test]
fn every_kind_of_fact_is_checked() {
    for fact in facts() {
        assert!(
            matches!(
                fact.kind,
                "macro"
                    | "enum"
                    | "struct"
                    | "union"
                    | "enumtype"
                    | "field"
                    | "bitfield"
                    | "fnmacro"
                    | "func"
                    | "textmacro"
            ),
            "{}",
            fact.kind
        );
    }
}
