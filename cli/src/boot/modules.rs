//! `--modules`: the modules of a kernel, installed by `make modules_install` or in a build tree.
//!
//! Sources: depmod(8), modules.dep(5); Linux, Documentation/kbuild/kbuild.rst, "modules.order", "modules.builtin".

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use hv_machine::initrd::{Module, name_of};

use crate::input;
use crate::setup::size::size;

/// Maximum size of a list of modules, and of a module's file.
const LONGEST_LIST: u64 = 16 << 20;
const LONGEST_MODULE: u64 = 256 << 20;
/// Maximum number of modules that a module depends on, itself included.
const MOST: usize = 256;
/// Suffixes of compressed modules.
const PACKED: [&str; 3] = [".xz", ".gz", ".zst"];

/// Modules of one kernel.
#[derive(Debug)]
pub(crate) struct Modules {
    folder: PathBuf,
    /// Path of each module's file in the list, by its name.
    files: BTreeMap<String, PathBuf>,
    built_in: BTreeSet<String>,
}

impl Modules {
    /// Finds the modules in a folder, for a kernel of this version if it is known.
    pub(crate) fn open(folder: &Path, version: Option<&str>) -> anyhow::Result<Self> {
        let meta = fs::metadata(folder).with_context(|| {
            format!(
                "cannot read the modules in {}; give --modules the folder of a kernel's modules",
                folder.display()
            )
        })?;
        ensure!(
            meta.is_dir(),
            "{} is not a folder; give --modules the folder of a kernel's modules",
            folder.display()
        );
        if let Some(found) = Self::in_folder(folder)? {
            return Ok(found);
        }
        // Above the folder of a version.
        let mut versions: Vec<PathBuf> = Vec::new();
        for parent in [folder.join("lib/modules"), folder.join("usr/lib/modules"), folder.to_owned()] {
            let entries = fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path());
            versions.extend(entries.filter(|path| is_list(path)));
        }
        let is_wanted = |path: &&PathBuf| path.file_name().and_then(|name| name.to_str()) == version;
        let names = || {
            let names = versions.iter().filter_map(|path| path.file_name()?.to_str());
            names.collect::<Vec<_>>().join(", ")
        };
        let found = match (versions.iter().find(is_wanted), &*versions) {
            (Some(found), _) | (None, [found]) => Self::in_folder(found)?,
            (None, []) => None,
            (None, _) => bail!(
                "{} has modules of several kernels, and none of them is the kernel's version {}: {}; give --modules the \
                 folder of one",
                folder.display(),
                version.unwrap_or("(unknown)"),
                names()
            ),
        };
        found.with_context(|| {
            format!(
                "{} has no kernel modules: expected lib/modules/VERSION with modules.dep or modules.order (`make \
                 modules_install INSTALL_MOD_PATH={0}`), a built kernel tree, or .ko files",
                folder.display()
            )
        })
    }

    /// Returns the modules that this folder itself lists or contains.
    fn in_folder(folder: &Path) -> anyhow::Result<Option<Self>> {
        let list = |name: &str| -> anyhow::Result<Option<String>> {
            let Some(file) = input::first_file([folder.join(name)])? else { return Ok(None) };
            match input::read(&file, LONGEST_LIST) {
                Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
            }
        };
        let mut files = BTreeMap::new();
        let mut add = |path: &Path| {
            let name = name_of(&path.to_string_lossy());
            files.entry(name).or_insert_with(|| path.to_owned());
        };
        if let Some(dependencies) = list("modules.dep")? {
            dependencies
                .lines()
                .filter_map(|line| line.split_once(':'))
                .for_each(|(file, _)| add(Path::new(file)));
        } else if let Some(order) = list("modules.order")? {
            order.lines().for_each(|line| add(Path::new(line.trim())));
        } else {
            // By their names, as lists have them: the folder is put before them when they are read.
            let entries = fs::read_dir(folder)?.flatten().map(|entry| PathBuf::from(entry.file_name()));
            entries.filter(|path| is_module(path)).for_each(|path| add(&path));
            if files.is_empty() {
                return Ok(None);
            }
        }
        let built_in = list("modules.builtin")?.unwrap_or_default().lines().map(name_of).collect();
        Ok(Some(Self { folder: folder.to_owned(), files, built_in }))
    }

    /// Returns true if the module exists or is built into the kernel.
    pub(super) fn knows(&self, name: &str) -> bool {
        let name = name_of(name);
        self.built_in.contains(&name) || self.files.contains_key(&name)
    }

    /// Reads these modules and their dependencies, in load order.
    pub(crate) fn load(&self, names: &[String]) -> anyhow::Result<Vec<Module>> {
        let mut loaded: Vec<Module> = Vec::new();
        for name in names {
            self.load_one(&name_of(name), &mut Vec::new(), &mut loaded)?;
        }
        Ok(loaded)
    }

    /// Adds a module after its dependencies. `above` are the modules that depend on it.
    fn load_one(&self, name: &str, above: &mut Vec<String>, loaded: &mut Vec<Module>) -> anyhow::Result<()> {
        if self.built_in.contains(name) || loaded.iter().any(|module| module.name == name) {
            return Ok(());
        }
        ensure!(
            !above.iter().any(|needs| needs == name),
            "the modules {} depend on each other",
            above.join(", ")
        );
        let bytes: usize = loaded.iter().map(|module| module.bytes.len()).sum();
        ensure!(
            bytes as u64 <= input::LONGEST,
            "the modules have more than {}; load fewer",
            size(input::LONGEST)
        );
        ensure!(above.len() + loaded.len() < MOST, "{} needs more than {MOST} modules", above.join(", "));
        let found = self.files.get(name).map(|file| self.find(file)).transpose()?.flatten();
        let file = found.with_context(|| {
            let needed = above.last().map_or(String::new(), |needs| format!(", which {needs} needs,"));
            let (folder, count) = (self.folder.display(), self.files.len());
            format!("there is no module {name}{needed} among the {count} in {folder}; build it, or name others with --load")
        })?;
        let explain = || format!("cannot read the module {}", file.display());
        let bytes = input::read(&file, LONGEST_MODULE).with_context(explain)?;
        let module = Module::read(&file.to_string_lossy(), bytes)?;
        above.push(name.to_owned());
        for needed in &module.depends {
            self.load_one(needed, above, loaded)?;
        }
        above.pop();
        loaded.push(module);
        Ok(())
    }

    /// Finds the file of a listed module. From 6.2 on build trees list objects instead of modules, before that with the
    /// folder of the installation; compression comes after the list. Returns `None` if there is no such file.
    ///
    /// # Errors
    /// Something else has its name.
    fn find(&self, listed: &Path) -> anyhow::Result<Option<PathBuf>> {
        let built = if listed.extension().is_some_and(|end| end == "o") {
            listed.with_extension("ko")
        } else {
            listed.to_owned()
        };
        let plain = [Some(built.as_path()), built.strip_prefix("kernel").ok()];
        let under = Path::new("kernel").join(&built);
        let candidates = plain.into_iter().flatten().chain([under.as_path()]).flat_map(|path| {
            let path = self.folder.join(path);
            let packed = PACKED.map(|end| PathBuf::from(format!("{}{end}", path.display())));
            std::iter::once(path).chain(packed)
        });
        input::first_file(candidates)
    }
}

