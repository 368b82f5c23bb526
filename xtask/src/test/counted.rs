//! `hv bench`: checks that it counts, and that the guest's drivers take less than Linux's; not the figures themselves.

use anyhow::{Context as _, ensure};

use super::context::Context;
use super::runner::Step;
use hv_setup::exit::Exit;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("bench/fast-get", fast_get),
        Step::new("bench/drivers", drivers),
        Step::new("bench/options", |context| {
            context.hv(&["bench", "--filter", "no-such-thing"])?.refused("no-such-thing")?;
            context
                .hv(&["bench", "--compare", "/nonexistent/earlier.json"])?
                .refused("/nonexistent/earlier.json")
        }),
    ]
}

/// Checks that the figures come, and that two runs give the same ones.
fn fast_get(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("figures.json");
    let file = file.to_str().context("a folder with a name that is not UTF-8")?;
    let line = ["bench", "--filter", "fast-get-smccc", "--json", file];
    let first = context.hv(&line)?;
    let shown = first.stdout.lines().any(|line| line.starts_with("fast-get-smccc "));
    ensure!(first.code == Some(Exit::Success as i32) && shown, "{}{}", first.stdout, first.stderr);
    let line = ["bench", "--filter", "fast-get-smccc", "--compare", file, "--tolerance", "0"];
    let second = context.hv(&line)?;
    let same = second.stderr.contains("1 figures compared, 0 changed");
    ensure!(second.code == Some(Exit::Success as i32) && same, "{}{}", second.stdout, second.stderr);
    Ok(())
}

/// Figures of this project's drivers, and those of Linux's, that are at least as high.
const DRIVERS: [(&str, &str); 3] = [
    ("driver-read", "driver-read-linux"),
    ("driver-send", "driver-send-linux"),
    ("driver-receive", "driver-receive-linux"),
];

/// Checks that what a request takes in the guest is counted for this project's drivers and for Linux's in one run, and
/// is less with the former.
fn drivers(context: &Context) -> anyhow::Result<()> {
    let done = context.hv(&["bench", "--filter", "driver-", "--json", "-"])?;
    ensure!(done.code == Some(Exit::Success as i32), "{}{}", done.stdout, done.stderr);
    let table: serde_json::Value = serde_json::from_str(&done.stdout)?;
    let row = |name: &str| {
        let rows = table["figures"].as_array().into_iter().flatten();
        let row = rows.into_iter().find(|row| row["name"] == name);
        row.with_context(|| format!("no figure {name} in {table:#}"))
    };
    for (own, linux) in DRIVERS {
        let (own, linux) = (row(own)?, row(linux)?);
        let values = (own["value"].as_f64(), linux["value"].as_f64());
        let (Some(value), Some(other)) = values else {
            anyhow::bail!("figures without values: {own} {linux}")
        };
        eprintln!("  {}: {value}, Linux {other}", own["name"]);
        ensure!(value > 100.0 && value <= other, "{own}, and Linux's is {linux}");
    }
    Ok(())
}
