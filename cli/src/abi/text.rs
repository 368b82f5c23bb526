//! Rows of the table as text for a person.

use std::fmt::Write as _;

use hv_tlfs::abi::{Constant, Doc, Function, Sources, Struct};

use super::plain;
use super::search::Found;

/// Up to this many rows are shown in full, more get a line each.
const FULL: usize = 8;

/// The rows found.
pub(super) fn print(found: &Found) -> String {
    let mut out = String::new();
    let result = if found.len() <= FULL { full(&mut out, found) } else { brief(&mut out, found) };
    debug_assert!(result.is_ok(), "writing to a string");
    out
}

fn brief(out: &mut String, found: &Found) -> std::fmt::Result {
    let name = found.constants.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let value = found.constants.iter().map(|row| format!("{:#x}", row.value).len()).max().unwrap_or(0);
    for row in &found.constants {
        let first = plain::summary(row.doc);
        writeln!(out, "{:name$}  {:value$}  {first}", row.name, format!("{:#x}", row.value))?;
    }
    let name = found.structs.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &found.structs {
        let first = plain::summary(row.doc);
        writeln!(out, "{:name$}  {:4} bytes  {first}", row.name, row.size)?;
    }
    let name = found.functions.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &found.functions {
        writeln!(out, "{:name$}  {}", row.name, row.doc)?;
    }
    Ok(())
}

fn full(out: &mut String, found: &Found) -> std::fmt::Result {
    let mut first = true;
    let mut blank = |out: &mut String| if std::mem::take(&mut first) { Ok(()) } else { writeln!(out) };
    for row in &found.constants {
        blank(out)?;
        constant(out, row)?;
    }
    for row in &found.structs {
        blank(out)?;
        structure(out, row)?;
    }
    for row in &found.functions {
        blank(out)?;
        function(out, row)?;
    }
    Ok(())
}

fn constant(out: &mut String, row: &Constant) -> std::fmt::Result {
    writeln!(out, "{} = {:#x} ({}), {}", row.name, row.value, row.value, row.kind)?;
    meaning(out, row.doc)?;
    provenance(out, row.aliases, row.sources)
}

fn structure(out: &mut String, row: &Struct) -> std::fmt::Result {
    writeln!(out, "{}: {} bytes, alignment {}; Rust {}", row.name, row.size, row.align, row.rust)?;
    meaning(out, row.doc)?;
    provenance(out, row.aliases, row.sources)?;
    let width = row.fields.iter().map(|field| field.name.len()).max().unwrap_or(0);
    for field in row.fields {
        let place = match field.bits {
            Some((low, 1)) => format!("{:4} bit {low}", field.offset),
            Some((low, width)) => format!("{:4} bits {}:{low}", field.offset, low + width - 1),
            None if field.size == 0 => format!("{:4} and on", field.offset),
            None => format!("{:4} size {}", field.offset, field.size),
        };
        let first = plain::summary(field.doc);
        writeln!(out, "{}", format!("  {place:16} {:width$}  {first}", field.name).trim_end())?;
    }
    Ok(())
}

fn function(out: &mut String, row: &Function) -> std::fmt::Result {
    writeln!(out, "{}, of the 2018 patch: {}", row.name, row.doc)?;
    if row.now.is_empty() { Ok(()) } else { writeln!(out, "  now hv_tlfs::{}", row.now) }
}

fn meaning(out: &mut String, doc: Doc) -> std::fmt::Result {
    for line in plain::text(doc).lines() {
        writeln!(out, "{}", format!("  {line}").trim_end())?;
    }
    Ok(())
}

fn provenance(out: &mut String, aliases: &[&str], sources: Sources) -> std::fmt::Result {
    if !aliases.is_empty() {
        writeln!(out, "  also: {}", aliases.join(", "))?;
    }
    writeln!(out, "  from: {}", sources.iter().collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use super::super::search;

    #[test]
    fn a_constant_is_shown_with_value_meaning_aliases_and_sources() {
        let text = super::print(&search::find(Some("HV_REGISTER_SIPP"), None));
        for part in ["HV_REGISTER_SIMP = 0xa0013", "message page", "HvRegisterSipp", "from: TLFS"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
    }

    #[test]
    fn a_structure_is_shown_with_its_layout() {
        let text = super::print(&search::find(Some("hv_stimer_config"), None));
        for part in ["8 bytes", "bits 19:16", "sintx", "bit 12"] {
            assert!(text.contains(part), "{part} is missing: {text}");
        }
        assert!(!text.contains("```"), "{text}");
    }

    #[test]
    fn many_rows_get_a_line_each() {
        let found = search::find(None, Some("status"));
        assert_eq!(super::print(&found).lines().count(), found.len());
    }
}
