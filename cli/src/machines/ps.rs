//! `hv ps`: lists the running machines.

use super::{Machines, RunningMachine};
use crate::exit::Exit;
use crate::ui;

/// List your running machines
///
/// They are those of `hv boot` and `hv exec`. A machine with a control port, which --name and --control give it, can be
/// named to `hv ctl`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Print the list as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv ps
  cargo hv ps --json";

/// The list as JSON.
#[derive(serde::Serialize)]
struct List<'m> {
    schema: u32,
    machines: Vec<Row<'m>>,
}

#[derive(serde::Serialize)]
struct Row<'m> {
    name: &'m str,
    pid: u32,
    since: &'m str,
    kernel: Option<&'m str>,
    control: Option<String>,
}

impl<'m> Row<'m> {
    fn new(machine: &'m RunningMachine) -> Self {
        let facts = &machine.facts;
        Self {
            name: machine.name.as_str(),
            pid: facts.pid,
            since: &facts.since,
            kernel: facts.kernel.as_deref(),
            control: machine.control.as_ref().map(|socket| socket.display().to_string()),
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let machines = Machines::open()?.list()?;
    let rows: Vec<Row<'_>> = machines.iter().map(Row::new).collect();
    if args.json {
        ui::out(&(serde_json::to_string_pretty(&List { schema: 1, machines: rows })? + "\n"));
    } else if rows.is_empty() {
        ui::note("no machine is running");
    } else {
        ui::out(&table(&rows));
    }
    Ok(Exit::Success)
}

/// Formats the list for users.
fn table(rows: &[Row<'_>]) -> String {
    let kernel = |row: &Row<'_>| ui::one_line(row.kernel.unwrap_or("-")).into_owned();
    let names = rows.iter().map(|row| row.name.len()).max().unwrap_or(0).max(4);
    let kernels = rows.iter().map(|row| kernel(row).chars().count()).max().unwrap_or(0).max(6);
    let line = |name: &str, pid: &str, since: &str, kernel: &str, control: &str| {
        format!("{name:<names$}  {pid:>7}  {since:<20}  {kernel:<kernels$}  {control}\n")
    };
    let mut text = line("NAME", "PID", "SINCE", "KERNEL", "CONTROL");
    for row in rows {
        let control = ui::one_line(row.control.as_deref().unwrap_or("-"));
        text.push_str(&line(row.name, &row.pid.to_string(), row.since, &kernel(row), &control));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_is_on_a_line_of_its_own() {
        let row = |name, kernel, control: Option<&str>| Row {
            name,
            pid: 7,
            since: "2026-11-28T20:01:12Z",
            kernel,
            control: control.map(str::to_owned),
        };
        let rows = [row("web", Some("a\nb"), Some("/run/x")), row("a-long-name", None, None)];
        let text = table(&rows);
        let expected = "NAME             PID  SINCE                 KERNEL    CONTROL\n\
                        web                7  2026-11-28T20:01:12Z  a\\u000ab  /run/x\n\
                        a-long-name        7  2026-11-28T20:01:12Z  -         -\n";
        assert_eq!(text, expected);
    }
}
