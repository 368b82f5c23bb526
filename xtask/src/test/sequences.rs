//! What this project's drivers send, beside what stock Linux's send to the same devices: recorded by `--trace`, the same
//! messages in the same order, or a difference that is explained here. Two halves of one project may agree on a
//! mistake; Linux's drivers have run against Hyper-V.

use std::fs;
use std::path::Path;

use anyhow::ensure;

use super::context::Context;
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;

/// What is compared of a record, besides its name; ids, GPADLs and channels are each side's own.
const FACTS: [&str; 6] = ["type", "flags", "bytes", "version", "object", "carries"];

/// What one side sends and the other does not, or sends otherwise: a part of the record, and why.
type Explained = [(&'static str, &'static str)];

/// What Linux alone sends.
const LINUX: &Explained = &[
    ("RNDIS_OID_GEN_FRIENDLY_NAME", "the name that the host's user has given the card; Linux shows it"),
    ("OFFLOAD", "this driver asks for no offload, which is the state of a card at first"),
    ("RNDIS_OID_GEN_LINK_SPEED", "Linux shows the speed"),
    ("OID_GEN_RECEIVE_SCALE", "this driver uses one channel, and so no scaling"),
    ("NVSP_MSG5_TYPE_SUBCHANNEL", "the same"),
    ("VSTOR_OPERATION_CREATE_SUB_CHANNELS", "the same"),
    ("RNDIS_OID_802_3_MULTICAST_LIST", "this driver's filter has all multicast frames"),
    ("carries=control", "one for each of the messages above"),
];
/// What this project's drivers alone send.
const OURS: &Explained = &[];

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("drivers/sequences", sequences)]
}

/// Boots both with a disk and a network card, and compares.
fn sequences(context: &Context) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let disk = folder.join("data.img");
    fs::write(&disk, vec![7; 1 << 20])?;
    let disk = disk.to_string_lossy();
    let [linux, ours] = ["linux", "ours"].map(|name| folder.join(name).with_extension("pftrace"));
    let (linux_file, our_file) = (linux.to_string_lossy(), ours.to_string_lossy());
    let options = ["--disk", &disk, "--net", "user", "--vps", "1", "--trace"];
    let booted = context.boot(&[&options[..], &[&linux_file, "--run", "net"]].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    program(context, "drivers", &[&options[..], &[&our_file]].concat())?.ended(Exit::Success, "power-off")?;
    for (class, last) in [
        ("storage", "VSTOR_OPERATION_END_INITIALIZATION"),
        ("network", "RNDIS_OID_GEN_CURRENT_PACKET_FILTER"),
    ] {
        let [linux, ours] = [&linux, &ours].map(|file| packets(context, file, class, last));
        compare(class, &linux?, &ours?)?;
    }
    let [linux, ours] = [&linux, &ours].map(|file| messages(context, file));
    compare("messages", &linux?, &ours?)
}

/// The records of a trace, each as its words behind time, VP and kind.
fn records(context: &Context, file: &Path, kinds: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let done = context.hv(&["trace".as_ref(), file.as_os_str(), "--kind".as_ref(), kinds.as_ref()])?;
    ensure!(done.code == Some(0), "hv trace: {}", done.stderr);
    let words = |line: &str| line.split_whitespace().skip(3).map(str::to_owned).collect();
    let is_record = |line: &&str| line.trim_start().starts_with(|first: char| first.is_ascii_digit());
    Ok(done.stdout.lines().filter(is_record).map(words).collect())
}

/// What the guest's driver of a device has sent, up to the record with `last` in it.
fn packets(context: &Context, file: &Path, class: &str, last: &str) -> anyhow::Result<Vec<String>> {
    let class = format!("class={class}");
    let mut sent = Vec::new();
    for words in records(context, file, "packet,contents")? {
        let from_guest = words.contains(&class) && words.iter().any(|word| word == "from=guest");
        // Completions of received packets come when the guest is ready for them.
        if !from_guest || words.iter().any(|word| word == "type=VM_PKT_COMP") {
            continue;
        }
        let is_fact = |word: &&String| word.split_once('=').is_some_and(|(key, _)| FACTS.contains(&key));
        let facts = words.iter().take(1).chain(words.iter().skip(1).filter(is_fact));
        sent.push(facts.map(String::as_str).collect::<Vec<_>>().join(" "));
        if words.iter().any(|word| word.contains(last)) {
            return Ok(sent);
        }
    }
    anyhow::bail!("{}: no record of {class} has {last}; they are {sent:#?}", file.display())
}

/// The names of VMBus's messages from the guest, up to the first channel that is opened. A list of pages takes as many
/// messages as it has pages: a ring has each side's own length.
fn messages(context: &Context, file: &Path) -> anyhow::Result<Vec<String>> {
    let mut sent = Vec::new();
    for words in records(context, file, "vmbus-message")? {
        let Some(name) = words.first().filter(|_| words.iter().any(|word| word.starts_with("from-vp=")))
        else {
            continue;
        };
        if name == "CHANNELMSG_GPADL_BODY" && sent.last() == Some(name) {
            continue;
        }
        sent.push(name.clone());
        if name == "CHANNELMSG_OPENCHANNEL" {
            return Ok(sent);
        }
    }
    anyhow::bail!("{}: no channel is opened; the messages are {sent:#?}", file.display())
}

fn is_explained(record: &str, explained: &Explained) -> bool {
    explained.iter().any(|(part, _)| record.contains(part))
}

/// Goes through both in step. Where they differ, one of the two has to be explained.
fn compare(what: &str, linux: &[String], ours: &[String]) -> anyhow::Result<()> {
    let (mut left, mut same) = (ours.iter().peekable(), 0);
    for record in linux {
        while left.peek().is_some_and(|own| *own != record && is_explained(own, OURS)) {
            left.next();
        }
        if left.next_if(|own| *own == record).is_some() {
            same += 1;
        } else {
            ensure!(
                is_explained(record, LINUX),
                "{what}: Linux sends {record:?} where this project's driver sends {:?}\nLinux: {linux:#?}\nours: {ours:#?}",
                left.peek()
            );
        }
    }
    let rest: Vec<_> = left.filter(|own| !is_explained(own, OURS)).collect();
    ensure!(rest.is_empty(), "{what}: Linux sends none of {rest:#?}\nLinux: {linux:#?}");
    ensure!(same >= 3, "{what}: only {same} records are the same");
    eprintln!("  {what}: {same} the same, of Linux's {} and {} of this project's", linux.len(), ours.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_unless_it_is_explained() {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let linux = list(&["A", "B", "X object=RNDIS_OID_GEN_LINK_SPEED", "C"]);
        assert!(compare("test", &linux, &list(&["A", "B", "C"])).is_ok());
        for wrong in [
            &["A", "C", "B"][..],
            &["A", "B"],
            &["A", "B", "C", "D"],
            &["A", "D", "B", "C"],
            &["A", "B", "B", "C"],
        ] {
            assert!(compare("test", &linux, &list(wrong)).is_err(), "{wrong:?}");
        }
    }
}
