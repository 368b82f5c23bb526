//! `hv abi --c-header`: the table as a C header that checks its own layouts.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use hv_setup::exit::Exit;
use hv_setup::ui;
use hv_tlfs::abi::{self, Field, Struct};

/// Print the ABI's table as a C header
///
/// `cargo hv abi --c-header` starts this.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs `hv abi --c-header`.
pub(crate) fn run(_: &Args) -> Exit {
    ui::out(&print());
    Exit::Success
}

const HEAD: &str = "\
/*
 * The Hyper-V guest interface on ARM64: constants and structures.
 * Printed by `hv abi --c-header`; edit the tables of hv-tlfs instead. MIT OR Apache-2.0.
 *
 * Little-endian. A bit field begins at the lowest bit that its predecessors leave, which is how GCC and Clang lay them
 * out for AArch64. C11 or C++11. Open-ended arrays and other views of a union are named in comments.
 */
#ifndef HV_ARM64_ABI_H
#define HV_ARM64_ABI_H

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error \"Hyper-V's interface is little-endian\"
#endif

typedef __UINT8_TYPE__ hv_u8;
typedef __UINT16_TYPE__ hv_u16;
typedef __UINT32_TYPE__ hv_u32;
typedef __UINT64_TYPE__ hv_u64;

#ifdef __cplusplus
#define HV_STATIC_ASSERT(condition, text) static_assert(condition, text)
#define HV_ALIGNOF(type) alignof(type)
#else
#define HV_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#define HV_ALIGNOF(type) _Alignof(type)
#endif

";

/// Names that `hv_guest.h` of `hv-guest-c` also defines, with the same values and layouts: the header included first
/// defines them.
const SHARED: [&str; 15] = [
    "HV_REGISTER_CRASH_CTL",
    "HV_REGISTER_EOM",
    "HV_REGISTER_SCONTROL",
    "HV_REGISTER_SIFP",
    "HV_REGISTER_SINT0",
    "HV_REGISTER_SIPP",
    "HV_REGISTER_STIMER0_CONFIG",
    "HV_REGISTER_STIMER0_COUNT",
    "HV_REGISTER_TIME_REFCOUNT",
    "HV_REGISTER_VPINDEX",
    "VP_INVAL",
    "hv_message",
    "hv_message_header",
    "ms_hyperv_info",
    "ms_hyperv_tsc_page",
];

/// Prints the definition of a name, inside a condition if the other header has it too.
fn define(out: &mut String, name: &str, print: impl FnOnce(&mut String)) {
    let shared = SHARED.contains(&name);
    if shared {
        line(out, "#ifndef HV_GUEST_H");
    }
    print(out);
    if shared {
        line(out, format_args!("#endif{}", if out.ends_with("\n\n") { "\n" } else { "" }));
    }
}

/// Prints the whole header.
fn print() -> String {
    let mut out = HEAD.to_owned();
    constants(&mut out);
    let mut done = HashSet::new();
    for row in abi::structs() {
        structure(&mut out, row, &mut done);
    }
    out.push_str("#endif\n");
    out
}

/// Prints a `#define` for each constant, and for each other name that means only one number.
fn constants(out: &mut String) {
    let mut values: BTreeMap<&str, HashSet<u64>> = BTreeMap::new();
    for row in abi::constants() {
        for name in row.aliases.iter().chain([&row.name]) {
            values.entry(name).or_default().insert(row.value);
        }
    }
    let taken: HashSet<&str> =
        abi::constants().map(|row| row.name).chain(abi::structs().map(|row| row.name)).collect();
    for row in abi::constants() {
        let suffix = if row.value > u64::from(u32::MAX) { "ULL" } else { "U" };
        define(out, row.name, |out| {
            line(out, format_args!("#define {} {:#x}{suffix}", row.name, row.value));
        });
        for alias in row.aliases {
            // Lower case names are functions or function-like macros of Linux.
            let function = alias.starts_with(|c: char| c.is_ascii_lowercase());
            if values[alias].len() == 1 && !taken.contains(alias) && !function {
                define(out, alias, |out| line(out, format_args!("#define {alias} {}", row.name)));
            }
        }
    }
    out.push('\n');
}

