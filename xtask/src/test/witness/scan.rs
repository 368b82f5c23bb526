//! Which constants and structures a C header defines, by a look at its text.
//!
//! Values and layouts are the compiler's affair; this finds the names to ask it about. It is not a C parser: it knows
//! enough for headers in the kernel's style.

use std::iter::Peekable;

/// The names that a header defines.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Macros without parameters and with a body.
    pub(super) macros: Vec<String>,
    /// Enumerators.
    pub(super) enumerators: Vec<String>,
    /// Structures and unions with a tag.
    pub(super) records: Vec<Record>,
}

/// A structure or union.
#[derive(Debug)]
pub(super) struct Record {
    /// `struct` or `union`.
    pub(super) tag: &'static str,
    /// Its name.
    pub(super) name: String,
    /// The names of its members and their members.
    pub(super) fields: Vec<String>,
}

/// Returns the names in a header's text.
pub(super) fn names(text: &str) -> Names {
    let mut names = Names::default();
    let text = without_comments(&text.replace("\\\n", " "));
    let mut code = String::new();
    for line in text.lines() {
        let Some(directive) = line.trim_start().strip_prefix('#') else {
            code.push_str(line);
            code.push('\n');
            continue;
        };
        let Some(rest) = directive.trim_start().strip_prefix("define") else { continue };
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
        let (name, body) = rest.split_at(end);
        if !body.starts_with('(') && !body.trim().is_empty() {
            names.macros.push(name.to_owned());
        }
    }
    let mut tokens = tokens(&code).peekable();
    while let Some(token) = tokens.next() {
        let tag = match token {
            "struct" => "struct",
            "union" => "union",
            "enum" => "enum",
            _ => continue,
        };
        let name = tokens.next_if(|token| token.starts_with(is_word)).unwrap_or_default();
        if tokens.next_if_eq(&"{").is_none() {
            continue;
        }
        if tag == "enum" {
            names.enumerators.extend(enumerators(&mut tokens));
        } else if !name.is_empty() {
            names.records.push(Record { tag, name: name.to_owned(), fields: fields(&mut tokens) });
        }
    }
    names
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        out.push_str(before);
        let (inside, after) = comment.split_once("*/").unwrap_or((comment, ""));
        // Lines stay lines, so that a directive after a comment is still at the start of one.
        out.extend(inside.chars().filter(|c| *c == '\n'));
        out.push(' ');
        rest = after;
    }
    out.push_str(rest);
    out.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// Iterates over words and single characters.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end = if is_word(first) {
            rest.find(|c: char| !is_word(c)).unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(token)
    })
}

/// Returns the enumerators up to the closing brace.
fn enumerators<'a>(tokens: &mut Peekable<impl Iterator<Item = &'a str>>) -> Vec<String> {
    let mut found = Vec::new();
    let mut expected = true;
    for token in tokens {
        match token {
            "}" => break,
            "," => expected = true,
            name if expected && name.starts_with(is_word) => {
                found.push(name.to_owned());
                expected = false;
            }
            _ => {}
        }
    }
    found
}

/// Returns the members up to the closing brace, those of nested structures among them.
fn fields<'a>(tokens: &mut impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found = Vec::new();
    let (mut braces, mut others) = (1, 0);
    let mut last = "";
    // Attributes stand where a name could: `} __packed u;`.
    for token in tokens.filter(|token| !token.starts_with("__") || token.starts_with("__u")) {
        let ends_name = matches!(token, ";" | "," | ":" | "[");
        if ends_name && others == 0 && last.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
            found.push(last.to_owned());
        }
        match token {
            "{" => braces += 1,
            "}" => braces -= 1,
            "(" | "[" => others += 1,
            ")" | "]" => others -= 1,
            _ => {}
        }
        if braces == 0 {
            break;
        }
        last = token;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "
#ifndef _GUARD_H
#define _GUARD_H
/* #define COMMENTED 1 */
#define ONE 1
#define TWO	\\
	(ONE + 1)
#define CALL(x) (x)
enum colour { RED, /* the first */ GREEN = 7, BLUE = CALL(3) };
static inline int f(struct other *o) { struct later l; return 0; }
union id {
	u32 asu32;
	struct {
		u32 id:24;
		u32 reserved:8; // rest
	} __packed u;
} __packed;
struct list {
	struct list *next, *prev;
	void (*call)(int argument);
	u8 bytes[ONE];
	u64 tail[];
};
";

    #[test]
    fn names_of_a_header_in_the_kernels_style_are_found() {
        let names = names(HEADER);
        assert_eq!(names.macros, ["ONE", "TWO"]);
        assert_eq!(names.enumerators, ["RED", "GREEN", "BLUE"]);
        let records: Vec<_> = names.records.iter().map(|record| (record.tag, record.name.as_str())).collect();
        assert_eq!(records, [("union", "id"), ("struct", "list")]);
        assert_eq!(names.records[0].fields, ["asu32", "id", "reserved", "u"]);
        assert_eq!(names.records[1].fields, ["next", "prev", "bytes", "tail"]);
    }
}
