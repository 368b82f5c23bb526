//! Wrong options and files: one error, exit code 2, and nothing started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;

use super::context::{Context, read};
use super::runner::Step;
use hv_setup::cache::Cache;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

/// Options that are wrong on their own, with a part of the error.
const WRONG: &[(&str, &[&str], &str)] = &[
    ("unknown", &["--frobnicate"], "--frobnicate"),
    ("stray-word", &["kernel"], "kernel"),
    ("vps-0", &["--vps", "0"], "expected a whole number from 1 to 120"),
    ("vps-121", &["--vps", "121"], "expected a whole number from 1 to 120"),
    ("memory-unit", &["--memory", "1T"], "'1T'"),
    ("memory-odd", &["--memory", "65M", "--kernel", "/dev/null"], "multiple of 2 MiB"),
    ("memory-0", &["--memory", "0", "--kernel", "/dev/null"], "it is 0 bytes; expected a multiple of 2 MiB"),
    ("memory-little", &["--memory", "16M"], "too small"),
    ("kernel-and-stock", &["--kernel", "x", "--stock", "6.1"], "cannot be used with"),
    ("run-and-initrd", &["--run", "crash", "--initrd", "x"], "cannot be used with"),
    ("run-unknown", &["--run", "fly"], "'fly'"),
    ("firmware-unknown", &["--firmware", "bios"], "'bios'"),
    ("kernel-missing", &["--kernel", "/nonexistent/Image"], "/nonexistent/Image"),
    ("kernel-folder", &["--kernel", "/"], "cannot read kernel /"),
    ("kernel-empty", &["--kernel", "/dev/null"], "kernel"),
    ("kernel-endless", &["--kernel", "/dev/zero"], "more than 64 KiB"),
    ("hypervisor-missing", &["--hypervisor", "/nonexistent/el2"], "/nonexistent/el2"),
    ("initrd-folder", &["--initrd", "/"], "cannot read initrd /"),
    ("initrd-missing", &["--stock", "6.12", "--initrd", "/nonexistent/initrd"], "/nonexistent/initrd"),
    ("disk-missing", &["--disk", "/nonexistent/disk,rw"], "the disk /nonexistent/disk does not exist"),
    ("disk-word", &["--disk", "/nonexistent/disk,rx"], "unknown option rx"),
    ("disk-folder", &["--disk", "/"], "the disk / is a folder"),
    ("disk-device", &["--disk", "/dev/null,ro"], "neither a file nor a block device"),
    ("disk-place", &["--disk", "a,at=4:0"], "a controller from 0 to 3"),
    ("disk-twice", &["--disk", "a,at=1:1", "--disk", "b,at=1:1"], "two disks are at=1:1"),
    ("dvd-missing", &["--dvd", "/nonexistent/dvd"], "the disk /nonexistent/dvd does not exist"),
    ("cpu-unknown", &["--cpu", "z80"], "--cpu \"z80\" is refused by QEMU"),
    ("cpu-property", &["--cpu", "max,warp=on"], "--cpu \"max,warp=on\" is refused by QEMU"),
    ("cpu-of-another-machine", &["--cpu", "cortex-m3"], "expected a 64-bit model"),
    ("cpu-of-32-bits", &["--cpu", "cortex-a15"], "it has 32 bits"),
    ("uuid", &["--uuid", "1234"], "expected 32 hexadecimal digits"),
    ("timeout-float", &["--timeout", "1e30"], "expected seconds, a whole number"),
    ("trace-buffer-huge", &["--trace", "/dev/null", "--trace-buffer", "1T"], "does not fit after"),
    ("qemu-folder", &["--qemu", "/"], "the QEMU program / is a folder"),
    ("qemu-other", &["--qemu", "/bin/true"], "expected qemu-system-aarch64"),
    ("cpu-without-16k", &["--stock", "16k", "--cpu", "cortex-a72"], "16K pages"),
    ("qemu-missing", &["--qemu", "/nonexistent/qemu"], "/nonexistent/qemu"),
    ("json-nowhere", &["--json", "/nonexistent/report.json"], "/nonexistent/report.json"),
    ("trace-nowhere", &["--trace", "/nonexistent/boot.pftrace"], "/nonexistent/boot.pftrace"),
    ("trace-buffer-alone", &["--trace-buffer", "4M"], "--trace <FILE>"),
    ("keep-nowhere", &["--keep", "/dev/null/folder"], "/dev/null/folder"),
    ("gdb-port", &["--gdb", "tcp:0"], "tcp:1 to tcp:65535"),
    ("gdb-bare-port", &["--gdb", "1234"], "tcp:1234"),
    ("strict-level", &["--strict=fatal"], "'fatal'"),
    ("inject-empty", &["--inject", ""], "an empty clause"),
    ("inject-unknown", &["--inject", "lost,fly"], "  lost,fly\n       ^^^\n"),
    ("inject-list", &["--inject", "fly"], "disturb=messages|events|time"),
    (
        "inject-no-time",
        &["--inject", "migrate@131946000"],
        "clause 1: this fault needs a period, such as @50ms",
    ),
    ("inject-no-name", &["--inject", "call=HVCALL_NO_SUCH:3"], "no such hypercall"),
    ("inject-shadowed", &["--inject", "lost,twice=18"], "this rule never strikes"),
    ("command-line-long", &["--append-long"], "command line"),
];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = WRONG
        .iter()
        .map(|&(name, options, text)| {
            Step::new(format!("options/{name}"), move |context| refused(context, options, text))
        })
        .collect();
    steps.push(Step::new("options/kernel-truncated", kernel_truncated));
    steps.push(Step::new("options/kernel-foreign", kernel_foreign));
    steps.push(Step::new("options/qemu-too-old", qemu_too_old));
    steps.push(Step::new("options/trace-foreign", trace_foreign));
    steps.push(Step::new("options/result-nowhere", result_nowhere));
    steps.push(Step::new("options/nothing-found", nothing_found));
    steps.push(Step::new("options/stdout-full", stdout_full));
    steps.push(Step::new("options/doctor-json", doctor_json));
    steps.push(Step::new("options/test-json", test_json));
    steps.push(Step::new("options/help", help));
    steps
}

