//! Options and files that are wrong: one error, exit code 2, and nothing started.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::context::{Context, read};
use super::runner::Step;
use crate::setup::cache::Cache;
use crate::setup::stock::{self, Stock};

/// Options that are wrong by themselves, with a part of the error.
const WRONG: &[(&str, &[&str], &str)] = &[
    ("unknown", &["--frobnicate"], "--frobnicate"),
    ("stray-word", &["kernel"], "kernel"),
    ("vps-0", &["--vps", "0"], "0 is not in 1..=8"),
    ("vps-9", &["--vps", "9"], "9 is not in 1..=8"),
    ("memory-unit", &["--memory", "1T"], "'1T'"),
    ("memory-odd", &["--memory", "65M", "--kernel", "/dev/null"], "multiple of 2 MiB"),
    ("memory-0", &["--memory", "0", "--kernel", "/dev/null"], "0 bytes of guest memory"),
    ("memory-little", &["--memory", "16M"], "too small"),
    ("kernel-and-stock", &["--kernel", "x", "--stock", "6.1"], "cannot be used with"),
    ("run-and-initrd", &["--run", "crash", "--initrd", "x"], "cannot be used with"),
    ("run-unknown", &["--run", "fly"], "'fly'"),
    ("firmware-unknown", &["--firmware", "bios"], "'bios'"),
    ("kernel-missing", &["--kernel", "/nonexistent/Image"], "/nonexistent/Image"),
    ("kernel-folder", &["--kernel", "/"], "cannot read kernel /"),
    ("kernel-empty", &["--kernel", "/dev/null"], "kernel"),
    ("initrd-missing", &["--stock", "6.12", "--initrd", "/nonexistent/initrd"], "/nonexistent/initrd"),
    ("cpu-unknown", &["--cpu", "z80"], "z80"),
    ("cpu-without-16k", &["--stock", "16k", "--cpu", "cortex-a72"], "16K pages"),
    ("qemu-missing", &["--qemu", "/nonexistent/qemu"], "/nonexistent/qemu"),
    ("json-nowhere", &["--json", "/nonexistent/report.json"], "/nonexistent/report.json"),
    ("trace-nowhere", &["--trace", "/nonexistent/boot.pftrace"], "/nonexistent/boot.pftrace"),
    ("trace-buffer-alone", &["--trace-buffer", "4M"], "--trace <FILE>"),
    ("keep-nowhere", &["--keep", "/dev/null/folder"], "/dev/null/folder"),
    ("gdb-port", &["--gdb", "0"], "0 is not in 1..=65535"),
    ("command-line-long", &["--append-long"], "command line"),
];

/// The scenarios.
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

/// An ELF file, but for x86-64 (machine 62).
fn kernel_foreign(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("vmlinux");
    let mut header = vec![0; 64];
    header[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    (header[16], header[18], header[20]) = (2, 62, 1);
    fs::write(&file, header)?;
    context.hv(&["boot".as_ref(), "--kernel".as_ref(), file.as_os_str()])?.refused("an arm64 one is needed")
}

fn trace_foreign(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("trace");
    fs::write(&file, "{}\n")?;
    context.hv(&["trace".as_ref(), file.as_os_str()])?.refused("this is no trace")?;
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

fn help(context: &Context) -> anyhow::Result<()> {
    for command in ["boot", "trace", "test", "build", "doctor"] {
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
