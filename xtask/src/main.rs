//! The developers' commands: the tests of `cargo hv test`, and the suite's own test, `cargo hv conformance --mutants`.
//!
//! `hv` builds this program and executes it. It gets the path of `hv`: it tests the program that a user runs.

#[cfg(test)]
mod dependencies;
#[cfg(test)]
mod imports;
mod mutants;
mod test;

use clap::{CommandFactory as _, Parser, Subcommand};
use hv_setup::developer::TestArgs;
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
}

fn main() -> std::process::ExitCode {
    let command = match exit::command_line::<Cli>(Cli::command()) {
        Ok(line) => line.command,
        Err(exit) => return exit.into(),
    };
    let result = interrupt::install().map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Test(args) => test::run(&args),
        Command::Mutants(args) => mutants::run(&args),
    });
    exit::end(result)
}
