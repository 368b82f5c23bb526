//! `hv abi --markdown`: the table as chapters of the book.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use hv_tlfs::abi::{self, Chapter, Constant, Doc, Field, Struct};

use super::{layout, plain};
use crate::output::Folder;

/// Writes a file for each chapter, `NAME.md`, and returns their number.
pub(super) fn write(dir: &Path) -> anyhow::Result<usize> {
    let folder = Folder::make(dir).with_context(|| format!("cannot create the folder {}", dir.display()))?;
    for chapter in abi::chapters() {
        let file = format!("{}.md", chapter.name);
        let written = folder.write(&file, page(chapter).as_bytes());
        written.with_context(|| format!("cannot write {}", dir.join(file).display()))?;
    }
    Ok(abi::chapters().len())
}

fn page(chapter: &Chapter) -> String {
    let mut out = String::new();
    let result = fill(&mut out, chapter);
    debug_assert!(result.is_ok(), "writing to a string");
    out
}

fn fill(out: &mut String, chapter: &Chapter) -> std::fmt::Result {
    let title = chapter.title;
    writeln!(out, "# {title}\n\nThe module `hv_tlfs::{}`, printed by `hv abi --markdown`.", chapter.name)?;
    let mut kinds: Vec<&str> = Vec::new();
    for row in chapter.constants() {
        if !kinds.contains(&row.kind) {
            kinds.push(row.kind);
        }
    }
    for kind in kinds {
        let rows: Vec<&Constant> = chapter.constants().filter(|row| row.kind == kind).collect();
        constants(out, kind, &rows)?;
    }
    for row in chapter.structs() {
        structure(out, row)?;
    }
    let sources: BTreeSet<&str> = chapter
        .constants()
        .map(|row| row.sources)
        .chain(chapter.structs().map(|row| row.sources))
        .flat_map(|sources| sources.iter())
        .collect();
    writeln!(out, "\n## Sources\n")?;
    sources.iter().try_for_each(|source| writeln!(out, "- {}", text(source)))
}

/// Writes a table of the constants of a kind, then what does not fit into a table.
fn constants(out: &mut String, kind: &str, rows: &[&Constant]) -> std::fmt::Result {
    writeln!(out, "\n## Constants: {kind}\n\n| name | value | meaning |\n|---|---|---|")?;
    for row in rows {
        let (name, summary) = (row.name, cell(&plain::marked_summary(row.doc)));
        writeln!(out, "| `{name}` | {:#x} | {summary}{} |", row.value, also(row.aliases))?;
    }
    for row in rows {
        let more = beyond_summary(row.doc);
        if !more.is_empty() {
            writeln!(out, "\n**`{}`**: {}", row.name, text(&more))?;
        }
    }
    Ok(())
}

fn structure(out: &mut String, row: &Struct) -> std::fmt::Result {
    writeln!(out, "\n## `{}`\n\n{}\n", row.name, text(&plain::marked(row.doc)))?;
    let (rust, size, align) = (row.rust, row.size, row.align);
    writeln!(out, "Rust `{rust}`: {size} bytes, alignment {align}.{}", also(row.aliases))?;
    if row.fields.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n| offset | bits or size | field | meaning |\n|---|---|---|---|")?;
    for field in layout(row) {
        let (name, meaning) = (field.name, cell(&plain::marked_summary(field.doc)));
        writeln!(out, "| {} | {} | `{name}` | {meaning} |", field.offset, place(field))?;
    }
    Ok(())
}

fn place(field: &Field) -> String {
    match field.bits {
        Some((low, 1)) => format!("bit {low}"),
        Some((low, width)) => format!("bits {}:{low}", low + width - 1),
        None if field.size == 0 => "and on".to_owned(),
        None if field.size == 1 => "1 byte".to_owned(),
        None => format!("{} bytes", field.size),
    }
}

fn also(aliases: &[&str]) -> String {
    if aliases.is_empty() {
        return String::new();
    }
    let names: Vec<String> = aliases.iter().map(|name| format!("`{name}`")).collect();
    format!(" Also {}.", names.join(", "))
}

/// Returns the documentation after its first paragraph.
fn beyond_summary(doc: Doc) -> String {
    let text = plain::marked(doc);
    text.split_once("\n\n").map_or_else(String::new, |(_, more)| more.to_owned())
}

/// Escapes text so that Markdown finds no HTML outside code.
fn text(text: &str) -> String {
    let parts = text.split('`').enumerate();
    let parts = parts.map(|(n, part)| if n % 2 == 0 { part.replace('<', "&lt;") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("`")
}

/// Escapes text for a table cell.
fn cell(words: &str) -> String {
    text(words).replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_row_of_the_table_is_in_its_chapter() {
        for chapter in abi::chapters() {
            let page = page(chapter);
            for row in chapter.constants() {
                assert!(page.contains(&format!("| `{}` | {:#x} |", row.name, row.value)), "{}", row.name);
            }
            for row in chapter.structs() {
                assert!(page.contains(&format!("## `{}`\n", row.name)), "{}", row.name);
            }
            assert!(page.contains("## Sources\n\n- "), "{}", chapter.name);
        }
        let rows =
            abi::chapters().iter().map(|chapter| chapter.constants().count() + chapter.structs().count());
        assert_eq!(rows.sum::<usize>(), abi::constants().count() + abi::structs().count());
    }

    #[test]
    fn a_table_has_as_many_cells_in_each_line() {
        for chapter in abi::chapters() {
            let mut width = None;
            for line in page(chapter).lines() {
                let cells = line.replace("\\|", "").matches('|').count();
                if line.starts_with('|') {
                    assert_eq!(*width.get_or_insert(cells), cells, "{}: {line}", chapter.name);
                } else {
                    width = None;
                }
            }
        }
    }

    #[test]
    fn text_has_no_html_but_in_code() {
        assert_eq!(text("a<b> `c<d>` e"), "a&lt;b> `c<d>` e");
        assert_eq!(cell("a | `b|c`"), "a \\| `b\\|c`");
    }

    #[test]
    fn chapters_are_written_as_files() {
        let dir = tempfile::tempdir().unwrap();
        let count = write(&dir.path().join("abi")).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("abi")).unwrap().count(), count);
        assert!(write(Path::new("/dev/null/abi")).is_err());
    }
}
