//! Checks the dependency rule: which crate may import which, as the table in ARCHITECTURE.md has it.
//!
//! Dependencies are those of manifests, for tests not counted: in tests the halves are joined.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// The side of a crate, from the heading of its part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Shared,
    Guest,
    Host,
    Tests,
    Tool,
}

impl Side {
    fn named(heading: &str) -> Option<Self> {
        Some(match heading.split_once(':')?.0 {
            "shared" => Self::Shared,
            "guest" => Self::Guest,
            "host" => Self::Host,
            "tests" => Self::Tests,
            "tool" => Self::Tool,
            _ => return None,
        })
    }

    /// Returns true if a crate of this side may import one of the other.
    fn may_import(self, other: Self) -> bool {
        match self {
            Self::Shared => other == Self::Shared,
            Self::Guest | Self::Host => other == self || other == Self::Shared,
            Self::Tests | Self::Tool => other != Self::Tool && other != Self::Tests || self == other,
        }
    }
}

type Imports = BTreeMap<String, BTreeSet<String>>;

/// The table: each crate's side and its direct imports.
struct Table {
    sides: BTreeMap<String, Side>,
    imports: Imports,
}

impl Table {
    /// Reads the table of a text: a heading for each side, below it a line for each crate, then its imports.
    fn read(text: &str) -> Self {
        let section =
            text.split_once("\n## The dependency rule\n").expect("no section on the dependency rule").1;
        let block = section.split("```").nth(1).expect("no table in the section on the dependency rule");
        let mut table = Self { sides: BTreeMap::new(), imports: BTreeMap::new() };
        let mut side = None;
        let mut last = String::new();
        for line in block.lines().filter(|line| !line.trim().is_empty()) {
            if let Some(heading) = Side::named(line) {
                side = Some(heading);
                continue;
            }
            let mut words = line.split([' ', ',']).filter(|word| !word.is_empty());
            // A line that begins further to the right continues the one before.
            if !line.starts_with("   ") {
                last = words.next().unwrap().to_owned();
                let before = table.sides.insert(last.clone(), side.expect("a crate above the first heading"));
                assert!(before.is_none(), "{last} has two lines");
            }
            table.imports.entry(last.clone()).or_default().extend(words.map(str::to_owned));
        }
        table
    }

    /// Returns the crates that import what their side must not, directly or through another crate.
    fn offences(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (name, side) in &self.sides {
            for other in reach(&self.imports, name) {
                match self.sides.get(&other) {
                    Some(target) if side.may_import(*target) => {}
                    Some(target) => found.push(format!("{name} ({side:?}) imports {other} ({target:?})")),
                    None => found.push(format!("{name} imports {other}, which has no line")),
                }
            }
        }
        found
    }
}

/// Returns what a crate imports, directly or through others.
fn reach(imports: &Imports, name: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut todo = vec![name];
    while let Some(name) = todo.pop() {
        for other in imports.get(name).into_iter().flatten() {
            if found.insert(other.clone()) {
                todo.push(other);
            }
        }
    }
    found
}

/// Returns the imports of both workspaces' packages by their manifests, each by its folder: `cli`, `bare/guest`,
/// `hv-host`.
fn manifests() -> Imports {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = |path: &Path| {
        let path = path.strip_prefix(root).expect("a package outside the checkout");
        path.strip_prefix("crates").unwrap_or(path).to_str().unwrap().to_owned()
    };
    let mut found = BTreeMap::new();
    for workspace in ["Cargo.toml", "bare/Cargo.toml"] {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path", workspace]);
        let output = cargo.current_dir(root).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
        for package in metadata["packages"].as_array().unwrap() {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let imports = dependencies
                .filter(|dependency| dependency["kind"] != "dev")
                .filter_map(|dependency| dependency["path"].as_str())
                .map(|path| folder(Path::new(path)));
            found.insert(folder(manifest.parent().unwrap()), imports.collect());
        }
    }
    found
}

#[test]
fn crates_import_one_another_as_the_table_has_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let table = Table::read(&std::fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let manifests = manifests();
    assert!(manifests.len() > 30, "packages are not found: {manifests:?}");
    let names: BTreeSet<_> = manifests.keys().chain(table.imports.keys()).collect();
    let mut wrong = Vec::new();
    for name in names {
        let (Some(real), Some(told)) = (manifests.get(name), table.imports.get(name)) else {
            wrong.push(format!("{name} is in the table or in a workspace, not in both"));
            continue;
        };
        wrong.extend(real.difference(told).map(|other| format!("{name} imports {other}: not in the table")));
        wrong.extend(told.difference(real).map(|other| format!("{name} does not import {other}")));
    }
    wrong.extend(table.offences());
    // Within the host's side: the hypervisor knows no VMBus, VMBus no device, a device no hypervisor.
    for (name, never) in [("hv-host", "hv-vmbus"), ("hv-vmbus", "hv-devices"), ("hv-devices", "hv-host")] {
        wrong.extend(reach(&manifests, name).get(never).map(|_| format!("{name} imports {never}")));
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md, The dependency rule:\n{}", wrong.join("\n"));
}

#[test]
fn offences_are_found() {
    let table =
        |lines: &str| Table::read(&format!("\n## The dependency rule\n\n```\n{lines}\n```\n")).offences();
    let good = "shared:\nabi\nguest:\ng  abi\nhost:\nh  abi\ntests:\nt  g,\n     h\ntool:\ncli  h";
    assert_eq!(table(good), [""; 0]);
    let direct = good.replace("g  abi", "g  h");
    assert_eq!(table(&direct), ["g (Guest) imports h (Host)"]);
    // Through a crate that both sides share.
    let through = good.replace("abi\nguest", "abi  h\nguest");
    assert!(table(&through).contains(&"g (Guest) imports h (Host)".to_owned()));
    let tool = good.replace("t  g,", "t  cli,");
    assert_eq!(table(&tool), ["t (Tests) imports cli (Tool)"]);
    let unknown = table(&good.replace("g  abi", "g  api"));
    assert!(unknown.contains(&"g imports api, which has no line".to_owned()));
}
