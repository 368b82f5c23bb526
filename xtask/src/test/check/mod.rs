//! Checks of the sources, in each workspace: lints, format, documentation, the minimum Rust version, licences,
//! packages.

mod licences;
mod package;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use hv_setup::target::{self, LINUX_TARGET, TARGET, Toolchain, UEFI_TARGET};
use hv_setup::{interrupt, process, programs, sources, ui};

use super::runner::Step;

/// The minimum Rust version in all manifests.
const OLDEST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Returns the steps.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("check/fmt", |_| fmt()),
        Step::new("check/lint-tables", |_| lint_tables()),
        Step::new("check/clippy", |_| clippy()),
        Step::new("check/arm64-host", |_| arm64_host()),
        Step::new("check/doc", |_| doc()),
        Step::new("check/msrv", |_| msrv()),
        Step::new("check/licences", |_| licences::check()),
        Step::new("check/package", |_| package::check()),
    ]
}

/// Returns the folders of the workspaces.
fn workspaces() -> anyhow::Result<[PathBuf; 3]> {
    let root = sources::checkout()?;
    Ok(["", "bare", "fuzz"].map(|folder| root.join(folder)))
}

/// Features that users can turn on, which the workspace alone does not: everything is checked with them.
const FEATURES: &str = "hv-conformance/mutants,hv-conformance/report,\
    hv-drivers/embedded-graphics,hv-drivers/embedded-io,hv-drivers/embedded-sdmmc,hv-drivers/embedded-storage,\
    hv-drivers/smoltcp,hv-host/testing,hv-memory/vm-memory,hv-partition/record,hv-partition/testing,hv-vgic/testing,\
    hv-vmbus/testing";

/// A part of a workspace that is built for one target.
struct Part {
    folder: PathBuf,
    /// Cargo's options that select it.
    options: Vec<&'static str>,
    toolchain: Option<Toolchain>,
}

/// The crate that is empty on other hosts than ARM64's: it is checked for that target, too.
const KVM: &str = "hv-kvm";

/// Returns all parts: the root for the host, `bare/` for its three targets, and what of the root is for one of them.
/// Debian's Rust, which builds for them where rustup cannot, has no clippy: a workspace with only that toolchain is
/// checked by the tests that build it.
fn parts() -> anyhow::Result<Vec<Part>> {
    let root = sources::checkout()?;
    let bare = root.join("bare");
    let mut parts = vec![Part {
        folder: root.clone(),
        options: vec!["--workspace", "--all-targets", "--features", FEATURES],
        toolchain: None,
    }];
    for (target, options) in [
        (
            TARGET,
            vec![
                "--workspace",
                "--exclude",
                programs::APPLICATION,
                "--exclude",
                programs::AGENT,
                "--target",
                TARGET,
            ],
        ),
        (LINUX_TARGET, vec!["--package", programs::AGENT, "--target", LINUX_TARGET]),
        (UEFI_TARGET, vec!["--package", programs::APPLICATION, "--target", UEFI_TARGET]),
    ] {
        let toolchain = target::prepare_for(target)?;
        if toolchain.arguments.is_empty() {
            if target == LINUX_TARGET {
                let options = vec!["--package", KVM, "--all-targets", "--target", LINUX_TARGET];
                let toolchain = Some(target::prepare_for(target)?);
                parts.push(Part { folder: root.clone(), options, toolchain });
            }
            parts.push(Part { folder: bare.clone(), options, toolchain: Some(toolchain) });
        } else {
            ui::note(&format!("bare/ is not checked for {target}: {} has no clippy", toolchain.description));
        }
    }
    Ok(parts)
}

impl Part {
    /// Leaves out tests, whose dependencies may need a newer Rust.
    fn without_tests(mut self) -> Self {
        self.options.retain(|option| *option != "--all-targets");
        self
    }

    /// Runs a command of cargo on it.
    fn cargo(&self, command: &[&str], more: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
        let mut cargo = cargo(self.toolchain.as_ref());
        cargo.current_dir(&self.folder).args(command).arg("--locked").args(&self.options).args(more);
        done(cargo.envs(environment.iter().copied()))
    }
}

/// Returns the cargo of a toolchain, or the one that runs this program.
fn cargo(toolchain: Option<&Toolchain>) -> Command {
    let own = || std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    Command::new(toolchain.map_or_else(own, |toolchain| toolchain.cargo.clone()))
}

/// Runs a command to its end; an error contains its output.
fn done(command: &mut Command) -> anyhow::Result<()> {
    let done = process::run(command, || {})?;
    let said = done.stderr.lines().filter(|line| {
        let line = line.trim_start();
        !["Checking ", "Compiling ", "Documenting ", "Blocking ", "Finished "]
            .iter()
            .any(|word| line.starts_with(word))
    });
    let said = said.collect::<Vec<_>>().join("\n");
    ensure!(done.status.success(), "{command:?}: {}\n{}{said}", done.status, done.stdout);
    Ok(())
}

