//! Names for guest addresses, from an ELF file, a System.map, or the kernel itself.
//!
//! A file of n bytes takes at most n bytes and [`MOST`] entries: names stay where they are in the file, since any
//! number of symbols may share one, and are read only when an address asks for them.

use std::sync::{Arc, LazyLock};

use anyhow::{Context, bail};
use elf::ElfBytes;
use elf::abi::{SHT_SYMTAB, STT_FUNC, STT_NOTYPE};
use elf::endian::AnyEndian;

use crate::input::{Input, LONGEST};
use crate::kallsyms;

/// Symbols by address.
#[derive(Debug, Default)]
pub(crate) struct Symbols {
    /// The bytes with the names: each ends at white space, a NUL or the end.
    text: Vec<u8>,
    /// Address, and offset of the name; sorted.
    places: Vec<(u64, u32)>,
    /// The addresses are relative to the kernel's start, wherever that is.
    floating: bool,
}

/// Symbols that are read while the machine runs, or when they are asked for.
pub(crate) type Later = Arc<LazyLock<Symbols, Box<dyn FnOnce() -> Symbols + Send>>>;

/// Maximum distance from a symbol: an address beyond it has no name.
const REACH: u64 = 1 << 20;
/// Maximum number of symbols: a kernel with everything built in has a tenth of it.
const MOST: usize = 1 << 22;
/// Maximum length of a name that is read, in bytes.
const LONGEST_NAME: usize = 4096;

/// There are more symbols than [`MOST`].
#[derive(Debug, thiserror::Error)]
#[error("it has more than {MOST} symbols; give a file with only the kernel's symbols (strip, or System.map)")]
pub(crate) struct TooMany;

impl From<Symbols> for Later {
    fn from(symbols: Symbols) -> Self {
        Self::new(LazyLock::new(Box::new(|| symbols)))
    }
}

impl Symbols {
    /// Reads a file named by the user.
    pub(crate) fn read(file: &Input) -> anyhow::Result<Self> {
        let bytes = file.read("symbols", LONGEST)?;
        let symbols = if bytes.starts_with(b"\x7fELF") { Self::of_elf(&bytes) } else { Self::of_map(bytes) };
        let symbols = symbols.with_context(|| format!("cannot read symbols from {file}"))?;
        if symbols.is_empty() {
            bail!("{file} has no symbols; give an ELF file with a symbol table, or a System.map");
        }
        Ok(symbols)
    }

    /// Returns the symbols of an ELF file; none if it has no symbol table.
    pub(crate) fn of_elf(bytes: &[u8]) -> Result<Self, TooMany> {
        Self::elf_places(bytes).unwrap_or_else(|| Ok(Self::default()))
    }

    fn elf_places(bytes: &[u8]) -> Option<Result<Self, TooMany>> {
        let file = ElfBytes::<AnyEndian>::minimal_parse(bytes).ok()?;
        let table = file.section_headers()?.iter().find(|header| header.sh_type == SHT_SYMTAB)?;
        let (symbols, _) = file.symbol_table().ok()??;
        let names = file.section_headers()?.get(table.sh_link as usize).ok()?;
        let (names, _) = file.section_data(&names).ok()?;
        let code = symbols.iter().filter(|symbol| matches!(symbol.st_symtype(), STT_FUNC | STT_NOTYPE));
        // Mapping symbols ($x, $d) denote kinds of content, not locations.
        let named = code.filter(|symbol| {
            names.get(symbol.st_name as usize).is_some_and(|&first| !matches!(first, 0 | b'$'))
        });
        let places = named.map(|symbol| (symbol.st_value, symbol.st_name));
        Some(Self::sorted(places).map(|places| Self { text: names.to_vec(), places, floating: false }))
    }

    /// Parses lines of "address type name".
    pub(crate) fn of_map(bytes: Vec<u8>) -> Result<Self, TooMany> {
        let mut start = 0;
        let lines = bytes.split(|&byte| byte == b'\n').filter_map(|line| {
            let place = start;
            start += line.len() + 1;
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let address = std::str::from_utf8(words.next()?).ok()?;
            let address = u64::from_str_radix(address, 16).ok()?;
            let kind = words.next()?;
            let name = words.next()?;
            let name = place + (name.as_ptr().addr() - line.as_ptr().addr());
            matches!(kind, b"t" | b"T" | b"w" | b"W").then_some((address, u32::try_from(name).ok()?))
        });
        let places = Self::sorted(lines)?;
        Ok(Self { text: bytes, places, floating: false })
    }

