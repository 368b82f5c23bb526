//! Test suites of others in a stock guest, by `hv exec`: built here, and brought to the guest as an archive on a disk.
//!
//! Debian has no package of LTP.

mod liburing;
mod selftests;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::ensure;
use hv_setup::{process, system};

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;

/// The compiler, and the C library for it.
const COMPILER: &str = "aarch64-linux-gnu-gcc";
const LIBRARY: &str = "/usr/aarch64-linux-gnu/lib/libc.a";

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![selftests::step(), liburing::step()]
}

/// Installs the compiler, if it is missing.
fn compiler() -> anyhow::Result<()> {
    if process::which(COMPILER).is_some() && Path::new(LIBRARY).exists() {
        return Ok(());
    }
    let packages = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
    system::install("a C compiler and library for arm64", &packages)
}

/// Runs the programs of a folder in a guest, each line one with its arguments, and checks that all of them succeed.
fn run(context: &Context, built: &Path, lines: &[String]) -> anyhow::Result<()> {
    fs::write(built.join("run"), script(lines))?;
    let archive = context.folder()?.join("suite.tar");
    command("tar", &["-C".as_ref(), built.as_os_str(), "-cf".as_ref(), archive.as_os_str(), ".".as_ref()])?;
    let disk = format!("{},ro", archive.display());
    let unpack = "mkdir /suite && cd /suite && tar xf /dev/sda && sh ./run";
    let line = ["exec", "--vps", "2", "--timeout", HUNG_SECONDS, "--disk", &disk, "--", "sh", "-c", unpack];
    let done = context.hv(&line)?;
    ensure!(done.code == Some(0), "{:?}: {}\n{}", done.code, done.stdout, done.stderr);
    let passed = done.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(passed == lines.len(), "{passed} of {} passed: {}", lines.len(), done.stdout);
    Ok(())
}

/// Returns the script that runs all tests, and says how each ended; its exit status is the number of those that failed.
fn script(lines: &[String]) -> String {
    let mut script = "failed=0\n\
        one() {\n\
        if \"./$@\" >log 2>&1 </dev/null; then echo \"ok $1\"; else\n\
        echo \"not ok $1: exit status $?\"; tail -n 20 log; failed=$((failed + 1)); fi\n\
        }\n"
    .to_owned();
    for line in lines {
        script.push_str(&format!("one {line}\n"));
    }
    script.push_str("exit $failed\n");
    script
}

/// Runs a program of the host's.
fn command(program: &str, line: &[&OsStr]) -> anyhow::Result<()> {
    let done = process::run(Command::new(program).args(line), || {})?;
    ensure!(done.status.success(), "{program} ended with {}: {}", done.status, done.stderr);
    Ok(())
}