/// Prints a structure with its assertions, after the structures that it contains.
fn structure(out: &mut String, row: &'static Struct, done: &mut HashSet<&'static str>) {
    if done.contains(row.name) {
        return;
    }
    done.insert(row.name);
    for field in row.fields {
        if let Some(inner) = inner(field) {
            structure(out, inner, done);
        }
    }
    if row.fields.is_empty() {
        line(out, format_args!("typedef {} {};", unsigned(row.size).unwrap_or("hv_u8"), row.name));
        line(out, format_args!("HV_STATIC_ASSERT(sizeof({}) == {}, \"{0}\");\n", row.name, row.size));
    } else if is_word(row) {
        word(out, row);
    } else {
        define(out, row.name, |out| record(out, row));
    }
}

/// Prints a word with bit fields: a union of the word and the fields.
fn word(out: &mut String, row: &Struct) {
    let unit = unsigned(row.size).unwrap_or("hv_u64");
    let mut fields: Vec<_> = row
        .fields
        .iter()
        .filter(|field| !field.ty.is_empty())
        .filter_map(|field| Some((field.bits?, field)))
        .collect();
    fields.sort_by_key(|((low, _), _)| *low);
    // An unnamed structure is C11, and an extension of all C++ compilers.
    line(out, format_args!("union {} {{\n\t{unit} value;\n\t__extension__ struct {{", row.name));
    let (mut next, mut group) = (0, "");
    for ((low, width), field) in fields {
        if low > next {
            line(out, format_args!("\t\t{unit} : {};", low - next));
        }
        let name = field.name.rsplit_once('.').map_or(field.name, |(prefix, name)| {
            group = prefix;
            name
        });
        line(out, format_args!("\t\t{unit} {name} : {width}; /* {} */", range(low, width)));
        next = low + width;
    }
    line(out, format!("\t}} {group};").replace(" ;", ";"));
    line(out, format_args!("}};"));
    views(out, row);
    assert_size(out, "union", row);
}

/// Prints a structure of fields. None of ours has padding, so packing changes no offset; it only makes the alignment
/// that of the Rust type.
fn record(out: &mut String, row: &Struct) {
    line(out, format_args!("struct {} {{", row.name));
    let mut group = "";
    for field in row.fields.iter().filter(|field| !field.ty.is_empty()) {
        let (prefix, name) = field.name.rsplit_once('.').unwrap_or(("", field.name));
        if prefix != group {
            close(out, group);
            if !prefix.is_empty() {
                line(out, format_args!("\tstruct {{"));
            }
            group = prefix;
        }
        let indent = if group.is_empty() { "\t" } else { "\t\t" };
        line(out, format_args!("{indent}{}", declaration(field, name)));
    }
    close(out, group);
    line(out, format_args!("}} __attribute__((packed, aligned({})));", row.align));
    views(out, row);
    assert_size(out, "struct", row);
    for field in row.fields.iter().filter(|field| !field.ty.is_empty()) {
        line(
            out,
            format_args!(
                "HV_STATIC_ASSERT(__builtin_offsetof(struct {}, {}) == {}, \"{0}.{1}\");",
                row.name, field.name, field.offset
            ),
        );
    }
    out.push('\n');
}

fn close(out: &mut String, group: &str) {
    if !group.is_empty() {
        line(out, format_args!("\t}} __attribute__((packed)) {group};"));
    }
}

/// Prints the rows that C has besides the fields, as a comment.
fn views(out: &mut String, row: &Struct) {
    for field in row.fields.iter().filter(|field| field.ty.is_empty()) {
        let place = match field.bits {
            Some((low, width)) => {
                format!("bits {} of the {} bytes at {}", range(low, width), field.size, field.offset)
            }
            None if field.size == 0 => format!("from {} on, as many as the call says", field.offset),
            None => format!("{} bytes at {}", field.size, field.offset),
        };
        line(out, format_args!("/* also {}: {place} */", field.name));
    }
}

