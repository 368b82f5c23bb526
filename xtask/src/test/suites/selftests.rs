//! The kernel's own selftests in a stock guest, by `hv exec`: those that mean something for a machine of Hyper-V's, and
//! do not judge how fast it is. They come from Debian's package of the kernel's source, and go to the guest as an
//! archive on a disk.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hv_setup::cache::Cache;
use hv_setup::guest;

use super::super::context::Context;
use super::super::runner::Step;
use super::{COMPILER, command, compiler, run};

/// The package of the stock kernel's source, and its archive.
const PACKAGE: &str = "linux-source-6.12";
const ARCHIVE: &str = "usr/src/linux-source-6.12.tar.xz";
/// Where the selftests are in the archive.
const FOLDER: &str = "linux-source-6.12/tools/testing/selftests";
/// A test: its source, its other sources, and its arguments.
struct Selftest(&'static str, &'static [&'static str], &'static str);

const VDSO: &[&str] = &["vDSO/parse_vdso.c"];
const TESTS: [Selftest; 16] = [
    // The clocks: what they say is consistent on all VPs, also through the vDSO, and sleeps end no earlier than they
    // should.
    Selftest("timers/nanosleep", &[], ""),
    Selftest("timers/inconsistency-check", &[], "-t 1"),
    Selftest("timers/threadtest", &[], "-t 3 -n 4"),
    Selftest("timers/set-tai", &[], ""),
    Selftest("proc/proc-uptime-001", &[], ""),
    Selftest("vDSO/vdso_test_gettimeofday", VDSO, ""),
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

/// Returns the scenario.
pub(super) fn step() -> Step {
    Step::new("exec/6.12/selftests", selftests).slow()
}

fn selftests(context: &Context) -> anyhow::Result<()> {
    compiler()?;
    let folder = context.folder()?;
    sources(&folder)?;
    let built = folder.join("built");
    fs::create_dir(&built)?;
    for test in &TESTS {
        build(&folder.join(FOLDER), test, &built)?;
    }
    let lines = TESTS.map(|Selftest(name, _, arguments)| {
        format!("{} {arguments}", name.rsplit('/').next().unwrap_or(name))
    });
    run(context, &built, &lines)
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
