//! The network card as its driver shows and sets it: packet filter, address, channels, offloads and statistics, which
//! are compared with the frames on the wire.

use std::fs;

use anyhow::Context as _;
use hv_setup::cache::sha256;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

use super::super::context::{Booted, Context, read};
use super::super::packages::initrd_of;
use super::super::runner::Step;
use super::network::{BEGIN, HOST, Server, files, frames, pattern};

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("devices/network/card", card)]
}

/// What sends frames of its own making.
const GUEST: &str = include_str!("card.py");
/// The address that the card has, and the one that it gets.
const OLD: [u8; 6] = [0, 0x15, 0x5d, 0x48, 0x56, 1];
const NEW: [u8; 6] = [0, 0x15, 0x5d, 0x48, 0x56, 9];
/// The address that frames of the guest's own making have.
const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
/// Number of channels.
const QUEUES: usize = 4;
/// Received frames that share a packet at most (hv-devices).
const FRAMES: u64 = 16;

/// Returns what the guest runs. Without IPv6 it sends nothing unasked. The ping's answer comes after all that the
/// network has for the connections, which would be on the wire alone once the card is down.
fn script(server: u16) -> String {
    let begin = BEGIN.rsplit_once("udhcpc").map_or(BEGIN, |(begin, _)| begin);
    let dhcp = BEGIN.strip_prefix(begin).unwrap_or_default();
    format!(
        "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6\n{begin}\
         for n in 2 {QUEUES}; do ethtool -L eth0 combined $n; \
         ethtool -l eth0 | sed -n '$s/^/card: /p'; done\n\
         ip link set eth0 up\n/usr/bin/python3.11 -I -S /guest.py\n\
         echo \"card: address $(cat /sys/class/net/eth0/address)\"\n\
         ip link set dev eth0 address 00:15:5d:48:56:09 2>&1 | sed 's/^/card: while up: /'\n\
         ip link set eth0 down\nip link set dev eth0 address 00:15:5d:48:56:09\n\
         echo \"card: address $(cat /sys/class/net/eth0/address)\"\n\
         {dhcp}ethtool -i eth0\n\
         for offload in tso tx rx; do ethtool -K eth0 $offload off; done\nethtool -k eth0 | sed 's/^/off: /'\n\
         for offload in tx tso rx; do ethtool -K eth0 $offload on; done\nethtool -k eth0 | sed 's/^/on: /'\n\
         for n in 1 2 3 4 5 6 7 8; do wget -q -O got$n http://{HOST}:{server}/pattern & done\nwait\n\
         sha256sum got* | cut -c 1-64 | sort | uniq -c | sed 's/^/card: got /'\n\
         until ping -q -c 1 -W 60 {HOST} >/dev/null; do :; done\n\
         ip link set eth0 down\nethtool -S eth0\n"
    )
}

/// Returns the sum over all queues of a number of `ethtool -S`, and the number of queues that have some of it.
fn total(booted: &Booted, way: &str, what: &str) -> anyhow::Result<(u64, usize)> {
    let number = |queue: usize| {
        let name = format!("{way}_queue_{queue}_{what}: ");
        let line = booted.console.lines().find_map(|line| line.trim().strip_prefix(&name));
        line.and_then(|number| number.trim().parse::<u64>().ok()).with_context(|| format!("no {name}"))
    };
    let numbers = (0..QUEUES).map(number).collect::<Result<Vec<_>, _>>()?;
    Ok((numbers.iter().sum(), numbers.iter().filter(|number| **number > 0).count()))
}

