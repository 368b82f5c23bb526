//! Search in the table by name, text, number and kind.

use hv_tlfs::abi::{self, Class, Constant, Function, Struct};

use super::number;

/// Kind of structures, bit words and enumeration types.
const STRUCT: &str = "struct";
/// Kind of the classes of devices on VMBus.
const CLASS: &str = "device-class";
/// Kind of functions, function-like macros and header guards of the 2018 patch.
const FUNCTION: &str = "function";

/// Search results.
#[derive(Default)]
pub(super) struct Found {
    pub(super) constants: Vec<&'static Constant>,
    pub(super) structs: Vec<&'static Struct>,
    pub(super) classes: Vec<&'static Class>,
    pub(super) functions: Vec<&'static Function>,
    /// Constants whose names have the word that was looked for, beside a type that is called so.
    pub(super) related: Vec<&'static Constant>,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn len(&self) -> usize {
        self.constants.len() + self.structs.len() + self.classes.len() + self.functions.len()
    }
}

/// Returns all kinds, sorted.
pub(super) fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<_> = abi::constants().map(|row| row.kind).chain([STRUCT, CLASS, FUNCTION]).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// Returns the rows of this kind that match this text.
pub(super) fn find(text: Option<&str>, kind: Option<&str>) -> Found {
    let of_kind = |row: &str| kind.is_none_or(|kind| kind == row);
    let all = Found {
        constants: abi::constants().filter(|row| of_kind(row.kind)).collect(),
        structs: abi::structs().filter(|_| of_kind(STRUCT)).collect(),
        classes: abi::classes().filter(|_| of_kind(CLASS)).collect(),
        functions: abi::functions().filter(|_| of_kind(FUNCTION)).collect(),
        related: Vec::new(),
    };
    let Some(text) = text else { return all };
    if let Some(value) = number::parse(text) {
        let constants = all.constants.into_iter().filter(|row| u128::from(row.value) == value).collect();
        return Found { constants, ..Found::default() };
    }
    let text = bare(text).to_lowercase();
    let mut exact = narrow(&all, |names, _| names.iter().any(|name| squeezed(name) == squeezed(&text)));
    if !exact.is_empty() {
        // A type's name in Rust is also what registers and masks are called after.
        let c_name = |row: &&Struct| {
            [row.name].iter().chain(row.aliases).any(|name| squeezed(name) == squeezed(&text))
        };
        if exact.constants.is_empty() && exact.functions.is_empty() && !exact.structs.iter().any(c_name) {
            exact.related = keep(&all.constants, |row| has_part(row.name, &text));
        } else if exact.constants.is_empty() && exact.structs.iter().all(|row| row.fields.is_empty()) {
            // The type of an enumeration says nothing: its values do, and flags beside them.
            let values: Vec<_> =
                exact.structs.iter().flat_map(|row| row.values()).map(|row| row.name).collect();
            exact.related = keep(&all.constants, |row| {
                values.contains(&row.name) || squeezed(row.name).starts_with(&squeezed(&text))
            });
        }
        return exact;
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.len() > 1 {
        // The words of a name without its prefix.
        let whole =
            narrow(&all, |names, _| names.iter().any(|name| squeezed(name).ends_with(&squeezed(&text))));
        if !whole.is_empty() {
            return whole;
        }
    }
    let parts = narrow(&all, |names, doc| {
        let whole = format!("{} {doc}", names.join(" ")).to_lowercase();
        words.iter().all(|word| has(&whole, word))
    });
    match number::bare_hexadecimal(&text) {
        Some(value) if parts.is_empty() => {
            let constants = all.constants.into_iter().filter(|row| u128::from(row.value) == value).collect();
            Found { constants, ..Found::default() }
        }
        _ => parts,
    }
}

/// Returns a name without separators between its words, as users and options write it: `sint-0`, `HV_SINT_0` and
/// `HvSint0` are equal.
fn squeezed(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Returns true if a part of a C name is this word, or this word and a number: `HV_REGISTER_SINT2` has `sint`.
fn has_part(name: &str, word: &str) -> bool {
    let parts = name.split('_').map(str::to_lowercase);
    parts
        .filter_map(|part| part.strip_prefix(word).map(str::to_owned))
        .any(|rest| rest.bytes().all(|c| c.is_ascii_digit()))
}

/// Returns true if a text contains a word, or all parts of a hyphenated word.
fn has(whole: &str, word: &str) -> bool {
    whole.contains(word) || (word.contains('-') && word.split('-').all(|part| whole.contains(part)))
}

/// Returns the values of the constants of this kind with this name or number.
pub(super) fn exact(text: &str, kind: &str) -> Vec<u64> {
    let number = number::parse(text);
    let rows = abi::constants().filter(|row| row.kind == kind);
    let is_it = |row: &&Constant| match number {
        Some(number) => u128::from(row.value) == number,
        None => [row.name].iter().chain(row.aliases).any(|name| squeezed(name) == squeezed(text)),
    };
    rows.filter(is_it).map(|row| row.value).collect()
}

/// Returns the rows whose names and documentation pass a test.
fn narrow(all: &Found, test: impl Fn(&[&str], &str) -> bool) -> Found {
    let names = |name, aliases: &[&'static str]| [&[name], aliases].concat();
    Found {
        constants: keep(&all.constants, |row| test(&names(row.name, row.aliases), &row.doc.to_string())),
        structs: keep(&all.structs, |row| {
            let mut names = names(row.name, row.aliases);
            names.extend([row.rust].into_iter().chain(row.fields.iter().map(|field| field.name)));
            // A field's name finds its structure, but does not count as an exact match.
            test(&names[..=row.aliases.len() + 1], "")
                || test(&[], &format!("{} {}", names.join(" "), row.doc))
        }),
        classes: keep(&all.classes, |row| test(&[row.name, row.guid], &row.doc.to_string())),
        functions: keep(&all.functions, |row| test(&[row.name], row.doc)),
        related: Vec::new(),
    }
}

fn keep<T>(rows: &[&'static T], test: impl Fn(&'static T) -> bool) -> Vec<&'static T> {
    rows.iter().copied().filter(|row| test(row)).collect()
}

/// Returns a C name without its tag (`struct`, `union`, `enum`).
fn bare(text: &str) -> &str {
    ["struct ", "union ", "enum "].iter().find_map(|tag| text.strip_prefix(tag)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(found: &Found) -> Vec<&str> {
        found.constants.iter().map(|row| row.name).chain(found.structs.iter().map(|row| row.name)).collect()
    }

    #[test]
    fn an_exact_name_of_any_age_wins_over_parts_of_names() {
        assert_eq!(names(&find(Some("HV_REGISTER_SINT1"), None)), ["HV_REGISTER_SINT1"]);
        assert_eq!(names(&find(Some("hv_register_sipp"), None)), ["HV_REGISTER_SIMP"]);
        assert_eq!(names(&find(Some("HvRegisterSipp"), None)), ["HV_REGISTER_SIMP"]);
        assert_eq!(names(&find(Some("union hv_port_id"), None)), ["hv_port_id"]);
    }

    #[test]
    fn a_class_of_devices_is_found_by_its_name_and_its_guid() {
        let guid = "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f";
        for text in [
            "HV_SCSI_GUID",
            guid,
            "BA6163D9-04A1-4D29-B605-72E2FFB1DC7F",
            "{ba6163d9-04a1-4d29-b605-72e2ffb1dc7f}",
        ] {
            let found = find(Some(text), None);
            assert_eq!(found.classes.iter().map(|row| row.guid).collect::<Vec<_>>(), [guid], "{text}");
            assert_eq!(found.len(), 1, "{text}");
        }
        assert_eq!(find(None, Some("device-class")).len(), abi::classes().count());
    }

    #[test]
    fn an_ambiguous_name_finds_every_meaning() {
        let found = find(Some("HV_REGISTER_FEATURES"), None);
        assert_eq!(found.constants.iter().map(|row| row.value).collect::<Vec<_>>(), [0x200, 0x201]);
    }

    #[test]
    fn a_type_hides_no_register_that_is_called_after_it() {
        for (word, structure, register) in [
            ("sint", "hv_synic_sint", "HV_REGISTER_SINT15"),
            ("Sint", "hv_synic_sint", "HV_REGISTER_SINT0"),
            ("simp", "hv_synic_simp", "HV_REGISTER_SIMP"),
            ("siefp", "hv_synic_siefp", "HV_REGISTER_SIEFP"),
        ] {
            let found = find(Some(word), None);
            assert_eq!(names(&found), [structure]);
            assert!(found.related.iter().any(|row| row.name == register), "{word}");
            assert!(found.related.iter().all(|row| row.name.contains(&word.to_uppercase())), "{word}");
        }
        assert!(find(Some("sint"), Some("struct")).related.is_empty());
        assert!(find(Some("hv_synic_sint"), None).related.is_empty(), "its C name means the type alone");
    }

    #[test]
    fn the_type_of_an_enumeration_has_its_values_below_it() {
        for (word, value) in [
            ("SRB_STATUS", "SRB_STATUS_INVALID_LUN"),
            ("srb-status", "SRB_STATUS_QUEUE_FROZEN"),
            ("hv_status", "HV_STATUS_ACCESS_DENIED"),
            ("vstor_packet_operation", "VSTOR_OPERATION_EXECUTE_SRB"),
            ("hv_message_type", "HVMSG_TIMER_EXPIRED"),
        ] {
            let found = find(Some(word), None);
            assert_eq!((found.structs.len(), found.constants.len()), (1, 0), "{word}");
            assert!(found.related.iter().any(|row| row.name == value), "{word}");
        }
        assert!(find(Some("HV_STATUS_ACCESS_DENIED"), None).related.is_empty());
    }

    #[test]
    fn a_number_finds_constants_with_that_value_of_the_kind() {
        assert_eq!(names(&find(Some("0x13"), Some("status"))), ["HV_STATUS_INSUFFICIENT_BUFFERS"]);
        assert_eq!(names(&find(Some("19"), Some("status"))), ["HV_STATUS_INSUFFICIENT_BUFFERS"]);
    }

    #[test]
    fn parts_of_names_and_words_of_the_meaning_find_rows() {
        assert!(names(&find(Some("sint"), Some("register"))).contains(&"HV_REGISTER_SINT15"));
        assert!(names(&find(Some("memory pool deposit"), None)).contains(&"HVCALL_DEPOSIT_MEMORY"));
        assert!(names(&find(Some("base_simp_gpa"), None)).contains(&"hv_synic_simp"));
        assert!(find(Some("no such thing"), None).is_empty());
    }

    #[test]
    fn words_hyphens_and_bare_numbers_are_what_they_look_like() {
        assert_eq!(names(&find(Some("time ref count"), None)), ["HV_REGISTER_TIME_REF_COUNT"]);
        assert!(
            names(&find(Some("time-ref-count"), Some("register"))).contains(&"HV_REGISTER_TIME_REF_COUNT")
        );
        assert_eq!(names(&find(Some("hv-register-sint1"), None)), ["HV_REGISTER_SINT1"]);
        assert_eq!(names(&find(Some("HV REGISTER SINT1"), None)), ["HV_REGISTER_SINT1"]);
        assert_eq!(names(&find(Some("a0013"), Some("register"))), ["HV_REGISTER_SIMP"]);
        assert_eq!(names(&find(Some("0xA0013UL"), Some("register"))), ["HV_REGISTER_SIMP"]);
    }

    #[test]
    fn a_macro_of_the_patch_finds_what_became_of_it() {
        let found = find(Some("hv_signal_eom"), None);
        assert_eq!(names(&found), ["HV_REGISTER_EOM"]);
        assert_eq!(found.functions.len(), 1);
    }
}