    /// Returns the symbols in a Linux kernel's image; none if it has no table.
    pub(crate) fn of_linux(image: &[u8]) -> Self {
        let mut text = Vec::new();
        let functions = kallsyms::functions(image).unwrap_or_default().into_iter();
        let places = functions.map_while(|(offset, name)| {
            let place = u32::try_from(text.len()).ok()?;
            text.extend_from_slice(name.as_bytes());
            text.push(0);
            Some((offset, place))
        });
        let places = Self::sorted(places).unwrap_or_default();
        Self { text, places, floating: true }
    }

    /// Reads symbols in a thread of its own.
    pub(crate) fn later(read: impl FnOnce() -> Self + Send + 'static) -> Later {
        let later = Later::new(LazyLock::new(Box::new(read)));
        let reader = Arc::clone(&later);
        // Without one they are read when they are needed.
        let _ = std::thread::Builder::new().name("symbols".to_owned()).spawn(move || {
            LazyLock::force(&reader);
        });
        later
    }

    /// Returns true if there are no symbols.
    pub(crate) const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Returns true if the addresses are relative to the kernel's start.
    pub(crate) const fn is_floating(&self) -> bool {
        self.floating
    }

    /// Returns the first and the last address; `None` without symbols.
    pub(crate) fn range(&self) -> Option<(u64, u64)> {
        Some((self.places.first()?.0, self.places.last()?.0))
    }

    fn sorted(places: impl Iterator<Item = (u64, u32)>) -> Result<Vec<(u64, u32)>, TooMany> {
        let mut places: Vec<_> = places.take(MOST + 1).collect();
        if places.len() > MOST {
            return Err(TooMany);
        }
        places.sort_unstable();
        places.shrink_to_fit();
        Ok(places)
    }

    /// Returns "symbol+offset" for an address, if a symbol is near.
    pub(crate) fn name(&self, address: u64) -> Option<String> {
        let after = self.places.partition_point(|&(start, _)| start <= address);
        let &(start, place) = self.places.get(after.checked_sub(1)?)?;
        let offset = address - start;
        (offset < REACH).then(|| format!("{}+{offset:#x}", readable(&self.text_at(place))))
    }

    /// Returns the address of the symbol with this name.
    pub(crate) fn address(&self, name: &str) -> Option<u64> {
        let is_name = |place: u32| {
            let rest = self.text.get(place as usize..).and_then(|rest| rest.strip_prefix(name.as_bytes()));
            rest.is_some_and(|rest| rest.first().is_none_or(|byte| is_end(*byte)))
        };
        self.places.iter().find(|(_, place)| is_name(*place)).map(|(address, _)| *address)
    }

    /// Returns the name at an offset.
    fn text_at(&self, place: u32) -> String {
        let rest = self.text.get(place as usize..).unwrap_or_default();
        let rest = &rest[..rest.len().min(LONGEST_NAME)];
        let end = rest.iter().position(|byte| is_end(*byte)).unwrap_or(rest.len());
        String::from_utf8_lossy(&rest[..end]).into_owned()
    }
}

/// Returns true if a byte ends a name.
const fn is_end(byte: u8) -> bool {
    byte == 0 || byte.is_ascii_whitespace()
}

/// Maximum number of characters of a name that are shown.
const NAME: usize = 200;