/// Returns true if a folder has a list of modules.
fn is_list(folder: &Path) -> bool {
    ["modules.dep", "modules.order"].iter().any(|name| fs::symlink_metadata(folder.join(name)).is_ok())
}

/// Returns true if a file has the name of a module.
fn is_module(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = PACKED.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    name.ends_with(".ko")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Builds a relocatable AArch64 object with these dependencies.
    fn module(depends: &str) -> Vec<u8> {
        let info = format!("depends={depends}\0vermagic=6.12.1 SMP\0");
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        (file[16], file[18], file[20]) = (1, 183, 1);
        file.extend_from_slice(info.as_bytes());
        let names_at = file.len() as u64;
        file.extend_from_slice(names);
        let sections = file.len() as u64;
        file.resize(file.len() + 64, 0);
        for (name, kind, at, size) in [(1u32, 1u32, 64, info.len()), (10, 3, names_at, names.len())] {
            let mut section = vec![0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            section[24..32].copy_from_slice(&at.to_le_bytes());
            section[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            file.extend_from_slice(&section);
        }
        file[40..48].copy_from_slice(&sections.to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file
    }

    fn put(root: &Path, path: &str, bytes: &[u8]) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }

    fn names(modules: &Modules, wanted: &[&str]) -> anyhow::Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        Ok(modules.load(&wanted)?.into_iter().map(|module| module.name).collect())
    }

    /// Creates an installation of a kernel's modules.
    fn install(root: &Path, version: &str) {
        let folder = format!("lib/modules/{version}");
        put(
            root,
            &format!("{folder}/modules.dep"),
            b"kernel/hv/hv_vmbus.ko:\nkernel/hv/hv-utils.ko: kernel/hv/hv_vmbus.ko\n",
        );
        put(root, &format!("{folder}/modules.builtin"), b"kernel/drivers/ptp/ptp.ko\n");
        put(root, &format!("{folder}/kernel/hv/hv_vmbus.ko"), &module(""));
        put(root, &format!("{folder}/kernel/hv/hv-utils.ko"), &module("hv_vmbus,ptp"));
    }

    #[test]
    fn an_installation_is_found_from_each_of_its_folders() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "6.12.1");
        for folder in ["", "lib/modules", "lib/modules/6.12.1"] {
            let modules = Modules::open(&root.path().join(folder), None).unwrap();
            assert_eq!(names(&modules, &["hv_utils"]).unwrap(), ["hv_vmbus", "hv_utils"], "{folder}");
            assert_eq!(names(&modules, &["hv_vmbus", "hv-utils", "ptp"]).unwrap(), ["hv_vmbus", "hv_utils"]);
            assert!(modules.knows("ptp") && modules.knows("hv-vmbus") && !modules.knows("xfs"));
        }
    }

    #[test]
    fn of_several_kernels_that_of_the_version_is_taken() {
        let root = tempfile::tempdir().unwrap();
        install(root.path(), "6.12.1");
        install(root.path(), "6.12.2");
        let modules = Modules::open(root.path(), Some("6.12.2")).unwrap();
        assert!(modules.folder.ends_with("6.12.2"));
        for version in [None, Some("6.1.0")] {
            let error = Modules::open(root.path(), version).unwrap_err().to_string();
            assert!(error.contains("6.12.1") && error.contains("6.12.2"), "{error}");
        }
    }

    #[test]
    fn build_trees_list_their_modules_in_three_ways() {
        for order in
            ["drivers/hv/hv_vmbus.o\n", "kernel/drivers/hv/hv_vmbus.ko\n", "drivers/hv/hv_vmbus.ko\n"]
        {
            let root = tempfile::tempdir().unwrap();
            put(root.path(), "modules.order", order.as_bytes());
            put(root.path(), "drivers/hv/hv_vmbus.ko", &module(""));
            let modules = Modules::open(root.path(), None).unwrap();
            assert_eq!(names(&modules, &["hv_vmbus"]).unwrap(), ["hv_vmbus"], "{order}");
        }
        // Installed without depmod, and compressed.
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "lib/modules/6.12.1/modules.order", b"drivers/hv/hv_vmbus.o\n");
        put(root.path(), "lib/modules/6.12.1/kernel/drivers/hv/hv_vmbus.ko.xz", &module(""));
        let modules = Modules::open(root.path(), None).unwrap();
        assert_eq!(names(&modules, &["hv_vmbus"]).unwrap(), ["hv_vmbus"]);
    }

    #[test]
    fn a_folder_of_files_will_do() {
        let root = tempfile::tempdir().unwrap();
        put(root.path(), "hv_vmbus.ko", &module(""));
        put(root.path(), "notes.txt", b"text");
        let modules = Modules::open(root.path(), None).unwrap();
        assert_eq!((names(&modules, &["hv_vmbus"]).unwrap().len(), modules.files.len()), (1, 1));
        assert!(
            modules.files.values().all(|file| file.is_relative()),
            "else a relative folder is there twice"
        );
    }

    #[test]
    fn what_is_no_file_is_named_as_what_it_is() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("hv_vmbus.ko");
        let mode = rustix::fs::Mode::RUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let modules = Modules::open(root.path(), None).unwrap();
        let error = names(&modules, &["hv_vmbus"]).unwrap_err().to_string();
        assert!(error.ends_with("hv_vmbus.ko is a named pipe; expected a regular file"), "{error}");
        // A module that is there, in another form, is taken.
        put(root.path(), "kernel/hv_vmbus.ko", &module(""));
        let modules = Modules::open(root.path(), None).unwrap();
        assert_eq!(names(&modules, &["hv_vmbus"]).unwrap(), ["hv_vmbus"]);
        // A list is not waited for either.
        let list = root.path().join("modules.dep");
        rustix::fs::mknodat(rustix::fs::CWD, &list, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let error = Modules::open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("modules.dep is a named pipe"), "{error}");
    }

    #[test]
    fn what_is_missing_is_named_with_what_needs_it() {
        let root = tempfile::tempdir().unwrap();
        let error = Modules::open(root.path(), None).unwrap_err().to_string();
        assert!(error.contains("modules_install"), "{error}");
        assert!(Modules::open(&root.path().join("gone"), None).is_err());
        put(root.path(), "a.ko", &module("b"));
        let modules = Modules::open(root.path(), None).unwrap();
        let error = names(&modules, &["a"]).unwrap_err().to_string();
        assert!(error.contains("no module b, which a needs,"), "{error}");
        put(root.path(), "b.ko", &module("a"));
        let modules = Modules::open(root.path(), None).unwrap();
        assert!(names(&modules, &["a"]).unwrap_err().to_string().contains("depend on each other"));
        put(root.path(), "c.ko", b"text");
        let modules = Modules::open(root.path(), None).unwrap();
        assert!(names(&modules, &["c"]).is_err());
    }
}
