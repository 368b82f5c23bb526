//! Commands for developers: `hv` has the options and hands the command over to `xtask`, which it builds first. So users
//! who boot a guest do not compile the tests.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::exit::Exit;
use crate::{process, sources, ui, value};

/// Environment variable with the path of the `hv` that handed over: the tests run that one.
pub const HV: &str = "HV_PROGRAM";
/// The package that is handed over to.
const PACKAGE: &str = "xtask";
/// The variable that tells cargo whether it keeps what makes the build after an edit quicker.
const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// Run the tests in process, then the scenarios on QEMU
///
/// Installs and fetches what is missing first, like `hv boot`. Exits with 1 if a test fails.
#[derive(Debug, clap::Args)]
#[command(after_help = TEST_EXAMPLES)]
pub struct TestArgs {
    /// Run only the tests whose names contain one of these
    #[arg(value_name = "NAME")]
    pub filters: Vec<String>,
    /// Run the slow tests too: those that need large downloads or long runs
    #[arg(long)]
    pub all: bool,
    /// Only list the tests
    #[arg(long)]
    pub list: bool,
    /// Number of scenarios to run at a time
    #[arg(long, short, value_name = "N", default_value_t = 2)]
    #[arg(value_parser = value::whole::<usize>(1..=64, ""))]
    pub jobs: usize,
    /// Write the score as JSON to a file, or with - to stdout (the lines then go to stderr)
    #[arg(long, value_name = "FILE|-", conflicts_with = "list")]
    pub json: Option<PathBuf>,
}

const TEST_EXAMPLES: &str = "\
Examples:
  cargo hv test
  cargo hv test boot/6.12 crash
  cargo hv test --all
  cargo hv test --list
  cargo hv test --json result.json

Exit codes: 0 all tests passed, 1 a test failed, 2 a bad option or something that is missing, 130 interrupted";

/// Measure devices beside plain QEMU's virtio, with the same kernel and the same QEMU
///
/// fio, iperf3 and socat run in a stock guest: on this machine's disk, network card and sockets, and on QEMU's
/// virtio-blk, virtio-net and virtio-serial without the hypervisor, alternating. The medians are printed, and the
/// instructions that `hv bench` counts for devices. Other load on this computer changes the figures.
#[derive(Debug, clap::Args)]
#[command(after_help = BENCH_DEVICES_EXAMPLES)]
pub struct BenchDevicesArgs {
    /// Measure only figures with this in their name, and count no instructions
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub filter: String,
    /// Only list the names
    #[arg(long, conflicts_with = "json")]
    pub list: bool,
    /// Runs on each side
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value::whole::<u32>(1..=99, ""))]
    pub runs: u32,
    /// Seconds for each figure of a run
    #[arg(long, value_name = "SECS", default_value_t = 5, value_parser = value::whole::<u32>(1..=600, "seconds"))]
    pub seconds: u32,
    /// Number of virtual processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value::whole::<u32>(1..=8, ""))]
    pub vps: u32,
    /// Write the figures as JSON to a file, or with - to stdout in place of the table
    #[arg(long, value_name = "FILE|-")]
    pub json: Option<PathBuf>,
}

/// Count what operations cost a guest over KVM, beside KVM's own call
///
/// QEMU emulates an ARM64 machine whose host is a stock Linux kernel, once with KVM at EL1 (nVHE) and once at EL2
/// (VHE). There the tool boots the program of `hv bench` over KVM. The counts are instructions of guest, host and tool.
#[derive(Debug, clap::Args)]
#[command(after_help = BENCH_KVM_EXAMPLES)]
pub struct BenchKvmArgs {
    /// Seconds for each of the two, 0 for none
    #[arg(long, value_name = "SECS", default_value_t = 1200, value_parser = value::seconds)]
    pub timeout: u32,
}

const BENCH_KVM_EXAMPLES: &str = "\
Examples:
  cargo hv bench kvm

Exit codes: 0 measured, whether or not a figure is as wanted, 2 something is missing, 130 interrupted";

const BENCH_DEVICES_EXAMPLES: &str = "\
Examples:
  cargo hv bench devices
  cargo hv bench devices --list
  cargo hv bench devices --filter disk-rand --runs 5
  cargo hv bench devices --json devices.json

Exit codes: 0 measured, whether or not a figure is as wanted, 2 a bad option or something that is missing, 130 interrupted";

/// Hands `hv bench devices` over, with the options on this process's command line.
///
/// # Errors
/// The same as for [`hand_over`].
pub fn bench_devices() -> anyhow::Result<Exit> {
    hand_over("bench-devices", std::env::args_os().skip(3))
}