/// Returns a name as in the source: Rust names are demangled, without the hash.
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
        let map = b"ffff800080010000 T _stext\nffff800080010100 t hv_set_vpreg\nffff800080020000 D data\nbad line\n\
                    ffff800080010200  t  spaced\t[module]\r\n";
        let symbols = Symbols::of_map(map.to_vec()).unwrap();
        assert_eq!(symbols.name(0xffff_8000_8001_0100).as_deref(), Some("hv_set_vpreg+0x0"));
        assert_eq!(symbols.name(0xffff_8000_8001_0154).as_deref(), Some("hv_set_vpreg+0x54"));
        assert_eq!(symbols.name(0xffff_8000_8001_0004).as_deref(), Some("_stext+0x4"));
        assert_eq!(symbols.name(0xffff_8000_8001_0204).as_deref(), Some("spaced+0x4"));
        assert_eq!(symbols.name(0xffff_8000_8000_ffff), None, "before the first");
        assert_eq!(symbols.name(0xffff_8000_9001_0100), None, "far after the last");
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
        assert_eq!(Symbols::of_elf(b"\x7fELF and then nothing").unwrap().name(0x1000), None);
        assert_eq!(Symbols::of_map(b"\xff\xfe\0binary".to_vec()).unwrap().name(0x1000), None);
    }

    /// Builds an ELF file with a string table of these bytes, and symbols whose names are at these offsets.
    fn elf(names: &[u8], symbols: &[(u64, u32)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(16, 0);
        file.extend_from_slice(&[2, 0, 183, 0, 1, 0, 0, 0]);
        file.resize(64, 0);
        let symbols_at = file.len() as u64;
        for &(address, name) in symbols {
            file.extend_from_slice(&name.to_le_bytes());
            // STB_GLOBAL, STT_FUNC, in section 1.
            file.extend_from_slice(&[0x12, 0, 1, 0]);
            file.extend_from_slice(&address.to_le_bytes());
            file.extend_from_slice(&[0; 8]);
        }
        let names_at = file.len() as u64;
        file.extend_from_slice(names);
        let sections_at = file.len() as u64;
        let section = |kind: u32, at: u64, size: u64, link: u32, entry: u64| {
            let mut bytes = vec![0; 64];
            bytes[4..8].copy_from_slice(&kind.to_le_bytes());
            bytes[24..32].copy_from_slice(&at.to_le_bytes());
            bytes[32..40].copy_from_slice(&size.to_le_bytes());
            bytes[40..44].copy_from_slice(&link.to_le_bytes());
            bytes[56..64].copy_from_slice(&entry.to_le_bytes());
            bytes
        };
        file.extend_from_slice(&section(0, 0, 0, 0, 0));
        file.extend_from_slice(&section(SHT_SYMTAB, symbols_at, names_at - symbols_at, 2, 24));
        file.extend_from_slice(&section(3, names_at, names.len() as u64, 0, 0));
        file[40..48].copy_from_slice(&sections_at.to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file
    }

    #[test]
    fn an_elf_file_names_its_functions() {
        let file =
            elf(b"\0start\0$x\0end", &[(0x2000, 1), (0x2004, 7), (0x3000, 10), (0x4000, 0), (0x5000, 99)]);
        let symbols = Symbols::of_elf(&file).unwrap();
        assert_eq!(symbols.name(0x2008).as_deref(), Some("start+0x8"));
        assert_eq!(symbols.name(0x5000).as_deref(), Some("end+0x2000"));
    }

    /// Checks that symbols with the same long name take an entry each, and no copies of it.
    #[test]
    fn symbols_that_share_a_name_share_its_bytes() {
        let mut names = vec![b'n'; 1 << 20];
        names[0] = 0;
        let all: Vec<(u64, u32)> = (0..50_000).map(|n| (n, 1 + (n as u32 % 1000))).collect();
        let file = elf(&names, &all);
        let symbols = Symbols::of_elf(&file).unwrap();
        assert_eq!(symbols.places.len(), 50_000);
        let kept = symbols.text.capacity() + symbols.places.capacity() * size_of::<(u64, u32)>();
        assert!(kept <= file.len(), "{kept} bytes of {}", file.len());
        assert_eq!(symbols.name(7).unwrap(), "n".repeat(NAME) + "...+0x0");
    }

    #[test]
    fn more_symbols_than_are_kept_are_an_error() {
        let line = b"1 t a\n";
        assert!(Symbols::of_map(line.repeat(MOST)).is_ok());
        assert!(Symbols::of_map(line.repeat(MOST + 1)).is_err());
    }
}
