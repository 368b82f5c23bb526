//! The ABI's table against other people's work: Linux's headers as a C compiler sees them, and a published crate.
//!
//! Nothing of these sources is kept in this project. What they have and we lack, and where they differ, stands in
//! tables with a reason each; a reason that no longer explains anything is a failure too.

mod compiler;
mod driver;
mod linux;
mod linux_reasons;
mod mshv;
mod mshv_reasons;
mod scan;

use std::cell::RefCell;
use std::collections::HashSet;

use anyhow::ensure;
use hv_tlfs::abi;

use compiler::{Compiler, little_endian};

use super::context::Context;
use super::runner::Step;
use hv_setup::process;
use hv_setup::sources;
use hv_setup::system;

/// Returns the witnesses.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("abi/c-header", header),
        Step::new("abi/witness-linux-6.12", linux::run),
        Step::new("abi/witness-storvsc", |_| driver::compare(&driver::STORAGE)),
        Step::new("abi/witness-netvsc", |_| driver::compare(&driver::NETWORK)),
        Step::new("abi/witness-keyboard", |_| driver::compare(&driver::KEYBOARD)),
        Step::new("abi/witness-mouse", |_| driver::compare(&driver::MOUSE)),
        Step::new("abi/witness-video", |_| driver::compare(&driver::VIDEO)),
        Step::new("abi/witness-sockets", |_| driver::compare(&driver::SOCKETS)),
        Step::new("abi/witness-balloon", |_| driver::compare(&driver::BALLOON)),
        Step::new("abi/witness-mshv-bindings", mshv::run),
    ]
}

/// The C compiler for AArch64.
const COMPILER: &str = "aarch64-linux-gnu-gcc";

/// A C++ compiler, for any 64-bit machine: layouts are the same on all.
const CXX: &str = "g++";

/// Installs the compilers that are missing.
pub(super) fn prepare() -> anyhow::Result<()> {
    if process::which(COMPILER).is_none() {
        system::install("the C compiler for AArch64", &["gcc-aarch64-linux-gnu"])?;
    }
    if process::which(CXX).is_none() {
        system::install("a C++ compiler", &["g++"])?;
    }
    Ok(())
}

/// Checks that a header is C11, C++11 and C++17.
fn strictly(header: &std::path::Path, include: &std::path::Path) -> anyhow::Result<()> {
    for (compiler, standard, language) in
        [(COMPILER, "-std=c11", "c"), (CXX, "-std=c++11", "c++"), (CXX, "-std=c++17", "c++")]
    {
        let mut line = std::process::Command::new(compiler);
        // Freestanding: a cross compiler has no headers of a C library.
        line.args([
            standard,
            "-ffreestanding",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-x",
            language,
            "-fsyntax-only",
            "-I",
        ]);
        let done = process::run(line.arg(include).arg(header), || {})?;
        ensure!(done.status.success(), "{} is not {standard}: {}", header.display(), done.stderr);
    }
    Ok(())
}

/// Checks that each of the headers can come first, and that of VMBus needs no other one.
fn together(dir: &std::path::Path) -> anyhow::Result<()> {
    let include = sources::checkout()?.join("crates/hv-guest-c/include");
    strictly(&include.join("hv_vmbus.h"), &include)?;
    for (name, headers) in [
        ("abi-first.h", ["abi.h", "hv_guest.h", "hv_vmbus.h"]),
        ("guest-first.h", ["hv_guest.h", "hv_vmbus.h", "abi.h"]),
        ("vmbus-first.h", ["hv_vmbus.h", "abi.h", "hv_guest.h"]),
    ] {
        let text = headers.map(|header| format!("#include \"{header}\"\n")).concat();
        std::fs::write(dir.join(name), text)?;
        strictly(&dir.join(name), &include)?;
    }
    Ok(())
}

