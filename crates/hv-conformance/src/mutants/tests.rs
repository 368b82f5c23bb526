//! Tests of the table against the sources.

use std::collections::BTreeSet;
use std::path::Path;

use super::{files, instrument, mutants};

fn crates() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn every_mutant_fits_its_source() {
    let source = |file: &str| std::fs::read_to_string(crates().join(file)).unwrap_or_default();
    let mut misfits: Vec<String> = mutants()
        .filter_map(|mutant| mutant.place(&source(mutant.file)).err())
        .map(|misfit| misfit.to_string())
        .collect();
    if misfits.is_empty() {
        // The remaining possibility is that two of them overlap.
        let overlap = |file: &&str| instrument(file, &source(file)).err();
        misfits.extend(files().iter().filter_map(overlap).map(|misfit| misfit.to_string()));
    }
    assert!(
        misfits.is_empty(),
        "adapt the entries in crates/hv-conformance/src/mutants/table to the source:\n{}",
        misfits.join("\n")
    );
}

#[test]
fn every_mutant_has_a_name_of_its_own_and_says_what_is_wrong() {
    let names: BTreeSet<&str> = mutants().map(|mutant| mutant.name).collect();
    assert_eq!(names.len(), mutants().count());
    for mutant in mutants() {
        assert!(mutant.what.ends_with('.') && mutant.right != mutant.wrong, "{}", mutant.name);
    }
}

#[test]
fn there_are_at_least_60_mutants_and_at_most_5_in_100_survive() {
    let count = mutants().count();
    let survivors = mutants().filter(|mutant| mutant.survives.is_some()).count();
    assert!(count >= 60 && survivors * 100 <= count * 5, "{survivors} of {count}");
}
