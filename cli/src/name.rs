//! The name of the command in its own texts: `cargo hv` in a checkout, `hv` where it is installed.

use clap::{Arg, Command, CommandFactory as _};

use crate::Cli;

/// How the texts of `--help` call the tool. Messages have `hv_setup::sources::TOOL`.
const CHECKOUT: &str = "cargo hv";
/// How an installed one is called.
const INSTALLED: &str = "hv";
/// Names of values that may begin with a dash, and are then refused by their own parser, with what was expected.
const VALUES: [&str; 7] = ["N", "SECS", "SIZE", "TIME", "PERCENT", "UUID", "MODEL"];

/// Returns the command line of this program.
pub(crate) fn command() -> Command {
    if cfg!(feature = "packed") { installed() } else { values(Cli::command()) }
}

/// Returns the command line of an installed program: its texts call it `hv`, as do its manual pages and completions.
pub(crate) fn installed() -> Command {
    renamed(values(Cli::command())).bin_name(INSTALLED)
}

/// Lets values begin with a dash.
fn values(command: Command) -> Command {
    let is_one = |arg: &Arg| {
        arg.get_long().is_some()
            && arg
                .get_value_names()
                .is_some_and(|names| names.iter().any(|name| VALUES.contains(&name.as_str())))
    };
    let command = command.mut_args(|arg| if is_one(&arg) { arg.allow_hyphen_values(true) } else { arg });
    command.mut_subcommands(values)
}

/// Changes the name in all texts of a command.
fn renamed(command: Command) -> Command {
    let new = |text: &clap::builder::StyledStr| text.to_string().replace(CHECKOUT, INSTALLED);
    let (about, long) = (command.get_about().map(new), command.get_long_about().map(new));
    let (after, after_long) = (command.get_after_help().map(new), command.get_after_long_help().map(new));
    let command = about.into_iter().fold(command, Command::about);
    let command = long.into_iter().fold(command, Command::long_about);
    let command = after.into_iter().fold(command, Command::after_help);
    let command = after_long.into_iter().fold(command, Command::after_long_help);
    let command = command.mut_args(|arg| {
        let (help, long) = (arg.get_help().map(new), arg.get_long_help().map(new));
        let arg = help.into_iter().fold(arg, Arg::help);
        long.into_iter().fold(arg, Arg::long_help)
    });
    command.mut_subcommands(renamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every help text of a command and of those below it.
    fn texts(command: &Command) -> String {
        let mut all = command.clone().render_long_help().to_string();
        command.get_subcommands().for_each(|inner| all.push_str(&texts(inner)));
        all
    }

    #[test]
    fn an_installed_program_has_its_own_name_in_its_texts() {
        let mut checkout = values(Cli::command());
        checkout.build();
        assert!(texts(&checkout).contains("cargo hv boot --run shell"));
        let mut installed = installed();
        installed.build();
        let text = texts(&installed);
        assert!(text.contains("  hv boot --run shell") && !text.contains(CHECKOUT), "{text}");
    }
}
