//! `hv bench`: checks that it counts, and that the guest's drivers take less than Linux's; and the figures themselves,
//! where they were counted.

use anyhow::{Context as _, ensure};

use super::context::{Context, HUNG_SECONDS};
use super::runner::Step;
use super::schema;
use hv_setup::exit::Exit;
use hv_setup::{process, sources};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("bench/fast-get", fast_get),
        Step::new("bench/drivers", drivers),
        Step::new("bench/profile", profile),
        Step::new("bench/figures", figures),
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
    let line = ["bench", "--filter", "fast-get-smccc", "--timeout", HUNG_SECONDS, "--json", file];
    let first = context.hv(&line)?;
    let shown = first.stdout.lines().any(|line| line.starts_with("fast-get-smccc "));
    ensure!(first.code == Some(Exit::Success as i32) && shown, "{}{}", first.stdout, first.stderr);
    let line = ["bench", "--filter", "fast-get-smccc", "--compare", file, "--tolerance", "0"];
    let line = [&line[..], &["--timeout", HUNG_SECONDS]].concat();
    let second = context.hv(&line)?;
    let same = second.stderr.contains("1 figures compared, 0 changed");
    ensure!(second.code == Some(Exit::Success as i32) && same, "{}{}", second.stdout, second.stderr);
    Ok(())
}

/// Compares the figures with those that the project keeps: none is worse by more than 2 in 100, with the QEMU and the
/// rustc that they were counted with; with others they are only shown.
fn figures(context: &Context) -> anyhow::Result<()> {
    let kept = sources::checkout()?.join("bare/bench/figures.json");
    let kept = kept.to_str().context("a checkout with a path that is not UTF-8")?;
    // By the clock nothing is compared.
    let done = context.hv(&["bench", "--compare", kept, "--runs", "1", "--timeout", HUNG_SECONDS])?;
    let changes = || {
        let changed = |line: &&str| line.contains(" before, ") || line.contains(" compared, ");
        done.stderr.lines().filter(changed).collect::<Vec<_>>().join("\n")
    };
    eprintln!("{}", changes());
    ensure!(
        done.code == Some(Exit::Success as i32),
        "a figure is worse than in bare/bench/figures.json; where that has a reason, count them anew with `cargo hv \
         bench --json bare/bench/figures.json`:\n{}",
        if done.code == Some(Exit::Failed as i32) { changes() } else { done.stderr.clone() }
    );
    let compared = done.stderr.lines().filter_map(|line| line.split_once(" figures compared, "));
    let count: Vec<usize> = compared.filter_map(|(count, _)| count.parse().ok()).collect();
    ensure!(count.iter().any(|count| *count >= 40), "{count:?} figures were compared: {}", done.stderr);
    Ok(())
}

/// Checks that a profile has the functions that the operation is known to take, and that what is left for the guest is
/// its own loop.
fn profile(context: &Context) -> anyhow::Result<()> {
    for name in ["fast-get-smccc", "ipi-1", "net-frame"] {
        let done = context.hv(&["bench", "--profile", name, "--json", "-"])?;
        ensure!(done.code == Some(Exit::Success as i32), "{}{}", done.stdout, done.stderr);
        let table: serde_json::Value = serde_json::from_str(&done.stdout)?;
        let number = |value: &serde_json::Value| value.as_f64().context("no number in the profile");
        let guest = number(&table["guest"])?;
        ensure!(guest >= 1.0, "the guest makes the call by itself: {table:#}");
        // The loop around a fast call: registers, `hvc`, a counter and a branch.
        ensure!(name != "fast-get-smccc" || guest <= 20.0, "{guest} instructions of a short loop: {table:#}");
        for function in ["vectors", "hvc_exit"] {
            ensure!(done.stdout.contains(function), "no {function} in {table:#}");
        }
    }
    context.hv(&["bench", "--profile", "image"])?.refused("is not measured by repetition")?;
    context.hv(&["bench", "--profile", "no-such-thing"])?.refused("no-such-thing")
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
    let done = context.hv(&["bench", "--filter", "driver-", "--timeout", HUNG_SECONDS, "--json", "-"])?;
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
