//! AArch64 object code: functions, their instructions, and their call targets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SymbolKind};

type Error = Box<dyn std::error::Error>;

/// A function: its instructions, and the symbols they refer to, by instruction index.
#[derive(Default)]
struct Function {
    words: Vec<u32>,
    refers: BTreeMap<usize, String>,
}

impl Function {
    /// Returns the number of bytes by which the function's own instructions move the stack pointer down (Arm ARM,
    /// C4.1).
    fn frame(&self) -> usize {
        let bytes = |word: u32| {
            let immediate = (word >> 10 & 0xfff) as usize;
            match word {
                // SUB SP, SP, #immediate; the same in units of 4096.
                _ if word & 0xffc0_03ff == 0xd100_03ff => immediate,
                _ if word & 0xffc0_03ff == 0xd140_03ff => immediate << 12,
                // SUB X9, SP, #immediate in units of 4096: the end of a loop that goes down by pages.
                _ if word & 0xffc0_03ff == 0xd140_03e9 => (immediate - 1) << 12,
                // STP Xt, Xu, [SP, #immediate]!, and STR Xt, [SP, #immediate]!
                _ if word & 0xffc0_03e0 == 0xa980_03e0 => {
                    ((word << 10) as i32 >> 25).unsigned_abs() as usize * 8
                }
                _ if word & 0xffe0_0fe0 == 0xf800_0fe0 => ((word << 11) as i32 >> 23).unsigned_abs() as usize,
                _ => 0,
            }
        };
        self.words.iter().map(|word| bytes(*word)).sum()
    }
}

/// Functions by name.
#[derive(Default)]
pub(crate) struct Code(BTreeMap<String, Function>);

impl Code {
    /// Reads all functions of a static library.
    pub(crate) fn read_archive(path: &Path) -> Result<Self, Error> {
        let data = std::fs::read(path)?;
        let mut code = Self::default();
        for member in ArchiveFile::parse(&*data)?.members() {
            // Members that are not objects hold metadata.
            if let Ok(file) = object::File::parse(member?.data(&*data)?) {
                code.add(&file)?;
            }
        }
        Ok(code)
    }

    /// Reads all functions of object files.
    pub(crate) fn read_objects(paths: &[&Path]) -> Result<Self, Error> {
        let mut code = Self::default();
        for path in paths {
            code.add(&object::File::parse(&*std::fs::read(path)?)?)?;
        }
        Ok(code)
    }

    fn add(&mut self, file: &object::File<'_>) -> Result<(), Error> {
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() != 0)
        {
            let Some(section) = symbol.section_index() else { continue };
            let section = file.section_by_index(section)?;
            let range = symbol.address()..symbol.address() + symbol.size();
            let bytes = section.data_range(range.start, symbol.size())?.ok_or("a function has no code")?;
            let words =
                bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
            let mut function = Function { words: words.collect(), refers: BTreeMap::new() };
            for (at, relocation) in section.relocations().filter(|(at, _)| range.contains(at)) {
                if let RelocationTarget::Symbol(index) = relocation.target() {
                    let target = file.symbol_by_index(index)?;
                    let name = match (target.kind(), target.section_index()) {
                        // References to a local function go through its section.
                        (SymbolKind::Section, Some(section)) => {
                            file.section_by_index(section)?.name()?.to_owned()
                        }
                        _ => target.name()?.to_owned(),
                    };
                    function.refers.insert(((at - range.start) / 4) as usize, name);
                }
            }
            self.0.insert(symbol.name()?.to_owned(), function);
        }
        Ok(())
    }

    fn function(&self, name: &str) -> Option<&Function> {
        self.0.get(name).or_else(|| self.0.get(name.strip_prefix(".text.")?))
    }

    /// Counts the instructions from a function's entry to its return: no conditional branch is taken, except that a
    /// single bit tested with TBZ or TBNZ (a flag, such as "message pending") is zero; calls are followed.
    pub(crate) fn straight(&self, name: &str) -> Result<usize, Error> {
        const RET: u32 = 0xd65f_03c0;
        const LIMIT: usize = 10_000;
        let (mut count, mut stack) = (0, Vec::new());
        let (mut function, mut at) = (self.function(name).ok_or_else(|| format!("no function {name}"))?, 0);
        loop {
            let word = *function.words.get(at).ok_or_else(|| format!("{name} runs off its end"))?;
            count += 1;
            if count > LIMIT {
                return Err(format!("{name} does not return").into());
            }
            let offset = ((word << 6) as i32 >> 6) as isize;
            at = match word {
                RET => match stack.pop() {
                    Some((caller, next)) => {
                        function = caller;
                        next
                    }
                    None => return Ok(count),
                },
                _ if word >> 26 == 0b100101 || word >> 26 == 0b000101 => {
                    let call = word >> 31 == 1;
                    if let Some(target) = function.refers.get(&at) {
                        if call {
                            stack.push((function, at + 1));
                        }
                        function = self.function(target).ok_or_else(|| format!("{name} calls {target}"))?;
                        0
                    } else if call {
                        return Err(format!("{name} has a call without a target").into());
                    } else {
                        at.checked_add_signed(offset).ok_or("a branch target is out of range")?
                    }
                }
                _ if word & 0x7f00_0000 == 0x3600_0000 => {
                    let offset = ((word << 13) as i32 >> 18) as isize;
                    at.checked_add_signed(offset).ok_or("a branch target is out of range")?
                }
                _ => at + 1,
            };
        }
    }

    /// Returns the names of the functions that C calls with one of these prefixes.
    pub(crate) fn named<'c>(&'c self, prefixes: &'c [&str]) -> impl Iterator<Item = &'c str> {
        let names = self.0.keys().map(String::as_str);
        names.filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)))
    }

    /// Returns the bytes of stack that a function takes with all that it refers to; what it calls by a pointer does not
    /// count.
    pub(crate) fn stack(&self, name: &str) -> Result<usize, Error> {
        self.function(name).ok_or_else(|| format!("no function {name}"))?;
        Ok(self.deepest(name, &mut BTreeMap::new()))
    }

    fn deepest<'c>(&'c self, name: &'c str, known: &mut BTreeMap<&'c str, usize>) -> usize {
        let Some(function) = self.function(name) else { return 0 };
        if let Some(depth) = known.get(name) {
            return *depth;
        }
        // A function that calls itself again counts once.
        known.insert(name, 0);
        let below = function.refers.values().map(|target| self.deepest(target, known)).max();
        let depth = function.frame() + below.unwrap_or(0);
        known.insert(name, depth);
        depth
    }

    /// Returns the names of everything that a function refers to, transitively.
    pub(crate) fn reachable(&self, name: &str) -> Result<BTreeSet<String>, Error> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![name.to_owned()];
        self.function(name).ok_or_else(|| format!("no function {name}"))?;
        while let Some(name) = todo.pop() {
            let Some(function) = self.function(&name) else { continue };
            for target in function.refers.values() {
                if seen.insert(target.clone()) {
                    todo.push(target.clone());
                }
            }
        }
        Ok(seen)
    }
}
