//! The table, part by part.
//!
//! An entry is a name, what is wrong, the right text as it stands in the source, and the wrong one:
//!
//! ```text
//! "crate/src/file.rs" {
//!     name "What is wrong.":
//!         "right" in "text around right" => "wrong";
//!     another_name "What is wrong.":
//!         "right" => "wrong" survives "why no case can catch it";
//! }
//! ```
//!
//! `right` is found exactly once in the file, or, with `in`, exactly once in a text that is. It is an expression
//! outside of constants and `const fn`, and `wrong` is one of the same type. Spaces and line breaks do not count.

macro_rules! mutants {
    ($($file:literal {$(
        $name:ident $what:literal: $right:literal $(in $context:literal)? => $wrong:literal
        $(survives $why:literal)?;
    )+})+) => {
        pub(super) const MUTANTS: &[$crate::mutants::Mutant] = &[$($(
            $crate::mutants::Mutant {
                name: stringify!($name),
                what: $what,
                file: $file,
                right: $right,
                context: mutants!(@optional $($context)?),
                wrong: $wrong,
                survives: mutants!(@optional $($why)?),
            },
        )+)+];
    };
    (@optional) => { None };
    (@optional $text:literal) => { Some($text) };
}

mod channels;
mod devices;
mod hypercalls;
mod registers;
mod sets;
mod synic;
mod time;
mod vmbus;

use super::Mutant;

/// The parts.
pub(super) const PARTS: &[&[Mutant]] = &[
    hypercalls::MUTANTS,
    registers::MUTANTS,
    synic::MUTANTS,
    sets::MUTANTS,
    time::MUTANTS,
    vmbus::MUTANTS,
    channels::MUTANTS,
    devices::MUTANTS,
];
