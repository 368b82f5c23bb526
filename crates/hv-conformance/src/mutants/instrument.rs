//! Turns the right source into one that is right or wrong, selectable at run time.

use core::fmt;
use core::ops::Range;

use super::{Mutant, mutants};

/// Environment variable with the number of the mutant that a process runs; without it the host is right.
pub const VARIABLE: &str = "HV_MUTANT";

/// Appended to the `lib.rs` of each crate that has mutants.
pub const SWITCH: &str = r#"
mod mutants {
    extern crate std;

    /// Number of choices after which a host counts as endless; a run takes less than a twentieth.
    const PATIENCE: u64 = 1_000_000_000;

    static CHOSEN: std::sync::OnceLock<Option<usize>> = std::sync::OnceLock::new();

    std::thread_local! {
        static STEPS: core::cell::Cell<u64> = const { core::cell::Cell::new(0) };
    }

    pub(crate) fn on(number: usize) -> bool {
        STEPS.set(STEPS.get() + 1);
        assert!(STEPS.get() < PATIENCE, "the host does not come to an end");
        let chosen = || std::env::var("HV_MUTANT").ok()?.parse().ok();
        *CHOSEN.get_or_init(chosen) == Some(number)
    }
}
"#;

/// A mutant that no longer matches its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// The text, or the one around it, is not found exactly once.
    Found {
        /// The mutant.
        mutant: &'static Mutant,
        /// Number of matches.
        times: usize,
    },
    /// The texts of two mutants overlap, and neither contains the other.
    Overlap(&'static Mutant),
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Found { mutant: Mutant { name, file, .. }, .. }
        | Self::Overlap(Mutant { name, file, .. })) = self;
        write!(f, "mutant {name} does not fit crates/{file}: ")?;
        match self {
            Self::Found { mutant, times } => {
                let text = mutant.context.unwrap_or(mutant.right);
                write!(f, "its text is found {times} times, not once: {text}")
            }
            Self::Overlap(_) => f.write_str("its text overlaps another mutant's"),
        }
    }
}

impl core::error::Error for Misfit {}

/// Finds text. Spaces and line breaks are ignored, so formatting the source is harmless.
fn find(source: &str, text: &str) -> Vec<Range<usize>> {
    let dense: Vec<(usize, char)> = source.char_indices().filter(|(_, c)| !c.is_whitespace()).collect();
    let text: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    let windows = dense.windows(text.len().max(1));
    let found = windows.filter(|window| window.iter().map(|&(_, c)| c).eq(text.iter().copied()));
    found
        .map(|window| window[0].0..window[window.len() - 1].0 + window[window.len() - 1].1.len_utf8())
        .collect()
}

impl Mutant {
    /// Finds its right text in the source.
    pub(super) fn place(&'static self, source: &str) -> Result<Range<usize>, Misfit> {
        let once = |source: &str, text| match find(source, text).as_slice() {
            [place] => Ok(place.clone()),
            places => Err(Misfit::Found { mutant: self, times: places.len() }),
        };
        let around = match self.context {
            Some(context) => once(source, context)?,
            None => 0..source.len(),
        };
        let place = once(&source[around.clone()], self.right)?;
        Ok(around.start + place.start..around.start + place.end)
    }
}

/// A place in the source that a mutant changes.
struct Site {
    place: Range<usize>,
    number: usize,
    mutant: &'static Mutant,
}

/// Returns the source of `file` with a choice at each place that a mutant changes.
///
/// # Errors
/// A mutant whose text is not found exactly once, or overlaps another's.
pub fn instrument(file: &str, source: &str) -> Result<String, Misfit> {
    let ours = mutants().enumerate().filter(|(_, mutant)| mutant.file == file);
    let sites = ours.map(|(number, mutant)| Ok(Site { place: mutant.place(source)?, number, mutant }));
    let mut sites = sites.collect::<Result<Vec<_>, _>>()?;
    // The outer of two nested texts comes first.
    sites.sort_by_key(|site| (site.place.start, usize::MAX - site.place.end));
    weave(source, 0..source.len(), &sites)
}

/// Returns the text at `range` with its choices.
fn weave(source: &str, range: Range<usize>, mut sites: &[Site]) -> Result<String, Misfit> {
    let mut woven = String::new();
    let mut at = range.start;
    while let Some((Site { place, number, mutant }, rest)) = sites.split_first() {
        if place.end > range.end {
            return Err(Misfit::Overlap(mutant));
        }
        let (within, behind) = rest.split_at(rest.partition_point(|site| site.place.start < place.end));
        let right = weave(source, place.clone(), within)?;
        let wrong = mutant.wrong;
        woven.push_str(&source[at..place.start]);
        woven.push_str(&format!("(if crate::mutants::on({number}) {{ {wrong} }} else {{ {right} }})"));
        at = place.end;
        sites = behind;
    }
    woven.push_str(&source[at..range.end]);
    Ok(woven)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn mutant(right: &'static str, context: Option<&'static str>) -> Mutant {
        Mutant { name: "m", what: "", file: "f", right, context, wrong: "wrong", survives: None }
    }

    fn woven(source: &str, mutants: &'static [Mutant]) -> Result<String, Misfit> {
        let sites = mutants.iter().enumerate();
        let sites = sites.map(|(number, mutant)| Ok(Site { place: mutant.place(source)?, number, mutant }));
        let mut sites = sites.collect::<Result<Vec<_>, _>>()?;
        sites.sort_by_key(|site| (site.place.start, usize::MAX - site.place.end));
        weave(source, 0..source.len(), &sites)
    }

    #[test]
    fn the_right_text_becomes_a_choice() {
        const M: &[Mutant] = &[mutant("a + b", None)];
        let want = "let x = (if crate::mutants::on(0) { wrong } else { a\n  + b });";
        assert_eq!(woven("let x = a\n  + b;", M).unwrap(), want);
    }

    #[test]
    fn a_text_that_is_found_twice_or_never_does_not_fit() {
        const M: &[Mutant] = &[mutant("a", None)];
        assert_eq!(woven("a a", M), Err(Misfit::Found { mutant: &M[0], times: 2 }));
        assert_eq!(woven("b", M), Err(Misfit::Found { mutant: &M[0], times: 0 }));
    }

    #[test]
    fn the_text_around_tells_which_one_is_meant() {
        const M: &[Mutant] = &[mutant("1", Some("b = 1"))];
        assert_eq!(
            woven("a = 1; b = 1;", M).unwrap(),
            "a = 1; b = (if crate::mutants::on(0) { wrong } else { 1 });"
        );
    }

    #[test]
    fn mutants_may_stand_side_by_side_and_within_one_another() {
        const M: &[Mutant] = &[mutant("b", None), mutant("a..b", None), mutant("c", None)];
        let inner = "(if crate::mutants::on(0) { wrong } else { b })";
        let outer = format!("(if crate::mutants::on(1) {{ wrong }} else {{ a..{inner} }})");
        let last = "(if crate::mutants::on(2) { wrong } else { c })";
        assert_eq!(woven("a..b, c", M).unwrap(), format!("{outer}, {last}"));
    }

    #[test]
    fn mutants_that_overlap_do_not_fit() {
        const M: &[Mutant] = &[mutant("a b", None), mutant("b c", None)];
        assert_eq!(woven("a b c", M), Err(Misfit::Overlap(&M[1])));
    }

    #[test]
    fn the_switch_looks_at_the_variable() {
        assert!(SWITCH.contains(&format!("\"{VARIABLE}\"")));
    }
}
