//! The toolchain for bare-metal AArch64: the first way that works.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{process, system, ui};

/// The target of the programs in `bare/`.
pub const TARGET: &str = "aarch64-unknown-none-softfloat";
/// The target of the UEFI application in `bare/`.
pub const UEFI_TARGET: &str = "aarch64-unknown-uefi";
/// The target of the agent, a program for Linux in the guest.
pub const LINUX_TARGET: &str = "aarch64-unknown-linux-musl";
/// Debian's newest Rust, with the sources of its standard library.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
/// Path of Debian's rustc.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// Path of Debian's cargo.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// Oldest Rust that can build the programs in `bare/`.
const OLDEST: (u32, u32) = (1, 90);

/// A cargo that can build for a target.
#[derive(Debug, Clone)]
pub struct Toolchain {
    /// The target.
    pub target: &'static str,
    /// Path of cargo.
    pub cargo: PathBuf,
    /// Arguments for its `build`.
    pub arguments: Vec<&'static str>,
    /// Environment variables for it.
    pub environment: Vec<(&'static str, OsString)>,
    /// Version of its rustc.
    pub version: String,
    /// Description for users.
    pub description: String,
}

/// The Rust that built this tool, or the one in `$PATH`.
struct Host {
    cargo: PathBuf,
    version: String,
    /// Its library folder: `SYSROOT/lib/rustlib`.
    rustlib: PathBuf,
}

impl Host {
    fn find() -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let sibling = cargo.with_file_name("rustc");
        let rustc = if sibling.is_file() { sibling } else { PathBuf::from("rustc") };
        let (version, rustlib) = ask(&rustc)
            .with_context(|| format!("{} does not work; install Rust with rustup", rustc.display()))?;
        Ok(Self { cargo, version, rustlib })
    }

    fn has(&self, target: &str) -> bool {
        self.rustlib.join(target).join("lib").is_dir()
    }

    fn toolchain(&self, target: &'static str, how: &str) -> Toolchain {
        Toolchain {
            target,
            cargo: self.cargo.clone(),
            arguments: Vec::new(),
            environment: Vec::new(),
            version: self.version.clone(),
            description: format!("rustc {}, target {target} {how}", self.version),
        }
    }

    /// Finds a linker: rustc's own, else LLVM's.
    fn linker(&self, target: &str) -> Option<PathBuf> {
        let folders = std::fs::read_dir(&self.rustlib).into_iter().flatten().flatten();
        let own = folders.map(|folder| folder.path().join("bin/rust-lld")).find(|lld| lld.is_file());
        own.or_else(|| process::which(lld(target)))
    }
}

/// Returns the name that Debian's package lld gives its linker for a target.
fn lld(target: &str) -> &'static str {
    if target == UEFI_TARGET { "lld-link" } else { "ld.lld" }
}

/// Returns version and library folder of a rustc.
fn ask(rustc: &Path) -> anyhow::Result<(String, PathBuf)> {
    let done = process::run(Command::new(rustc).arg("--version"), || {})?;
    let version = done.stdout.lines().find_map(|line| line.strip_prefix("rustc ")?.split(' ').next());
    let done = process::run(Command::new(rustc).args(["--print", "sysroot"]), || {})?;
    let sysroot = done.stdout.trim();
    let version = version.context("it does not report its version")?.to_owned();
    Ok((version, Path::new(sysroot).join("lib/rustlib")))
}

/// Finds an installed toolchain for a target.
pub fn find(target: &'static str) -> anyhow::Result<Option<Toolchain>> {
    let host = Host::find()?;
    Ok(if host.has(target) { Some(host.toolchain(target, "is installed")) } else { debian(&host, target) })
}

/// Returns the toolchain for the programs in `bare/`, installing what is missing.
pub fn prepare() -> anyhow::Result<Toolchain> {
    prepare_for(TARGET)
}

/// Returns the toolchain for a target, installing what is missing.
pub fn prepare_for(target: &'static str) -> anyhow::Result<Toolchain> {
    if let Some(toolchain) = find(target)? {
        return Ok(toolchain);
    }
    let host = Host::find()?;
    let rustup = add_target(&host, target);
    if rustup.is_ok() && host.has(target) {
        return Ok(host.toolchain(target, "was added by rustup"));
    }
    let reason = match rustup {
        Ok(()) => "rustup added it to another toolchain".to_owned(),
        Err(error) => format!("{error:#}"),
    };
    crate::interrupt::check()?;
    if target == LINUX_TARGET {
        bail!(
            "rustup could not add the Rust target {target} ({reason}); it is needed to build the agent; run: rustup target add {target}"
        );
    }
    ui::note(&format!("rustup could not add the Rust target {target} ({reason}); trying Debian's Rust"));
    let mut packages = DEBIAN_PACKAGES.to_vec();
    if host.linker(target).is_none() {
        packages.push("lld");
    }
    system::install("Debian's Rust, with the sources to build its library for bare metal", &packages)
        .with_context(|| format!("the Rust target {target} is missing; run: rustup target add {target}"))?;
    debian(&host, target).with_context(|| {
        format!("Debian's Rust was installed but cannot build for {target}; run: rustup target add {target}")
    })
}

fn add_target(host: &Host, target: &str) -> anyhow::Result<()> {
    let rustup = process::which("rustup").context("rustup is not in $PATH")?;
    ui::note(&format!("Installing the Rust target {target} for rustc {}, with rustup", host.version));
    let task = ui::Task::new(format!("rustup target add {target}"));
    let done = process::run(Command::new(rustup).args(["target", "add", target]), || {})?;
    drop(task);
    anyhow::ensure!(done.status.success(), "{}", done.complaint("error:"));
    Ok(())
}

/// Returns Debian's Rust, which builds the library from source, if it is completely installed. It does not for Linux in
/// the guest: that library needs a C library, which rustup has with it.
fn debian(host: &Host, target: &'static str) -> Option<Toolchain> {
    if target == LINUX_TARGET {
        return None;
    }
    let (rustc, cargo) = (Path::new(DEBIAN_RUSTC), Path::new(DEBIAN_CARGO));
    if !rustc.is_file() || !cargo.is_file() {
        return None;
    }
    let (version, rustlib) = ask(rustc).ok()?;
    let sources = rustlib.join("src/rust/library/core/Cargo.toml");
    if !sources.is_file() || !new_enough(&version) {
        return None;
    }
    let linker = host.linker(target)?;
    let variable = match target {
        UEFI_TARGET => "CARGO_TARGET_AARCH64_UNKNOWN_UEFI_LINKER",
        _ => "CARGO_TARGET_AARCH64_UNKNOWN_NONE_SOFTFLOAT_LINKER",
    };
    Some(Toolchain {
        target,
        cargo: cargo.to_owned(),
        arguments: vec!["-Zbuild-std=core,alloc"],
        environment: vec![
            ("RUSTC", rustc.into()),
            ("RUSTC_BOOTSTRAP", "1".into()),
            (variable, linker.into()),
        ],
        version: version.clone(),
        description: format!("Debian's rustc {version}, which builds the library for {target} from source"),
    })
}

fn new_enough(version: &str) -> bool {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    numbers.next().zip(numbers.next()).is_some_and(|version: (u32, u32)| version >= OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(new_enough("1.90.0") && new_enough("1.100.0-nightly") && new_enough("2.0.0"));
        assert!(!new_enough("1.89.0") && !new_enough("1.9.0") && !new_enough("new"));
    }
}
