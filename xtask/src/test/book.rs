//! The book and the README: every command that they show works, and prints what they show.
//!
//! Commands are in blocks of the language `console`, after `$ `. The lines that follow a command are a part of its
//! output, in order, where `...` stands for any lines, and in a line for any text; `$ echo $?` shows its exit code,
//! which is 0 otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use super::context::Context;
use super::runner::Step;
use hv_setup::{process, sources};

/// Commands of other programs, and of an installed hv, which has a scenario of its own.
const OTHERS: [&str; 6] = [
    "cargo install --path cli",
    "hv completions bash >~/.local/share/bash-completion/completions/hv",
    "hv man ~/.local/share/man/man1",
    "gdb -ex 'target remote gdb.sock'",
    "mdbook build docs",
    "qemu-img convert -f raw -O vhdx -o subformat=dynamic esp/hv-conformance.img hv-conformance.vhdx",
];
/// Options of commands that need a file of the reader's, or interaction.
const PERSONAL: [&str; 10] = [
    "--name",
    "--control",
    "--disk",
    "--dvd",
    "--kernel",
    "--tree",
    "--initrd",
    "--gdb",
    "shell",
    "--timeout",
];

/// A command of `hv`, as a page shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    /// Page and line.
    place: String,
    /// The arguments after `cargo hv`.
    words: Vec<String>,
    /// Its output.
    output: Vec<String>,
    /// Its exit code.
    code: i32,
    /// The commands that read the trace that it writes, run in its folder.
    readers: Vec<Shown>,
}

/// Returns the scenarios: all fast commands in one, the boots one by one.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![Step::new("book/commands", |context| {
        all()?.iter().filter(|shown| shown.is_cheap()).try_for_each(|shown| shown.run(context))
    })];
    // If the pages cannot be read, the first step reports it.
    let mut boots: Vec<Shown> = Vec::new();
    for shown in all().unwrap_or_default() {
        if shown.is_boot() {
            boots.push(shown);
        } else if let Some(boot) = boots.last_mut().filter(|boot| boot.writes_for(&shown)) {
            boot.readers.push(shown);
        }
    }
    boots.sort_by(|a, b| a.words.cmp(&b.words));
    boots.dedup_by(|a, b| a.words == b.words);
    steps.extend(boots.into_iter().map(|boot| {
        // The kernel in a test's name tells whether this release of Debian lacks it.
        let stock = boot.words.iter().skip_while(|word| *word != "--stock").nth(1);
        let stock = stock.map_or_else(String::new, |stock| format!("{stock}/"));
        Step::new(format!("book/{stock}{}", boot.words.join(" ")), move |context| boot.run(context))
    }));
    steps
}

impl Shown {
    fn has(&self, word: &str) -> bool {
        self.words.iter().any(|found| found == word)
    }

    /// Returns true if the command takes no time.
    fn is_cheap(&self) -> bool {
        let first = self.words.first().map_or("", String::as_str);
        matches!(first, "abi" | "build" | "decode" | "doctor" | "rules")
            || self.has("--help")
            || self.has("--list")
    }

    /// Returns true if it runs a guest that needs no interaction and no files.
    fn is_boot(&self) -> bool {
        let first = self.words.first().map_or("", String::as_str);
        matches!(first, "boot" | "exec") && !self.is_cheap() && !PERSONAL.iter().any(|word| self.has(word))
    }

    /// Returns true if this boot writes the trace that the other command, a `trace`, reads.
    fn writes_for(&self, other: &Self) -> bool {
        let file = self.words.iter().skip_while(|word| *word != "--trace").nth(1);
        other.words.first().is_some_and(|first| first == "trace")
            && other.words.get(1) == file
            && !other.is_cheap()
    }

    /// Runs it in a folder of its own, with the commands that read its trace, and compares the output.
    fn run(&self, context: &Context) -> anyhow::Result<()> {
        let folder = context.folder()?;
        self.run_in(context, &folder)?;
        self.readers.iter().try_for_each(|reader| reader.run_in(context, &folder))
    }

