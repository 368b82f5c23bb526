//! The network card: stock kernels with their own hv_netvsc, on QEMU's user network.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use hv_machine::initrd::LEASE;

use super::super::context::{Booted, Context, HUNG, read};
use super::super::life::until;
use super::super::packages;
use super::super::runner::Step;
use super::super::services::{Controlled, drivers};
use super::faults::fired;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

mod server;

pub(crate) use server::Server;
pub(super) use server::pattern;
use server::short;

/// The guest's address, and the host's, on QEMU's user network.
pub(super) const GUEST: &str = "10.0.2.15";
pub(crate) const HOST: &str = "10.0.2.2";
/// How long the host waits for the next bytes of a connection that may be lost, before it makes another one.
const ATTEMPT: Duration = Duration::from_secs(20);

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let stock = [("6.12", Stock::Cloud612), ("6.1", Stock::Cloud61), ("16k", Stock::Pages16k)];
    let mut steps: Vec<Step> = stock
        .iter()
        .map(|&(name, kernel)| {
            Step::new(format!("devices/network/{name}"), move |context| both_ways(context, name, kernel))
                .slow()
        })
        .collect();
    steps.push(Step::new("devices/network/run-net", run_net));
    for (name, kernel) in stock {
        let step =
            Step::new(format!("devices/network/link/{name}"), move |context| link(context, name, kernel));
        steps.push(if kernel == Stock::Cloud612 { step } else { step.slow() });
    }
    steps.extend(PLANS.into_iter().map(|(name, plan, version, quick)| {
        let step = Step::new(format!("inject/network/{name}"), move |context| faulty(context, plan, version));
        if quick { step } else { step.slow() }
    }));
    steps.push(Step::new("devices/network/ethtool", ethtool).slow());
    steps.push(Step::new("devices/network/vlan", vlan).slow());
    steps
}

/// Checks that the stock initramfs gets an address, the frames are in the capture, and without `--net` there is no
/// card.
fn run_net(context: &Context) -> anyhow::Result<()> {
    let capture = context.folder()?.join("net.pcap");
    let file = capture.to_string_lossy();
    let trace = context.folder()?.join("net.pftrace");
    let trace = trace.to_string_lossy();
    let line = ["--net", "user", "--net-capture", &file, "--run", "net", "--strict=note", "--trace", &trace];
    let booted = context.boot(&line)?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says(&format!("hv: network eth0 {GUEST} gateway {HOST}"))?;
    booted.is("/devices/0/name", "network card")?;
    booted.is("/devices/0/version", "6.1")?;
    booted.is("/devices/0/errors", 0)?;
    booted.is("/findings", serde_json::json!([]))?;
    let frames = frames(&read(&capture)?)?;
    let dhcp = |frame: &&Vec<u8>| frame.get(34..38) == Some(&[0, 68, 0, 67]);
    ensure!(frames.iter().filter(dhcp).count() >= 2, "the capture has no requests by DHCP");
    // The messages of RNDIS and the frames are in the trace, and records are judged as what they were made from.
    let records = context.hv(&["trace", &trace, "--kind", "contents,frame"])?.stdout;
    for text in ["RNDIS_MSG_SET", "RNDIS_OID_GEN_CURRENT_PACKET_FILTER", "UDP", "0.0.0.0:68"] {
        ensure!(records.contains(text), "the trace has no {text}:\n{records}");
    }
    let judged = context.hv(&["trace", &trace, "--strict"])?;
    ensure!(judged.stdout.contains("no rule was broken"), "of records: {}{}", judged.stdout, judged.stderr);
    context.hv(&["boot", "--net", "bridge"])?.refused("expected none, or user")?;
    context.hv(&["boot", "--run", "net"])?.refused("give --net user too")?;
    context.hv(&["boot", "--net-capture", &file])?.refused("give --net user too")?;
    context.hv(&["boot", "--net", "user", "--deterministic"])?.refused("contradict each other")?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    let option = format!("user,forward=tcp:{port}:80");
    context.hv(&["boot", "--net", &option])?.refused(&format!("cannot listen on port {port} of 127.0.0.1"))
}