fn assert_size(out: &mut String, tag: &str, row: &Struct) {
    line(out, format_args!("HV_STATIC_ASSERT(sizeof({tag} {}) == {}, \"{0}\");", row.name, row.size));
    line(out, format_args!("HV_STATIC_ASSERT(HV_ALIGNOF({tag} {}) == {}, \"{0}\");", row.name, row.align));
    if tag == "union" {
        out.push('\n');
    }
}

/// Returns the element of a field's Rust type and the number of elements; `None` if the field is not an array.
fn element(field: &Field) -> (&str, Option<usize>) {
    let Some(array) = field.ty.strip_prefix('[') else { return (field.ty, None) };
    let (element, count) = array.trim_end_matches(']').split_once(';').unwrap_or((array, "1"));
    (element.trim(), count.trim().parse().ok())
}

/// Returns the row of a field's Rust type, or of an array's elements. Modules share type names; the size distinguishes
/// them.
fn inner(field: &Field) -> Option<&'static Struct> {
    let (name, count) = element(field);
    let size = field.size / count.unwrap_or(1).max(1);
    let mut rows = abi::structs().filter(|row| row.rust == name && row.size == size);
    let row = rows.next()?;
    rows.next().is_none().then_some(row)
}

/// Formats a field as a C declaration.
fn declaration(field: &Field, name: &str) -> String {
    let (element, count) = element(field);
    let size = field.size / count.unwrap_or(1).max(1);
    let scalar = matches!(element, "u8" | "u16" | "u32" | "u64" | "i64") || count.is_none();
    let ty = match (inner(field), unsigned(size)) {
        (Some(row), _) if row.fields.is_empty() => row.name.to_owned(),
        (Some(row), _) if is_word(row) => format!("union {}", row.name),
        (Some(row), _) => format!("struct {}", row.name),
        (None, Some(unit)) if scalar => unit.to_owned(),
        (None, _) => return format!("hv_u8 {name}[{}];", field.size),
    };
    match count {
        Some(count) => format!("{ty} {name}[{count}];"),
        None => format!("{ty} {name};"),
    }
}

/// Returns true for a word with bit fields.
fn is_word(row: &Struct) -> bool {
    row.fields.iter().any(|field| !field.ty.is_empty() && field.bits.is_some())
}

fn unsigned(size: usize) -> Option<&'static str> {
    match size {
        1 => Some("hv_u8"),
        2 => Some("hv_u16"),
        4 => Some("hv_u32"),
        8 => Some("hv_u64"),
        _ => None,
    }
}

fn range(low: u32, width: u32) -> String {
    if width == 1 { low.to_string() } else { format!("{}:{low}", low + width - 1) }
}

fn line(out: &mut String, text: impl std::fmt::Display) {
    let result = writeln!(out, "{text}");
    debug_assert!(result.is_ok(), "writing to a string");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_names_each_number_once_and_leaves_ambiguous_names_out() {
        let text = super::print();
        let defines: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("#define ")?.split(' ').next()).collect();
        let defines: Vec<&str> = defines.into_iter().filter(|name| !name.contains('(')).collect();
        let mut once = defines.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), defines.len());
        assert!(defines.contains(&"HV_REGISTER_SIPP"));
        assert!(!defines.contains(&"HV_REGISTER_FEATURES"), "it has stood for two numbers");
        assert!(!defines.contains(&"hv_signal_eom"), "it was not a number");
    }

    #[test]
    fn every_structure_is_defined_once() {
        let text = super::print();
        for row in hv_tlfs::abi::structs() {
            let heads = ["struct", "union"].map(|tag| format!("\n{tag} {} {{\n", row.name));
            let count = heads.iter().map(|head| text.matches(head.as_str()).count()).sum::<usize>()
                + text
                    .lines()
                    .filter(|line| line.starts_with("typedef") && line.ends_with(&format!(" {};", row.name)))
                    .count();
            assert_eq!(count, 1, "{}", row.name);
        }
    }
}
