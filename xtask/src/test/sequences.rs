//! What this project's drivers send, beside what stock Linux's send to the same devices: recorded by `--trace`, the
//! same messages in the same order, or a difference that the tables here explain. Two halves of one project may agree
//! on a mistake; Linux's drivers have run against Hyper-V.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, ensure};

use super::context::{Context, HUNG};
use super::programs::program;
use super::runner::Step;
use hv_setup::exit::Exit;

/// What is compared of a record, besides its name; ids, GPADLs and channels are each side's own.
const FACTS: &[&str] = &["type", "flags", "bytes", "version", "object", "carries"];
/// The same of a command, and of a frame, whose length is each side's own.
const COMMAND_FACTS: &[&str] = &[
    "type",
    "flags",
    "bytes",
    "direction",
    "sense-room",
    "queue-tag",
    "queue-action",
    "srb-flags",
    "timeout",
];
const FRAME_FACTS: &[&str] = &["type", "flags", "carries", "offset"];

/// A row of a table: what both send at this place, or what one of them sends, and why the other does not.
#[derive(Debug)]
enum Row {
    Both(&'static str),
    Linux(&'static str, &'static str),
    Ours(&'static str, &'static str),
}

use Row::{Both, Linux, Ours};

/// VMBus's messages, up to the first channel that is opened. A list of pages takes as many messages as it has pages: a
/// ring has each side's own length.
const MESSAGES: &[Row] = &[
    Linux("CHANNELMSG_INITIATE_CONTACT bytes=40 version=5.3", "6.12 knows no later version"),
    Ours("CHANNELMSG_INITIATE_CONTACT bytes=40 version=6.0", "the newest, as Linux 7.2 proposes it"),
    Both("CHANNELMSG_REQUESTOFFERS bytes=8"),
    Both("CHANNELMSG_GPADL_HEADER"),
    Both("CHANNELMSG_GPADL_BODY"),
    Both("CHANNELMSG_OPENCHANNEL bytes=148 target-vp=0"),
];

/// The controller's initialization.
const STORAGE: &[Row] = &[
    Both("VSTOR_OPERATION_BEGIN_INITIALIZATION type=VM_PKT_DATA_INBAND bytes=64 flags=0x1"),
    Both("VSTOR_OPERATION_QUERY_PROTOCOL_VERSION type=VM_PKT_DATA_INBAND bytes=64 flags=0x1"),
    Both("VSTOR_OPERATION_QUERY_PROPERTIES type=VM_PKT_DATA_INBAND bytes=64 flags=0x1"),
    Both("VSTOR_OPERATION_END_INITIALIZATION type=VM_PKT_DATA_INBAND bytes=64 flags=0x1"),
];

/// The first read of the disk.
const READ: &[Row] = &[
    Both("VSTOR_OPERATION_EXECUTE_SRB type=VM_PKT_DATA_USING_GPA_DIRECT bytes=64 flags=0x1"),
    Both("SRB direction=READ_TYPE sense-room=20 queue-tag=255 queue-action=32 srb-flags=0x14a timeout=60"),
    Linux("READ_10", "the shorter command, which reaches the first 2 TiB"),
    Ours("READ_16", "one command for disks of every size"),
];

/// A control message of RNDIS is a packet, and what its pages have.
const CONTROL: &str =
    "NVSP_MSG1_TYPE_SEND_RNDIS_PKT type=VM_PKT_DATA_USING_GPA_DIRECT bytes=40 flags=0x1 carries=control";
const NAME: &str = "the name that the host's user has given the card: Linux shows it";
const OFFLOAD: &str = "this driver asks for no offload, which is the state of a card at first";
const SPEED: &str = "Linux shows the speed";
const SCALING: &str = "this driver uses one channel, and so no scaling";

/// The card's initialization.
const NETWORK: &[Row] = &[
    Both("NVSP_MSG_TYPE_INIT type=VM_PKT_DATA_INBAND bytes=40 flags=0x1 version=NVSP_PROTOCOL_VERSION_61"),
    Both("NVSP_MSG2_TYPE_SEND_NDIS_CONFIG type=VM_PKT_DATA_INBAND bytes=40"),
    Both("NVSP_MSG1_TYPE_SEND_NDIS_VER type=VM_PKT_DATA_INBAND bytes=40 version=6.30"),
    Both("NVSP_MSG1_TYPE_SEND_RECV_BUF type=VM_PKT_DATA_INBAND bytes=40 flags=0x1"),
    Both("NVSP_MSG1_TYPE_SEND_SEND_BUF type=VM_PKT_DATA_INBAND bytes=40 flags=0x1"),
    Both(CONTROL),
    Both("RNDIS_MSG_INIT bytes=24 version=1.0"),
    Both(CONTROL),
    Both("RNDIS_MSG_QUERY bytes=28 object=RNDIS_OID_GEN_MAXIMUM_FRAME_SIZE"),
    Both(CONTROL),
    Both("RNDIS_MSG_QUERY bytes=28 object=RNDIS_OID_802_3_PERMANENT_ADDRESS"),
    Linux(CONTROL, NAME),
    Linux("RNDIS_MSG_QUERY bytes=28 object=RNDIS_OID_GEN_FRIENDLY_NAME", NAME),
    Linux(CONTROL, OFFLOAD),
    Linux("RNDIS_MSG_QUERY bytes=184 object=OID_TCP_OFFLOAD_HARDWARE_CAPABILITIES", OFFLOAD),
    Linux(CONTROL, OFFLOAD),
    Linux("RNDIS_MSG_SET bytes=56 object=OID_TCP_OFFLOAD_PARAMETERS", OFFLOAD),
    Both(CONTROL),
    Both("RNDIS_MSG_QUERY bytes=28 object=RNDIS_OID_GEN_MEDIA_CONNECT_STATUS"),
    Linux(CONTROL, SPEED),
    Linux("RNDIS_MSG_QUERY bytes=28 object=RNDIS_OID_GEN_LINK_SPEED", SPEED),
    Linux(CONTROL, SCALING),
    Linux("RNDIS_MSG_QUERY bytes=46 object=OID_GEN_RECEIVE_SCALE_CAPABILITIES", SCALING),
    Both(CONTROL),
    Both("RNDIS_MSG_SET bytes=32 object=RNDIS_OID_GEN_CURRENT_PACKET_FILTER"),
];

/// The first frame.
const FRAME: &[Row] = &[
    Both("NVSP_MSG1_TYPE_SEND_RNDIS_PKT type=VM_PKT_DATA_INBAND flags=0x1 carries=frames"),
    Linux("RNDIS_MSG_PACKET offset=36", "the frame follows the message's header"),
    Ours("RNDIS_MSG_PACKET offset=40", "the frame is where words are aligned"),
];

/// The end of the controller's channel.
const STORAGE_CLOSE: &[Row] =
    &[Both("CHANNELMSG_CLOSECHANNEL bytes=12"), Both("CHANNELMSG_GPADL_TEARDOWN bytes=16")];

/// The end of the card's: its rings and its two buffers are taken back in this order.
const NETWORK_CLOSE: &[Row] = &[
    Both(CONTROL),
    Both("RNDIS_MSG_HALT bytes=12"),
    Both("NVSP_MSG1_TYPE_REVOKE_RECV_BUF type=VM_PKT_DATA_INBAND bytes=40"),
    Both("NVSP_MSG1_TYPE_REVOKE_SEND_BUF type=VM_PKT_DATA_INBAND bytes=40"),
    Both("CHANNELMSG_CLOSECHANNEL bytes=12"),
    Both("CHANNELMSG_GPADL_TEARDOWN bytes=16"),
    Both("CHANNELMSG_GPADL_TEARDOWN bytes=16"),
    Both("CHANNELMSG_GPADL_TEARDOWN bytes=16"),
];

/// A socket that the guest connects, from the request to the release. The host rescinds the channel once both sides
/// have ended the stream, so it is not asked for the rings: no GPADL is torn down.
const SOCKET: &[Row] = &[
    Both("CHANNELMSG_TL_CONNECT_REQUEST bytes=40"),
    Both("CHANNELMSG_GPADL_HEADER"),
    Both("CHANNELMSG_OPENCHANNEL bytes=148"),
    Both("stream data type=VM_PKT_DATA_INBAND"),
    Both("stream end type=VM_PKT_DATA_INBAND bytes=8"),
    Both("CHANNELMSG_CLOSECHANNEL bytes=12"),
    Both("CHANNELMSG_RELID_RELEASED bytes=12"),
];
/// The port of the host that our program connects to, and what it says there. Linux's is that of `hv exec`'s agent.
const PORT: &str = "4000";
const ANSWER: &str = "hello from the host";
/// How often Linux is recorded at most: it powers off once its agent's stream has ended, and may be off before its
/// worker has released the channel.
const RECORDINGS: usize = 12;

/// Has Linux's drivers give up both devices.
const UNBIND: &str = "for driver in hv_netvsc hv_storvsc; do cd /sys/bus/vmbus/drivers/$driver; \
    for device in *-*-*; do echo $device > unbind; done; done";

/// Returns the scenarios.
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
    let line = [&["exec", "--cold"], &options[..], &[&linux_file, "--", "sh", "-ec", UNBIND]].concat();
    for _ in 0..RECORDINGS {
        let done = context.hv(&line)?;
        ensure!(done.code == Some(0), "hv exec: {}", done.stderr);
        let released = "CHANNELMSG_RELID_RELEASED";
        if socket(context, &linux)?.last().is_some_and(|record| record.starts_with(released)) {
            break;
        }
    }
    let sockets = folder.join("sockets");
    fs::DirBuilder::new().mode(0o700).create(&sockets)?;
    let listener = UnixListener::bind(sockets.join(format!("vsock_{PORT}")))?;
    let (sender, heard) = mpsc::channel();
    thread::spawn(move || sender.send(answer(&listener)));
    let (sockets, append) = (sockets.to_string_lossy(), format!("drivers.socket={PORT}"));
    let more = [our_file.as_ref(), "--vsock", &sockets, "--append", &append];
    let booted = program(context, "drivers", &[&options[..], &more].concat())?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says(&format!("drivers: the socket says {ANSWER:?}"))?;
    let heard = heard.recv_timeout(HUNG)??;
    ensure!(heard == "hello from bare/drivers\n", "the host hears {heard:?}");
    let both = [&linux, &ours];
    for (class, last, table) in [
        ("storage", "VSTOR_OPERATION_END_INITIALIZATION", STORAGE),
        ("network", "RNDIS_OID_GEN_CURRENT_PACKET_FILTER", NETWORK),
    ] {
        let [linux, ours] = both.map(|file| packets(context, file, class, last));
        compare(class, table, &linux?, &ours?)?;
    }
    for (what, class, first, facts, table) in [
        ("first read", "storage", "READ_1", COMMAND_FACTS, READ),
        ("first frame", "network", "RNDIS_MSG_PACKET", FRAME_FACTS, FRAME),
    ] {
        let [linux, ours] = both.map(|file| request(context, file, class, first, facts));
        compare(what, table, &linux?, &ours?)?;
    }
    for (what, class, first, table) in [
        ("storage's end", "storage", "CHANNELMSG_CLOSECHANNEL", STORAGE_CLOSE),
        ("network's end", "network", "RNDIS_MSG_HALT", NETWORK_CLOSE),
    ] {
        let [linux, ours] = both.map(|file| closing(context, file, class, first));
        compare(what, table, &linux?, &ours?)?;
    }
    let [linux, ours] = both.map(|file| socket(context, file));
    compare("socket", SOCKET, &linux?, &ours?)?;
    let [linux, ours] = both.map(|file| messages(context, file));
    compare("messages", MESSAGES, &linux?, &ours?)
}

