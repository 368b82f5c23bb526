//! The partition over KVM: on QEMU's machine, stock Linux is the host, and `hv-kvm`'s programs and the tool run guests
//! there.

mod speed;
mod tool;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use hv_machine::initrd::{self, Archive, Module};
use hv_setup::cache::Cache;
use hv_setup::stock::{self, Stock};
use hv_setup::target::{self, LINUX_TARGET};
use hv_setup::{developer, process, programs, qemu, sources};
use serde_json::Value;

use super::context::{Context, HUNG_SECONDS, read, whole_lines};
use super::runner::Step;

pub(super) use speed::bench;

/// Returns the scenarios, which are slow, since a guest's guest is emulated twice.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("kvm/boot", boot).slow(),
        Step::new("kvm/conformance", conformance).slow(),
        Step::new("kvm/unit", unit).slow(),
        Step::new("kvm/speed", speed::figures_kept).slow(),
        Step::new("kvm/tool", tool::boot).slow(),
        Step::new("kvm/tool-disk", tool::disk).slow(),
        Step::new("kvm/tool-control", tool::control).slow(),
        Step::new("kvm/tool-exec", tool::exec).slow(),
        Step::new("kvm/tool-ends", tool::ends).slow(),
    ]
}

/// The start of the host's /init.
const INIT: &str = "#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
export HOME=/home XDG_CACHE_HOME=/cache PATH=/bin
/bin/busybox --install /bin
run() {
    echo \"host: runs $*\"
    \"$@\"
    echo \"host: status $?\"
}
";

/// Its end.
const END: &str = "echo 'host: done'
/bin/busybox poweroff -f
";

/// A file in the host's initrd.
struct Program {
    name: &'static str,
    content: Vec<u8>,
}

/// Checks that a guest connects to VMBus and powers off, that its processors go off and on again, and that it can
/// crash.
fn boot(context: &Context) -> anyhow::Result<()> {
    let [image, initrd] = guest()?;
    let programs =
        [Program { name: "boot", content: built("hv-kvm", &["--example", "boot"])? }, image, initrd];
    let script = "run /boot /Image /initrd 1
run /boot /Image /initrd 2 hv.run=hotplug,poweroff
run /boot /Image /initrd 2 hv.run=crash panic=1
";
    let console = host(context, script, &programs)?;
    let [first, hotplug, crash] = runs(&console)?;
    expect(&[
        (first, &["Vmbus version:5.3", "hv: connected", "host: status 0"]),
        (
            hotplug,
            &["hv: cpu1 online=0", "hv: cpu1 online=1", "hv: hotplug done, 2 processors", "host: status 0"],
        ),
        // The guest restarts after its panic, with VMBus unloaded before. The crash carries the kernel's log.
        (
            crash,
            &[
                "Kernel panic - not syncing: sysrq triggered crash",
                "crash: [",
                "vmbus: Unloaded",
                "ended with Reset",
                "host: status 1",
                "host: done",
            ],
        ),
    ])
}

/// Returns what the host's console has of each run of its script.
fn runs<const N: usize>(console: &str) -> anyhow::Result<[&str; N]> {
    let runs: Vec<&str> = console.split("host: runs ").skip(1).collect();
    let found = runs.len();
    runs.try_into().map_err(|_| anyhow::anyhow!("expected {N} runs, found {found}; the console:\n{console}"))
}

/// Checks that each run has its texts, whichever ends its lines have.
fn expect(runs: &[(&str, &[&str])]) -> anyhow::Result<()> {
    for (run, texts) in runs {
        let run = run.replace('\r', "");
        for text in *texts {
            ensure!(run.contains(text), "expected {text:?} in the run of {run}");
        }
    }
    Ok(())
}

/// Cases that are skipped over KVM: it answers the Arm architecture's functions itself, and says SMCCC 1.1, which has
/// no SMCCC_ARCH_FEATURES for SMCCC_VERSION.
const SKIPPED: [&str; 2] = [
    "feature_discovery/smccc_is_of_version_1_2_or_later",
    "feature_discovery/features_are_told_for_functions_that_exist_and_not_for_others",
];
/// Minimum number of cases that pass on two VPs.
const PASSED: usize = 470;

