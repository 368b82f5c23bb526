//! Checks that the files of a crate import one another in one direction: files in a circle can only be read together.
//!
//! It reads the source's text: paths that begin with `crate::`, `super::` or `self::`, in a `use` or not, and paths of
//! a module's own children. Tests at a file's end do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A crate's modules by path, each with the text of its file.
struct Sources(BTreeMap<String, String>);

impl Sources {
    fn read(root: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut folders = vec![root.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let parts: Vec<_> = path
                        .strip_prefix(root)
                        .unwrap()
                        .with_extension("")
                        .iter()
                        .map(|part| part.to_str().unwrap().to_owned())
                        .collect();
                    let kept = parts.iter().filter(|part| !matches!(part.as_str(), "mod" | "lib" | "main"));
                    let name = kept.cloned().collect::<Vec<_>>().join("::");
                    modules.insert(name, code(&std::fs::read_to_string(&path).unwrap()));
                }
            }
        }
        modules.retain(|name, _| name.split("::").all(|part| part != "tests"));
        Self(modules)
    }

    /// Returns the module that a path from the crate's root leads to, and the rest of the path.
    fn module<'p>(&self, path: &'p [String]) -> (String, &'p [String]) {
        let longest =
            (0..=path.len()).rev().find(|&n| self.0.contains_key(&path[..n].join("::"))).unwrap_or(0);
        (path[..longest].join("::"), &path[longest..])
    }

    /// Returns where a name comes from that a module does not define itself: a `pub use`, or a macro of the crate.
    fn origin(&self, module: &str, name: &str) -> Option<String> {
        let exported = paths(&self.0[module], module)
            .into_iter()
            .find(|path| path.public && path.parts.last().is_some_and(|last| last == name));
        if let Some(path) = exported {
            return Some(self.module(&path.parts).0);
        }
        let rule = format!("macro_rules! {name} ");
        let exported = format!("#[macro_export]\n{rule}");
        (module.is_empty())
            .then(|| self.0.iter().find(|(_, text)| text.contains(&exported)))?
            .map(|(name, _)| name.clone())
    }

    /// Returns true if a module has a name from another crate: `pub use other::path as name;`.
    fn is_foreign(&self, module: &str, name: &str) -> bool {
        let end = format!(" as {name};");
        let uses = self.0[module].lines().filter_map(|line| line.trim().strip_prefix("pub use "));
        uses.filter_map(|path| path.strip_suffix(&end)).any(|path| {
            let first = path.split("::").next().unwrap();
            let own = matches!(first, "crate" | "super" | "self");
            !own && !self.0.contains_key(format!("{module}::{first}").trim_start_matches("::"))
        })
    }

    fn imports(&self) -> BTreeMap<&str, BTreeSet<String>> {
        let of = |module: &str| {
            let mut found = BTreeSet::new();
            for path in paths(&self.0[module], module) {
                let (target, rest) = self.module(&path.parts);
                if rest.first().is_some_and(|name| self.is_foreign(&target, name)) {
                    continue;
                }
                found.insert(rest.first().and_then(|name| self.origin(&target, name)).unwrap_or(target));
            }
            for (parent, name) in self
                .0
                .keys()
                .map(|name| child(name))
                .filter(|(parent, name)| *parent == module && !name.is_empty())
            {
                let path = format!("{name}::");
                let text = &self.0[module];
                let uses = text.match_indices(&path).any(|(at, _)| {
                    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                });
                if uses && !module.is_empty() {
                    found.insert(format!("{parent}::{name}"));
                }
            }
            found.remove(module);
            found
        };
        self.0.keys().map(|name| (name.as_str(), of(name))).collect()
    }

    /// Returns a circle of modules, if there is one.
    fn circle(&self) -> Option<Vec<String>> {
        circle(&self.imports())
    }

    /// Returns a circle as [`circle`](Self::circle) does, where a folder counts as one file. Checks that each central
    /// type, given with its file, lists its chapters: exactly the files that add methods to it, and so import that
    /// file.
    fn circle_of_folders(&self, root: &Path, centres: &[(&str, &str)]) -> Option<Vec<String>> {
        let folder = |module: &str| module.split("::").next().unwrap_or_default().to_owned();
        let mut folders: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, targets) in self.imports() {
            let module = folder(module);
            let targets = targets.iter().map(|target| folder(target)).filter(|target| *target != module);
            folders.entry(module.clone()).or_default().extend(targets.collect::<Vec<_>>());
        }
        for (centre, name) in centres {
            let listed = chapters(&std::fs::read_to_string(root.join(format!("{centre}.rs"))).unwrap());
            assert!(!listed.is_empty(), "{centre}.rs lists no chapters");
            let adding = self.0.iter().filter(|(_, text)| adds_to(text, name)).map(|(file, _)| folder(file));
            let adding: BTreeSet<String> = adding.filter(|file| file != centre).collect();
            assert_eq!(
                listed, adding,
                "{centre}.rs: the chapters listed, and the files that add methods to {name}"
            );
            for chapter in listed {
                let imports = folders.get(&chapter).is_some_and(|targets| targets.contains(*centre));
                assert!(imports, "{centre}.rs lists the chapter {chapter}, which does not import it");
            }
        }
        circle(&folders.iter().map(|(name, targets)| (name.as_str(), targets.clone())).collect())
    }
}