/// Answers the guest's connection, ends it, and returns what the guest has said.
fn answer(listener: &UnixListener) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(HUNG))?;
    stream.write_all(ANSWER.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// Returns the records of a trace, each as its words behind time, VP and kind.
fn records(context: &Context, file: &Path, kinds: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let done = context.hv(&["trace".as_ref(), file.as_os_str(), "--kind".as_ref(), kinds.as_ref()])?;
    ensure!(done.code == Some(0), "hv trace: {}", done.stderr);
    let words = |line: &str| line.split_whitespace().skip(3).map(str::to_owned).collect();
    let is_record = |line: &&str| line.trim_start().starts_with(|first: char| first.is_ascii_digit());
    Ok(done.stdout.lines().filter(is_record).map(words).collect())
}

/// Returns the name of a record, and these facts of it.
fn facts(words: &[String], of: &[&str]) -> String {
    let is_fact = |word: &&String| word.split_once('=').is_some_and(|(key, _)| of.contains(&key));
    let facts = words.iter().take(1).chain(words.iter().skip(1).filter(is_fact));
    facts.map(String::as_str).collect::<Vec<_>>().join(" ")
}

/// Returns what the guest's driver of a device has sent: packets, their data and their contents.
fn sent(context: &Context, file: &Path, class: &str) -> anyhow::Result<Vec<Vec<String>>> {
    let class = format!("class={class}");
    let from_guest = |words: &Vec<String>| {
        words.contains(&class)
            && words.iter().any(|word| word == "from=guest")
            // Completions of received packets come when the guest is ready for them.
            && !words.iter().any(|word| word == "type=VM_PKT_COMP")
    };
    let mut sent = Vec::new();
    // A packet's data follow it, in a record that does not say whose they are.
    let mut own = false;
    for words in records(context, file, "packet,contents")? {
        let is_data = !words.iter().any(|word| word.starts_with("channel="));
        own = if is_data { own } else { from_guest(&words) };
        if own {
            sent.push(words);
        }
    }
    Ok(sent)
}

/// Returns what the guest's driver of a device has sent, up to the record with `last` in it.
fn packets(context: &Context, file: &Path, class: &str, last: &str) -> anyhow::Result<Vec<String>> {
    let sent = sent(context, file, class)?;
    let sent: Vec<_> =
        sent.iter().filter(|words| words.iter().any(|word| word.starts_with("channel="))).collect();
    let end = sent.iter().position(|words| words.iter().any(|word| word.contains(last)));
    let end = end.with_context(|| format!("{}: no record of {class} has {last}", file.display()))?;
    Ok(sent[..=end].iter().map(|words| facts(words, FACTS)).collect())
}

/// Returns the first packet whose data or contents have this name, and those.
fn request(
    context: &Context,
    file: &Path,
    class: &str,
    name: &str,
    of: &[&str],
) -> anyhow::Result<Vec<String>> {
    let sent = sent(context, file, class)?;
    let at = sent.iter().position(|words| words.first().is_some_and(|first| first.starts_with(name)));
    let at = at.with_context(|| format!("{}: no record of {class} is {name}", file.display()))?;
    let packet = sent[..at].iter().rfind(|words| words.iter().any(|word| word.starts_with("type=")));
    let packet = packet.with_context(|| format!("{}: {name} is in no packet", file.display()))?;
    let mut found = vec![facts(packet, of)];
    if class == "storage" {
        // What any command is asked for with, and the command.
        found.push(facts(&[&["SRB".to_owned()], &sent[at][1..]].concat(), of));
        found.push(facts(&sent[at], &[]));
    } else {
        found.push(facts(&sent[at], of));
    }
    Ok(found)
}

/// Returns the value of a record's fact.
fn value<'w>(words: &'w [String], key: &str) -> Option<&'w str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Returns how the number of a device's channel stands in a message.
fn channel_of(records: &[Vec<String>], class: &str) -> anyhow::Result<String> {
    let packet = records.iter().find(|words| value(words, "class") == Some(class));
    let channel = packet.and_then(|words| value(words, "channel")).context("a device without packets")?;
    Ok(format!("{:08x}", channel.parse::<u32>()?.swap_bytes()))
}

