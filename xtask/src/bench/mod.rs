//! `hv bench devices`: devices of this machine beside plain QEMU's virtio, with the same kernel and the same QEMU, in
//! one run.

mod counts;
mod disk;
mod network;
mod peer;
mod sockets;
mod table;

use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::{output, ui};

use crate::test::context::Context;
use peer::Peer;
use table::{Side, Table};

/// Runs the command.
pub(crate) fn run(args: &BenchDevicesArgs) -> anyhow::Result<Exit> {
    if let Some(file) = &args.json {
        output::check_unless_stdout("figures", "--json", file)?;
    }
    let context = Context::new()?;
    let peer = Peer::prepare(&context, args.vps)?;
    let disk = disk::Bench::prepare(&context, args)?;
    let network = network::Bench::prepare(&context, args)?;
    let sockets = sockets::Bench::prepare(&context, args)?;
    let mut table = Table::new(&peer.qemu.version, args);
    let task = ui::Task::quiet("Measuring devices");
    for number in 1..=args.runs {
        task.say(format!("Measuring devices, {number} of {}", args.runs));
        // Alternating, so that other load falls on both.
        table.add(Side::Here, disk.here(&context)?);
        table.add(Side::Peer, disk.peer(&peer)?);
        table.add(Side::Here, network.here(&context)?);
        table.add(Side::Peer, network.peer(&peer)?);
        table.add(Side::Here, sockets.here(&context)?);
        table.add(Side::Peer, sockets.peer(&context, &peer)?);
    }
    task.say("Counting instructions".to_owned());
    table.count(counts::measure(&context)?);
    drop(task);
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
