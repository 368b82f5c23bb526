//! Checks the JSON against the book: `docs/src/json.md` has a table for each command.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::context::Context;
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;
use hv_setup::sources;

/// The report of `hv boot`.
pub(super) const BOOT: &str = "hv boot --json";

/// Numbers that every JSON reader preserves.
const EXACT: u64 = 1 << 53;

/// The fields of a document, by path.
#[derive(Debug)]
pub(super) struct Schema {
    title: String,
    fields: BTreeMap<String, Field>,
}

#[derive(Debug)]
struct Field {
    /// The types that the book allows: `number`, `hex`, `string`, `bool`, `object`, `list`.
    types: Vec<String>,
    null: bool,
    absent: bool,
}

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("json/boot", boot), Step::new("json/others", others)]
}

/// Checks a document against the book's table for a command, and returns the paths that have a value in it.
pub(super) fn check(command: &str, json: &Value) -> anyhow::Result<BTreeSet<String>> {
    Schema::of(command)?.check(json)
}

impl Schema {
    /// Reads the book's table for a command.
    pub(super) fn of(command: &str) -> anyhow::Result<Self> {
        let page = sources::checkout()?.join("docs/src/json.md");
        let text =
            std::fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
        Self::parse(command, &text)
    }

    fn parse(command: &str, text: &str) -> anyhow::Result<Self> {
        let title = format!("## `{command}`");
        let section = text.lines().skip_while(|line| *line != title).skip(1);
        let rows = section.take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with("| `"));
        let mut fields = BTreeMap::new();
        for row in rows {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            let [_, path, kind, _, meaning, ..] = cells[..] else { bail!("{row}: expected four cells") };
            ensure!(!meaning.is_empty(), "{row}: expected a meaning");
            let words: Vec<_> = kind.split([',', ' ']).filter(|word| !matches!(*word, "" | "or")).collect();
            let (null, absent) = (words.contains(&"null"), words.contains(&"absent"));
            let types: Vec<_> = words
                .into_iter()
                .filter(|word| !matches!(*word, "null" | "absent"))
                .map(str::to_owned)
                .collect();
            let path = path.trim_matches('`').to_owned();
            ensure!(fields.insert(path, Field { types, null, absent }).is_none(), "{row}: twice");
        }
        ensure!(!fields.is_empty(), "the book has no table for {command}");
        Ok(Self { title: command.to_owned(), fields })
    }

    /// Checks a document, and returns the paths that have a value in it.
    pub(super) fn check(&self, json: &Value) -> anyhow::Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        self.children("", json, &mut found)
            .with_context(|| format!("{} is not as the book has it", self.title))?;
        Ok(found)
    }

    /// Returns the fields that have no value in any of these documents.
    pub(super) fn unseen(&self, found: &[BTreeSet<String>]) -> Vec<&str> {
        let seen = |path: &str| found.iter().any(|found| found.contains(path));
        self.fields.keys().map(String::as_str).filter(|path| !seen(path)).collect()
    }

    fn value(&self, path: &str, value: &Value, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
        let field = self.fields.get(path).with_context(|| format!("{path} is not in the book"))?;
        if value.is_null() {
            ensure!(field.null, "{path} is null");
            return Ok(());
        }
        let fits = |kind: &String| match kind.as_str() {
            "number" => value.as_u64().map_or(value.is_f64(), |number| number < EXACT),
            "hex" => value.as_str().is_some_and(is_hex),
            "string" => value.is_string(),
            "bool" => value.is_boolean(),
            "object" => value.is_object(),
            "list" => value.is_array(),
            _ => false,
        };
        ensure!(field.types.iter().any(fits), "{path} is {value}, and the book says {:?}", field.types);
        found.insert(path.to_owned());
        self.children(path, value, found)
    }

    fn children(&self, path: &str, value: &Value, found: &mut BTreeSet<String>) -> anyhow::Result<()> {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Array(items) => {
                let item = format!("{path}[]");
                // For objects the book lists only the fields.
                let objects = self.fields.keys().any(|known| known.starts_with(&format!("{item}.")));
                items.iter().try_for_each(|value| match value {
                    Value::Object(_) if objects => self.children(&item, value, found),
                    _ => self.value(&item, value, found),
                })
            }
            Value::Object(fields) => {
                let any = below("*");
                let any = self.fields.contains_key(&any).then_some(any);
                for (name, value) in fields {
                    self.value(any.as_ref().unwrap_or(&below(name)), value, found)?;
                }
                for (known, field) in &self.fields {
                    let own = known.strip_prefix(&below("")).filter(|name| !name.contains(['.', '[', '*']));
                    if let Some(name) = own.filter(|_| !field.absent) {
                        ensure!(fields.contains_key(name), "{known} is missing");
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn is_hex(text: &str) -> bool {
    let number = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.is_some_and(|number| text == format!("{number:#x}"))
}

/// Checks that every field of the report has a value in one of a few runs. Each run of each scenario is checked
/// besides.
fn boot(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let trace = folder.join("boot.pftrace");
    let disk = folder.join("disk.img");
    std::fs::File::create(&disk)?.set_len(1 << 20)?;
    let (trace, disk) = (trace.to_string_lossy(), disk.to_string_lossy());
    let options = ["--run", "crash", "--strict", "--inject", "lost=19", "--trace", &trace, "--disk", &disk];
    let timings = ["--timings", "--append", "initcall_debug ignore_loglevel"];
    let crashed = context.boot(&[&options[..], &timings].concat())?;
    crashed.ended(Exit::Crash, "crash")?;
    let packed = folder.join("stress.gz");
    let stress = std::fs::File::open(hv_setup::programs::output("stress")?)?;
    // Debian's base system has it.
    let mut gzip = std::process::Command::new("gzip");
    let gzip = gzip.arg("-c").stdin(stress).stdout(std::fs::File::create(&packed)?).status()?;
    ensure!(gzip.success(), "gzip failed");
    let stressed = context.boot(&["--firmware", "dt", "--kernel", &packed.to_string_lossy(), "--strict"])?;
    stressed.ended(Exit::Success, "power-off")?;
    stressed.is("/kernel/container", "gzip")?;
    stressed.is("/kernel/format", "ELF64")?;
    stressed.is("/exit_code", 0)?;
    crashed.is("/exit_code", Exit::Crash as u8)?;
    crashed.is("/kernel/page_size_bytes", 4096)?;
    let command_line = crashed.json["command_line"].as_str().unwrap_or_default();
    crashed.check(command_line.contains("panic="), "the command line has what the tool adds")?;
    let qemu = crashed.json["qemu"]["command"].as_str().unwrap_or_default();
    crashed.check(qemu.contains(" -machine virt,"), "QEMU's command line is there")?;
    adds_up(&crashed.json["timings"])?;
    let schema = Schema::of(BOOT)?;
    let found = [schema.check(&crashed.json)?, schema.check(&stressed.json)?];
    let unseen = schema.unseen(&found);
    ensure!(unseen.is_empty(), "no run has a value for {}", unseen.join(", "));
    Ok(())
}

/// Checks that the parts of a run are all of its time, and that the machine was divided.
fn adds_up(timings: &Value) -> anyhow::Result<()> {
    let parts = timings["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let time = |part: &Value| part["ms"].as_u64().unwrap_or_default();
    let sum: u64 = parts.iter().filter(|part| part["within"].is_null()).map(time).sum();
    let total = timings["total_ms"].as_u64().unwrap_or_default();
    ensure!(sum.abs_diff(total) <= 1, "the parts are {sum} ms of {total}: {timings}");
    for name in ["QEMU's start", "kernel", "init"] {
        let part = parts.iter().find(|part| part["part"] == name);
        ensure!(part.is_some_and(|part| time(part) > 0), "no time for {name}: {timings}");
    }
    Ok(())
}

/// Checks the output of the other commands.
fn others(context: &Context) -> anyhow::Result<()> {
    let run = |line: &[&str]| -> anyhow::Result<String> {
        let done = context.hv(line)?;
        ensure!(matches!(done.code, Some(0 | 1)), "{line:?}: exit code {:?}: {}", done.code, done.stderr);
        Ok(done.stdout)
    };
    let folder = context.folder()?;
    let [trace, log] = ["boot.pftrace", "log"].map(|name| folder.join(name).to_string_lossy().into_owned());
    let options = ["--vps", "1", "--inject", "lost=30", "--trace", &trace];
    // It ends with a deliberate crash.
    program(context, "hello", &options)?.ended(Exit::Crash, "crash")?;
    for line in run(&["trace", &trace, "--json"])?.lines() {
        check("hv trace --json", &serde_json::from_str(line)?)?;
    }
    std::fs::write(
        &log,
        "@hv begin 2 cases=2 vps=1 conduit=smccc granule=4096\n@hv run a/b\n@hv skip a/b why\n@hv run a/c\n@hv pass a/c\n\
         @hv end passed=1 failed=0 skipped=1\n",
    )?;
    for (command, line) in [
        ("hv trace --summary --json", &["trace", &trace, "--summary", "--json"][..]),
        ("hv trace --check --json", &["trace", &trace, "--check", "--json"]),
        ("hv bench --json", &["bench", "--filter", "image", "--json", "-"]),
        ("hv bench --profile NAME --json", &["bench", "--profile", "eom", "--json", "-"]),
        ("hv test --json", &["test", "--json", "-", "options/vps-0"]),
        ("hv doctor --json", &["doctor", "--json"]),
        ("hv rules --json", &["rules", "--json"]),
        ("hv abi --json", &["abi", "--json"]),
        ("hv conformance --format json", &["conformance", "--read", &log, "--format", "json"]),
    ] {
        check(command, &serde_json::from_str(&run(line)?)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BOOK: &str = "\
# JSON
## `a`
| field | type | unit | meaning |
|---|---|---|---|
| `n` | number or null | ms | how long |
| `o` | object | | an object |
| `o.h` | hex | | a word |
| `o.list` | list | | items |
| `o.list[]` | string | | an item |
| `o.by` | object | | by name |
| `o.by.*` | number, hex or string | | anything |
| `o.rare` | bool or absent | | rare |
| `o.items` | list | | objects |
| `o.items[].k` | number | | a field |
## `b`
| `x` | string | | other |
";

    #[test]
    fn a_document_is_as_its_table_says() {
        let schema = Schema::parse("a", BOOK).unwrap();
        let good = json!({"n": 1, "o": {"h": "0x1f", "list": ["a"], "by": {"k": "v"}, "items": [{"k": 1}]}});
        let found = schema.check(&good).unwrap();
        assert_eq!(schema.unseen(&[found]), ["o.rare"]);
        let null = json!({"n": null, "o": {"h": "0x0", "list": [], "by": {}, "rare": true, "items": []}});
        let found = schema.check(&null).unwrap();
        assert_eq!(schema.unseen(&[found]), ["n", "o.by.*", "o.items[].k", "o.list[]"]);
    }

    #[test]
    fn what_the_book_does_not_say_is_an_error() {
        let schema = Schema::parse("a", BOOK).unwrap();
        for (change, value, error) in [
            ("/n", json!("1"), "n is \"1\""),
            ("/n", json!(1_u64 << 53), "n is 9007199254740992"),
            ("/o/h", json!("0x01"), "o.h is"),
            ("/o/h", json!("0xAB"), "o.h is"),
            ("/o/h", json!(1), "o.h is 1"),
            ("/o/list", json!([1]), "o.list[] is 1"),
            ("/o/list", json!([null]), "o.list[] is null"),
            ("/o/items", json!([1]), "o.items[] is not in the book"),
            ("/o/items", json!([{"k": 1}, {}]), "o.items[].k is missing"),
            (
                "/o",
                json!({"h": "0x1", "list": [], "by": {}, "items": [], "new": 1}),
                "o.new is not in the book",
            ),
            ("/o", json!({"h": "0x1", "by": {}, "items": []}), "o.list is missing"),
        ] {
            let mut json = json!({"n": 1, "o": {"h": "0x1f", "list": [], "by": {}, "items": []}});
            *json.pointer_mut(change).unwrap() = value;
            let found = format!("{:#}", schema.check(&json).unwrap_err());
            assert!(found.contains(error), "{found}, expected {error}");
        }
        assert!(Schema::parse("c", BOOK).is_err());
    }
}