/// Returns true if a message names this channel, after its header (Linux 6.12, include/linux/hyperv.h).
fn names(words: &[String], channel: &str) -> bool {
    value(words, "payload").and_then(|payload| payload.get(16..24)) == Some(channel)
}

/// Returns what the guest has sent for a socket: the request, the messages that name its channel, and its packets. The
/// bytes between two ends take as many packets as each side likes.
fn socket(context: &Context, file: &Path) -> anyhow::Result<Vec<String>> {
    let records = records(context, file, "packet,vmbus-message")?;
    let channel = channel_of(&records, "socket")?;
    let mut sent: Vec<String> = Vec::new();
    for words in &records {
        let Some(name) = words.first() else { continue };
        if name == "stream" {
            if value(words, "from") == Some("guest") {
                let is_end = words.get(1).is_some_and(|word| word == "end");
                let of: &[&str] = if is_end { &["type", "flags", "bytes"] } else { &["type", "flags"] };
                let record = facts(words, of).replacen(name, &words[..2].join(" "), 1);
                if is_end || sent.last() != Some(&record) {
                    sent.push(record);
                }
            }
        } else if value(words, "from-vp").is_some()
            && (name == "CHANNELMSG_TL_CONNECT_REQUEST" || names(words, &channel))
        {
            let of: &[&str] = if name == "CHANNELMSG_GPADL_HEADER" { &[] } else { &["bytes"] };
            sent.push(facts(words, of));
        }
    }
    Ok(sent)
}

