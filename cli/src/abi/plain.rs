//! Doc texts for a terminal: rustdoc's links and examples taken out.

use hv_tlfs::abi::Doc;

/// The whole text. Paragraphs stay apart; lines stay as they are.
pub(super) fn text(doc: Doc) -> String {
    let mut out = String::new();
    let mut example = false;
    for line in doc.lines() {
        if line.starts_with("```") {
            example = !example;
        } else if !example && !is_target(line) {
            out.push_str(&unlink(line));
            out.push('\n');
        }
    }
    out.trim().to_owned()
}

/// The first paragraph on one line.
pub(super) fn summary(doc: Doc) -> String {
    let text = text(doc);
    let paragraph: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    paragraph.join(" ")
}

/// True of a line that says where a link leads: `[name]: target`, or the target alone.
fn is_target(line: &str) -> bool {
    (line.starts_with('[') && line.contains("]: ")) || line.ends_with("]:") || line.starts_with("crate::")
}

/// Links as code, and no bold face: `` [`Self::x`](path) `` becomes `` `x` ``.
fn unlink(line: &str) -> String {
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
    out.replace("**", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_become_code() {
        assert_eq!(unlink("a [`Simp`](crate::synic::Simp)."), "a `Simp`.");
        assert_eq!(unlink("[`Self::masked`] alone; not `x`"), "`masked` alone; not `x`");
        assert_eq!(unlink("[`BROKEN"), "[`BROKEN");
    }

    #[test]
    fn no_text_of_the_table_shows_markup() {
        let docs = hv_tlfs::abi::constants().map(|row| (row.name, row.doc));
        for (name, doc) in docs.chain(hv_tlfs::abi::structs().map(|row| (row.name, row.doc))) {
            let text = text(doc);
            for markup in ["](", "[`", "```", "**", "crate::", "Self::"] {
                assert!(!text.contains(markup), "{name} shows {markup}: {text}");
            }
            assert!(!summary(doc).is_empty(), "{name}");
        }
    }
}