/// Checks that a guest on two VPs finds what the suite is about, by both calling conventions.
fn conformance(context: &Context) -> anyhow::Result<()> {
    let guest = programs::build(&target::prepare()?, "guest")?;
    let programs = [
        Program { name: "suite", content: built("hv-kvm", &["--example", "suite"])? },
        Program { name: "guest", content: read(&guest)? },
    ];
    let options = "rt.granule=4k conformance.loopback=1 conformance.crash=1 conformance.kvm=1";
    let script = ["smccc", "hvc1"]
        .map(|conduit| format!("run /suite /guest 2 conformance.conduit={conduit} {options}\n"))
        .concat();
    let console = host(context, &script, &programs)?;
    ensure!(console.matches("host: status 0").count() == 2, "a guest did not power off:\n{console}");
    let file = context.folder()?.join("console.txt");
    fs::write(&file, &console)?;
    let line = ["conformance", "--format", "json", "--read"].map(OsStr::new);
    let done = context.hv(&[&line[..], &[file.as_os_str()]].concat())?;
    let report: Value = serde_json::from_str(&done.stdout)
        .with_context(|| format!("no report: {}\n{}\n{console}", done.stdout, done.stderr))?;
    let runs = report["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    ensure!(runs.len() == 2, "expected two runs: {report}");
    for run in runs {
        ensure!(run["problems"].as_array().is_none_or(Vec::is_empty), "{}", run["problems"]);
        let results = run["results"].as_array().context("a run without results")?;
        let of = |outcome: &'static str| results.iter().filter(move |result| result["outcome"] == outcome);
        let failed: Vec<&Value> = of("failed").collect();
        ensure!(failed.is_empty(), "failed: {failed:#?}");
        let skipped: Vec<&str> = of("skipped").filter_map(|result| result["name"].as_str()).collect();
        ensure!(SKIPPED.iter().all(|name| skipped.contains(name)), "skipped: {skipped:#?}");
        let passed = of("passed").count();
        ensure!(passed >= PASSED, "only {passed} cases passed");
    }
    Ok(())
}

/// Runs the crate's own tests on the host: those of its tests that are for its target alone run nowhere else.
fn unit(context: &Context) -> anyhow::Result<()> {
    let programs = [Program { name: "unit", content: built("hv-kvm", &["--tests"])? }];
    let console = host(context, "run /unit\n", &programs)?;
    let [unit] = runs(&console)?;
    expect(&[(unit, &["linux::sandbox::tests::", "test result: ok", "host: status 0"])])
}

/// Returns the stock kernel and its initramfs for a guest of the host's.
fn guest() -> anyhow::Result<[Program; 2]> {
    let (kernel, busybox) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let vmbus = kernel.modules.iter().find(|file| file.to_string_lossy().contains("hv_vmbus.ko"));
    let vmbus = Module::read("hv_vmbus.ko", read(vmbus.context("the stock kernel has no hv_vmbus.ko")?)?)?;
    Ok([
        Program { name: "Image", content: read(&kernel.image)? },
        Program { name: "initrd", content: initrd::stock(&read(&busybox)?, &[vmbus], None)? },
    ])
}

/// Returns the stock kernel's initramfs with these of its modules.
fn with_modules(names: &[&str]) -> anyhow::Result<Vec<u8>> {
    let cache = Cache::open()?;
    let (_, busybox) = stock::kernel(&cache, Stock::Cloud612)?;
    let folder = stock::drivers(&cache, Stock::Cloud612)?;
    let module = |name: &&str| {
        let file = folder.join(format!("{name}.ko.xz"));
        Module::read(&format!("{name}.ko"), read(&file)?).with_context(|| format!("{}", file.display()))
    };
    let modules = names.iter().map(module).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(initrd::stock(&read(&busybox)?, &modules, None)?)
}

/// Builds a program of a package for the host.
fn built(package: &str, options: &[&str]) -> anyhow::Result<Vec<u8>> {
    target::prepare_for(LINUX_TARGET)?;
    // As in bare/.cargo: the standard library's own start files and C library are linked, and no C compiler is needed.
    let linker = format!("target.{LINUX_TARGET}.linker='rust-lld'");
    let options = [options, &["--target", LINUX_TARGET, "--config", &linker]].concat();
    read(&developer::package(&sources::checkout()?, package, &options)?)
}

/// The emulated machine.
struct Computer<'a> {
    cpu: &'a str,
    processors: &'a str,
    /// An instruction takes a nanosecond of its time.
    counted: bool,
    /// Seconds that it may take.
    limit: &'a str,
}

