//! The lookup table: every constant and structure of this crate with its C names, value, layout, documentation and
//! sources.
//!
//! The macros that define the Rust items also generate the rows, so the table cannot drift from the types.
//!
//! ```
//! use hv_tlfs::abi;
//!
//! let row = abi::constants().find(|c| c.has_name("HV_REGISTER_SIPP")).unwrap();
//! assert_eq!(row.name, "HV_REGISTER_SIMP");
//! assert_eq!(row.value, 0xa0013);
//! ```

use core::fmt;

/// A doc comment, one string per source line.
#[derive(Clone, Copy, Debug)]
pub struct Doc(pub(crate) &'static [&'static str]);

impl Doc {
    /// Returns the lines, without the leading space of a doc comment.
    pub fn lines(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|line| line.strip_prefix(' ').unwrap_or(line))
    }

    /// Returns the lines of the first paragraph.
    pub fn summary(self) -> impl Iterator<Item = &'static str> {
        self.lines().take_while(|line| !line.is_empty())
    }
}

impl fmt::Display for Doc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(line)?;
        }
        Ok(())
    }
}

/// The sources of a definition, each a document and a section.
#[derive(Clone, Copy, Debug)]
pub struct Sources(pub(crate) &'static str);

impl Sources {
    /// Iterates over the sources.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        self.0.split("; ")
    }
}

/// A named number.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// The C name: the one in current Linux headers, else the TLFS's.
    pub name: &'static str,
    /// All other C names the number has had.
    pub aliases: &'static [&'static str],
    /// The name in this crate, without the type it is associated with.
    pub rust: &'static str,
    /// The path of the type that it is associated with ([`Struct::path`], if that has a C name), or "" for a constant
    /// that stands alone.
    pub of: &'static str,
    /// The kind of value: "register", "hypercall", "status", ...
    pub kind: &'static str,
    /// The number.
    pub value: u64,
    /// The meaning of the constant.
    pub doc: Doc,
    /// The sources of the definition.
    pub sources: Sources,
}

/// A structure, a bit word, or the type of an open enumeration (which has no fields).
#[derive(Clone, Copy, Debug)]
pub struct Struct {
    /// The C name without `struct`, `union` or `enum`.
    pub name: &'static str,
    /// Every other C name that it has had.
    pub aliases: &'static [&'static str],
    /// The name of the Rust type.
    pub rust: &'static str,
    /// The path of the Rust type.
    pub path: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Alignment of the Rust type in bytes. (Linux packs its structures, so the C alignment is 1 there.)
    pub align: usize,
    /// The meaning of the structure.
    pub doc: Doc,
    /// The sources of the definition.
    pub sources: Sources,
    /// The fields, followed by the union members and reserved parts that have a C name.
    pub fields: &'static [Field],
}

/// A class of devices on VMBus: the GUID of their interface.
#[derive(Clone, Copy, Debug)]
pub struct Class {
    /// The C name.
    pub name: &'static str,
    /// The GUID in its text form, lower case.
    pub guid: &'static str,
    /// The meaning of the class.
    pub doc: Doc,
    /// The sources of the definition.
    pub sources: Sources,
}

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The C name. Fields of nested structures and unions are joined with dots.
    pub name: &'static str,
    /// The Rust type, or "" if the Rust structure has no such field.
    pub ty: &'static str,
    /// Offset in bytes; of a bit field, that of its storage unit.
    pub offset: usize,
    /// Size in bytes; of a bit field, that of its storage unit; 0 for an open-ended array.
    pub size: usize,
    /// Lowest bit within the storage unit, and width, for a bit field.
    pub bits: Option<(u32, u32)>,
    /// The meaning of the field; empty if the Rust structure has no such field.
    pub doc: Doc,
}

impl Constant {
    /// Returns true if this constant has this C name, current or former.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

impl Struct {
    /// Returns the constants that are values of this type.
    pub fn values(&self) -> impl Iterator<Item = &'static Constant> + use<> {
        let path = self.path;
        constants().filter(move |row| row.of == path)
    }

    /// Returns true if this structure has this C name, current or former.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// A function or function-like macro of the 2018 patch.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    /// The C name.
    pub name: &'static str,
    /// Path of the counterpart in this crate, or "" for what was internal to Linux.
    pub now: &'static str,
    /// What the function did.
    pub doc: &'static str,
}

