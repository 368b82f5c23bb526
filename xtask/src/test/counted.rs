//! `hv bench`: checks that it counts, not the figures.

use anyhow::{Context as _, ensure};

use super::context::Context;
use super::runner::Step;
use hv_setup::exit::Exit;

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("bench/fast-get", fast_get),
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