    fn run_in(&self, context: &Context, folder: &Path) -> anyhow::Result<()> {
        let mut command = context.command(&self.words)?;
        let done = process::run(command.current_dir(folder), || {})?;
        let text = format!("{}{}", done.stdout, done.stderr);
        let what = format!("{}: cargo hv {}", self.place, self.words.join(" "));
        let code = done.status.code();
        ensure!(code == Some(self.code), "{what}\nexit code {code:?}, shown is {}:\n{text}", self.code);
        match missing(&self.output, &done.stdout) {
            Some(line) => bail!("{what}\nthis line is shown, but not printed in its turn:\n{line}\n\n{text}"),
            None => Ok(()),
        }
    }
}

/// Returns the first line that is shown but not printed, or not in this place. Without `...` between them, lines follow
/// one another.
fn missing<'a>(shown: &'a [String], printed: &str) -> Option<&'a str> {
    let mut printed = printed.lines().map(str::trim_end);
    let mut skip = true;
    for line in shown {
        if line == "..." {
            skip = true;
        } else if !(if skip {
            printed.any(|found| is_like(line, found))
        } else {
            printed.next().is_some_and(|found| is_like(line, found))
        }) {
            return Some(line);
        } else {
            skip = false;
        }
    }
    None
}

/// Returns true if a printed line is the shown one, where `...` stands for any text.
fn is_like(shown: &str, printed: &str) -> bool {
    let Some((first, rest)) = shown.split_once("...") else { return shown == printed };
    let (middle, last) = rest.rsplit_once("...").unwrap_or(("", rest));
    let inner = printed.strip_prefix(first).and_then(|rest| rest.strip_suffix(last));
    let mut rest = inner.unwrap_or_default();
    inner.is_some()
        && middle.split("...").all(|part| match rest.split_once(part) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => part.is_empty(),
        })
}

/// Returns every command of the README and the book.
fn all() -> anyhow::Result<Vec<Shown>> {
    let mut found = Vec::new();
    for page in pages()? {
        let place = page.strip_prefix(sources::checkout()?).unwrap_or(&page).display().to_string();
        found.extend(commands(&place, &read(&page)?)?);
    }
    Ok(found)
}

/// Returns the README and the book's pages, without the generated ones.
fn pages() -> anyhow::Result<Vec<PathBuf>> {
    let root = sources::checkout()?;
    let source = root.join("docs/src");
    let list = fs::read_dir(&source).with_context(|| format!("cannot read {}", source.display()))?;
    let list = list.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
    let mut pages: Vec<PathBuf> =
        list.into_iter().filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.push(root.join("README.md"));
    pages.sort();
    Ok(pages)
}

fn read(page: &Path) -> anyhow::Result<String> {
    fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))
}