/// Returns the files that a file's documentation lists in backquotes after the word "Chapters", up to the full stop.
fn chapters(text: &str) -> BTreeSet<String> {
    let doc: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("/// ")).collect();
    let doc = doc.join(" ");
    let Some((_, list)) = doc.split_once("Chapters") else { return BTreeSet::new() };
    let list = list.split(". ").next().unwrap_or_default();
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Returns true if a file has an `impl` of this type's own methods.
fn adds_to(text: &str, name: &str) -> bool {
    text.split("\nimpl").skip(1).any(|rest| {
        let mut depth = 0_usize;
        let end = rest.find(|c| {
            depth = match c {
                '<' => depth + 1,
                '>' => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0 && (c == ' ' || c == '\n')
        });
        let target = rest[end.unwrap_or(rest.len())..].trim_start();
        target
            .strip_prefix(name)
            .is_some_and(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// Returns a circle of modules, if there is one.
fn circle(imports: &BTreeMap<&str, BTreeSet<String>>) -> Option<Vec<String>> {
    let mut left: BTreeSet<&str> = imports.keys().copied().collect();
    // A module that imports none of the remaining ones is in no circle.
    while let Some(free) =
        left.iter().copied().find(|name| imports[name].iter().all(|target| !left.contains(target.as_str())))
    {
        left.remove(free);
    }
    let mut way = vec![(*left.first()?).to_owned()];
    loop {
        let next =
            imports[way.last().unwrap().as_str()].iter().find(|target| left.contains(target.as_str()))?;
        if let Some(at) = way.iter().position(|name| name == next) {
            return Some(way.split_off(at));
        }
        way.push(next.clone());
    }
}

/// Splits a module's path into its parent's and its own name.
fn child(name: &str) -> (&str, &str) {
    name.rsplit_once("::").unwrap_or(("", name))
}

/// A path in a file, from the crate's root.
struct Import {
    public: bool,
    parts: Vec<String>,
}

/// Returns the text without comments and without the tests at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Returns the paths in a module's text that begin at the crate's root, or relative to the module.
fn paths(text: &str, module: &str) -> Vec<Import> {
    let mut found = Vec::new();
    for start in ["crate::", "super::", "self::"] {
        for (at, _) in text.match_indices(start) {
            let before = &text[..at];
            if before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | ':' | '$')) {
                continue;
            }
            let statement = before.rsplit([';', '}', '\n']).next().unwrap().trim();
            let public = statement.starts_with("pub") && statement.ends_with("use");
            let mut trees = Vec::new();
            tree(&text[at..], &mut Vec::new(), &mut trees);
            found.extend(trees.into_iter().map(|parts| Import { public, parts: absolute(&parts, module) }));
        }
    }
    found
}

/// Reads a path with its braces; returns the text after it.
fn tree<'t>(mut text: &'t str, prefix: &mut Vec<String>, found: &mut Vec<Vec<String>>) -> &'t str {
    let depth = prefix.len();
    loop {
        if let Some(mut inside) = text.strip_prefix('{') {
            while !inside.starts_with('}') && !inside.is_empty() {
                inside = tree(inside.trim_start(), prefix, found).trim_start();
                let end = inside.find([',', '}']).unwrap_or(inside.len());
                inside = inside[end..].trim_start_matches(',').trim_start();
            }
            text = inside.strip_prefix('}').unwrap_or(inside);
            break;
        }
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        prefix.push(text[..end].to_owned());
        text = &text[end..];
        match text.strip_prefix("::") {
            Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || matches!(c, '_' | '{')) => {
                text = rest;
            }
            _ => {
                found.push(prefix.clone());
                break;
            }
        }
    }
    prefix.truncate(depth);
    text
}

/// Returns the path from the crate's root.
fn absolute(parts: &[String], module: &str) -> Vec<String> {
    let mut base: Vec<String> =
        module.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
    for part in parts {
        match part.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            name => base.push(name.to_owned()),
        }
    }
    base
}

#[test]
fn files_import_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for folder in ["bare/hypervisor/src", "bare/rt/src", "crates/hv-guest/src"] {
        let sources = Sources::read(&root.join(folder));
        assert!(
            sources.imports().values().map(BTreeSet::len).sum::<usize>() > 20,
            "{folder}: imports are not found"
        );
        if let Some(circle) = sources.circle() {
            panic!("{folder}: these files import one another in a circle: {}", circle.join(" -> "));
        }
    }
}