/// Checks that the driver hands VLAN tags over beside the frame, as many bytes of payload as without: they are in the
/// capture. QEMU's network has no VLANs, so that nothing answers.
fn vlan(context: &Context) -> anyhow::Result<()> {
    const MODULES: [&str; 5] = ["llc", "stp", "garp", "mrp", "8021q"];
    let capture = context.folder()?.join("net.pcap");
    let file = capture.to_string_lossy();
    let script = format!(
        "{BEGIN}for module in {}; do insmod /modules/$module.ko; done\n\
         vconfig add eth0 5\nip addr add 192.0.2.1/24 dev eth0.5\nip link set eth0.5 up\n\
         arp -i eth0.5 -s 192.0.2.2 52:55:00:00:00:05\n\
         ping -c 1 -W 1 192.0.2.3\nping -c 1 -W 1 -s {PAYLOAD} 192.0.2.2\npoweroff -f\n",
        MODULES.join(" ")
    );
    let mut files = files(Stock::Cloud612)?;
    files.extend(drivers(Stock::Cloud612, &MODULES)?);
    let initrd = packages::script(context, &files, &script)?.display().to_string();
    let line = ["--net", "user", "--net-capture", &file, "--initrd", &initrd, "--strict=note"];
    context.boot(&line)?.ended(Exit::Success, "power-off")?;
    let frames = frames(&read(&capture)?)?;
    let tagged = |kind: [u8; 2], len: usize| {
        let tag = [[0x81, 0], [0, 5], kind].concat();
        frames.iter().any(|frame| frame.get(12..18) == Some(&tag) && frame.len() >= len)
    };
    ensure!(tagged([8, 6], 18 + 28), "no question for an address in VLAN 5");
    ensure!(tagged([8, 0], 18 + 28 + PAYLOAD), "no ping of {PAYLOAD} bytes in VLAN 5");
    Ok(())
}

/// Bytes of a ping that fill 1,500 bytes.
const PAYLOAD: usize = 1472;

/// Returns the frames of a capture (libpcap, "savefile format": a header of 24 bytes, and 16 before each frame).
pub(super) fn frames(file: &[u8]) -> anyhow::Result<Vec<Vec<u8>>> {
    ensure!(file.get(..4) == Some(&[0xd4, 0xc3, 0xb2, 0xa1]), "the capture is none");
    let (mut rest, mut frames) = (&file[24..], Vec::new());
    while let Some((head, after)) = rest.split_at_checked(16) {
        let len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let (frame, after) = after.split_at_checked(len).context("a frame of the capture is cut")?;
        frames.push(frame.to_vec());
        rest = after;
    }
    Ok(frames)
}

/// Gets a file of the guest's web server.
pub(super) fn get(port: u16, path: &str) -> anyhow::Result<Vec<u8>> {
    get_within(HUNG, port, path)
}

/// Gets like [`get`], for a host that waits this long for the next bytes.
fn get_within(patience: Duration, port: u16, path: &str) -> anyhow::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(patience))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").context("no answer")?;
    ensure!(answer.starts_with(b"HTTP/1.") && answer[9..].starts_with(b"200"), "{path} is not there");
    Ok(answer.split_off(head + 4))
}

/// Returns a port of the host's that is free.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Returns the modules that a network needs, as files of an initrd, and what udhcpc runs.
pub(super) fn files(kernel: Stock) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut files = drivers(kernel, &["hv_vmbus", "hv_netvsc"])?;
    files.push(("bin/lease".to_owned(), LEASE.to_vec()));
    Ok(files)
}

