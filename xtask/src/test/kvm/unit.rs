//! The unit tests of the tool and of the crates that it is made of, on an ARM64 host: those that are for its target
//! alone run nowhere else.

use std::iter;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};
use hv_setup::target::{self, LINUX_TARGET};
use hv_setup::{process, sources, system, ui};
use serde_json::Value;

use super::{Computer, USUAL, host_on, linker};
use crate::test::context::{Context, read};
use crate::test::in_process::Counts;

/// What tests need that this host has not, and these tests. Its own programs of these names are busybox's.
const LEFT_OUT: [(&str, &[&str]); 4] = [
    (
        "the checkout",
        &[
            "mutants::tests::every_mutant_fits_its_source",
            "tests::every_command_that_the_pages_show_is_a_valid_one",
            "sources::packed::tests::what_is_unpacked_is_the_checkouts_and_a_damaged_file_is_mended",
        ],
    ),
    (
        "mke2fs of e2fsprogs",
        &[
            "boot::image::tests::a_damaged_image_is_an_error_or_another_image_and_no_panic",
            "boot::image::tests::a_file_system_that_cannot_be_read_is_said_and_the_stock_kernel_boots",
            "boot::image::tests::a_link_of_a_size_that_no_link_has_is_refused_before_it_is_read",
            "boot::image::tests::the_newest_kernel_of_a_root_boots_by_links_and_a_link_without_end_is_an_error",
        ],
    ),
    (
        "dpkg-deb of dpkg",
        &[
            "image::bundle::tests::a_hostile_package_is_refused",
            "image::bundle::tests::files_are_where_dpkg_puts_them_on_a_system_with_a_merged_usr",
            "image::bundle::tests::triggers_are_what_dpkg_would_have_recorded",
        ],
    ),
    (
        "mkfs.vfat of dosfstools",
        &[
            "image::efi::tests::a_loader_with_a_signature_comes_first",
            "image::efi::tests::a_new_image_boots_the_newest_kernel_by_its_entry",
            "image::efi::tests::a_root_that_cannot_boot_is_an_error",
        ],
    ),
];
/// Minimum number of tests that pass.
const PASSED: usize = 850;
/// Seconds that they may take, on a busy computer.
const LIMIT: &str = "2400";

/// A program with tests, and the name of what it tests.
struct Built {
    name: String,
    file: PathBuf,
}

/// Checks that they pass on a stock kernel with KVM.
pub(super) fn pass(context: &Context) -> anyhow::Result<()> {
    let built = built()?;
    for (what, tests) in LEFT_OUT {
        ui::note(&format!("kvm/unit leaves out {} tests, which need {what}", tests.len()));
    }
    let skipped = LEFT_OUT.iter().flat_map(|(_, tests)| *tests).map(|name| format!(" --skip {name}"));
    let skipped: String = skipped.collect();
    // Of random values there are fewer: every instruction is emulated, and the tests in process have them all.
    let head = "mkdir /dev/pts\nmount -t devpts devpts /dev/pts\nexport PROPTEST_CASES=32\n";
    let runs = built.iter().map(|test| format!("run /tests/{} -q{skipped}\n", test.name));
    let script: String = iter::once(head.to_owned()).chain(runs).collect();
    let files = built.iter().map(|test| Ok((format!("tests/{}", test.name), read(&test.file)?)));
    let files: Vec<_> = files.collect::<anyhow::Result<_>>()?;
    let console = host_on(context, &Computer { limit: LIMIT, ..USUAL }, &script, (&[], &files))?;
    let runs: Vec<&str> = console.split("host: runs ").skip(1).collect();
    ensure!(runs.len() == built.len(), "{} of {} programs ran:\n{console}", runs.len(), built.len());
    let failed: Vec<&str> = runs.into_iter().filter(|run| !run.contains("host: status 0")).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    let passed = Counts::of(&console.replace('\r', "")).passed;
    ensure!(passed >= PASSED, "only {passed} tests passed:\n{console}");
    Ok(())
}

/// Runs cargo in the checkout, and returns what it prints.
fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let toolchain = target::prepare_for(LINUX_TARGET)?;
    let mut cargo = Command::new(&toolchain.cargo);
    cargo.current_dir(sources::checkout()?).args(arguments).args(["--locked", "--target", LINUX_TARGET]);
    // The benchmarks' library has a function in C.
    cargo.env(format!("CC_{}", LINUX_TARGET.replace('-', "_")), compiler()?);
    let done = process::run(&mut cargo, || {})?;
    ensure!(done.status.success(), "{cargo:?}: {}\n{}", done.status, done.stderr);
    Ok(done.stdout)
}

/// Returns the C compiler for ARM64, which is installed if it is missing.
fn compiler() -> anyhow::Result<PathBuf> {
    const COMPILER: &str = "aarch64-linux-gnu-gcc";
    if process::which(COMPILER).is_none() {
        system::install("the C compiler for AArch64", &["gcc-aarch64-linux-gnu"])?;
    }
    process::which(COMPILER).with_context(|| format!("{COMPILER} is not in $PATH"))
}

/// Returns the crates that the tool is made of, itself among them.
fn crates() -> anyhow::Result<Vec<String>> {
    let tree = cargo(&["tree", "--package", "hv-cli", "--edges", "normal", "--prefix", "none"])?;
    let names = tree.lines().filter_map(|line| line.split(' ').next()).filter(|name| name.starts_with("hv-"));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names.dedup();
    ensure!(names.iter().any(|name| name == "hv-vmm"), "the tool is made of {names:?}");
    Ok(names)
}

/// Builds their tests.
fn built() -> anyhow::Result<Vec<Built>> {
    let crates = crates()?;
    let linker = linker();
    let mut line = vec!["test", "--no-run", "--release", "--lib", "--bins", "--config", &linker];
    line.extend(["--message-format", "json-render-diagnostics"]);
    line.extend(crates.iter().flat_map(|name| ["--package", name]));
    let messages = cargo(&line)?;
    let tests = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let file = message["executable"].as_str()?;
        let name = message["target"]["name"].as_str()?.to_owned();
        (message["profile"]["test"] == true).then(|| Built { name, file: file.into() })
    });
    let tests: Vec<Built> = tests.collect();
    ensure!(tests.len() == crates.len(), "{} programs with the tests of {crates:?}", tests.len());
    Ok(tests)
}
