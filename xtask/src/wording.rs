//! Checks the form of comments: they wrap at 120 columns, and the documentation of a function begins with a verb in the
//! third person.

use crate::claims::{entries, root};

/// Columns of a comment.
const COLUMNS: usize = 120;
/// First words that end like a verb, and are none.
const OTHERS: [&str; 27] = [
    "Addresses",
    "As",
    "Attributes",
    "Bytes",
    "Commands",
    "Connections",
    "Constants",
    "Devices",
    "Drivers",
    "Errors",
    "Events",
    "Fields",
    "Files",
    "Folders",
    "Instructions",
    "Its",
    "Keys",
    "Kinds",
    "Machines",
    "Messages",
    "Modules",
    "Packets",
    "Pages",
    "Sizes",
    "This",
    "Those",
    "Words",
];

/// Returns what a line of comment begins with in a file of this name; `None` if the file is not checked.
fn comment(path: &str) -> Option<&'static str> {
    match path.rsplit_once('.')?.1 {
        "rs" | "s" | "S" | "c" | "h" => Some("//"),
        "toml" | "sh" => Some("#"),
        "ld" => Some("*"),
        _ => None,
    }
}

/// Returns the numbers of the lines of comment that are too long. The row of a table is a line, however long.
fn long_lines(text: &str, comment: &str) -> Vec<usize> {
    let is_long = |line: &str| {
        let content = line.trim_start_matches([' ', '/', '!']);
        line.trim_start().starts_with(comment) && !content.starts_with('|') && line.chars().count() > COLUMNS
    };
    (1..).zip(text.lines()).filter(|(_, line)| is_long(line)).map(|(number, _)| number).collect()
}

/// Returns true for the line in which a function begins.
fn is_function(line: &str) -> bool {
    let qualifies = |word: &str| {
        let known = ["async", "const", "unsafe", "extern", "\"C\"", "\"efiapi\""];
        known.contains(&word) || word.starts_with("pub") || word.ends_with(')')
    };
    line.split_once("fn ").is_some_and(|(before, _)| before.split_whitespace().all(qualifies))
}

/// Returns true for a verb in the third person, as a sentence begins with it.
fn is_verb(word: &str) -> bool {
    let word = word.trim_end_matches([',', ':', ';', '.']);
    let letters = word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().skip(1).all(|c| c.is_ascii_lowercase());
    letters && word.ends_with('s') && !OTHERS.contains(&word)
}

/// Returns the first word of each function's documentation, with the number of its line. Tests are left out, whose
/// documentation says what holds, and so are modules of tests.
fn first_words(text: &str) -> Vec<(usize, &str)> {
    let (mut found, mut word, mut attributes) = (Vec::new(), None, String::new());
    let (mut in_attribute, mut in_tests) = (false, false);
    for (number, line) in (1..).zip(text.lines()) {
        let trimmed = line.trim();
        if in_tests {
            in_tests = line != "}";
        } else if let Some(rest) = trimmed.strip_prefix("///") {
            word = word.or_else(|| Some((number, rest.split_whitespace().next()?)));
        } else if in_attribute || trimmed.starts_with("#[") {
            attributes.push_str(trimmed);
            in_attribute = !trimmed.ends_with(']');
        } else if !trimmed.is_empty() {
            in_tests =
                line.starts_with("mod ") && attributes.ends_with("#[cfg(test)]") && line.ends_with('{');
            let is_test = attributes.contains("#[test]");
            found.extend(word.take().filter(|_| is_function(trimmed) && !is_test));
            attributes.clear();
        }
    }
    found
}

#[test]
fn comments_wrap_and_functions_begin_with_a_verb() {
    let (mut wrong, mut functions) = (Vec::new(), 0);
    for path in entries() {
        let Some(comment) = comment(&path) else { continue };
        let Ok(text) = std::fs::read_to_string(root().join(&path)) else { continue };
        wrong.extend(long_lines(&text, comment).iter().map(|line| format!("{path}:{line}: too long")));
        if path.ends_with(".rs") {
            let words = first_words(&text);
            functions += words.len();
            let nouns = words.iter().filter(|(_, word)| !is_verb(word));
            wrong.extend(nouns.map(|(line, word)| format!("{path}:{line}: a function begins with {word:?}")));
        }
    }
    assert!(functions > 4000, "only {functions} functions were found");
    assert!(
        wrong.is_empty(),
        "comments wrap at {COLUMNS} columns, and say \"Returns ...\":\n{}",
        wrong.join("\n")
    );
}

#[test]
fn bad_comments_are_found() {
    let long = "x".repeat(COLUMNS);
    assert_eq!(
        long_lines(&format!("    // ok\n    // {long}\n//! | {long} |\nlet x = \"{long}\";"), "//"),
        [2]
    );
    assert_eq!(long_lines(&format!("# {long}\nx = \"{long}\""), "#"), [1]);
    let text = "/// The number.\n#[must_use]\npub(crate) const fn f() {}\n\n    /// Returns it.\n    fn g() {}\n\
                /// A type.\nstruct S;\nfn h() {}\n/// It holds.\n#[test]\nfn t() {}\n\
                #[cfg(test)]\nmod tests {\n    /// A guest.\n    fn guest() {}\n}\n/// Bytes of it.\nfn i() {}\n";
    assert_eq!(first_words(text), [(1, "The"), (5, "Returns"), (18, "Bytes")]);
    assert!(["Returns", "Reports,", "Fails:"].iter().all(|word| is_verb(word)));
    assert!(!["The", "Bytes", "`f`", "PSCI_VERSION.", "Return"].iter().any(|word| is_verb(word)));
}