/// What each guest does first: it loads the modules, and has an address.
pub(super) const BEGIN: &str = "cd\ninsmod /modules/hv_vmbus.ko\ninsmod /modules/hv_netvsc.ko\n\
    until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done\n\
    udhcpc -n -q -t 20 -T 1 -s /bin/lease -i eth0\n";

/// Returns what the guest runs at the end: it serves what it has, and says so, until the host answers that it is to
/// end.
pub(super) fn serving(server: u16) -> String {
    format!(
        "httpd -p 80 -h $HOME\necho 'hv: serving'\n\
         until timeout 20 wget -q -O /dev/null http://{HOST}:{server}/serving; do sleep 0.2; done\n\
         until wget -q -O /dev/null http://{HOST}:{server}/end 2>/dev/null; do sleep 0.2; done\n"
    )
}

/// Runs a guest with a script, and does something while it serves.
fn with_guest(
    context: &Context,
    initrd: &Path,
    server: &Server,
    options: &[&str],
    work: impl FnOnce(u16) -> anyhow::Result<()> + Send,
) -> anyhow::Result<Booted> {
    with_ports(context, initrd, server, &[], options, work)
}

/// Builds the same guest, with further ports of the host's that lead to the guest's.
pub(super) fn with_ports(
    context: &Context,
    initrd: &Path,
    server: &Server,
    ports: &[(u16, u16)],
    options: &[&str],
    work: impl FnOnce(u16) -> anyhow::Result<()> + Send,
) -> anyhow::Result<Booted> {
    with_network(context, initrd, server, ("user", ports), options, work)
}

/// Builds the same guest on one of the networks.
pub(super) fn with_network(
    context: &Context,
    initrd: &Path,
    server: &Server,
    (back, ports): (&str, &[(u16, u16)]),
    options: &[&str],
    work: impl FnOnce(u16) -> anyhow::Result<()> + Send,
) -> anyhow::Result<Booted> {
    let (port, initrd) = (free_port()?, initrd.to_string_lossy());
    let mut net = format!("{back},forward=tcp:{port}:80");
    ports.iter().for_each(|(from, to)| net += &format!(",forward=tcp:{from}:{to}"));
    let line = [&["--net", &*net, "--initrd", &*initrd, "--strict=note"], options].concat();
    std::thread::scope(|scope| {
        let working = scope.spawn(move || {
            // QEMU takes connections for a guest that has no address yet, and tries again only after many seconds.
            ensure!(server.is_served(), "the guest does not serve");
            work(port)
        });
        let ended = scope.spawn(|| {
            let done = working.join().unwrap_or_else(|_| bail!("it panicked"));
            // Whatever became of it, the guest ends.
            server.end_guest();
            done
        });
        let booted = context.boot(&line);
        server.guest_has_ended();
        let booted = booted?;
        if let Ok(Err(error)) = ended.join() {
            bail!("{error:#}\n{}", booted.console);
        }
        booted.ended(Exit::Success, "power-off")?;
        booted.is("/findings", serde_json::json!([]))?;
        booted.is("/devices/0/errors", 0)?;
        Ok(booted)
    })
}

