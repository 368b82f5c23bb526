//! `hv completions` and `hv man`: shell completions and manual pages.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Command;
use clap_complete::Shell;

use crate::exit::Exit;
use crate::name::installed;
use crate::output::Folder;
use crate::{interrupt, ui};

/// Print completions for a shell
///
/// The completions are for `hv`, the installed program.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const COMPLETIONS: &str = "\
Examples:
  hv completions bash >~/.local/share/bash-completion/completions/hv
  hv completions zsh >~/.zfunc/_hv
  hv completions fish >~/.config/fish/completions/hv.fish";

/// Write the manual pages into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  hv man ~/.local/share/man/man1")]
pub(crate) struct ManArgs {
    /// Folder for hv.1, hv-boot.1 and the others; it is created if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Returns the command line without hidden commands: bash would complete them.
fn shown() -> Command {
    let all = installed();
    let commands = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    Command::new("hv").version(env!("CARGO_PKG_VERSION")).propagate_version(true).subcommands(commands)
}

/// Runs `hv completions`.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut shown(), "hv", &mut script);
    ui::out(&String::from_utf8_lossy(&script));
    Ok(Exit::Success)
}

/// Runs `hv man`.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    let explain = || {
        format!(
            "cannot write manual pages to {}; give a folder that exists or can be created",
            args.folder.display()
        )
    };
    // The library writes through links that exist in a folder; a new folder has none.
    let write = || {
        let made = tempfile::tempdir()?;
        let path = made.path().to_owned();
        let _undo = interrupt::on_second_signal(move || drop(std::fs::remove_dir_all(&path)));
        clap_mangen::generate_to(installed(), made.path())?;
        let folder = Folder::make(&args.folder)?;
        for page in std::fs::read_dir(made.path())? {
            let page = page?;
            folder.write(&page.file_name().to_string_lossy(), &std::fs::read(page.path())?)?;
        }
        Ok::<_, std::io::Error>(())
    };
    let _orderly = interrupt::orderly();
    write().with_context(explain)?;
    Ok(Exit::Success)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_manual_page_and_no_hidden_one_has() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { folder: dir.path().join("man1") }).unwrap();
        for command in installed().get_subcommands() {
            let page = dir.path().join(format!("man1/hv-{}.1", command.get_name()));
            assert_eq!(page.is_file(), !command.is_hide_set(), "{}", page.display());
            let text = std::fs::read_to_string(&page).unwrap_or_default();
            assert!(
                !text.contains("cargo hv"),
                "{}: it is not called so where it is installed",
                page.display()
            );
        }
        let boot = std::fs::read_to_string(dir.path().join("man1/hv-boot.1")).unwrap();
        assert!(boot.contains("strict") && !boot.contains("cargo hv boot [OPTIONS]"), "{boot}");
    }

    #[test]
    fn completions_know_commands_and_options() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut shown(), "hv", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(!script.contains(crate::child::NAME), "{shell}");
            assert!(script.contains("conformance") && script.contains("deterministic"), "{shell}");
        }
    }
}
