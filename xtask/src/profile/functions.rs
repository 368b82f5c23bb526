//! The functions of a program by address, from its debug information.

use std::ops::Range;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Context as _, anyhow};

/// A function of the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Function {
    /// Its path, without generic arguments.
    pub(super) name: String,
    /// The file, from the checkout's root for one of its own.
    pub(super) file: String,
}

/// The functions of a program.
pub(super) struct Functions {
    loader: Loader,
    /// Addresses of its code.
    code: Range<u64>,
}

impl Functions {
    /// Reads the debug information of a program.
    ///
    /// # Errors
    /// It cannot be read, or the program has no code.
    pub(super) fn of(program: &Path) -> anyhow::Result<Self> {
        let read = |error| anyhow!("cannot read the debug information of {}: {error}", program.display());
        let loader = Loader::new(program).map_err(read)?;
        let code = loader.get_section_range(b".text");
        let code = code.with_context(|| format!("{} has no section .text", program.display()))?;
        Ok(Self { loader, code: code.begin..code.end })
    }

    /// Returns the addresses of the program's code.
    pub(super) fn code(&self) -> &Range<u64> {
        &self.code
    }

    /// Returns the function with the instruction at this address, the innermost one of those that are inlined; `None`
    /// outside the program.
    pub(super) fn at(&self, address: u64) -> Option<Function> {
        if !self.code.contains(&address) {
            return None;
        }
        let frame = self.loader.find_frames(address).ok().and_then(|mut frames| frames.next().ok().flatten());
        let named = frame.as_ref().and_then(|frame| frame.function.as_ref());
        let name = named.and_then(|function| function.demangle().ok().map(|name| short(&name)));
        let file = frame.as_ref().and_then(|frame| frame.location.as_ref()).and_then(|place| place.file);
        // Assembly has symbols alone.
        let symbol = || self.loader.find_symbol(address).unwrap_or("unknown").to_owned();
        Some(Function { name: name.unwrap_or_else(symbol), file: file.map(from_root).unwrap_or_default() })
    }
}

/// Returns a function's path without the hash, and with `..` for generic arguments.
fn short(name: &str) -> String {
    let name = match name.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => path,
        _ => name,
    };
    let (mut result, mut depth) = (String::new(), 0u32);
    for (place, letter) in name.char_indices() {
        match letter {
            // A path may begin with `<Type as Trait>`: that is no list of arguments.
            '<' if place > 0 && depth == 0 && !name[..place].ends_with([' ', '<', '&']) => {
                depth = 1;
                result.push_str("<..");
            }
            '<' if depth > 0 => depth += 1,
            '>' if depth > 1 && !name[..place].ends_with('-') => depth -= 1,
            '>' if depth == 1 && !name[..place].ends_with('-') => {
                depth = 0;
                result.push('>');
            }
            _ if depth > 0 => {}
            letter => result.push(letter),
        }
    }
    result
}

/// Returns a file's path from the root of the checkout, from library/ for the standard library's, and as it is
/// otherwise.
fn from_root(file: &str) -> String {
    const FOLDERS: [&str; 2] = ["/crates/", "/bare/"];
    let own = FOLDERS.iter().find_map(|folder| file.rfind(folder).map(|place| &file[place + 1..]));
    let elsewhere = || file.find("/library/").map(|place| &file[place + 1..]);
    own.or_else(elsewhere).unwrap_or(file).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_hashes_are_left_out() {
        assert_eq!(short("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(short("a::B<C<D>, E>::f"), "a::B<..>::f");
        assert_eq!(short("<a::B as c::D>::f"), "<a::B as c::D>::f");
        assert_eq!(short("a::f<fn(u8) -> u8>"), "a::f<..>");
    }

    #[test]
    fn files_of_the_checkout_are_named_from_its_root() {
        assert_eq!(from_root("/home/me/hv/crates/hv-host/src/one.rs"), "crates/hv-host/src/one.rs");
        assert_eq!(from_root("/rustc/59807/library/core/src/cell.rs"), "library/core/src/cell.rs");
        assert_eq!(from_root("vectors.s"), "vectors.s");
    }
}
