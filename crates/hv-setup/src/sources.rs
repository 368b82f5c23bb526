//! The sources of the programs in `bare/`: the hypervisor is built on the user's machine.
//!
//! `cargo hv` runs in a checkout and builds from it. An installed `hv` (`cargo install --path cli`) contains them and
//! unpacks them into the cache, since the checkout may move or change.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Name of the tool, for commands that a message tells the user to type.
pub const TOOL: &str = if cfg!(feature = "packed") { "hv" } else { "cargo hv" };

/// Returns the folder that contains `bare/` and `crates/`.
///
/// # Errors
/// The sources are missing, or the cache cannot be written.
pub fn root() -> anyhow::Result<PathBuf> {
    #[cfg(feature = "packed")]
    return packed::root();
    #[cfg(not(feature = "packed"))]
    checkout()
}

/// Returns the checkout that this tool was built from, which tests and mutants work on.
pub fn checkout() -> anyhow::Result<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    let root = crates.and_then(Path::parent).context("crates/hv-setup has no checkout around it")?;
    anyhow::ensure!(
        root.join("bare/Cargo.toml").is_file(),
        "the sources are gone from {}, where this hv was built; build hv again, or install it with `cargo install \
         --path cli`",
        root.display()
    );
    Ok(root.to_owned())
}

#[cfg(feature = "packed")]
mod packed {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    use anyhow::Context as _;

    use crate::cache::{Cache, Manifest, SOURCES, running_program};
    use crate::ui;

    include!(concat!(env!("OUT_DIR"), "/sources.rs"));

    /// Version of the unpacked sources in the cache; raise it to invalidate folders made by older tools.
    const RECIPE: u32 = 1;

    pub(super) fn root() -> anyhow::Result<PathBuf> {
        unpacked(&Cache::open()?)
    }

    /// Returns the folder with the sources in the cache, filling it if it is absent or damaged.
    pub(super) fn unpacked(cache: &Cache) -> anyhow::Result<PathBuf> {
        let name = format!("{SOURCES}{}-{KEY}", env!("CARGO_PKG_VERSION"));
        if cache.verified(&name, RECIPE).is_none() {
            let lock = cache.lock()?;
            // Another run may have filled it in the meantime.
            if cache.verified(&name, RECIPE).is_none() {
                let scratch = cache.scratch(&lock)?;
                let made = scratch.path().join("sources");
                write(&made)?;
                let manifest = Manifest {
                    recipe: RECIPE,
                    package: "hv-arm64".to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    files: BTreeMap::new(),
                };
                let files: Vec<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
                cache.publish(&lock, &name, &made, manifest, &files)?;
            }
        }
        if let Some(program) = running_program().filter(|program| !cache.users(&name).contains(program)) {
            let lock = cache.lock()?;
            for old in cache.use_sources(&lock, &name, &program)? {
                ui::note(&format!(
                    "Removed {old} from the cache: the hv that used it is gone, or was replaced by this one"
                ));
            }
        }
        Ok(cache.entry(&name))
    }

    fn write(into: &Path) -> anyhow::Result<()> {
        for (name, content) in FILES {
            let file = into.join(name);
            let explain = || format!("cannot unpack the hypervisor's sources to {}", file.display());
            fs::create_dir_all(file.parent().unwrap_or(into)).with_context(explain)?;
            fs::write(&file, content).with_context(explain)?;
        }
        Ok(())
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn what_is_unpacked_is_the_checkouts_and_a_damaged_file_is_mended() {
            let dir = tempfile::tempdir().unwrap();
            let cache = Cache::at(dir.path().join("cache"));
            let root = unpacked(&cache).unwrap();
            let checkout = crate::sources::checkout().unwrap();
            for name in ["bare/Cargo.lock", "bare/hypervisor/src/main.rs", "crates/hv-host/src/lib.rs"] {
                assert_eq!(fs::read(root.join(name)).unwrap(), fs::read(checkout.join(name)).unwrap());
            }
            assert!(!root.join("bare/target").exists());
            fs::write(root.join("bare/Cargo.lock"), "damaged").unwrap();
            assert_eq!(unpacked(&cache).unwrap(), root);
            assert_ne!(fs::read(root.join("bare/Cargo.lock")).unwrap(), b"damaged");
        }
    }
}
