//! The look-up table: every constant and structure of this crate with its C names, value, layout, doc and sources.
//!
//! The rows are made by the same macros that make the Rust items, so the table cannot drift from the types.
//!
//! ```
//! use hv_tlfs::abi;
//!
//! let row = abi::constants().find(|c| c.has_name("HV_REGISTER_SIPP")).unwrap();
//! assert_eq!(row.name, "HV_REGISTER_SIMP");
//! assert_eq!(row.value, 0xa0013);
//! ```

use core::fmt;

/// A doc text, one line each as it stands in the source.
#[derive(Clone, Copy, Debug)]
pub struct Doc(pub(crate) &'static [&'static str]);

impl Doc {
    /// The lines, without the leading space that a doc comment has.
    pub fn lines(self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|line| line.strip_prefix(' ').unwrap_or(line))
    }

    /// The lines of the first paragraph.
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

/// The sources of a definition: document and section each.
#[derive(Clone, Copy, Debug)]
pub struct Sources(pub(crate) &'static str);

impl Sources {
    /// One source at a time.
    pub fn iter(self) -> impl Iterator<Item = &'static str> {
        self.0.split("; ")
    }
}

/// A named number.
#[derive(Clone, Copy, Debug)]
pub struct Constant {
    /// The C name: that of today's Linux headers, else the TLFS's.
    pub name: &'static str,
    /// Every other C name that the number has had.
    pub aliases: &'static [&'static str],
    /// What it is a value of: "register", "hypercall", "status", ...
    pub kind: &'static str,
    /// The number.
    pub value: u64,
    /// What it means.
    pub doc: Doc,
    /// Where that is written.
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
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes of the Rust type. (Linux packs its structures, so that C's is 1 there.)
    pub align: usize,
    /// What it is.
    pub doc: Doc,
    /// Where that is written.
    pub sources: Sources,
    /// The fields, and after them the union members and reserved parts that C names.
    pub fields: &'static [Field],
}

/// A field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The C name; a field of a nested structure or union is written with dots.
    pub name: &'static str,
    /// The Rust type, or "" where the Rust structure has no such field.
    pub ty: &'static str,
    /// Offset in bytes; of a bit field, that of its storage unit.
    pub offset: usize,
    /// Size in bytes; of a bit field, that of its storage unit; 0 for an open-ended array.
    pub size: usize,
    /// Lowest bit within the storage unit, and width, where it is a bit field.
    pub bits: Option<(u32, u32)>,
    /// What it is; empty where the Rust structure has no such field.
    pub doc: Doc,
}

impl Constant {
    /// True if this C name, today's or an earlier one, is this constant's.
    #[must_use]
    pub fn has_name(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

impl Struct {
    /// True if this C name, today's or an earlier one, is this structure's.
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
    /// Where in this crate its subject is, or "" where it was Linux's own affair.
    pub now: &'static str,
    /// What it did.
    pub doc: &'static str,
}

/// What one module of this crate contributes.
pub(crate) struct Tables {
    pub(crate) constants: &'static [&'static [Constant]],
    pub(crate) structs: &'static [&'static [Struct]],
}

/// The modules, in the order of the TLFS's chapters.
const MODULES: &[&[Tables]] = &[
    &[
        crate::page::TABLES,
        crate::smccc::TABLES,
        crate::hypercall::TABLES,
        crate::status::TABLES,
        crate::features::TABLES,
        crate::guest_id::TABLES,
        crate::vp::TABLES,
        crate::sets::TABLES,
        crate::synic::TABLES,
        crate::port::TABLES,
        crate::timer::TABLES,
        crate::time::TABLES,
        crate::crash::TABLES,
        crate::memory::TABLES,
        crate::flush::TABLES,
        crate::interrupt::TABLES,
        crate::start_vp::TABLES,
        crate::vsm::TABLES,
        crate::isolation::TABLES,
        crate::intercept::TABLES,
        crate::extended::TABLES,
        crate::vmbus::TABLES,
        crate::patch2018::TABLES,
    ],
    crate::register::TABLES,
];

/// Every constant.
pub fn constants() -> impl Iterator<Item = &'static Constant> {
    MODULES.iter().copied().flatten().flat_map(|module| module.constants).flat_map(|table| table.iter())
}

/// Every structure, bit word and enumeration type.
pub fn structs() -> impl Iterator<Item = &'static Struct> {
    MODULES.iter().copied().flatten().flat_map(|module| module.structs).flat_map(|table| table.iter())
}

/// Every function, function-like macro and header guard of the 2018 patch.
pub fn functions() -> impl Iterator<Item = &'static Function> {
    crate::patch2018::FUNCTIONS.iter()
}
