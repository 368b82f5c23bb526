//! Rows of the table as text for users.

use std::fmt::Write as _;

use hv_tlfs::abi::{Constant, Doc, Function, Sources, Struct};

use super::search::Found;
use super::{layout, plain, wrap};

/// Up to this many rows are shown in full; more rows get a line each.
const FULL: usize = 8;

/// Formats the rows.
pub(super) fn print(found: &Found) -> String {
    let mut out = String::new();
    let mut result = if found.len() <= FULL { full(&mut out, found) } else { brief(&mut out, found) };
    if !found.related.is_empty() {
        let is_value = |of: &str| found.structs.iter().any(|row| row.path == of);
        let values = found.related.iter().filter(|row| is_value(row.of)).count();
        out.push_str(match values {
            0 => "\nConstants called after it:\n",
            all if all == found.related.len() => "\nValues:\n",
            _ => "\nValues, and constants called after it:\n",
        });
        let related = Found { constants: found.related.clone(), ..Found::default() };
        result = result.and_then(|()| brief(&mut out, &related));
    }
    debug_assert!(result.is_ok(), "writing to a string");
    out
}

fn brief(out: &mut String, found: &Found) -> std::fmt::Result {
    let name = found.constants.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let value = found.constants.iter().map(|row| format!("{:#x}", row.value).len()).max().unwrap_or(0);
    for row in &found.constants {
        let first = plain::summary(row.doc);
        let line = format!("{:name$}  {:value$}  {first}", row.name, format!("{:#x}", row.value));
        writeln!(out, "{}", wrap::cut(&line))?;
    }
    let name = found.structs.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &found.structs {
        let first = plain::summary(row.doc);
        writeln!(out, "{}", wrap::cut(&format!("{:name$}  {:4} bytes  {first}", row.name, row.size)))?;
    }
    let name = found.classes.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &found.classes {
        let first = plain::summary(row.doc);
        writeln!(out, "{}", wrap::cut(&format!("{:name$}  {}  {first}", row.name, row.guid)))?;
    }
    let name = found.functions.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &found.functions {
        writeln!(out, "{}", wrap::cut(&format!("{:name$}  {}", row.name, row.doc)))?;
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
    for row in &found.classes {
        blank(out)?;
        writeln!(out, "{} = {}, a class of devices on VMBus", row.name, row.guid)?;
        meaning(out, row.doc)?;
        provenance(out, &[], row.sources)?;
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
    let names = row.fields.iter().map(|field| field.name.len());
    let width = names.max().unwrap_or(0).max("field".len());
    if !row.fields.is_empty() {
        writeln!(out, "  byte bits or size  {:width$}  meaning", "field")?;
    }
    for field in layout(row) {
        let place = match field.bits {
            Some((low, 1)) => format!("{:4} bit {low}", field.offset),
            Some((low, width)) => format!("{:4} bits {}:{low}", field.offset, low + width - 1),
            None if field.size == 0 => format!("{:4} and on", field.offset),
            None => format!("{:4} size {}", field.offset, field.size),
        };
        let first = plain::summary(field.doc);
        let head = format!("  {place:16} {:width$}  ", field.name);
        out.push_str(&wrap::hanging(&head, &first, wrap::columns()));
    }
    Ok(())
}

fn function(out: &mut String, row: &Function) -> std::fmt::Result {
    writeln!(out, "{}, of the 2018 patch: {}", row.name, row.doc)?;
    if row.now.is_empty() { Ok(()) } else { writeln!(out, "  now hv_tlfs::{}", row.now) }
}

fn meaning(out: &mut String, doc: Doc) -> std::fmt::Result {
    let (columns, text) = (wrap::columns(), plain::text(doc));
    let mut paragraph = String::new();
    for line in text.lines().chain([""]) {
        // Lists and tables keep their lines.
        let own = line.starts_with(['|', '*', '-', '#']);
        if (line.is_empty() || own) && !paragraph.is_empty() {
            out.push_str(&wrap::hanging("  ", &std::mem::take(&mut paragraph), columns));
        }
        if line.is_empty() {
            writeln!(out)?;
        } else {
            paragraph.push_str(line);
            paragraph.push(' ');
        }
    }
    // Removes the empty line after the last entry.
    out.pop();
    Ok(())
}

fn provenance(out: &mut String, aliases: &[&str], sources: Sources) -> std::fmt::Result {
    if !aliases.is_empty() {
        out.push_str(&wrap::hanging("  also: ", &aliases.join(", "), wrap::columns()));
    }
    let sources = sources.iter().collect::<Vec<_>>().join("; ");
    out.push_str(&wrap::hanging("  from: ", &sources, wrap::columns()));
    Ok(())
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
        let place = |part: &str| text.find(part).unwrap();
        assert!(place("byte bits or size  field") < place("bit 0 "), "{text}");
        assert!(place("bit 0 ") < place("bit 12") && place("bit 12") < place("bits 19:16"), "{text}");
        assert!(!text.contains("```"), "{text}");
    }

    #[test]
    fn many_rows_get_a_line_each() {
        let found = search::find(None, Some("status"));
        assert_eq!(super::print(&found).lines().count(), found.len());
    }
}