/// Checks that bytes go to the guest and come back, and that pings of all sizes are answered, with short frames and
/// with long ones.
fn both_ways(context: &Context, name: &str, kernel: Stock) -> anyhow::Result<()> {
    let server = Server::start()?;
    let port = server.port;
    let script = format!(
        "{BEGIN}\
         for mtu in 1500 9000 576; do\n\
         ip link set dev eth0 mtu $mtu && echo \"hv: mtu $(cat /sys/class/net/eth0/mtu)\"\n\
         ip route replace default via {HOST} dev eth0\n\
         case $mtu in 576) sizes=56 ;; *) sizes='56 1472 9000' ;; esac\n\
         for size in $sizes; do\n\
         ping -q -c 2 -W 10 -s $size {HOST} | grep received | sed \"s/^/hv: ping $mtu $size: /\"\n\
         done\n\
         wget -q -O got-$mtu http://{HOST}:{port}/pattern && echo \"hv: got $mtu\"\n\
         done\n\
         ip link set dev eth0 mtu 1500\nip route replace default via {HOST} dev eth0\n\
         wget -q -O under-load http://{HOST}:{port}/pattern &\n\
         for mtu in 4000 1500 9000 1500; do ip link set dev eth0 mtu $mtu; ip route replace default via {HOST} dev eth0; done\n\
         wait\n{}",
        serving(port)
    );
    let initrd = packages::script(context, &files(kernel)?, &script)?;
    let options = ["--stock", name, "--vps", "2"];
    let booted = with_guest(context, &initrd, &server, &options, |port| {
        for file in ["/got-1500", "/got-9000", "/got-576", "/under-load"] {
            let got = get(port, file)?;
            ensure!(
                got == pattern(),
                "{file} has {} bytes, and they are not those that were sent",
                got.len()
            );
        }
        Ok(())
    })?;
    // Longer than a frame of the user network, a ping is answered only in fragments.
    let sizes: [(u32, &[u32]); 3] = [(1500, &[56, 1472, 9000]), (9000, &[56, 1472, 9000]), (576, &[56])];
    for (mtu, sizes) in sizes {
        booted.says(&format!("hv: mtu {mtu}"))?;
        booted.says(&format!("hv: got {mtu}"))?;
        for size in sizes {
            booted.says(&format!("hv: ping {mtu} {size}: 2 packets transmitted, 2 packets received"))?;
        }
    }
    booted.never_says("hv_netvsc 00155d48-5601-0015-5d48-560100155d48 eth0: ")
}

/// Checks that Debian's ethtool shows the card, and changes its channels and its offloads; bytes come and go with each.
fn ethtool(context: &Context) -> anyhow::Result<()> {
    let server = Server::start()?;
    let port = server.port;
    let script = format!(
        "{BEGIN}\
         ethtool -i eth0\nethtool -l eth0\nethtool -k eth0\nethtool -S eth0 | head -20\nethtool -g eth0\nethtool -x eth0\n\
         try() {{ ip route replace default via {HOST} dev eth0\n\
         wget -q -O got http://{HOST}:{port}/pattern && cp got got-$1 && echo \"hv: with $1\"; }}\n\
         for channels in 1 4 2; do ethtool -L eth0 combined $channels; try channels-$channels; done\n\
         for offload in tso tx rx; do ethtool -K eth0 $offload off; try no-$offload; done\n\
         for offload in tx tso rx; do ethtool -K eth0 $offload on; try $offload; done\n\
         ethtool -G eth0 rx 200 tx 100; try rings\n\
         {}",
        serving(port)
    );
    let initrd = packages::initrd(context, "ethtool", &["sbin/ethtool"], &files(Stock::Cloud612)?, &script)?;
    let names =
        ["channels-1", "channels-4", "channels-2", "no-tso", "no-tx", "no-rx", "tx", "tso", "rx", "rings"];
    let booted = with_guest(context, &initrd, &server, &["--vps", "4"], |port| {
        for name in names {
            ensure!(get(port, &format!("/got-{name}"))? == pattern(), "bytes differ with {name}");
        }
        Ok(())
    })?;
    for name in names {
        booted.says(&format!("hv: with {name}"))?;
    }
    for text in ["driver: hv_netvsc", "tcp-segmentation-offload: on", "tx-checksum-ipv4: on", "Combined:\t4"]
    {
        booted.says(text)?;
    }
    Ok(())
}