/// Returns the commands of a page.
fn commands(place: &str, page: &str) -> anyhow::Result<Vec<Shown>> {
    let mut found: Vec<Shown> = Vec::new();
    let mut fence: Option<&str> = None;
    // The line that follows is the exit code.
    let mut code = false;
    for (number, line) in (1..).zip(page.lines()) {
        let place = format!("{place}, line {number}");
        if let Some(language) = line.strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language) };
            code = false;
            if fence.is_some_and(|language| matches!(language, "sh" | "bash" | "shell")) {
                bail!("{place}: commands belong into a block of the language console");
            }
        } else if fence != Some("console") {
        } else if line == "$ echo $?" {
            code = true;
        } else if let Some(command) = line.strip_prefix("$ ") {
            let command = command.split(" #").next().unwrap_or(command).trim_end();
            code = false;
            if OTHERS.contains(&command) {
                continue;
            }
            let words = command.strip_prefix("cargo hv");
            let words = words.with_context(|| format!("{place}: {command} is run by no test"))?;
            ensure!(
                !words.contains(['|', '>', '<', '&', ';', '\'', '"', '$']),
                "{place}: this needs a shell"
            );
            let words = words.split_whitespace().map(str::to_owned).collect();
            found.push(Shown { place, words, ..Shown::default() });
        } else if let Some(last) = found.last_mut() {
            if std::mem::take(&mut code) {
                last.code = line.parse().with_context(|| format!("{place}: no exit code"))?;
            } else {
                last.output.push(line.to_owned());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use hv_tlfs::abi;

    use super::*;

    /// Promises to kernels: the addresses in the chapter "The machine" are right.
    #[test]
    fn the_machines_chapter_has_the_addresses_and_interrupts_of_the_machine() {
        use hv_wire::platform as p;
        let text = include_str!("../../../docs/src/platform.md");
        let row = |start: String, what: &str| {
            let found =
                text.lines().any(|line| line.starts_with(&format!("| {start}")) && line.contains(what));
            assert!(found, "no row '| {start} ... {what}'");
        };
        let hex = |address: u64| format!("{:#06x}_{:04x}", address >> 16, address & 0xffff);
        assert_eq!(p::GUEST_RAM_BASE, 0x4040_0000, "this address is promised");
        row(hex(p::GUEST_RAM_BASE), "RAM");
        row(hex(p::GICD_BASE), "distributor");
        row(hex(p::GICR_BASE), "redistributors");
        row(hex(p::UART_BASE), "PL011");
        row(p::UART_INTID.to_string(), "UART");
        row(p::VIRTUAL_TIMER_INTID.to_string(), "virtual timer");
        row(p::PHYSICAL_TIMER_INTID.to_string(), "physical timer");
        row(p::PMU_INTID.to_string(), "PMU");
        // The tool decides on these two.
        let load = include_str!("../../../cli/src/machine/load.rs");
        for (name, what) in [("VMBUS_INTID", "VMBus"), ("STIMER_INTID", "synthetic timers")] {
            let behind = load.split_once(&format!("{name}: u32 = ")).map_or("", |(_, behind)| behind);
            row(behind.split(';').next().unwrap_or_default().to_owned(), what);
        }
        row(format!("{}, {}", p::MAINTENANCE_INTID, p::HYPERVISOR_TIMER_INTID), "used by the hypervisor");
    }

    /// `--help` and the chapter give each exit code in the same words.
    #[test]
    fn the_exit_codes_of_the_help_are_those_of_the_book() {
        let mut help: Vec<String> = Vec::new();
        for line in hv_setup::exit::HELP.lines().skip(1) {
            let continues = line.starts_with("     ");
            match help.last_mut().filter(|_| continues) {
                Some(last) => *last = format!("{last} {}", line.trim_start()),
                None => help.push(line.split_whitespace().collect::<Vec<_>>().join(" ")),
            }
        }
        let text = include_str!("../../../docs/src/run.md");
        let (_, table) = text.split_once("\n## Exit codes\n").expect("the section is there");
        let rows = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        let book: Vec<String> = rows
            .take_while(|line| line.starts_with('|'))
            .map(|line| {
                let cells: Vec<_> = line.split('|').map(str::trim).collect();
                format!("{} {}", cells[1], cells[2].replace('`', ""))
            })
            .collect();
        assert_eq!(help, book);
    }

    #[test]
    fn every_command_shown_with_output_is_run() {
        let all = all().unwrap();
        assert!(all.len() >= 20, "only {} commands were found", all.len());
        let mut writer: Option<&Shown> = None;
        for shown in &all {
            writer = if shown.is_boot() { Some(shown) } else { writer };
            let reads = writer.is_some_and(|boot| boot.writes_for(shown));
            let is_run = shown.is_cheap() || shown.is_boot() || reads;
            assert!(shown.output.is_empty() || is_run, "{}", shown.place);
        }
        assert!(all.iter().any(Shown::is_cheap) && all.iter().any(Shown::is_boot));
    }

    #[test]
    fn every_trace_that_is_read_is_written_before() {
        let mut writer: Option<Shown> = None;
        let mut read = 0;
        for shown in all().unwrap() {
            if shown.is_boot() {
                writer = Some(shown);
            } else if shown.words.first().is_some_and(|first| first == "trace") {
                assert!(writer.as_ref().is_some_and(|boot| boot.writes_for(&shown)), "{}", shown.place);
                read += 1;
            }
        }
        assert!(read > 0);
    }

    #[test]
    fn the_readme_has_every_folder_of_the_tree() {
        let root = sources::checkout().unwrap();
        let readme = read(&root.join("README.md")).unwrap();
        let mut seen = 0;
        for parent in ["crates", "bare"] {
            for entry in fs::read_dir(root.join(parent)).unwrap().flatten() {
                let name = format!("{parent}/{}", entry.file_name().to_str().unwrap());
                let has = |file: &str| entry.path().join(file).is_file();
                if has("Cargo.toml") || has("Makefile") {
                    assert!(readme.contains(&format!("`{name}`")), "README.md does not say what {name} is");
                    seen += 1;
                }
            }
        }
        assert!(seen > 10, "only {seen} folders were found");
    }

    #[test]
    fn the_rust_that_the_pages_ask_for_is_that_of_the_manifests() {
        let root = sources::checkout().unwrap();
        let version = env!("CARGO_PKG_RUST_VERSION");
        assert!(
            read(&root.join("bare/Cargo.toml")).unwrap().contains(&format!("rust-version = \"{version}\""))
        );
        for page in ["README.md", "docs/src/introduction.md"] {
            let asks = format!("Rust {version} or later");
            assert!(read(&root.join(page)).unwrap().contains(&asks), "{page} does not say {asks}");
        }
    }

    #[test]
    fn the_readme_counts_the_rules() {
        let readme = read(&sources::checkout().unwrap().join("README.md")).unwrap();
        let count = format!("{} rules", hv_tlfs::rules::RULES.len());
        assert!(readme.contains(&count), "README.md does not say {count}");
    }

    #[test]
    fn every_page_is_in_the_summary_and_every_chapter_of_the_table_too() {
        let source = sources::checkout().unwrap().join("docs/src");
        let summary = read(&source.join("SUMMARY.md")).unwrap();
        for page in pages().unwrap().iter().filter(|page| page.starts_with(&source)) {
            let name = page.file_name().unwrap().to_str().unwrap();
            assert!(name == "SUMMARY.md" || summary.contains(&format!("({name})")), "{name}");
        }
        for chapter in abi::chapters() {
            let line = format!("[{}](abi/{}.md)", chapter.title, chapter.name);
            assert!(summary.contains(&line), "SUMMARY.md lacks {line}");
        }
    }

    /// The name of a heading in links, as mdbook makes it.
    fn slug(heading: &str) -> String {
        let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
    }

    #[test]
    fn every_link_and_every_included_file_is_there() {
        let generated: Vec<String> =
            abi::chapters().iter().map(|chapter| format!("abi/{}.md", chapter.name)).collect();
        for page in pages().unwrap() {
            let text = read(&page).unwrap();
            let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
            let included = text.split("{{#include ").skip(1).filter_map(|rest| rest.split(['}', ':']).next());
            for target in links.chain(included) {
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let there = file.is_empty() || page.parent().unwrap().join(file).exists();
                assert!(there || generated.iter().any(|name| name == file), "{}: {target}", page.display());
                if !heading.is_empty() {
                    let page = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
                    let text = read(&page).unwrap();
                    let mut slugs = text.lines().filter(|line| line.starts_with("##")).map(slug);
                    assert!(slugs.any(|slug| slug == heading), "{}: {target}", page.display());
                }
            }
        }
    }

    #[test]
    fn commands_output_and_exit_codes_are_told_apart() {
        let page = "```console\n$ cargo hv abi sint   # a comment\nHV\n...\nlast\n$ echo $?\n1\n```\n\
                    ```text\n$ cargo hv no\n```\n```console\n$ cargo hv test\n```\n";
        let found = commands("page", page).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((&found[0].words[..], found[0].code), (&["abi".to_owned(), "sint".to_owned()][..], 1));
        assert_eq!(found[0].output, ["HV", "...", "last"]);
        assert_eq!((&*found[1].words[0], found[1].code, found[1].output.len()), ("test", 0, 0));
        assert!(commands("page", "```console\n$ rm -r x\n```").is_err());
        assert!(commands("page", "```console\n$ cargo hv abi | head\n```").is_err());
        assert!(commands("page", "```sh\ncargo hv abi\n```").is_err());
    }

    #[test]
    fn a_line_that_is_not_printed_in_its_turn_is_found() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let printed = "a\nb\nc\nd\n";
        assert_eq!(missing(&lines("b\nc"), printed), None);
        assert_eq!(missing(&lines("a\n...\nd"), printed), None);
        assert_eq!(missing(&lines("a\nc"), printed), Some("c"));
        assert_eq!(missing(&lines("d\n...\na"), printed), Some("a"));
        assert_eq!(missing(&[], printed), None);
        let line = "    lost=19: fired 3 times";
        for like in ["...lost=...times", line, "    lost=19: fired ...", "...times", "    ...: ... 3 ..."] {
            assert_eq!(missing(&lines(like), line), None, "{like}");
        }
        for other in
            ["lost=...", "...lost", "...3...fired...", "    lost=19: fired 3 time", "...times..times"]
        {
            assert_eq!(missing(&lines(other), line), Some(other));
        }
    }
}
