//! The `hv` command: boots a guest in a Hyper-V partition on QEMU, with related tools.

mod abi;
mod bench;
mod boot;
mod build;
mod clean;
mod conformance;
mod control;
mod disks;
mod doctor;
mod kallsyms;
mod machine;
mod report;
mod rules;
mod shell;
mod symbols;
mod trace;

use std::io::Write as _;

use clap::{Parser, Subcommand};

use hv_setup as setup;
use hv_setup::{child, developer, exit, input, interrupt, output, process, ui};

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
    Ctl(control::Args),
    Trace(trace::Args),
    Test(developer::TestArgs),
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
    #[command(hide = true, name = child::NAME)]
    ExecTied(child::Args),
}

fn main() -> std::process::ExitCode {
    let command = match Cli::try_parse() {
        Ok(line) => line.command,
        Err(error) if error.use_stderr() => {
            ui::bad_command_line(&error);
            ui::finish();
            return Exit::Usage.into();
        }
        // Help is coloured: it contains no text from elsewhere.
        Err(help) => {
            return if help.print().and_then(|()| std::io::stdout().flush()).is_ok() {
                Exit::Success
            } else {
                Exit::Usage
            }
            .into();
        }
    };
    let result = interrupt::install().map_err(anyhow::Error::from).and_then(|()| match command {
        Command::Boot(args) => boot::run(&args),
        Command::Ctl(args) => control::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Test(_) => developer::test(),
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
        Command::ExecTied(args) => child::run(&args),
    });
    exit::end(result)
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    /// Checks that the commands in the README and the book are valid. Scenarios check their output.
    #[test]
    fn every_command_that_the_pages_show_is_a_valid_one() {
        let root = setup::sources::checkout().unwrap();
        let pages = std::fs::read_dir(root.join("docs/src")).unwrap().map(|entry| entry.unwrap().path());
        let pages = pages.filter(|page| page.extension().is_some_and(|end| end == "md"));
        let mut count = 0;
        for page in pages.chain([root.join("README.md")]) {
            let text = std::fs::read_to_string(&page).unwrap();
            for command in text.lines().filter_map(|line| line.strip_prefix("$ cargo hv ")) {
                let words = command.split(" #").next().unwrap_or_default().split_whitespace();
                match Cli::try_parse_from(std::iter::once("hv").chain(words)) {
                    Ok(_) => {}
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{}: {error}", page.display());
                    }
                }
                count += 1;
            }
        }
        assert!(count >= 20, "only {count} commands were found");
    }
}
