//! `hv bench devices`: devices of this machine beside plain QEMU's virtio, with the same kernel and the same QEMU, in
//! one run.

mod counts;
pub(crate) mod disk;
pub(crate) mod network;
pub(crate) mod peer;
mod sockets;
pub(crate) mod table;

use anyhow::ensure;
use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::{output, ui};

use crate::test::context::Context;
use peer::Peer;
use table::{Figures, ROWS, Side, Table};

/// A device's figures, on both sides.
trait Measure {
    /// What the names of its figures begin with.
    const NAME: &'static str;

    /// Measures this machine's device.
    fn here(&self, context: &Context) -> anyhow::Result<Figures>;

    /// Measures QEMU's, without the hypervisor.
    fn peer(&self, peer: &Peer<'_>) -> anyhow::Result<Figures>;
}

/// Names of figures.
type Names = Vec<&'static str>;

/// Runs the command.
pub(crate) fn run(args: &BenchDevicesArgs) -> anyhow::Result<Exit> {
    let names: Names = ROWS.iter().map(|row| row.name).filter(|name| name.contains(&args.filter)).collect();
    ensure!(!names.is_empty(), "no figure has {} in its name; see `hv bench devices --list`", args.filter);
    if args.list {
        ui::out(&names.iter().map(|name| format!("{name}\n")).collect::<String>());
        return Ok(Exit::Success);
    }
    if let Some(file) = &args.json {
        output::check_unless_stdout("figures", "--json", file)?;
    }
    let table = measure(args, &names)?;
    let json = || Ok::<_, anyhow::Error>(serde_json::to_string_pretty(&table.json())? + "\n");
    match &args.json {
        Some(file) if file.as_os_str() == "-" => ui::out(&json()?),
        Some(file) => {
            let written = output::write("figures", file, json()?.as_bytes());
            ui::out(&table.to_string());
            written?;
        }
        None => ui::out(&table.to_string()),
    }
    Ok(Exit::Success)
}

/// Measures the figures with these names, and counts instructions if those are all.
fn measure(args: &BenchDevicesArgs, names: &[&'static str]) -> anyhow::Result<Table> {
    let context = Context::new()?;
    let of = |device: &str| {
        let names: Names = names.iter().copied().filter(|name| name.starts_with(device)).collect();
        (!names.is_empty()).then_some(names)
    };
    let peer = Peer::prepare(&context, args.vps)?;
    let disk = of(disk::Bench::NAME).map(|names| disk::Bench::prepare(&context, args, names)).transpose()?;
    let network =
        of(network::Bench::NAME).map(|names| network::Bench::prepare(&context, args, names)).transpose()?;
    let sockets =
        of(sockets::Bench::NAME).map(|names| sockets::Bench::prepare(&context, args, names)).transpose()?;
    let mut table = Table::new(&peer.qemu.version, args);
    let task = ui::Task::quiet("Measuring devices");
    let mut round =
        Round { context: &context, peer: &peer, task: &task, table: &mut table, title: String::new() };
    for number in 1..=args.runs {
        round.title = format!("run {number} of {}", args.runs);
        round.measure(disk.as_ref())?;
        round.measure(network.as_ref())?;
        round.measure(sockets.as_ref())?;
    }
    if names.len() == ROWS.len() {
        task.say("Counting instructions".to_owned());
        table.count(counts::measure(&context)?);
    }
    Ok(table)
}

/// One run over all devices.
struct Round<'a> {
    context: &'a Context,
    peer: &'a Peer<'a>,
    task: &'a ui::Task,
    table: &'a mut Table,
    title: String,
}

impl Round<'_> {
    /// Measures a device on one side, then on the other, so that other load falls on both.
    fn measure<M: Measure>(&mut self, device: Option<&M>) -> anyhow::Result<()> {
        let Some(device) = device else { return Ok(()) };
        self.task.say(format!("Measuring devices, {}: {} here", self.title, M::NAME));
        self.table.add(Side::Here, device.here(self.context)?);
        self.task.say(format!("Measuring devices, {}: {} of QEMU's", self.title, M::NAME));
        self.table.add(Side::Peer, device.peer(self.peer)?);
        Ok(())
    }
}