/// Checks that the card passes what its driver's filter names, takes another address, and has sent and received what
/// the driver has counted.
fn card(context: &Context) -> anyhow::Result<()> {
    let server = Server::start()?;
    let capture = context.folder()?.join("net.pcap");
    let mut all = files(Stock::Cloud612)?;
    all.push(("guest.py".to_owned(), GUEST.as_bytes().to_vec()));
    let packages = ["ethtool", "python3-minimal"];
    let programs = ["sbin/ethtool", "usr/bin/python3.11"];
    let initrd =
        initrd_of(context, &packages, &programs, &["usr/lib/python3.11"], &all, &script(server.port))?;
    let (file, initrd, vps) = (capture.to_string_lossy(), initrd.to_string_lossy(), QUEUES.to_string());
    let line = ["--net", "user", "--net-capture", &file, "--initrd", &initrd, "--vps", &vps, "--strict=note"];
    let booted = context.boot(&line)?;
    booted.ended(Exit::Success, "power-off")?;
    let sum = capture.with_extension("pattern");
    fs::write(&sum, pattern())?;
    let sum = sha256(&sum)?;
    booted.is("/findings", serde_json::json!([]))?;
    booted.is("/devices/0/errors", 0)?;
    booted.never_says("Traceback")?;
    for line in [
        "directed and multicast frames",
        "all frames",
        "directed frames again",
        "Combined:\t2",
        "Combined:\t4",
        "address 00:15:5d:48:56:01",
        // Linux refuses it for a card that is up (net/ethernet/eth.c, `eth_prepare_mac_addr_change`).
        "while up: ip: SIOCSIFHWADDR: Device or resource busy",
        "address 00:15:5d:48:56:09",
        "got       8 PATTERN",
    ] {
        let line = format!("card: {line}").replace("PATTERN", &sum);
        let said = booted.console.lines().any(|said| said.trim_end() == line);
        booted.check(said, &format!("a line is {line:?}"))?;
    }
    for text in ["driver: hv_netvsc", "bus-info: 00155d48-5601-0015-5d48-"] {
        booted.says(text)?;
    }
    for state in ["off", "on"] {
        for offload in ["tcp-segmentation-offload", "tx-checksumming", "rx-checksumming"] {
            booted.says(&format!("{state}: {offload}: {state}"))?;
        }
    }
    wire(&booted, &frames(&read(&capture)?)?)
}

/// Checks that the driver's statistics are the frames of the wire, whose other end is QEMU's network, and that each one
/// that was sent was a request of the card.
fn wire(booted: &Booted, frames: &[Vec<u8>]) -> anyhow::Result<()> {
    let is = |frame: &[u8], at: usize, address: [u8; 6]| frame.get(at..at + 6) == Some(&address);
    let is_sent = |frame: &[u8]| [OLD, NEW, OTHER].into_iter().any(|own| is(frame, 6, own));
    let sum = |condition: &dyn Fn(&[u8]) -> bool| {
        let some = frames.iter().filter(|frame| condition(frame));
        some.fold((0, 0), |(count, bytes), frame| (count + 1, bytes + frame.len() as u64))
    };
    let sent = sum(&is_sent);
    let mut received = sum(&|frame| !is_sent(frame) && !is(frame, 0, OTHER));
    // Of the frames to the other card, those that came while the driver wanted all.
    let answers = sum(&|frame| is(frame, 0, OTHER));
    let line = booted.console.lines().find_map(|line| line.trim_end().strip_suffix(" to the other card"));
    let seen = line.and_then(|line| line.strip_prefix("card: ")?.parse::<u64>().ok());
    let seen = seen.context("the guest does not say what came to the other card")?;
    booted.check((1..answers.0).contains(&seen), &format!("{seen} of {} answers came", answers.0))?;
    received = (received.0 + seen, received.1 + seen * answers.1 / answers.0);
    for (way, wire) in [("tx", sent), ("rx", received)] {
        let ((packets, queues), (bytes, _)) = (total(booted, way, "packets")?, total(booted, way, "bytes")?);
        booted.check(
            (packets, bytes) == wire,
            &format!("{way}: {packets} packets, {bytes} bytes is {wire:?}"),
        )?;
        // Eight connections are one queue's once in 16,000 runs.
        booted.check(queues > 1, &format!("{way}: {queues} queues have packets"))?;
    }
    for address in [OLD, NEW] {
        booted.check(sum(&|frame| is(frame, 6, address)).0 > 0, &format!("frames come from {address:x?}"))?;
    }
    booted.is("/devices/0/requests", sent.0)?;
    let packets = |way: &str| booted.json["devices"][0][way].as_u64();
    // A packet for each frame that is sent, and one for its end the other way. Received frames share packets.
    let least = Some(sent.0 + received.0.div_ceil(FRAMES));
    let enough = packets("packets_in") >= least && packets("packets_out") >= least;
    booted.check(enough, "a packet for each frame that was sent, and enough for those received")
}