/// Returns what the guest has sent at the end of a device's channel: from the last record with this name on, with the
/// packet that has its contents. It is the messages that name the channel, and the packets in it.
fn closing(context: &Context, file: &Path, class: &str, first: &str) -> anyhow::Result<Vec<String>> {
    let records = records(context, file, "packet,contents,vmbus-message")?;
    let number = channel_of(&records, class)?;
    let sent: Vec<_> = records
        .iter()
        .filter(|words| {
            if value(words, "from-vp").is_some() {
                return names(words, &number);
            }
            value(words, "class") == Some(class)
                && value(words, "channel").is_some()
                && value(words, "from") == Some("guest")
                && value(words, "type") != Some("VM_PKT_COMP")
        })
        .collect();
    let at = sent.iter().rposition(|words| words.first().is_some_and(|name| name == first));
    let at = at.with_context(|| format!("{}: no record of {class} is {first}", file.display()))?;
    let is_contents = !first.starts_with("CHANNELMSG");
    Ok(sent[at - usize::from(is_contents)..].iter().map(|words| facts(words, FACTS)).collect())
}

/// Returns VMBus's messages from the guest, up to the first channel that is opened.
fn messages(context: &Context, file: &Path) -> anyhow::Result<Vec<String>> {
    let mut sent: Vec<String> = Vec::new();
    for words in records(context, file, "vmbus-message")? {
        let Some(name) = words.first().filter(|_| words.iter().any(|word| word.starts_with("from-vp=")))
        else {
            continue;
        };
        let record = match name.as_str() {
            "CHANNELMSG_GPADL_HEADER" | "CHANNELMSG_GPADL_BODY" => name.clone(),
            "CHANNELMSG_INITIATE_CONTACT" => {
                format!("{} version={}", facts(&words, &["bytes"]), version(&words)?)
            }
            "CHANNELMSG_OPENCHANNEL" => format!("{} {}", facts(&words, &["bytes"]), opening(&words)?),
            _ => facts(&words, &["bytes"]),
        };
        if name == "CHANNELMSG_GPADL_BODY" && sent.last() == Some(name) {
            continue;
        }
        sent.push(record);
        if name == "CHANNELMSG_OPENCHANNEL" {
            return Ok(sent);
        }
    }
    anyhow::bail!("{}: no channel is opened; the messages are {sent:#?}", file.display())
}

