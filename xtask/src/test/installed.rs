//! An installed `hv` works without the checkout that it was installed from.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::ensure;

use super::context::Context;
use super::runner::Step;
use hv_setup::{process, sources};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("installed/boots-without-a-checkout", boots_alone).slow()]
}

fn boots_alone(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let (checkout, installed, cache) = (folder.join("checkout"), folder.join("root"), folder.join("cache"));
    done(Command::new("git").args(["clone", "--quiet"]).arg(sources::checkout()?).arg(&checkout))?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut install = Command::new(cargo);
    install
        .current_dir(&checkout)
        .args(["install", "--quiet", "--locked", "--path", "cli", "--root"])
        .arg(&installed);
    done(&mut install)?;
    fs::remove_dir_all(&checkout)?;

    let hv = installed.join("bin/hv");
    let report = folder.join("report.json");
    let mut boot = run(&hv, &cache);
    boot.args(["boot", "--quiet", "--json"]).arg(&report);
    done(&mut boot)?;
    let report = fs::read_to_string(&report)?;
    ensure!(report.contains("\"5.3\""), "no connection to VMBus: {report}");

    done(run(&hv, &cache).args(["completions", "bash"]))?;
    done(run(&hv, &cache).arg("man").arg(folder.join("man")))?;
    ensure!(folder.join("man/hv-boot.1").is_file(), "hv man wrote no page for hv boot");
    done(run(&hv, &cache).arg("clean"))?;
    let left: Vec<_> =
        fs::read_dir(cache.join("hv-arm64"))?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left == ["lock"], "hv clean left {left:?}");
    Ok(())
}

fn run(hv: &Path, cache: &Path) -> Command {
    let mut command = Command::new(hv);
    command.env("XDG_CACHE_HOME", cache).current_dir("/");
    command
}

fn done(command: &mut Command) -> anyhow::Result<()> {
    let done = process::run(command.stdin(Stdio::null()), || {})?;
    ensure!(done.status.success(), "{command:?}: {}, {}", done.status, done.stderr);
    Ok(())
}
