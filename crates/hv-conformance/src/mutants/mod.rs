//! Wrong hosts to test the suite with: a case that fails on none of them proves little.
//!
//! A [`Mutant`] is one wrong behaviour of our host half, as a change to its source. `hv conformance --mutants` copies
//! the sources with every mutant selectable at run time ([`instrument`]), builds the copy once, and runs the suite
//! against each mutant. The sources themselves are unaffected.

mod instrument;
mod table;
#[cfg(test)]
mod tests;

pub use instrument::{Misfit, SWITCH, VARIABLE, instrument};

/// One wrong behaviour of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// Its name, as a case's.
    pub name: &'static str,
    /// The fault, as a sentence.
    pub what: &'static str,
    /// Source file, relative to the folder `crates`.
    pub file: &'static str,
    /// The right text, an expression.
    pub right: &'static str,
    /// The text around the right text, if the latter occurs more than once in the file.
    pub context: Option<&'static str>,
    /// The wrong text.
    pub wrong: &'static str,
    /// Why no case can catch it, if none can.
    pub survives: Option<&'static str>,
}

/// Returns all mutants. The index in this order is the number by which [`VARIABLE`] selects it.
pub fn mutants() -> impl Iterator<Item = &'static Mutant> {
    table::PARTS.iter().copied().flatten()
}

/// Returns the source files that have mutants, each once.
#[must_use]
pub fn files() -> Vec<&'static str> {
    let mut files: Vec<&str> = mutants().map(|mutant| mutant.file).collect();
    files.sort_unstable();
    files.dedup();
    files
}