/// Returns the VP that a channel interrupts, of the message that opens it (Linux 6.12, include/linux/hyperv.h, `struct
/// vmbus_channel_open_channel`).
fn opening(words: &[String]) -> anyhow::Result<String> {
    let payload = words.iter().find_map(|word| word.strip_prefix("payload=")).unwrap_or_default();
    let target = payload.get(40..48).context("a channel without a target")?;
    Ok(format!("target-vp={}", u32::from_str_radix(target, 16)?.swap_bytes()))
}

/// Returns the version in a contact: the word after the message's header (Linux 6.12, include/linux/hyperv.h).
fn version(words: &[String]) -> anyhow::Result<String> {
    let payload = words.iter().find_map(|word| word.strip_prefix("payload="));
    let digits = payload.and_then(|payload| payload.get(16..24)).context("a contact without a version")?;
    let word = u32::from_str_radix(digits, 16)?.swap_bytes();
    Ok(format!("{}.{}", word >> 16, word & 0xffff))
}

/// Compares what was recorded with a table: each side's column, from its first row to its last.
fn compare(what: &str, table: &[Row], linux: &[String], ours: &[String]) -> anyhow::Result<()> {
    let column = |of_linux: bool| {
        table.iter().filter_map(move |row| match row {
            Row::Both(record) => Some(*record),
            Row::Linux(record, _) => of_linux.then_some(*record),
            Row::Ours(record, _) => (!of_linux).then_some(*record),
        })
    };
    for (side, recorded, expected) in
        [("Linux", linux, column(true)), ("this project's driver", ours, column(false))]
    {
        let expected: Vec<_> = expected.collect();
        let differs = (0..recorded.len().max(expected.len()))
            .find(|at| recorded.get(*at).map(String::as_str) != expected.get(*at).copied());
        if let Some(at) = differs {
            anyhow::bail!(
                "{what}: record {at} of {side} is {:?}, and {:?} in the table\nLinux: {linux:#?}\nours: {ours:#?}",
                recorded.get(at),
                expected.get(at)
            );
        }
    }
    let same = table.iter().filter(|row| matches!(row, Row::Both(_))).count();
    eprintln!("  {what}: {same} the same, of Linux's {} and {} of this project's", linux.len(), ours.len());
    for row in table {
        match row {
            Row::Both(_) => {}
            Row::Linux(record, why) => eprintln!("    only Linux's {record}: {why}"),
            Row::Ours(record, why) => eprintln!("    only this project's {record}: {why}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_is_its_column() {
        const TABLE: &[Row] =
            &[Row::Both("A"), Row::Linux("X", "why"), Row::Both("B"), Row::Ours("Y", "why")];
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let (linux, ours) = (["A", "X", "B"], ["A", "B", "Y"]);
        assert!(compare("test", TABLE, &list(&linux), &list(&ours)).is_ok());
        for wrong in [&["A", "B"][..], &["X", "A", "B"], &["A", "X", "B", "B"], &["A", "X"], &[]] {
            assert!(compare("test", TABLE, &list(wrong), &list(&ours)).is_err(), "{wrong:?}");
        }
        for wrong in [&["A", "B"][..], &["A", "X", "B", "Y"], &["A", "Y", "B"], &["A", "B", "Y", "Y"]] {
            assert!(compare("test", TABLE, &list(&linux), &list(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_difference_has_a_reason() {
        for (name, table) in [
            ("storage", STORAGE),
            ("network", NETWORK),
            ("messages", MESSAGES),
            ("read", READ),
            ("frame", FRAME),
            ("storage's end", STORAGE_CLOSE),
            ("network's end", NETWORK_CLOSE),
            ("socket", SOCKET),
        ] {
            for row in table {
                if let Row::Linux(record, why) | Row::Ours(record, why) = row {
                    assert!(why.len() > 10, "{name}: {record}: {why:?}");
                }
            }
            assert!(table.iter().any(|row| matches!(row, Row::Both(_))), "{name}");
        }
    }
}
