//! The network card on passt's network.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::super::context::Context;
use super::super::life::until;
use super::super::packages;
use super::super::runner::Step;
use super::network::{BEGIN, GUEST, HOST, Server, files, get, pattern, serving, with_network};
use hv_setup::process;
use hv_setup::stock::Stock;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("devices/network/passt", passt).slow(),
        Step::new("devices/network/blocked/1-vp", |context| blocked(context, "1")),
        Step::new("devices/network/blocked/2-vps", |context| blocked(context, "2")),
    ]
}

/// Checks that the guest has the addresses of QEMU's user network, that bytes go out and come in, and that passt ends
/// with the run.
fn passt(context: &Context) -> anyhow::Result<()> {
    let server = Server::start()?;
    let host = server.port;
    let script = format!(
        "{BEGIN}\
         ip addr show dev eth0 | grep inet\ncat /etc/resolv.conf\n\
         nslookup {NAME} 2>&1\n\
         wget -q -O got http://{HOST}:{host}/pattern && echo 'hv: got it'\n\
         {}",
        serving(host)
    );
    let initrd = packages::script(context, &files(Stock::Cloud612)?, &script)?;
    let used = Mutex::new(0);
    let booted = with_network(context, &initrd, &server, ("passt", &[]), &["--vps", "2"], |port| {
        *used.lock().unwrap() = port;
        ensure!(get(port, "/got")? == pattern(), "the bytes that came back are not those that were sent");
        let taken = format!("passt,forward=tcp:{port}:80");
        context.hv(&["boot", "--net", &taken])?.refused(&format!("cannot listen on port {port}"))
    })?;
    booted.says(&format!("inet {GUEST}/24"))?;
    if let Some(server) = name_server() {
        booted.says(&format!("nameserver {server}"))?;
        let silent = booted.console.contains("no servers could be reached");
        booted.check(
            !silent || !answers(server),
            "a name server that answers this computer answers the guest",
        )?;
    }
    booted.says("hv: got it")?;
    let port = used.into_inner().unwrap();
    until("passt ends with its machine", || Ok(TcpListener::bind(("127.0.0.1", port)).is_ok()))
}

/// Returns the guest's first name server: that of this computer, which the guest reaches as the gateway if it is this
/// computer's own. `None` without one.
fn name_server() -> Option<Ipv4Addr> {
    let resolver = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut servers =
        resolver.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse().ok());
    let first: Ipv4Addr = servers.next()?;
    Some(if first.is_loopback() { HOST.parse().ok()? } else { first })
}

/// A name that does not exist (RFC 2606, section 2). That is an answer, too.
const NAME: &str = "hv-arm64.invalid";

/// Returns true if a name server answers a question of this computer's.
fn answers(server: Ipv4Addr) -> bool {
    // A question after RFC 1035, section 4: id, recursion desired, one question; a name, type A, class IN.
    let mut question = vec![0x48, 0x56, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in NAME.split('.') {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let ask = || {
        let socket = UdpSocket::bind(("0.0.0.0", 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to(&question, (server, 53))?;
        socket.recv(&mut [0; 512])
    };
    ask().is_ok()
}

/// A program in passt's place that sends frames and never reads: an ARP reply for the guest each, on the descriptor
/// after `--fd`. It goes to the background, as passt does.
const BLOCKED: &str = r#"#!/usr/bin/perl
my ($fd) = "@ARGV" =~ /--fd (\d+)/;
exit 0 if fork;
open STDOUT, '>', '/dev/null';
open STDERR, '>', '/dev/null';
open my $socket, '+<&=', $fd or die;
my $frame = pack 'H*', 'ffffffffffff' . '525500000002' . '08060001080006040002' . '5255000000020a000202' . 'ffffffffffff0a00020f';
$frame .= "\0" x (1514 - length $frame);
my $packet = pack('N', length $frame) . $frame;
while (defined syswrite $socket, $packet) {}
"#;

/// Checks that a guest goes on while its network takes none of its frames and sends without end: frames wait in both
/// directions.
fn blocked(context: &Context, vps: &str) -> anyhow::Result<()> {
    let folder = context.folder()?;
    let program = folder.join("passt");
    fs::write(&program, BLOCKED)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let begin = BEGIN.split("udhcpc").next().context("the address")?;
    let script = format!(
        "{begin}ip addr add {GUEST}/24 dev eth0\nip link set eth0 up\n\
         arp -s {HOST} 52:55:00:00:00:02\n\
         dd if=/dev/zero bs=1400 count=4000 2>/dev/null | nc -u {HOST} 9 &\n\
         for n in 1 2 3 4 5 6 7 8; do sleep 0.5; echo \"hv: $n\"; done\n\
         echo \"hv: sent $(cat /sys/class/net/eth0/statistics/tx_packets)\"\n"
    );
    let initrd = packages::script(context, &files(Stock::Cloud612)?, &script)?;
    let initrd = initrd.to_string_lossy();
    let mut path = vec![folder];
    path.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let path = std::env::join_paths::<&[PathBuf], _>(&path)?;
    let line = ["boot", "--net", "passt", "--initrd", &*initrd, "--vps", vps];
    let done = process::run(context.command(&line)?.env("PATH", path), || {})?;
    let said = format!("{}{}", done.stdout, done.stderr);
    ensure!(done.status.success(), "{}: {said}", done.status);
    ensure!(said.contains("hv: 8"), "the guest did not go on: {said}");
    Ok(())
}