/// Hands `hv bench kvm` over, with the options on this process's command line.
///
/// # Errors
/// The same as for [`hand_over`].
pub fn bench_kvm() -> anyhow::Result<Exit> {
    hand_over("bench-kvm", std::env::args_os().skip(3))
}

/// Hands `hv test` over, with the options on this process's command line.
pub fn test() -> anyhow::Result<Exit> {
    hand_over("test", std::env::args_os().skip(2))
}

/// Builds `xtask` and replaces this process with it; returns only on failure.
///
/// # Errors
/// There is no checkout, as for an installed `hv`, or `xtask` does not build.
pub fn hand_over(command: &str, arguments: impl IntoIterator<Item = OsString>) -> anyhow::Result<Exit> {
    let hv = std::env::current_exe().context("cannot find the path of this hv")?;
    let mut child = Command::new(build()?);
    // What it builds is built once and run: cargo's files for the next edit would be half of what lies in `target/`.
    if std::env::var_os(INCREMENTAL).is_none() {
        child.env(INCREMENTAL, "0");
    }
    let error = child.arg(command).args(arguments).env(HV, hv).exec();
    Err(error).with_context(|| format!("cannot start {PACKAGE}"))
}

/// Builds `xtask` in the checkout, and returns its path. Its lock file is not changed: the tests run what was
/// committed.
fn build() -> anyhow::Result<PathBuf> {
    let root = sources::checkout().context("this command needs a checkout of the project")?;
    package(&root, PACKAGE, &[])
}

/// Builds the program of a package of the checkout in the release profile, and returns its path.
///
/// # Errors
/// It does not build; cargo's messages have been shown.
pub fn package(root: &Path, package: &str, options: &[&str]) -> anyhow::Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let title = format!("Building {package}");
    let task = ui::Task::quiet(title.clone());
    let mut child = Command::new(cargo)
        .args(["build", "--release", "--locked", "--message-format", "json-render-diagnostics", "--package"])
        .arg(package)
        .args(options)
        .arg("--manifest-path")
        .arg(root.join("Cargo.toml"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let stdout = child.stdout.take().map(|pipe| process::collect(pipe, |_| {}));
    let bar = task.clone();
    let mut said = false;
    let stderr = child.stderr.take().map(|pipe| {
        process::collect(pipe, move |line| {
            if let Some(crate_name) = line.trim_start().strip_prefix("Compiling ") {
                // If there is nothing to build, nothing is printed.
                if !std::mem::replace(&mut said, true) && !bar.is_shown() {
                    ui::note(&title);
                }
                bar.say(format!("{title}: {crate_name}"));
            }
        })
    });
    let status = process::wait(&mut child, &mut || {})?;
    let messages = stdout.map(process::Reader::finish).unwrap_or_default();
    let log = stderr.map(process::Reader::finish).unwrap_or_default();
    drop(task);
    if !status.success() {
        ui::lines(&log);
        bail!("cannot build {package}; cargo's messages are above");
    }
    program(&messages, package).with_context(|| format!("cargo built {package}, but reports no executable"))
}

/// Finds the program of a package in cargo's messages, one JSON value per line.
fn program(messages: &str, package: &str) -> Option<PathBuf> {
    let values = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let named = |message: Value| {
        let id = message["package_id"].as_str()?;
        // As cargo names packages: `path+file:///CHECKOUT/xtask#0.1.0`, or `...#hv-cli@0.1.0`.
        let ours = id.contains(&format!("/{package}#")) || id.contains(&format!("#{package}@"));
        message["executable"].as_str().filter(|_| ours).map(PathBuf::from)
    };
    values.filter_map(named).next_back()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_one_of_the_package() {
        let messages = "{\"package_id\":\"path+file:///a/other#0.1.0\",\"executable\":\"/t/other\"}\n\
                        not json\n\
                        {\"package_id\":\"path+file:///a/xtask#0.1.0\",\"executable\":null}\n\
                        {\"package_id\":\"path+file:///a/xtask#0.1.0\",\"executable\":\"/t/xtask\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(program(messages, "xtask"), Some("/t/xtask".into()));
        assert_eq!(program(messages, "hv-cli"), None);
        let messages = "{\"package_id\":\"path+file:///a/cli#hv-cli@0.1.0\",\"executable\":\"/t/hv\"}";
        assert_eq!(program(messages, "hv-cli"), Some("/t/hv".into()));
    }
}