fn refused(context: &Context, options: &[&str], text: &str) -> anyhow::Result<()> {
    let mut line = vec!["boot".to_owned()];
    match options {
        ["--append-long"] => line.extend(["--append".to_owned(), "x".repeat(5000)]),
        _ => line.extend(options.iter().map(|&word| word.to_owned())),
    }
    context.hv(&line)?.refused(text)
}

fn kernel_truncated(context: &Context) -> anyhow::Result<()> {
    let (kernel, _) = stock::kernel(&Cache::open()?, Stock::Cloud612)?;
    let file = context.folder()?.join("Image");
    let bytes = read(&kernel.image)?;
    fs::write(&file, &bytes[..bytes.len() / 2])?;
    context.hv(&["boot".as_ref(), "--kernel".as_ref(), file.as_os_str()])?.refused("truncated")
}

/// Builds an ELF file for x86-64 (machine 62).
fn kernel_foreign(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("vmlinux");
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20]) = (2, 62, 1);
    fs::write(&file, header)?;
    context.hv(&["boot".as_ref(), "--kernel".as_ref(), file.as_os_str()])?.refused("expected arm64")?;
    context
        .hv(&["boot".as_ref(), "--hypervisor".as_ref(), file.as_os_str()])?
        .refused("not an AArch64 ELF program")
}

fn trace_foreign(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("trace");
    fs::write(&file, "{}\n")?;
    context
        .hv(&["trace".as_ref(), file.as_os_str()])?
        .refused(&format!("cannot read the trace {}: it is not a trace", file.display()))?;
    context.hv(&["trace", "/"])?.refused("cannot open the trace /")?;
    context.hv(&["trace".as_ref(), file.with_extension("gone").as_os_str()])?.refused("cannot open")
}

