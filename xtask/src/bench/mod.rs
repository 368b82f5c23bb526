//! `hv bench devices`: devices of this machine beside plain QEMU's virtio, with the same kernel and the same QEMU, in
//! one run.

mod disk;
mod table;

use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::{output, ui};

use crate::test::context::Context;
use table::{Side, Table};

/// Runs the command.
pub(crate) fn run(args: &BenchDevicesArgs) -> anyhow::Result<Exit> {
    if let Some(file) = &args.json {
        output::check_unless_stdout("figures", "--json", file)?;
    }
    let context = Context::new()?;
    let disk = disk::Bench::prepare(&context, args)?;
    let mut table = Table::new(disk.qemu_version(), args);
    let task = ui::Task::quiet("Measuring devices");
    for number in 1..=args.runs {
        task.say(format!("Measuring devices, {number} of {}", args.runs));
        // Alternating, so that other load falls on both.
        table.add(Side::Here, disk.here(&context)?);
        table.add(Side::Peer, disk.peer()?);
    }
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
