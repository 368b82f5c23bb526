//! A stock guest with disks under a trace: commands, their answers, and the times between.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, ensure};
use hv_setup::exit::Exit;
use prost::Message as _;
use serde_json::Value;

use super::super::context::{Context, read};
use super::super::runner::Step;
use super::storage::Disks;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("trace/storage", storage)]
}

/// A trace: Perfetto's messages, as far as arrows need them (Perfetto, `protos/perfetto/trace/perfetto_trace.proto`).
#[derive(Clone, PartialEq, prost::Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packets: Vec<Packet>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Packet {
    #[prost(message, optional, tag = "11")]
    event: Option<Event>,
    #[prost(message, optional, tag = "12")]
    interned: Option<Interned>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(int32, optional, tag = "9")]
    r#type: Option<i32>,
    #[prost(uint64, optional, tag = "10")]
    name: Option<u64>,
    /// Arrows that begin here or lead through.
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    through: Vec<u64>,
    /// Arrows that end here.
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    ends: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Interned {
    #[prost(message, repeated, tag = "2")]
    names: Vec<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Name {
    #[prost(uint64, optional, tag = "1")]
    number: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
}

/// `TrackEvent.Type`: an event without duration.
const INSTANT: i32 = 3;

/// Commands of a disk that its driver or its programs need.
const COMMANDS: [&str; 9] = [
    "INQUIRY",
    "REPORT_LUNS",
    "READ_CAPACITY",
    "TEST_UNIT_READY",
    "MODE_SENSE",
    "READ_10",
    "WRITE_10",
    "SYNCHRONIZE_CACHE",
    "UNMAP",
];

/// Checks that commands and sense are decoded, that an arrow leads from each request to its answer, and that the
/// summary has the times of each command.
fn storage(context: &Context) -> anyhow::Result<()> {
    let file = context.folder()?.join("disks.pftrace");
    let path = file.to_string_lossy();
    let options = ["--vps", "2", "--trace", &path, "--trace-buffer", "64M", "--inject", "sense=b/47/03@/50"];
    let disks = Disks::new(context)?;
    let booted = disks.run(context, &options)?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("disk: all good on 2 processors")?;
    booted.is("/trace/dropped", 0)?;
    let records = |kind: &str| -> anyhow::Result<Vec<Value>> {
        let done = context.hv(&["trace", &path, "--kind", kind, "--json"])?;
        ensure!(done.code == Some(Exit::Success as i32), "hv trace failed: {}", done.stderr);
        Ok(done.stdout.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    };
    let (packets, rest) = (records("packet")?, records("packet-data")?);
    let mut counts = BTreeMap::<&str, u64>::new();
    for command in rest.iter().filter(|record| record["values"]["cdb"].is_string()) {
        let name = command["name"].as_str().unwrap_or_default();
        *counts.entry(name).or_default() += 1;
        if matches!(name, "READ_10" | "WRITE_10") {
            ten(name, &command["values"])?;
        }
    }
    for name in COMMANDS {
        ensure!(counts.contains_key(name), "no {name} in the trace: {counts:?}");
    }
    let srbs = |name: &str| packets.iter().filter(|record| record["name"] == name).count() as u64;
    let (asked, answered) = (srbs("VSTOR_OPERATION_EXECUTE_SRB"), srbs("VSTOR_OPERATION_COMPLETE_IO"));
    ensure!(asked == counts.values().sum::<u64>(), "{asked} requests have {counts:?}");
    ensure!(arrows(&read(&file)?)? == asked, "not each of the {asked} requests leads to its answer");
    let struck = booted.json.pointer("/faults/0/fired").and_then(Value::as_u64).unwrap_or_default();
    let sense =
        rest.iter().filter(|record| record["values"]["sense"] == "ABORTED_COMMAND 47/03").count() as u64;
    ensure!(struck > 0 && sense == struck, "sense is decoded {sense} times, and was injected {struck} times");

    let done = context.hv(&["trace", &path, "--summary", "--json"])?;
    let summary: Value = serde_json::from_str(&done.stdout)?;
    let devices = summary["requests"].as_array().context("no times")?;
    let times = devices.iter().find(|device| device["device"] == "storage").context("no times of disks")?;
    ensure!(times["count"] == answered, "{answered} answers, but the summary has {}", times["count"]);
    for (name, count) in counts {
        let commands = times["commands"].as_array().context("no commands")?;
        let command = commands.iter().find(|command| command["name"] == name);
        let command = command.with_context(|| format!("the summary has no {name}: {times}"))?;
        let time = |name: &str| command[name].as_u64().unwrap_or_default();
        let ordered = [time("min_ns"), time("p50_ns"), time("p90_ns"), time("p99_ns"), time("max_ns")];
        ensure!(time("count") == count && ordered[0] > 0 && ordered.is_sorted(), "{count} of {command}");
    }
    Ok(())
}

/// Checks that the blocks of a READ (10) or WRITE (10) are those of its bytes (SBC-3, "READ (10) command").
fn ten(name: &str, values: &Value) -> anyhow::Result<()> {
    let cdb = values["cdb"].as_str().unwrap_or_default();
    let byte = |at: usize| u64::from_str_radix(cdb.get(2 * at..2 * at + 2).unwrap_or_default(), 16);
    let number = |from: usize, to: usize| -> anyhow::Result<u64> {
        (from..to).try_fold(0, |number, at| Ok(number << 8 | byte(at)?))
    };
    let code = if name == "READ_10" { 0x28 } else { 0x2a };
    let (first, blocks) = (number(2, 6)?, number(7, 9)?);
    ensure!(cdb.len() == 20 && byte(0)? == code, "{name} has {values}");
    ensure!(values["lba"] == first && values["blocks"] == blocks, "{name} has {values}");
    // 2048 bytes on a DVD.
    let transfer = values["transfer"].as_u64().unwrap_or_default();
    ensure!([512, 2048].iter().any(|size| transfer == blocks * size), "{name} has {values}");
    Ok(())
}

/// Counts the arrows from a SCSI request to its answer.
fn arrows(file: &[u8]) -> anyhow::Result<u64> {
    let trace = Trace::decode(file)?;
    let (mut names, mut begins, mut ends) = (HashMap::new(), HashSet::new(), Vec::new());
    for Packet { event, interned } in trace.packets {
        let new = interned.into_iter().flat_map(|interned| interned.names);
        names.extend(new.filter_map(|Name { number, name }| Some((number?, name?))));
        let Some(event) = event.filter(|event| event.r#type == Some(INSTANT)) else { continue };
        let name = event.name.and_then(|number| names.get(&number)).map(String::as_str);
        match name {
            Some("VSTOR_OPERATION_EXECUTE_SRB") => begins.extend(event.through),
            Some("VSTOR_OPERATION_COMPLETE_IO") => ends.extend(event.ends),
            _ => {}
        }
    }
    Ok(ends.iter().filter(|flow| begins.remove(*flow)).count() as u64)
}
