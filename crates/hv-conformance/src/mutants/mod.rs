//! Wrong hosts, to test the suite with: a case that fails on none of them proves little.
//!
//! A [`Mutant`] is one wrong behaviour of our host half, as a change to its source. `hv conformance --mutants` makes a copy of
//! the sources in which every mutant is a choice at run time ([`instrument`]), builds it once, and runs the suite against each.
//! The sources themselves know nothing of this.

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
    /// What is wrong, as a sentence.
    pub what: &'static str,
    /// Source file, from the folder `crates` on.
    pub file: &'static str,
    /// The right text, an expression.
    pub right: &'static str,
    /// What the right text stands in, where it alone is found more than once in the file.
    pub context: Option<&'static str>,
    /// The wrong text.
    pub wrong: &'static str,
    /// Why no case can catch it, if none can.
    pub survives: Option<&'static str>,
}

/// All mutants. The place of one in this order is the number by which [`VARIABLE`] chooses it.
pub fn mutants() -> impl Iterator<Item = &'static Mutant> {
    table::PARTS.iter().copied().flatten()
}

/// The source files that have mutants, each once.
#[must_use]
pub fn files() -> Vec<&'static str> {
    let mut files: Vec<&str> = mutants().map(|mutant| mutant.file).collect();
    files.sort_unstable();
    files.dedup();
    files
}
