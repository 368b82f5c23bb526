//! The table of cases.

#[cfg(feature = "run")]
use crate::{cx::Cx, outcome::Outcome};

/// A case: a function that checks one rule.
#[derive(Clone, Copy)]
pub struct Case {
    /// Chapter of the TLFS, the name of the file in [`crate::cases`].
    pub chapter: &'static str,
    /// The rule, as a sentence with underscores.
    pub name: &'static str,
    /// Page of the TLFS (or of another specification, which is named).
    pub page: &'static str,
    /// Section of that page.
    pub section: &'static str,
    #[cfg(feature = "run")]
    pub(crate) run: fn(&Cx<'_>) -> Outcome,
}

impl core::fmt::Debug for Case {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}/{}", self.chapter, self.name)
    }
}

/// Declares the cases of a file: its chapter, then by page and section the functions.
macro_rules! cases {
    ($chapter:literal; $($page:literal, $section:literal: $($name:ident),+;)+) => {
        pub(crate) const CASES: &[$crate::case::Case] = &[$($(
            $crate::case::Case {
                chapter: $chapter,
                name: stringify!($name),
                page: $page,
                section: $section,
                #[cfg(feature = "run")]
                run: $name,
            },
        )+)+];
    };
}
