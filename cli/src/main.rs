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
mod exec;
mod fat;
mod image;
mod kallsyms;
mod kvm;
mod machine;
mod machines;
mod name;
mod net;
mod random;
mod read_at;
mod report;
mod rules;
mod shell;
mod snapshot;
mod sockets;
mod symbols;
mod terminal;
mod timings;
mod trace;

use clap::{Parser, Subcommand};

use hv_setup as setup;
use hv_setup::sources::TOOL;
use hv_setup::{child, developer, exit, input, interrupt, output, process, ui};

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
    Exec(Box<exec::Args>),
    Ps(machines::Args),
    Ctl(control::Args),
    Snapshot(control::snapshot::Args),
    Image(image::Args),
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
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    #[command(hide = true, name = kvm::NAME)]
    Kvm(kvm::Args),
}

fn main() -> std::process::ExitCode {
    let command = match exit::command_line::<Cli>(name::command()) {
        Ok(line) => line.command,
        Err(exit::Exit::Usage) if exec::is_meant() => {
            exec::advise();
            return exec::FAILED.into();
        }
        Err(exit) => return exit.into(),
    };
    let failed = if exec::is_meant() { exec::FAILED } else { exit::Exit::Usage as u8 };
    let result = interrupt::install().map_err(anyhow::Error::from).and_then(|()| run(command));
    exit::end_as(result, failed)
}

/// Runs a command, and returns the exit code.
fn run(command: Command) -> anyhow::Result<u8> {
    let exit = match command {
        Command::Boot(args) => boot::run(&args),
        Command::Exec(args) => return exec::run(&args),
        Command::Ps(args) => machines::run(&args),
        Command::Ctl(args) => control::run(&args),
        Command::Snapshot(args) => control::snapshot::run(&args),
        Command::Image(args) => image::run(&args),
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
        #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
        Command::Kvm(args) => kvm::run(&args),
    }?;
    Ok(exit as u8)
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

    /// Every option of every command, with values that are wrong for most: each error names the value, and says what
    /// was expected.
    #[test]
    fn the_error_of_every_option_says_what_was_expected() {
        const BAD: [&str; 9] =
            ["", "-1", "x", "1e30", "99999999999999999999999", "99999T", "1.5", "-x", "/no/such/folder/x"];
        let (mut refused, mut poor) = (0, Vec::new());
        for (words, option) in options(&name::command(), Vec::new()) {
            for value in BAD {
                let line = ["hv".to_owned()].into_iter().chain(words.clone());
                let line = line.chain([format!("--{option}={value}")]).chain(["x".to_owned()]);
                let Err(error) = name::command().try_get_matches_from(line) else { continue };
                let text = error.to_string();
                let judged = matches!(error.kind(), ErrorKind::ValueValidation | ErrorKind::InvalidValue);
                // The word after the option may be the wrong one, as where a number belongs.
                if !judged || !text.contains(&format!("--{option}")) {
                    continue;
                }
                refused += 1;
                let expects = ["expected", "possible values", "a value is required"];
                if !expects.iter().any(|word| text.contains(word))
                    || !(value.is_empty() || text.contains(value))
                {
                    poor.push(format!("{words:?} {text}"));
                }
            }
        }
        assert!(poor.is_empty(), "{}", poor.join("\n"));
        assert!(refused > 80, "only {refused} values were refused");
    }

    /// The commands' words and their options that take values.
    fn options(command: &clap::Command, words: Vec<String>) -> Vec<(Vec<String>, String)> {
        let takes = |arg: &&clap::Arg| arg.get_action().takes_values();
        let own = command.get_arguments().filter(takes).filter_map(clap::Arg::get_long);
        let mut all: Vec<_> = own.map(|option| (words.clone(), option.to_owned())).collect();
        for inner in command.get_subcommands() {
            let words = words.iter().cloned().chain([inner.get_name().to_owned()]).collect();
            all.extend(options(inner, words));
        }
        all
    }

    /// A line that wraps would not be in its column.
    #[test]
    fn tables_of_exit_codes_fit_eighty_columns() {
        let tool = name::command();
        let mut commands: Vec<&clap::Command> = vec![&tool];
        let mut tables = 0;
        while let Some(command) = commands.pop() {
            commands.extend(command.get_subcommands());
            let Some(help) = command.get_after_help().map(ToString::to_string) else { continue };
            let Some((_, table)) = help.split_once("Exit codes:\n") else { continue };
            tables += 1;
            let wide: Vec<_> = table.lines().filter(|line| line.len() > 80).collect();
            assert!(wide.is_empty(), "{}: {wide:?}", command.get_name());
        }
        assert!(tables >= 4, "only {tables} tables were found");
    }

    #[test]
    fn a_negative_value_is_the_options_and_not_an_option() {
        for words in ["boot --memory -1G", "boot --vps -1", "trace x --from -1ms", "test --jobs -1"] {
            let error =
                name::command().try_get_matches_from(["hv"].into_iter().chain(words.split(' '))).unwrap_err();
            assert!(error.to_string().contains("invalid value '-1"), "{words}: {error}");
        }
    }
}