/// Finds the first constant with the given value in these tables.
pub(crate) fn named(
    value: u64,
    tables: impl IntoIterator<Item = &'static [Constant]>,
) -> Option<&'static Constant> {
    tables.into_iter().flatten().find(|row| row.value == value)
}

/// The contribution of one module of this crate.
pub(crate) struct Tables {
    pub(crate) constants: &'static [&'static [Constant]],
    pub(crate) structs: &'static [&'static [Struct]],
}

/// A chapter: the contribution of one module of this crate.
pub struct Chapter {
    /// The module's name.
    pub name: &'static str,
    /// The subject, as a heading.
    pub title: &'static str,
    tables: &'static [Tables],
}

impl Chapter {
    /// Iterates over the constants.
    pub fn constants(&self) -> impl Iterator<Item = &'static Constant> + use<> {
        self.tables.iter().flat_map(|module| module.constants).flat_map(|table| table.iter())
    }

    /// Iterates over the structures, bit words and enumeration types.
    pub fn structs(&self) -> impl Iterator<Item = &'static Struct> + use<> {
        self.tables.iter().flat_map(|module| module.structs).flat_map(|table| table.iter())
    }
}

const fn chapter(name: &'static str, title: &'static str, tables: &'static [Tables]) -> Chapter {
    Chapter { name, title, tables }
}

/// The chapters, in the order of the TLFS.
const CHAPTERS: &[Chapter] = &[
    chapter("page", "Pages", &[crate::page::TABLES]),
    chapter("smccc", "Finding the hypervisor: SMCCC", &[crate::smccc::TABLES]),
    chapter("hypercall", "Hypercalls", &[crate::hypercall::TABLES]),
    chapter("status", "Status codes", &[crate::status::TABLES]),
    chapter("features", "Features, privileges and hints", &[crate::features::TABLES]),
    chapter("guest_id", "Guest OS identity", &[crate::guest_id::TABLES]),
    chapter("vp", "Partitions and virtual processors", &[crate::vp::TABLES]),
    chapter("sets", "Sets of virtual processors", &[crate::sets::TABLES]),
    chapter("synic", "SynIC: messages and events", &[crate::synic::TABLES]),
    chapter("port", "Ports and connections", &[crate::port::TABLES]),
    chapter("timer", "Synthetic timers", &[crate::timer::TABLES]),
    chapter("time", "Reference time", &[crate::time::TABLES]),
    chapter("crash", "Crash reports", &[crate::crash::TABLES]),
    chapter("memory", "Memory", &[crate::memory::TABLES]),
    chapter("flush", "TLB flushes", &[crate::flush::TABLES]),
    chapter("interrupt", "Interrupts", &[crate::interrupt::TABLES]),
    chapter("start_vp", "Starting a virtual processor", &[crate::start_vp::TABLES]),
    chapter("vsm", "Virtual trust levels", &[crate::vsm::TABLES]),
    chapter("isolation", "Isolation", &[crate::isolation::TABLES]),
    chapter("intercept", "Intercepts", &[crate::intercept::TABLES]),
    chapter("extended", "Extended hypercalls", &[crate::extended::TABLES]),
    chapter("vmbus", "VMBus", &[crate::vmbus::TABLES]),
    chapter("patch2018", "The 2018 patch", &[crate::patch2018::TABLES]),
    chapter("register", "VP registers", crate::register::TABLES),
];

/// Returns all chapters.
#[must_use]
pub const fn chapters() -> &'static [Chapter] {
    CHAPTERS
}

/// Iterates over all constants.
pub fn constants() -> impl Iterator<Item = &'static Constant> {
    CHAPTERS.iter().flat_map(Chapter::constants)
}

/// Iterates over the classes of devices on VMBus.
pub fn classes() -> impl Iterator<Item = &'static Class> {
    crate::vmbus::guid::CLASSES.iter()
}

/// Iterates over all structures, bit words and enumeration types.
pub fn structs() -> impl Iterator<Item = &'static Struct> {
    CHAPTERS.iter().flat_map(Chapter::structs)
}

/// Iterates over all functions, function-like macros and header guards of the 2018 patch.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    crate::patch2018::FUNCTIONS.iter()
}
