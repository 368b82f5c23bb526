//! Queries to a C compiler: each question is a definition, whose bytes in the object file are the answer. Nothing is
//! executed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use elf::ElfBytes;
use elf::endian::LittleEndian;

use hv_setup::process;

/// Reads the first eight bytes as a little-endian number.
pub(super) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// The C compiler for AArch64, with headers to ask about.
pub(super) struct Compiler {
    dir: PathBuf,
    prelude: &'static str,
    arguments: Vec<OsString>,
}

impl Compiler {
    /// Creates a compiler that works in `dir`, with `prelude` before the questions.
    pub(super) fn new(dir: PathBuf, prelude: &'static str, arguments: Vec<OsString>) -> Self {
        Self { dir, prelude, arguments }
    }

    /// Returns the bytes of each definition, in which `@` stands for a name; `None` for those that do not compile.
    pub(super) fn values(&self, items: Vec<String>) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let mut good: Vec<bool> = vec![true; items.len()];
        // A bad line may hide others after it, but each pass takes some away.
        for _ in 0..8 {
            let bad = self.compile(&items, &good)?;
            if bad.is_empty() {
                return self.read(&good);
            }
            for index in bad {
                good[index] = false;
            }
        }
        bail!("the program of questions does not compile")
    }

    /// Compiles the good items; returns those that the compiler rejected.
    fn compile(&self, items: &[String], good: &[bool]) -> anyhow::Result<Vec<usize>> {
        let mut text = self.prelude.to_owned();
        for (index, (item, _)) in items.iter().zip(good).enumerate().filter(|(_, (_, good))| **good) {
            writeln!(
                text,
                "#line {} \"question\"\n{}",
                index + 1,
                item.replacen('@', &format!("hv_question_{index}"), 1)
            )?;
        }
        fs::write(self.dir.join("questions.c"), text)?;
        let mut gcc = Command::new(super::COMPILER);
        gcc.current_dir(&self.dir).args(&self.arguments);
        gcc.args(["-O1", "-w", "-fmax-errors=0", "-c", "questions.c", "-o", "questions.o"]);
        let done = process::run(&mut gcc, || {})?;
        if done.status.success() {
            return Ok(Vec::new());
        }
        let number = |line: &str| line.strip_prefix("question:")?.split(':').next()?.parse::<usize>().ok();
        let mut bad: Vec<usize> = done.stderr.lines().filter_map(number).map(|number| number - 1).collect();
        bad.sort_unstable();
        bad.dedup();
        if bad.is_empty() {
            bail!("the headers do not compile: {}", done.stderr);
        }
        Ok(bad)
    }

    /// Returns the bytes of each definition in the object file.
    fn read(&self, good: &[bool]) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        let symbols = symbols(&self.dir.join("questions.o"))?;
        let mut values = Vec::new();
        for (index, good) in good.iter().enumerate() {
            let bytes = symbols.get(&format!("hv_question_{index}"));
            if *good && bytes.is_none() {
                bail!("the object file lacks the answer to question {index}");
            }
            values.push(bytes.filter(|_| *good).cloned());
        }
        Ok(values)
    }
}

/// Returns the bytes of every data symbol of an object file.
fn symbols(path: &Path) -> anyhow::Result<HashMap<String, Vec<u8>>> {
    let data = fs::read(path)?;
    let file = ElfBytes::<LittleEndian>::minimal_parse(&data)?;
    let (table, strings) = file.symbol_table()?.context("the object file has no symbols")?;
    let sections = file.section_headers().context("the object file has no sections")?;
    let mut symbols = HashMap::new();
    for symbol in table.iter().filter(|symbol| symbol.st_size > 0) {
        let Ok(section) = sections.get(symbol.st_shndx.into()) else { continue };
        let size = usize::try_from(symbol.st_size)?;
        let bytes = if section.sh_type == elf::abi::SHT_NOBITS {
            vec![0; size]
        } else {
            let start = usize::try_from(symbol.st_value)?;
            let (bytes, _) = file.section_data(&section)?;
            let Some(bytes) = bytes.get(start..start + size) else { continue };
            bytes.to_vec()
        };
        symbols.insert(strings.get(symbol.st_name as usize)?.to_owned(), bytes);
    }
    Ok(symbols)
}
