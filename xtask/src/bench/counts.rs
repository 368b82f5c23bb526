//! Instructions that devices take, counted by `hv bench`.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::test::context::{Context, HUNG_SECONDS};

/// What the names of the figures begin with.
const FIGURES: [&str; 2] = ["disk-", "net-"];

/// Returns the figures of devices, as `hv bench --json` has them.
pub(super) fn measure(context: &Context) -> anyhow::Result<Vec<Value>> {
    let mut all = Vec::new();
    for name in FIGURES {
        let done = context.hv(&["bench", "--filter", name, "--timeout", HUNG_SECONDS, "--json", "-"])?;
        ensure!(done.code == Some(0), "hv bench --filter {name} ended with {:?}: {}", done.code, done.stderr);
        let mut table: Value = serde_json::from_str(&done.stdout)?;
        let figures = table["figures"].as_array_mut().context("hv bench has no figures")?;
        all.append(figures);
    }
    Ok(all)
}
