//! liburing's own tests of io_uring: those that do not judge how fast the machine is, and that the kernel's version
//! does not decide. They come from Debian's source package of the suite that this system is.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use hv_setup::cache::Cache;
use hv_setup::debian::{Archive, Release};
use hv_setup::{process, system};

use super::super::context::Context;
use super::super::runner::Step;
use super::{COMPILER, command, compiler, run};

/// The tests. They use the folder that they run in, a file system in RAM, and sockets.
const TESTS: [&str; 26] = [
    "accept",
    "connect",
    "cq-full",
    "cq-overflow",
    "cq-ready",
    "eventfd",
    "fallocate",
    "file-register",
    "file-update",
    "fsync",
    "io_uring_enter",
    "io_uring_setup",
    "link",
    "madvise",
    "mkdir",
    "msg-ring",
    "nop",
    "openat2",
    "poll",
    "poll-cancel",
    "read-write",
    "rename",
    "ring-leak",
    "short-read",
    "splice",
    "unlink",
];

/// Returns the scenario.
pub(super) fn step() -> Step {
    Step::new("exec/6.12/liburing", liburing).slow()
}

fn liburing(context: &Context) -> anyhow::Result<()> {
    compiler()?;
    let folder = context.folder()?;
    let release = system::code_name().context("this system does not say which release of Debian it is")?;
    let cache = Cache::open()?;
    let archive = Archive::find(&cache, Release { name: &release, mirror: None })?;
    let source = archive.source("liburing", &folder)?;
    let sources = folder.join("sources");
    fs::create_dir(&sources)?;
    let strip = "--strip-components=1".as_ref();
    command("tar", &["-C".as_ref(), sources.as_os_str(), strip, "-xf".as_ref(), source.as_os_str()])?;
    let built = folder.join("built");
    fs::create_dir(&built)?;
    build(&sources, &built)?;
    run(context, &built, &TESTS.map(str::to_owned))
}

/// Builds the library and the tests.
fn build(sources: &Path, built: &Path) -> anyhow::Result<()> {
    let made = |line: &mut Command| -> anyhow::Result<()> {
        let done = process::run(line.current_dir(sources), || {})?;
        ensure!(done.status.success(), "{line:?} ended with {}: {}", done.status, done.stderr);
        Ok(())
    };
    made(Command::new("./configure").arg(format!("--cc={COMPILER}")))?;
    let archiver = COMPILER.replace("gcc", "ar");
    let tools = [format!("CC={COMPILER}"), format!("AR={archiver}"), "RANLIB=true".to_owned()];
    made(Command::new("make").args(["-s", "-C", "src", "ENABLE_SHARED=0", "liburing.a"]).args(tools))?;
    let [header, include, helpers, library] =
        ["config-host.h", "src/include", "test/helpers.c", "src/liburing.a"].map(|file| sources.join(file));
    for test in TESTS {
        let (source, program) = (sources.join(format!("test/{test}.c")), built.join(test));
        let mut line: Vec<&OsStr> =
            ["-O1", "-w", "-static", "-D_GNU_SOURCE", "-D__SANE_USERSPACE_TYPES__"].map(OsStr::new).to_vec();
        line.extend(["-include".as_ref(), header.as_os_str(), "-I".as_ref(), include.as_os_str()]);
        line.extend(["-o".as_ref(), program.as_os_str()]);
        line.extend([&source, &helpers, &library].map(|file| file.as_os_str()));
        command(COMPILER, &[&*line, &["-lpthread".as_ref()]].concat())?;
    }
    Ok(())
}
