//! Two guests on a network: one is reached from the host's ports, by the other through its own network. Debian's
//! dropbear and iperf3 run in both, so what comes in at one has gone out at the other. While they are busy, the card
//! changes.

use anyhow::ensure;
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

use super::super::context::Context;
use super::super::packages;
use super::super::runner::Step;
use super::super::services::Controlled;
use super::network::{BEGIN, HOST, Server, files, free_port, serving, with_ports};

/// Root, without a password.
const PASSWD: &str = "echo root::0:0:root:/tmp:/bin/sh >/etc/passwd\n";
/// Bytes of each of iperf3's four streams.
const BYTES: &str = "4M";

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let stock = [("6.12", Stock::Cloud612), ("6.1", Stock::Cloud61), ("16k", Stock::Pages16k)];
    let peers = stock.map(|(name, kernel)| {
        Step::new(format!("devices/network/peers/{name}"), move |context| peers(context, name, kernel)).slow()
    });
    let load = stock.map(|(name, kernel)| {
        Step::new(format!("devices/network/load/{name}"), move |context| load(context, name, kernel)).slow()
    });
    peers.into_iter().chain(load).collect()
}

/// Returns the initial file system of a guest with the programs, and a script.
fn guest(context: &Context, kernel: Stock, script: &str) -> anyhow::Result<String> {
    let packages = ["dropbear-bin", "iperf3", "ethtool"];
    let programs = ["usr/sbin/dropbear", "usr/bin/dbclient", "usr/bin/iperf3", "sbin/ethtool"];
    let initrd = packages::initrd_of(context, &packages, &programs, &[], &files(kernel)?, script)?;
    Ok(initrd.display().to_string())
}

/// Checks that commands, their output and files go over ssh in both directions, and that iperf3 sends and receives with
/// one channel and with four.
fn peers(context: &Context, name: &str, kernel: Stock) -> anyhow::Result<()> {
    let server = Server::start()?;
    let (ssh, iperf) = (free_port()?, free_port()?);
    let script = format!(
        "{PASSWD}{BEGIN}mkdir -p /etc/dropbear\n\
         dropbear -R -E -B -p 22\niperf3 -s -D\necho x >ready\n{}",
        serving(server.port)
    );
    let initrd = guest(context, kernel, &script)?;
    let shell = format!("dbclient -y -y -p {ssh} root@{HOST}");
    let script = format!(
        "{PASSWD}{BEGIN}\
         dd if=/dev/urandom of=file bs=1024 count=512 2>/dev/null\nsum=$(sha256sum <file)\n\
         {shell} 'cat >/copied' <file\n\
         [ \"$({shell} 'sha256sum </copied')\" = \"$sum\" ] && echo 'hv: ssh out'\n\
         [ \"$({shell} 'cat /copied' | sha256sum)\" = \"$sum\" ] && echo 'hv: ssh back'\n\
         {shell} 'exit 42'\n[ $? = 42 ] && echo 'hv: ssh status'\n\
         for channels in 1 4; do\n\
         ethtool -L eth0 combined $channels; ip route replace default via {HOST} dev eth0\n\
         for way in out back; do\n\
         case $way in out) option= ;; back) option=-R ;; esac\n\
         iperf3 -c {HOST} -p {iperf} -P 4 -n {BYTES} -f k $option >iperf && grep SUM iperf && echo \"hv: iperf3 $way $channels\"\n\
         done\ndone\n\
         ethtool -l eth0\necho 'hv: over'\n"
    );
    let client = guest(context, kernel, &script)?;
    with_ports(
        context,
        initrd.as_ref(),
        &server,
        &[(ssh, 22), (iperf, 5201)],
        &["--stock", name, "--vps", "2"],
        |_| {
            let line = ["--stock", name, "--vps", "4", "--net", "user", "--initrd", &client, "--strict=note"];
            let booted = context.boot(&line)?;
            booted.ended(Exit::Success, "power-off")?;
            for text in ["ssh out", "ssh back", "ssh status"] {
                booted.says(&format!("hv: {text}"))?;
            }
            for channels in [1, 4] {
                for way in ["out", "back"] {
                    booted.says(&format!("hv: iperf3 {way} {channels}"))?;
                }
            }
            booted.is("/findings", serde_json::json!([]))?;
            booted.is("/devices/0/errors", 0)?;
            for line in booted.console.lines().filter(|line| line.contains("[SUM]")) {
                eprintln!("  {}", line.trim_end());
            }
            ensure!(booted.json["devices"][0]["opened"].as_u64() >= Some(5), "{}", booted.json["devices"]);
            Ok(())
        },
    )?;
    Ok(())
}