/// Returns the lines of the picture of a program's files in ARCHITECTURE.md, from the top: each has modules, or with
/// `/` behind the name all of a folder's.
fn picture(program: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("ARCHITECTURE.md"),
    );
    let text = text.unwrap();
    let (_, section) = text.split_once(&format!("### Imports in {program}\n")).unwrap();
    let block = section.split("```").nth(1).unwrap();
    let lines = block.lines().filter(|line| line.starts_with(|c: char| c.is_alphabetic()));
    let names = |line: &str| line.split("  ").next().unwrap().to_owned();
    lines.map(|line| names(line).split(", ").map(|name| name.replace('/', "::")).collect()).collect()
}

#[test]
fn files_import_from_below_as_the_picture_has_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let picture = picture("bare/hypervisor");
    assert!(picture.len() > 8, "{picture:?}");
    let line_of = |module: &str| {
        let named =
            |name: &String| name == module || name.ends_with("::") && format!("{module}::").starts_with(name);
        let longest =
            picture.iter().enumerate().flat_map(|(line, names)| names.iter().map(move |name| (line, name)));
        longest
            .filter(|(_, name)| named(name))
            .max_by_key(|(_, name)| name.trim_end_matches(':').len())
            .map(|(line, _)| line)
    };
    let sources = Sources::read(&root.join("bare/hypervisor/src"));
    let mut wrong = Vec::new();
    for (module, imports) in sources.imports().into_iter().filter(|(module, _)| !module.is_empty()) {
        let Some(own) = line_of(module) else {
            wrong.push(format!("{module} is nowhere"));
            continue;
        };
        let above = imports.iter().filter(|target| line_of(target).is_some_and(|line| line <= own));
        wrong.extend(above.map(|target| format!("{module} imports {target}, which is not lower")));
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md, Imports in bare/hypervisor:\n{}", wrong.join("\n"));
}

#[test]
fn folders_import_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for (folder, centres) in [
        ("crates/hv-host/src", &[("partition", "Partition"), ("synic", "Synic")][..]),
        ("crates/hv-partition/src", &[("joined", "Joined"), ("partition", "Partition")]),
        ("crates/hv-vmbus/src", &[("bus", "Bus")]),
        ("cli/src", &[]),
    ] {
        let root = root.join(folder);
        if let Some(circle) = Sources::read(&root).circle_of_folders(&root, centres) {
            panic!("{folder}: these files import one another in a circle: {}", circle.join(" -> "));
        }
    }
    let text = "/// A thing. Chapters (what adds to it): `a`,\n/// `b`. Not `c`.\npub struct Thing;";
    assert_eq!(chapters(text), BTreeSet::from(["a".to_owned(), "b".to_owned()]));
    for (header, adds) in [
        ("impl<R: Lock<T>> Thing<'_, R> {", true),
        ("impl<\n    R: Lock,\n> Thing<R>\nwhere", true),
        ("impl Thing {", true),
        ("impl<R> fmt::Debug for Thing<R> {", false),
        ("impl Things {", false),
    ] {
        assert_eq!(adds_to(&format!("use a;\n\n{header}"), "Thing"), adds, "{header}");
    }
}

#[test]
fn files_of_a_chapter_import_in_one_direction() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("cli/src");
    let sources = Sources::read(&root);
    let chapter = |name: &str| name == "boot" || name.starts_with("boot::");
    let imports: BTreeMap<_, _> =
        sources.imports().into_iter().filter(|(module, _)| chapter(module)).collect();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 40, "imports are not found");
    if let Some(circle) = circle(&imports) {
        panic!("cli/src/boot: these files import one another in a circle: {}", circle.join(" -> "));
    }
}

#[test]
fn circles_are_found() {
    let sources = |files: &[(&str, &str)]| {
        Sources(files.iter().map(|(name, text)| ((*name).to_owned(), code(text))).collect())
    };
    let circle = sources(&[
        ("", "mod a; mod b;"),
        ("a", "use crate::b::{X, y::Z};"),
        ("b", "fn f() { super::a::g() }"),
    ])
    .circle();
    assert_eq!(circle, Some(vec!["a".to_owned(), "b".to_owned()]));
    let by_name =
        [("", "pub use a::X;\npub use crate::a::X;"), ("a", "use crate::c::Y;"), ("c", "use crate::X;")];
    assert_eq!(sources(&by_name).circle(), Some(vec!["a".to_owned(), "c".to_owned()]));
    let alias = |of: &str| {
        sources(&[
            ("", &format!("use a::X;\npub use {of} as name;\nfn f() {{ crate::a::g() }}")),
            ("a", "use crate::name::X;"),
        ])
        .circle()
    };
    assert_eq!(alias("other::module"), None);
    assert!(alias("a::module").is_some(), "a name of a module of the same crate");
    let none =
        [("", ""), ("a", "use crate::b;"), ("b", "// crate::a\n#[cfg(test)]\nmod tests {\n use crate::a; }")];
    assert_eq!(sources(&none).circle(), None);
}
