//! The developers' commands: the tests of `cargo hv test`, the suite's own test, `cargo hv conformance --mutants`,
//! `cargo hv bench devices`, `kvm` and `--profile`, and the C header of `cargo hv abi --c-header`.
//!
//! `hv` builds this program and executes it. It gets the path of `hv`: it tests the program that a user runs.

mod bench;
#[cfg(test)]
mod claims;
#[cfg(test)]
mod dependencies;
mod header;
#[cfg(test)]
mod imports;
mod mutants;
mod profile;
mod test;
#[cfg(test)]
mod wording;

use clap::{CommandFactory as _, Parser, Subcommand};
use hv_setup::developer::{BenchDevicesArgs, BenchKvmArgs, TestArgs};
use hv_setup::{exit, interrupt};

/// Developers' commands of hv-arm64.
#[derive(Parser)]
#[command(name = "xtask", bin_name = "cargo hv", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Test(TestArgs),
    Mutants(mutants::Args),
    BenchDevices(BenchDevicesArgs),
    BenchKvm(BenchKvmArgs),
    BenchProfile(profile::Args),
    CHeader(header::Args),
}

fn main() -> std::process::ExitCode {
    let command = match exit::command_line::<Cli>(Cli::command()) {
        Ok(line) => line.command,
        Err(exit) => return exit.into(),
    };
    let result = interrupt::install().map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Test(args) => test::run(&args),
        Command::Mutants(args) => mutants::run(&args),
        Command::BenchDevices(args) => bench::run(&args),
        Command::BenchKvm(args) => test::bench_kvm(&args),
        Command::BenchProfile(args) => profile::run(&args),
        Command::CHeader(args) => Ok(header::run(&args)),
    });
    exit::end(result)
}