/// Plans of faults: a name, the plan, the version that the driver agrees on, and whether it is quick. Its frames do not
/// all arrive as they were sent, and all bytes are right in the end.
const PLANS: [(&str, &str, &str, bool); 7] = [
    (
        "frames",
        "sent=lost@/31,sent=twice@/17,sent=corrupt@/23,sent=reorder@/7,\
         received=lost@/29,received=twice@/13,received=corrupt@/19,received=reorder@/5",
        "6.1",
        true,
    ),
    ("version-4", "newest=network:4.0", "4.0", true),
    ("version-5", "newest=network:5.0", "5.0", false),
    ("version-2", "newest=network:3.2", "3.2", false),
    ("version-1", "newest=network:0.2", "0.2", false),
    ("slow", "late=5ms@/6,reorder@/5,mute=50ms@200ms", "6.1", false),
    ("link", "link=3000ms@10000ms", "6.1", false),
];

/// Checks that the guest gets its bytes, and the host the guest's, in spite of a plan.
///
/// A frame that is kept comes with the next one, which for the last of a connection is a repetition after seconds; so
/// pings go back and forth.
///
/// The limit of a connection is a program of its own: Debian's static busybox 1.35 ends by a segmentation fault at
/// `wget -T`, on any machine.
fn faulty(context: &Context, plan: &str, version: &str) -> anyhow::Result<()> {
    let plan: String = plan.split_whitespace().collect();
    let server = Server::start()?;
    let port = server.port;
    let script = format!(
        "{BEGIN}\
         ping -i 0.2 {HOST} >/dev/null 2>&1 &\n\
         until timeout 20 wget -q -O got http://{HOST}:{port}/short; do sleep 0.2; done\n\
         {}",
        serving(port)
    );
    let initrd = packages::script(context, &files(Stock::Cloud612)?, &script)?;
    let options = ["--vps", "2", "--inject", &plan];
    let booted = with_guest(context, &initrd, &server, &options, |port| {
        // A connection may be lost with its frames.
        let got = || get_within(ATTEMPT, port, "/got").is_ok_and(|got| got == short());
        until("the host has the guest's bytes", || Ok(got()))
    })?;
    booted.is("/devices/0/version", version)?;
    (0..plan.split(',').count()).try_for_each(|rule| fired(&booted, rule))
}

/// Checks that the driver follows when the cable is pulled out and plugged in again, and when at last the card is
/// removed while frames come and go. The driver follows. The guest has no connection without the cable: it is at rest
/// when the card goes, however slow it is.
fn link(context: &Context, name: &str, kernel: Stock) -> anyhow::Result<()> {
    let server = Server::start()?;
    let port = server.port;
    let script = format!(
        "{BEGIN}\
         echo 'hv: waiting'\njob=none\n\
         while [ -e /sys/class/net/eth0 ]; do\n\
         now=$(cat /sys/class/net/eth0/carrier 2>/dev/null)\n\
         [ \"$now\" = \"$was\" ] || echo \"hv: carrier $now\"\n\
         was=$now\n\
         if [ \"$now\" != 1 ]; then\n\
         kill $job 2>/dev/null\njob=none\n\
         elif [ ! -e /proc/$job/exe ]; then\n\
         [ $job != none ] && wait $job && echo 'hv: got all'\n\
         wget -q -O got http://{HOST}:{port}/pattern &\njob=$!\n\
         fi\n\
         sleep 0.1\n\
         done\n\
         echo 'hv: gone'\n"
    );
    let initrd = packages::script(context, &files(kernel)?, &script)?.display().to_string();
    let line = ["--stock", name, "--net", "user", "--initrd", &initrd, "--vps", "2"];
    let machine = Controlled::start(context, &line)?;
    let count = |text: &str| machine.console().matches(&format!("hv: {text}")).count();
    let says = |text: &str, times: usize| until(text, || Ok(count(text) >= times));
    says("got all", 1)?;
    machine.reply(&["net", "down"])?;
    says("carrier 0", 1)?;
    let before = count("got all");
    machine.reply(&["net", "up"])?;
    says("carrier 1", 2)?;
    says("got all", before + 2)?;
    machine.reply(&["rescind", "net"])?;
    says("gone", 1)?;
    machine.ended(Exit::Success)?;
    Ok(())
}
