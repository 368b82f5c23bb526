//! Doc comments for a terminal, without rustdoc's links, examples and code marks.

use hv_tlfs::abi::{self, Doc};

/// Formats the whole text. Paragraphs are kept apart; lines are unchanged.
pub(super) fn text(doc: Doc) -> String {
    lines(doc, unlink)
}

/// Formats the first paragraph on one line.
pub(super) fn summary(doc: Doc) -> String {
    paragraph(&text(doc))
}

/// Formats like [`text`], for Markdown: code is marked.
pub(super) fn marked(doc: Doc) -> String {
    lines(doc, |line| code(line).replace("**", ""))
}

/// Formats like [`summary`], for Markdown.
pub(super) fn marked_summary(doc: Doc) -> String {
    paragraph(&marked(doc))
}

fn lines(doc: Doc, each: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut example = false;
    for line in doc.lines() {
        if line.starts_with("```") {
            example = !example;
        } else if !example && !is_target(line) {
            out.push_str(&each(line));
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

fn paragraph(text: &str) -> String {
    let paragraph: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}

/// Returns true for a line that gives a link's target: `[name]: target`, or the target alone.
fn is_target(line: &str) -> bool {
    (line.starts_with('[') && line.contains("]: ")) || line.ends_with("]:") || line.starts_with("crate::")
}

/// Replaces links and code by their names, and removes bold face: `` [`Self::x`](path) `` becomes `x`.
fn unlink(line: &str) -> String {
    let line = code(line);
    let mut out = String::new();
    // Every second part is code.
    for (n, part) in line.split('`').enumerate() {
        out.push_str(&if n % 2 == 1 { named(part) } else { part.replace("**", "") });
    }
    out
}

/// Converts Rust paths to names of the table: `HvStatus::X` becomes HV_STATUS_X. A path without such a name becomes its
/// last part.
fn named(code: &str) -> String {
    let Some((path, name)) = code.rsplit_once("::") else { return code.to_owned() };
    let prefix = match path.rsplit("::").next() {
        Some("HvStatus") => "HV_STATUS_",
        Some("HypercallCode") => "HVCALL_",
        Some("RegisterName" | "Register") => "HV_REGISTER_",
        _ => return name.to_owned(),
    };
    let full = format!("{prefix}{name}");
    if abi::constants().any(|row| row.has_name(&full)) { full } else { name.to_owned() }
}

/// Converts links to code.
fn code(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, link)) = rest.split_once("[`") {
        let Some((name, after)) = link.split_once("`]") else { break };
        out.push_str(before);
        out.push('`');
        out.push_str(name.trim_start_matches("Self::").trim_start_matches("crate::"));
        out.push('`');
        rest = after;
        if let Some((_, after)) = rest.strip_prefix('(').and_then(|target| target.split_once(')')) {
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn links_and_code_become_what_they_name() {
        assert_eq!(unlink("**A** [`Simp`](crate::synic::Simp)."), "A Simp.");
        assert_eq!(unlink("[`Self::masked`] alone; not `x`"), "masked alone; not x");
        assert_eq!(unlink("`HvStatus::INVALID_SYNIC_STATE`"), "HV_STATUS_INVALID_SYNIC_STATE");
        assert_eq!(unlink("`HvStatus::to_result`"), "to_result");
    }

    /// Two paths with the same last part would be the same word twice.
    #[test]
    fn no_two_links_of_a_text_become_the_same_word() {
        let docs = hv_tlfs::abi::constants().map(|row| (row.name, row.doc));
        let docs = docs.chain(hv_tlfs::abi::structs().map(|row| (row.name, row.doc)));
        let fields = hv_tlfs::abi::structs().flat_map(|row| row.fields);
        for (name, doc) in docs.chain(fields.map(|field| (field.name, field.doc))) {
            let marked: Vec<String> = doc.lines().filter(|line| !is_target(line)).map(code).collect();
            let paths = marked.iter().flat_map(|line| line.split('`').skip(1).step_by(2));
            let paths: BTreeSet<&str> = paths.collect();
            let words: BTreeSet<String> = paths.iter().map(|path| named(path)).collect();
            assert_eq!(words.len(), paths.len(), "{name}: {paths:?}");
        }
    }

    #[test]
    fn no_text_of_the_table_shows_markup() {
        let docs = hv_tlfs::abi::constants().map(|row| (row.name, row.doc));
        for (name, doc) in docs.chain(hv_tlfs::abi::structs().map(|row| (row.name, row.doc))) {
            let text = text(doc);
            for markup in ["](", "`", "**", "::"] {
                assert!(!text.contains(markup), "{name} shows {markup}: {text}");
            }
            assert!(!summary(doc).is_empty(), "{name}");
        }
    }
}
