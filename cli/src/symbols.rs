//! Names for guest addresses, from an ELF file or a System.map.

use std::path::Path;

use anyhow::{Context, bail};
use elf::ElfBytes;
use elf::abi::{STT_FUNC, STT_NOTYPE};
use elf::endian::AnyEndian;

use crate::input;

/// Symbols by address.
#[derive(Debug, Default)]
pub(crate) struct Symbols(Vec<(u64, String)>);

/// Farther than this from a symbol, an address belongs to nothing that is known.
const REACH: u64 = 1 << 20;

impl Symbols {
    /// Reads a file that the user named.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let bytes = input::read(file, input::LONGEST)
            .with_context(|| format!("cannot read symbols {}", file.display()))?;
        let symbols = if bytes.starts_with(b"\x7fELF") { Self::of_elf(&bytes) } else { Self::of_map(&bytes) };
        if symbols.0.is_empty() {
            bail!("{} has no symbols; give an ELF file with a symbol table, or a System.map", file.display());
        }
        Ok(symbols)
    }

    /// The symbols of an ELF file; none where it has no table.
    pub(crate) fn of_elf(bytes: &[u8]) -> Self {
        let table = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok().and_then(|file| {
            let (symbols, names) = file.symbol_table().ok()??;
            let code = symbols.iter().filter(|symbol| matches!(symbol.st_symtype(), STT_FUNC | STT_NOTYPE));
            let named = code.filter_map(|symbol| {
                // Mapping symbols ($x, $d) name kinds of content, not places.
                let name = names
                    .get(symbol.st_name as usize)
                    .ok()
                    .filter(|n| !n.is_empty() && !n.starts_with('$'))?;
                Some((symbol.st_value, name.to_owned()))
            });
            Some(named.collect::<Vec<_>>())
        });
        Self::sorted(table.unwrap_or_default())
    }

    /// Lines of "address type name".
    pub(crate) fn of_map(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let line = |line: &str| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = words.next()?;
            let name = words.next()?;
            matches!(kind, "t" | "T" | "w" | "W").then(|| (address, name.to_owned()))
        };
        Self::sorted(text.lines().filter_map(line).collect())
    }

    fn sorted(mut symbols: Vec<(u64, String)>) -> Self {
        symbols.sort();
        Self(symbols)
    }

    /// "symbol+offset" for an address, if a symbol is near.
    pub(crate) fn name(&self, address: u64) -> Option<String> {
        let after = self.0.partition_point(|&(start, _)| start <= address);
        let (start, name) = self.0.get(after.checked_sub(1)?)?;
        let offset = address - start;
        (offset < REACH).then(|| format!("{}+{offset:#x}", readable(name)))
    }

    /// The address of the symbol of this name.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(_, found)| found == name).map(|(address, _)| *address)
    }
}

/// Characters of a name that are shown at most.
const NAME: usize = 200;

/// A name as it stands in the source: Rust's are demangled, without the hash.
fn readable(name: &str) -> String {
    let plain = format!("{:#}", rustc_demangle::demangle(name));
    if plain.chars().count() <= NAME {
        plain
    } else {
        plain.chars().take(NAME).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_map_names_addresses_at_and_behind_its_symbols() {
        let map = b"ffff800080010000 T _stext\nffff800080010100 t hv_set_vpreg\nffff800080020000 D data\nbad line\n";
        let symbols = Symbols::of_map(map);
        assert_eq!(symbols.name(0xffff_8000_8001_0100).as_deref(), Some("hv_set_vpreg+0x0"));
        assert_eq!(symbols.name(0xffff_8000_8001_0154).as_deref(), Some("hv_set_vpreg+0x54"));
        assert_eq!(symbols.name(0xffff_8000_8001_0004).as_deref(), Some("_stext+0x4"));
        assert_eq!(symbols.name(0xffff_8000_8000_ffff), None, "before the first");
        assert_eq!(symbols.name(0xffff_8000_9001_0100), None, "far behind the last");
    }

    #[test]
    fn the_names_of_rust_are_readable() {
        assert_eq!(readable("_ZN5hello4main17h05af221e174051e9E"), "hello::main");
        assert_eq!(readable("_RNvCskwGfYPst2Cb_3foo16example_function"), "foo::example_function");
        assert_eq!(readable("vmbus_connect"), "vmbus_connect");
        assert_eq!(readable(&"x".repeat(5000)).len(), NAME + 3);
    }

    #[test]
    fn a_file_without_symbols_has_no_names() {
        assert_eq!(Symbols::of_elf(b"\x7fELF and then nothing").name(0x1000), None);
        assert_eq!(Symbols::of_map(b"\xff\xfe\0binary").name(0x1000), None);
    }
}