fn qemu_too_old(context: &Context) -> anyhow::Result<()> {
    let file: PathBuf = context.folder()?.join("qemu");
    fs::write(&file, "#!/bin/sh\necho QEMU emulator version 5.2.0\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    context
        .hv(&["boot".as_ref(), "--qemu".as_ref(), file.as_os_str()])?
        .refused("QEMU 5.2.0, which is too old")
}

/// Checks that a file that cannot be written is reported before the run that would fill it.
fn result_nowhere(context: &Context) -> anyhow::Result<()> {
    for line in [
        ["bench", "--json", "/nonexistent/result"],
        ["conformance", "--output", "/nonexistent/result"],
        ["test", "--json", "/nonexistent/result"],
    ] {
        context.hv(&line)?.refused("/nonexistent/result")?;
    }
    Ok(())
}

fn nothing_found(context: &Context) -> anyhow::Result<()> {
    for line in
        [&["rules", "no-such-thing"][..], &["rules", "no-such-thing", "--json"], &["abi", "no-such-thing"]]
    {
        let done = context.hv(line)?;
        anyhow::ensure!(done.code == Some(Exit::Failed as i32), "{line:?}: exit code {:?}", done.code);
    }
    context.hv(&["test", "--list", "no-such-thing"])?.refused("no-such-thing")?;
    context.hv(&["test", "--list", "stress/4-vps/million"])?.refused("give --all to run them")?;
    context.hv(&["conformance", "--list", "--filter", "no-such-thing"])?.refused("no-such-thing")
}

/// Checks that a lost result is an error, unless the reader has gone.
fn stdout_full(context: &Context) -> anyhow::Result<()> {
    let full = fs::OpenOptions::new().write(true).open("/dev/full")?;
    let mut command = context.command(&["abi"])?;
    let done = command.stdout(full).stderr(Stdio::piped()).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    let refused = done.status.code() == Some(Exit::Usage as i32) && said.contains("cannot write to stdout");
    anyhow::ensure!(refused, "{}: {said}", done.status);
    let mut child = context.command(&["abi"])?.stdout(Stdio::piped()).spawn()?;
    drop(child.stdout.take());
    let status = child.wait()?;
    anyhow::ensure!(status.success(), "a reader that went away: {status}");
    Ok(())
}

fn doctor_json(context: &Context) -> anyhow::Result<()> {
    let done = context.hv(&["doctor", "--json"])?;
    let found: serde_json::Value = serde_json::from_str(&done.stdout)?;
    let qemu = found["items"].as_array().into_iter().flatten().find(|item| item["name"] == "QEMU");
    anyhow::ensure!(qemu.is_some_and(|item| item["present"] == true), "no QEMU in {found}");
    anyhow::ensure!(found["ready"] == (done.code == Some(0)), "exit code {:?} with {found}", done.code);
    Ok(())
}

/// Checks that stdout has only the score, even while scenarios are set up.
fn test_json(context: &Context) -> anyhow::Result<()> {
    let done = context.hv(&["test", "--json", "-", "options/vps-0"])?;
    let score: serde_json::Value = serde_json::from_str(&done.stdout).context(done.stderr)?;
    anyhow::ensure!((&score["passed"], &score["failed"]) == (&1.into(), &0.into()), "{score}");
    anyhow::ensure!(score["steps"][0]["name"] == "options/vps-0", "{score}");
    Ok(())
}

fn help(context: &Context) -> anyhow::Result<()> {
    for command in
        ["boot", "trace", "test", "bench", "build", "conformance", "doctor", "rules", "abi", "decode"]
    {
        let help = context.hv(&[command, "--help"])?;
        anyhow::ensure!(
            help.code == Some(0) && help.stdout.contains("Usage: "),
            "{command}: {}",
            help.stderr
        );
    }
    let help = context.hv(&["boot", "--help"])?.stdout;
    for text in ["Exit codes:", "Examples:", "--deterministic"] {
        anyhow::ensure!(help.contains(text), "hv boot --help does not have {text:?}");
    }
    Ok(())
}