/// Waits until the peer has acknowledged more of what iperf3 sends, and says so. Linux counts each segment that comes
/// in (RFC 4022, tcpInSegs), whatever becomes of the card.
const FLOWS: &str = "\
    segments() { grep '^Tcp: [0-9]' /proc/net/snmp | cut -d ' ' -f 11; }\n\
    flows() { old=$(segments); until [ $(($(segments) - old)) -gt 500 ]; do sleep 0.1; done; echo \"hv: flows $1\"; }\n\
    is() { until [ \"$(cat /sys/class/net/eth0/carrier 2>/dev/null)\" = $1 ]; do sleep 0.1; done; echo \"hv: carrier $1\"; }\n";

/// Checks that iperf3's streams survive a change of the MTU, and a cable that is pulled out and plugged in again. Then
/// the card is removed, which must leave Linux nothing to wait for.
fn load(context: &Context, name: &str, kernel: Stock) -> anyhow::Result<()> {
    let server = Server::start()?;
    let iperf = free_port()?;
    let script = format!("{BEGIN}iperf3 -s -D\n{}", serving(server.port));
    let initrd = guest(context, kernel, &script)?;
    let script = format!(
        "{BEGIN}{FLOWS}\
         iperf3 -c {HOST} -p {iperf} -P 4 -t 3000 >iperf 2>&1 &\n\
         sender=$!\n\
         flows first\n\
         for mtu in 4000 9000 576 1500; do\n\
         ip link set dev eth0 mtu $mtu; ip route replace default via {HOST} dev eth0\n\
         [ \"$(cat /sys/class/net/eth0/mtu)\" = $mtu ] && flows $mtu\n\
         done\n\
         for n in 1 2 3; do echo \"hv: waiting $n\"; is 0; is 1; flows again-$n; done\n\
         echo 'hv: waiting 4'; while [ -e /sys/class/net/eth0 ]; do sleep 0.1; done; echo 'hv: card gone'\n\
         kill -9 $sender\n"
    );
    let client = guest(context, kernel, &script)?;
    let (ports, options) = ([(iperf, 5201)], ["--stock", name, "--vps", "2"]);
    with_ports(context, initrd.as_ref(), &server, &ports, &options, |_| {
        let line = ["--stock", name, "--vps", "4", "--net", "user", "--initrd", &client];
        let machine = Controlled::start_until(context, &line, "hv: waiting 1")?;
        let says =
            |text: String| machine.until(&text, || Ok(machine.console().contains(&format!("hv: {text}"))));
        for text in ["first", "4000", "9000", "576", "1500"] {
            says(format!("flows {text}"))?;
        }
        for n in 1..=3 {
            says(format!("waiting {n}"))?;
            machine.reply(&["net", "down"])?;
            machine.until("the carrier is gone", || {
                Ok(machine.console().matches("hv: carrier 0").count() == n)
            })?;
            machine.reply(&["net", "up"])?;
            says(format!("flows again-{n}"))?;
        }
        says("waiting 4".to_owned())?;
        machine.reply(&["rescind", "net"])?;
        says("card gone".to_owned())?;
        machine.ended(Exit::Success)?;
        Ok(())
    })?;
    Ok(())
}
