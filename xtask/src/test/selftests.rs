//! The kernel's own selftests in a stock guest, by `hv exec`: those that mean something for a machine of Hyper-V's, and
//! do not judge how fast it is. They come from Debian's package of the kernel's source, and go to the guest as an
//! archive on a disk.
//!
//! Debian has no package of LTP, and none with liburing's tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;
use hv_setup::cache::Cache;
use hv_setup::{guest, process, system};

/// The package of the stock kernel's source, and its archive.
const PACKAGE: &str = "linux-source-6.12";
const ARCHIVE: &str = "usr/src/linux-source-6.12.tar.xz";
/// Where the selftests are in the archive.
const FOLDER: &str = "linux-source-6.12/tools/testing/selftests";
/// The compiler, and the package of the C library for it.
const COMPILER: &str = "aarch64-linux-gnu-gcc";
const LIBRARY: &str = "/usr/aarch64-linux-gnu/lib/libc.a";

/// A test: its source, its other sources, and its arguments.
struct Selftest(&'static str, &'static [&'static str], &'static str);

const VDSO: &[&str] = &["vDSO/parse_vdso.c"];
const TESTS: [Selftest; 17] = [
    // The clocks: what they say is consistent on all VPs, also through the vDSO, and sleeps end no earlier than they
    // should.
    Selftest("timers/nanosleep", &[], ""),
    Selftest("timers/inconsistency-check", &[], "-t 1"),
    Selftest("timers/threadtest", &[], "-t 3 -n 4"),
    Selftest("timers/set-tai", &[], ""),
    Selftest("proc/proc-uptime-001", &[], ""),
    Selftest("vDSO/vdso_test_gettimeofday", VDSO, ""),
    Selftest("vDSO/vdso_test_getcpu", VDSO, ""),
    Selftest("vDSO/vdso_test_abi", VDSO, ""),
    Selftest("vDSO/vdso_test_clock_getres", &[], ""),
    Selftest("vDSO/vdso_test_correctness", &[], ""),
    Selftest("timens/timens", &[], ""),
    Selftest("timens/timerfd", &[], ""),
    Selftest("timens/timer", &[], ""),
    // Synchronization and signals between VPs.
    Selftest("futex/functional/futex_wait_wouldblock", &[], ""),
    Selftest("futex/functional/futex_wait_timeout", &[], ""),
    Selftest("sigaltstack/sas", &[], ""),
    Selftest("kcmp/kcmp_test", &[], ""),
];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("exec/6.12/selftests", selftests).slow()]
}

fn selftests(context: &Context) -> anyhow::Result<()> {
    if process::which(COMPILER).is_none() || !Path::new(LIBRARY).exists() {
        let packages = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
        system::install("a C compiler and library for arm64", &packages)?;
    }
    let folder = context.folder()?;
    sources(&folder)?;
    let built = folder.join("built");
    fs::create_dir(&built)?;
    for test in &TESTS {
        build(&folder.join(FOLDER), test, &built)?;
    }
    fs::write(built.join("run"), script())?;
    let archive = folder.join("selftests.tar");
    command("tar", &["-C".as_ref(), built.as_os_str(), "-cf".as_ref(), archive.as_os_str(), ".".as_ref()])?;
    let disk = format!("{},ro", archive.display());
    let unpack = "mkdir /selftests && cd /selftests && tar xf /dev/sda && sh ./run";
    let done = context.hv(&[
        "exec",
        "--vps",
        "2",
        "--timeout",
        HUNG_SECONDS,
        "--disk",
        &disk,
        "--",
        "sh",
        "-c",
        unpack,
    ])?;
    ensure!(done.code == Some(0), "{:?}: {}\n{}", done.code, done.stdout, done.stderr);
    let passed = done.stdout.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(passed == TESTS.len(), "{passed} of {} passed: {}", TESTS.len(), done.stdout);
    Ok(())
}

/// Unpacks the selftests of the kernel's source.
fn sources(folder: &Path) -> anyhow::Result<()> {
    let package = guest::download(&Cache::open()?, PACKAGE)?;
    command("dpkg-deb", &["-x".as_ref(), package.as_os_str(), folder.as_os_str()])?;
    let archive = folder.join(ARCHIVE);
    command("tar", &["-C".as_ref(), folder.as_os_str(), "-xf".as_ref(), archive.as_os_str(), FOLDER.as_ref()])
}

fn build(sources: &Path, Selftest(name, others, _): &Selftest, built: &Path) -> anyhow::Result<()> {
    let program = built.join(Path::new(name).file_name().context("no name")?);
    let files: Vec<PathBuf> = [format!("{name}.c")]
        .iter()
        .map(String::as_str)
        .chain(others.iter().copied())
        .map(|file| sources.join(file))
        .collect();
    let includes = [sources.to_owned(), sources.join("futex/include")];
    let mut line: Vec<&std::ffi::OsStr> =
        ["-O2", "-w", "-static", "-D_GNU_SOURCE="].map(AsRef::as_ref).to_vec();
    for include in &includes {
        line.extend(["-I".as_ref(), include.as_os_str()]);
    }
    line.extend(["-o".as_ref(), program.as_os_str()]);
    line.extend(files.iter().map(|file| file.as_os_str()));
    line.extend(["-lrt", "-lpthread", "-lm"].map(AsRef::<std::ffi::OsStr>::as_ref));
    command(COMPILER, &line)
}

/// Returns the script that runs all tests, and says how each ended; its exit status is the number of those that failed.
fn script() -> String {
    let mut script = "failed=0\n\
        one() {\n\
        if \"./$@\" >log 2>&1 </dev/null; then echo \"ok $1\"; else\n\
        echo \"not ok $1: exit status $?\"; tail -n 20 log; failed=$((failed + 1)); fi\n\
        }\n"
    .to_owned();
    for Selftest(name, _, arguments) in &TESTS {
        let program = name.rsplit('/').next().unwrap_or(name);
        script.push_str(&format!("one {program} {arguments}\n"));
    }
    script.push_str("exit $failed\n");
    script
}

/// Runs a program of the host's.
fn command(program: &str, line: &[&std::ffi::OsStr]) -> anyhow::Result<()> {
    let done = process::run(Command::new(program).args(line), || {})?;
    ensure!(done.status.success(), "{program} ended with {}: {}", done.status, done.stderr);
    Ok(())
}
