//! `hv bench`: checks that it counts, and that the guest's drivers take less than Linux's; not the figures themselves.

use anyhow::{Context as _, ensure};

use super::context::Context;
use super::runner::Step;
use super::schema;
use hv_setup::exit::Exit;
use hv_setup::process;

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
        Step::new("bench/devices/options", devices_options),
        Step::new("bench/devices/sockets", |context| devices(context, "socket-byte", 1.0)),
        Step::new("bench/devices/disk", |context| devices(context, "disk-randread-1", 4096.0)).slow(),
        Step::new("bench/devices/network", |context| devices(context, "net-receive", 1000.0 / 8.0)).slow(),
    ]
}

/// Checks that figures can be listed and selected by name.
fn devices_options(context: &Context) -> anyhow::Result<()> {
    context.hv(&["bench", "devices", "--filter", "no-such-thing"])?.refused("no-such-thing")?;
    let listed = context.hv(&["bench", "devices", "--list", "--filter", "net-"])?;
    let names: Vec<&str> = listed.stdout.lines().collect();
    ensure!(names == ["net-send", "net-receive"], "{names:?} {}", listed.stderr);
    Ok(())
}

/// Measures one figure on both machines, and checks that its JSON is as the book has it, and that both have moved the
/// bytes that the figure tells. `unit`: bytes in a second at a figure of 1; of sockets, at least that many.
fn devices(context: &Context, name: &str, unit: f64) -> anyhow::Result<()> {
    let line = ["bench", "devices", "--filter", name, "--runs", "1", "--seconds", "1", "--json", "-"];
    let mut command = context.command(&line)?;
    // Its files are in this run's, so that they go with them.
    command.env("TMPDIR", context.folder()?);
    let done = process::run(&mut command, || {})?;
    ensure!(done.status.success(), "{}{}", done.stdout, done.stderr);
    let json: serde_json::Value = serde_json::from_str(&done.stdout)?;
    schema::check("hv bench devices --json", &json)?;
    let [row] = json["figures"].as_array().map_or(&[][..], Vec::as_slice) else {
        anyhow::bail!("not one figure: {json:#}")
    };
    ensure!(row["name"] == name, "{row}");
    let number = |field: &str| row[field].as_f64().with_context(|| format!("no {field} in {row}"));
    let (here, peer) = (number("here")?, number("peer")?);
    let less = row["unit"] == "us";
    for (figure, field) in [(here, "here_bytes"), (peer, "peer_bytes")] {
        // The second before the measurement counts, too.
        let least = if less { unit } else { figure * unit };
        ensure!(number(field)? >= least, "{field}: at least {least} were expected: {row}");
    }
    let ratio = if less { peer / here } else { here / peer };
    ensure!((number("ratio")? - ratio).abs() < 1e-6 * ratio, "{row} has another ratio than {ratio}");
    let met = row["wanted"].as_f64().map(|wanted| ratio >= wanted);
    ensure!(row["met"].as_bool() == met, "{row}");
    eprintln!("  {name}: {here:.0} {}, QEMU's {peer:.0}", row["unit"]);
    Ok(())
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
