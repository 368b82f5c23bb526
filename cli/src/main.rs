//! The `hv` command: boot a guest in a Hyper-V partition on QEMU, and everything around it.

mod abi;
mod bench;
mod boot;
mod build;
mod clean;
mod conformance;
mod doctor;
mod exit;
mod input;
mod interrupt;
mod kallsyms;
mod machine;
mod output;
mod process;
mod report;
mod rules;
mod setup;
mod shell;
mod sources;
mod symbols;
mod test;
mod trace;
mod ui;

use clap::{Parser, Subcommand};

use exit::Exit;

/// Hyper-V on ARM64, on any machine with QEMU.
#[derive(Parser)]
#[command(name = "hv", bin_name = "cargo hv", version, propagate_version = true, max_term_width = 110)]
#[command(after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Boot(Box<boot::Args>),
    Trace(trace::Args),
    Test(test::Args),
    Bench(bench::Args),
    Build(build::Args),
    Conformance(Box<conformance::Args>),
    Doctor(doctor::Args),
    Rules(rules::Args),
    Abi(abi::Args),
    Decode(abi::DecodeArgs),
    Clean(clean::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
    #[command(hide = true, name = machine::child::NAME)]
    ExecTied(machine::child::Args),
}

fn main() -> std::process::ExitCode {
    let command = match Cli::try_parse() {
        Ok(line) => line.command,
        Err(error) if error.use_stderr() => {
            ui::bad_command_line(&error);
            ui::finish();
            return Exit::Usage.into();
        }
        // Help, in colours: nothing in it comes from elsewhere.
        Err(help) => help.exit(),
    };
    let result = interrupt::install().map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Boot(args) => boot::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Conformance(args) => conformance::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Abi(args) => abi::run(&args),
        Command::Decode(args) => abi::run_decode(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Completions(args) => shell::completions(&args),
        Command::Man(args) => shell::man(&args),
        Command::ExecTied(args) => machine::child::run(&args),
    });
    let exit = result.unwrap_or_else(|error| {
        ui::error(&error);
        if error.is::<interrupt::Interrupted>() { Exit::Interrupted } else { Exit::Usage }
    });
    // A result that did not arrive is no success.
    if ui::finish() { exit.into() } else { Exit::Usage.into() }
}