const USUAL: Computer<'static> =
    Computer { cpu: "cortex-a72", processors: "2", counted: false, limit: HUNG_SECONDS };

/// Runs the host with a script until it powers off, and returns its console.
fn host(context: &Context, script: &str, programs: &[Program]) -> anyhow::Result<String> {
    host_on(context, &USUAL, script, (programs, &[]))
}

/// Does the same with more files, each with its path and its contents.
fn host_with(
    context: &Context,
    script: &str,
    programs: &[Program],
    files: &[(String, Vec<u8>)],
) -> anyhow::Result<String> {
    host_on(context, &USUAL, script, (programs, files))
}

/// Does the same on this machine.
fn host_on(
    context: &Context,
    computer: &Computer<'_>,
    script: &str,
    contents: (&[Program], &[(String, Vec<u8>)]),
) -> anyhow::Result<String> {
    let (kernel, busybox) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let initrd = initrd_of(context, &read(&busybox)?, script, contents)?;
    let mut qemu = qemu::prepare(None)?.command();
    // Audited, the kernel's log has each process that a seccomp filter has killed; it costs instructions.
    let mut append = "console=ttyAMA0 quiet panic=-1".to_owned();
    if computer.counted {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    } else {
        append += " audit=1";
    }
    qemu.args(["-M", "virt,virtualization=on,gic-version=3", "-m", "1G"])
        .args(["-cpu", computer.cpu, "-smp", computer.processors])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-append"])
        .arg(append)
        .arg("-kernel")
        .arg(&kernel.image)
        .arg("-initrd")
        .arg(&initrd);
    let words = [OsStr::new(computer.limit), qemu.get_program()].into_iter().chain(qemu.get_args());
    let words: Vec<OsString> = words.map(ToOwned::to_owned).collect();
    let done = process::run(&mut context.tied("timeout".as_ref(), &words), || {})?;
    ensure!(done.status.success(), "QEMU: {}, {}\n{}", done.status, done.stderr, done.stdout);
    Ok(whole_lines(&done.stdout))
}

/// Makes the host's initrd, and returns its file.
fn initrd_of(
    context: &Context,
    busybox: &[u8],
    script: &str,
    (programs, files): (&[Program], &[(String, Vec<u8>)]),
) -> anyhow::Result<PathBuf> {
    let mut archive = Archive::new();
    ["bin", "cache", "dev", "home", "proc", "sys", "tmp"]
        .into_iter()
        .try_for_each(|folder| archive.dir(folder))?;
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", 0o755, busybox)?;
    archive.file("init", 0o755, [INIT, script, END].concat().as_bytes())?;
    for Program { name, content } in programs {
        archive.file(name, 0o755, content)?;
    }
    let mut folders = BTreeSet::from(["bin", "cache"]);
    for (path, content) in files {
        for (end, _) in path.match_indices('/') {
            if folders.insert(&path[..end]) {
                archive.dir(&path[..end])?;
            }
        }
        archive.file(path, 0o755, content)?;
    }
    let initrd = context.folder()?.join("initrd");
    fs::write(&initrd, archive.finish()?)?;
    Ok(initrd)
}