/// Checks that the printed C header compiles without a warning, and that its assertions hold. C can assert no bit
/// field's place, so the compiler is asked for those.
fn header(context: &Context) -> anyhow::Result<()> {
    let printed = context.hv(&["abi", "--c-header"])?;
    ensure!(printed.code == Some(0), "hv abi --c-header ended with {:?}: {}", printed.code, printed.stderr);
    let dir = context.folder()?;
    std::fs::write(dir.join("abi.h"), printed.stdout)?;
    let mut gcc = std::process::Command::new(COMPILER);
    gcc.args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-x", "c", "-c", "-o"]);
    let done = process::run(gcc.arg(dir.join("abi.o")).arg(dir.join("abi.h")), || {})?;
    ensure!(done.status.success(), "{}", done.stderr);
    strictly(&dir.join("abi.h"), &dir)?;
    together(&dir)?;

    let fields: Vec<_> = abi::structs()
        .flat_map(|row| row.fields.iter().map(move |field| (row, field)))
        .filter(|(_, field)| !field.ty.is_empty())
        .filter_map(|(row, field)| Some((row, field, field.bits?)))
        .collect();
    let items = fields
        .iter()
        .map(|(row, field, _)| format!("const union {} @ = {{ .{} = -1 }};", row.name, field.name));
    let answers = Compiler::new(dir, "#include \"abi.h\"\n", Vec::new()).values(items.collect())?;
    for ((row, field, (low, width)), answer) in fields.iter().zip(answers) {
        let expected = (u64::MAX >> (64 - width)) << low;
        let found = answer.as_deref().map(little_endian);
        ensure!(
            found == Some(expected),
            "{}.{}: {found:#x?} in C, {expected:#x} in the table",
            row.name,
            field.name
        );
    }
    ensure!(fields.len() >= 200, "only {} bit fields were compared", fields.len());
    Ok(())
}

/// Explained differences: a name, or the start of names and `*`, and the reason.
type Reasons = [(&'static str, &'static str)];

/// A comparison's complaints, and which reasons it has used.
struct Complaints {
    lines: Vec<String>,
    used: RefCell<HashSet<&'static str>>,
}

impl Complaints {
    fn new() -> Self {
        Self { lines: Vec::new(), used: RefCell::default() }
    }

    /// Returns true if a reason explains this name; the reason then counts as used.
    fn explained(&self, reasons: &Reasons, name: &str) -> bool {
        let fits = |pattern: &str| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == pattern,
        };
        let mut explained = false;
        for (pattern, _) in reasons.iter().filter(|(pattern, _)| fits(pattern)) {
            self.used.borrow_mut().insert(pattern);
            explained = true;
        }
        explained
    }

    fn add(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Passes if nothing was complained of and every reason was needed.
    fn finish(mut self, reasons: &[&Reasons], compared: usize, least: usize) -> anyhow::Result<()> {
        for (pattern, reason) in reasons.iter().copied().flatten() {
            if !self.used.borrow().contains(pattern) {
                self.lines.push(format!("{pattern}: nothing is left to explain with: {reason}"));
            }
        }
        if compared < least {
            self.lines.push(format!("only {compared} things were compared, expected {least} or more"));
        }
        if self.lines.is_empty() { Ok(()) } else { Err(anyhow::anyhow!("{}", self.lines.join("\n"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REASONS: &Reasons = &[("hv_exact", "a reason"), ("HVMSG_X64_*", "another")];

    #[test]
    fn a_reason_explains_its_name_or_the_names_that_start_with_it() {
        let complaints = Complaints::new();
        assert!(complaints.explained(REASONS, "hv_exact"));
        assert!(complaints.explained(REASONS, "HVMSG_X64_APIC_EOI"));
        assert!(!complaints.explained(REASONS, "hv_exactly"));
        assert!(complaints.finish(&[REASONS], 5, 5).is_ok());
    }

    #[test]
    fn a_reason_without_use_and_a_comparison_of_nothing_are_failures() {
        let complaints = Complaints::new();
        assert!(complaints.explained(REASONS, "hv_exact"));
        let error = complaints.finish(&[REASONS], 0, 1).unwrap_err().to_string();
        assert!(
            error.contains("HVMSG_X64_*: nothing is left to explain") && error.contains("only 0 things"),
            "{error}"
        );
    }
}
