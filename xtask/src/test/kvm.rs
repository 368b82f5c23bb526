//! The partition over KVM: on QEMU's machine, stock Linux is the host, and `hv-kvm`'s programs and the tool run guests
//! there.

mod conformance;
mod emulated;
mod hosts;
mod peer;
mod save;
mod speed;
mod tool;
mod unit;

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

use super::context::{Context, HUNG_SECONDS, read, whole_lines};
use super::runner::Step;

pub(super) use speed::bench;

/// Returns the scenarios. All but one are slow, since a guest's guest is emulated twice.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![
        Step::new("kvm/boot", boot).slow(),
        Step::new("kvm/unit", unit::pass).slow(),
        Step::new("kvm/save", save::save).slow(),
        Step::new("kvm/speed", speed::figures_kept).slow(),
        Step::new("kvm/peer", peer::ratios).slow(),
        Step::new("kvm/tool", tool::boot).slow(),
        Step::new("kvm/tool-disk", tool::disk).slow(),
        Step::new("kvm/tool-control", tool::control).slow(),
        Step::new("kvm/tool-exec", tool::exec).slow(),
        Step::new("kvm/tool-ends", tool::ends).slow(),
        Step::new("kvm/tool-qemu", emulated::boot).slow(),
    ];
    steps.extend(conformance::steps());
    steps.extend(hosts::steps());
    steps
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

/// Checks the crate's examples: that a guest connects to VMBus and powers off, that its processors go off and on again,
/// and that it can crash; and that cases of the conformance suite pass.
fn boot(context: &Context) -> anyhow::Result<()> {
    let [image, initrd] = guest()?;
    let programs = [
        Program { name: "boot", content: built("hv-kvm", &["--example", "boot"])? },
        Program { name: "suite", content: built("hv-kvm", &["--example", "suite"])? },
        Program { name: "guest", content: read(&programs::build(&target::prepare()?, "guest")?)? },
        image,
        initrd,
    ];
    let script = "run /suite /guest 2 conformance.kvm=1 conformance.loopback=1 conformance.filter=timers
run /boot /Image /initrd 1
run /boot /Image /initrd 2 hv.run=hotplug,poweroff
run /boot /Image /initrd 2 hv.run=crash panic=1
";
    let console = host(context, script, &programs)?;
    let [suite, first, hotplug, crash] = runs(&console)?;
    expect(&[
        (suite, &["@hv pass timers/", "failed=0", "host: status 0"]),
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

/// Returns the stock kernel and its initramfs for a guest of the host's.
fn guest() -> anyhow::Result<[Program; 2]> {
    let (kernel, busybox) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    Ok([
        Program { name: "Image", content: read(&kernel.image)? },
        Program { name: "initrd", content: initrd::stock(&read(&busybox)?, &[vmbus()?], None)? },
    ])
}

/// Returns the stock kernel's hv_vmbus.
fn vmbus() -> anyhow::Result<Module> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let file = kernel.modules.iter().find(|file| file.to_string_lossy().contains("hv_vmbus.ko"));
    Ok(Module::read("hv_vmbus.ko", read(file.context("the stock kernel has no hv_vmbus.ko")?)?)?)
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
    let linker = linker();
    let options = [options, &["--target", LINUX_TARGET, "--config", &linker]].concat();
    read(&developer::package(&sources::checkout()?, package, &options)?)
}

/// Returns cargo's setting of the linker, as in bare/.cargo: the standard library's own start files and C library are
/// linked, and no C compiler is needed.
fn linker() -> String {
    format!("target.{LINUX_TARGET}.linker='rust-lld'")
}

/// The emulated machine, and its kernel.
struct Computer<'a> {
    machine: &'a str,
    cpu: &'a str,
    processors: &'a str,
    memory: &'a str,
    kernel: Stock,
    /// More of the kernel's parameters.
    parameters: &'a str,
    /// An instruction takes a nanosecond of its time.
    counted: bool,
    /// Seconds that it may take.
    limit: &'a str,
}

/// The one that emulates fastest.
const USUAL: Computer<'static> = Computer {
    machine: "virt,virtualization=on,gic-version=3",
    cpu: "cortex-a72",
    processors: "2",
    memory: "1G",
    kernel: Stock::Cloud612,
    parameters: "",
    counted: false,
    limit: HUNG_SECONDS,
};

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
    let (kernel, busybox) = stock::kernel(&Cache::open()?, computer.kernel)?;
    let initrd = initrd_of(context, &read(&busybox)?, script, contents)?;
    let mut qemu = qemu::prepare(None)?.command();
    // Audited, the kernel's log has each process that a seccomp filter has killed; it costs instructions.
    let mut append = format!("console=ttyAMA0 quiet panic=-1 {}", computer.parameters);
    if computer.counted {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    } else {
        append += " audit=1";
    }
    qemu.args(["-M", computer.machine, "-m", computer.memory])
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