/// Runs `cargo fmt --check`.
fn fmt() -> anyhow::Result<()> {
    for folder in workspaces()? {
        done(cargo(None).current_dir(folder).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

/// Checks that both workspaces have the same table of lints.
fn lint_tables() -> anyhow::Result<()> {
    let [root, bare, _] = workspaces()?;
    let (expected, found) = (lints(&root)?, lints(&bare)?);
    ensure!(!expected.is_empty(), "Cargo.toml has no table of lints");
    ensure!(found == expected, "bare/Cargo.toml has other lints: {found:#?}\nthe root has: {expected:#?}");
    Ok(())
}

/// Returns the lints of a workspace's manifest, by the name of their tool.
fn lints(folder: &Path) -> anyhow::Result<BTreeMap<String, toml::Value>> {
    let manifest = read(&folder.join("Cargo.toml"))?;
    let tools = manifest.get("workspace").and_then(|workspace| workspace.get("lints"));
    let tools = tools.and_then(toml::Value::as_table).context("Cargo.toml has no workspace.lints")?;
    Ok(tools.iter().map(|(tool, lints)| (tool.clone(), lints.clone())).collect())
}

/// Reads a file in TOML.
fn read(file: &Path) -> anyhow::Result<toml::Table> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    text.parse().with_context(|| format!("{} is not TOML", file.display()))
}

/// Checks that Clippy finds nothing, also in the fuzz targets.
fn clippy() -> anyhow::Result<()> {
    let [.., fuzz] = workspaces()?;
    let fuzz = Part { folder: fuzz, options: vec!["--all-targets"], toolchain: None };
    // Nothing is linked: with a library of the user's own, libFuzzer is not compiled, which needs a compiler of C++.
    let environment = [("CUSTOM_LIBFUZZER_PATH", "./libfuzzer.a")];
    parts()?.into_iter().chain([fuzz]).try_for_each(|part| {
        interrupt::check()?;
        part.cargo(&["clippy", "--keep-going"], &["--", "-D", "warnings"], &environment)
    })
}

/// Checks that the tool builds for ARM64 hosts, where it has its machine over KVM, and that Clippy finds nothing there,
/// if the toolchain has it.
fn arm64_host() -> anyhow::Result<()> {
    let toolchain = target::prepare_for(LINUX_TARGET)?;
    let options =
        vec!["--package", "hv-cli", "--no-default-features", "--all-targets", "--target", LINUX_TARGET];
    let has_clippy = toolchain.arguments.is_empty();
    let part = Part { folder: sources::checkout()?, options, toolchain: Some(toolchain) };
    if has_clippy {
        part.cargo(&["clippy"], &["--", "-D", "warnings"], &[])
    } else {
        part.cargo(&["check"], &[], &[])
    }
}

/// Checks that the documentation builds without a warning: no link is broken.
fn doc() -> anyhow::Result<()> {
    for part in parts()?.into_iter().map(Part::without_tests) {
        interrupt::check()?;
        let quiet = [("RUSTDOCFLAGS", "-D warnings")];
        part.cargo(&["doc", "--no-deps", "--keep-going"], &[], &quiet)?;
    }
    Ok(())
}

/// Checks that the minimum Rust version of the manifests builds both workspaces.
fn msrv() -> anyhow::Result<()> {
    let toolchain = format!("{OLDEST}.0");
    let rustup = |arguments: &[&str]| {
        let mut rustup = Command::new("rustup");
        // That of the cargo that runs this program.
        rustup
            .env_remove("CARGO")
            .env_remove("RUSTC")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("LD_LIBRARY_PATH");
        rustup.args(arguments);
        rustup
    };
    let mut install =
        rustup(&["toolchain", "install", &toolchain, "--profile", "minimal", "--no-self-update"]);
    install.args(["--target", TARGET, "--target", UEFI_TARGET, "--target", LINUX_TARGET]);
    if let Err(error) = done(&mut install) {
        interrupt::check()?;
        ui::note(&format!("check/msrv asks clippy, since there is no Rust {toolchain} ({error:#})"));
        let lint = ["--", "-A", "clippy::all", "-D", "clippy::incompatible_msrv"];
        return parts()?.iter().try_for_each(|part| part.cargo(&["clippy"], &lint, &[]));
    }
    for part in parts()?.into_iter().map(Part::without_tests) {
        interrupt::check()?;
        let mut check = rustup(&["run", &toolchain, "cargo", "check", "--locked"]);
        done(check.current_dir(&part.folder).args(&part.options))?;
    }
    Ok(())
}
