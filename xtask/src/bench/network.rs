//! The network: iperf3 in a stock guest, to this computer and back, on this machine's card and on QEMU's virtio-net.
//! Both are on QEMU's user network.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use hv_machine::initrd::{LEASE, Module};
use hv_setup::cache::Cache;
use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

use super::peer::{self, Peer};
use super::table::{Figures, median_command, said};
use super::{Measure, Names};
use crate::test::context::Context;
use crate::test::devices::file_systems::load;
use crate::test::devices::storage::tool;
use crate::test::packages::initrd_of;

/// The figures, and for each which way the bytes go: iperf3's option, and what the kernel counts them as.
const WAYS: [(&str, &str, &str); 2] = [("net-send", "", "tx"), ("net-receive", "-R", "rx")];
/// This computer, on the user network.
const HOST: &str = "10.0.2.2";
/// What a run may take besides the measurements.
const START: Duration = Duration::from_secs(300);

/// What both sides need.
pub(super) struct Bench {
    names: Names,
    initrd: PathBuf,
    /// iperf3 on this computer.
    server: PathBuf,
    port: u16,
    vps: String,
    limit: Duration,
}

impl Bench {
    pub(super) fn prepare(context: &Context, args: &BenchDevicesArgs, names: Names) -> anyhow::Result<Self> {
        let server = tool("iperf3", "iperf3")?;
        // Free until the server takes it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut modules = Vec::new();
        load(&stock::drivers(&Cache::open()?, Stock::Cloud612)?, "hv_netvsc", &mut modules)?;
        modules.extend(peer::drivers(&["virtio_net"])?);
        let mut files = files_of(&modules);
        files.push(("bin/lease".to_owned(), LEASE.to_vec()));
        let script = script(&names, &modules, port, &format!("-O 1 -t {}", args.seconds), 1);
        let initrd = initrd_of(context, &["iperf3"], &["usr/bin/iperf3"], &[], &files, &script)?;
        let limit = START + 4 * Duration::from_secs(u64::from(args.seconds));
        Ok(Self { names, initrd, server, port, vps: args.vps.to_string(), limit })
    }

    /// Starts iperf3 on this computer.
    fn serve(&self, context: &Context) -> anyhow::Result<Server> {
        let arguments = ["-s", "-B", "127.0.0.1", "-p", &self.port.to_string()].map(OsString::from);
        let mut command = context.tied(&self.server, &arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Server(command.spawn().context("cannot start iperf3")?))
    }
}

impl Measure for Bench {
    const NAME: &'static str = "net";

    fn here(&self, context: &Context) -> anyhow::Result<Figures> {
        let _server = self.serve(context)?;
        let (initrd, limit) = (self.initrd.to_string_lossy(), self.limit.as_secs().to_string());
        let line = [
            "--stock",
            "6.12",
            "--vps",
            &self.vps,
            "--net",
            "user",
            "--initrd",
            &initrd,
            "--timeout",
            &limit,
        ];
        let booted = context.boot(&line)?;
        booted.ended(Exit::Success, "power-off")?;
        said(&booted.console, &self.names)
    }

    fn peer(&self, peer: &Peer<'_>) -> anyhow::Result<Figures> {
        let _server = self.serve(peer.context)?;
        let card = ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="];
        let command = peer.command(&self.initrd, "", &card);
        said(&peer::output(command, self.limit)?, &self.names)
    }
}

/// iperf3 while it serves. It ends with this value.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns modules as files of an initrd.
pub(crate) fn files_of(modules: &[Module]) -> Vec<(String, Vec<u8>)> {
    modules.iter().map(|module| (format!("modules/{}.ko", module.name), module.bytes.clone())).collect()
}

/// Returns commands that load modules. Those of the other machine find no device, or do not load.
pub(super) fn loading(modules: &[Module]) -> String {
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    format!("cd\nfor name in {}; do insmod /modules/$name.ko 2>/dev/null; done\n", names.join(" "))
}

/// Returns the script of both guests, which measures the figures with these names, with iperf3's options for the length
/// of a transfer. iperf3 prints what the receiver got, in kbit/s; the figure is the median of an odd number of
/// transfers. The bytes are what the kernel has sent or received for all of them, iperf3's warming up included.
pub(crate) fn script(names: &[&str], modules: &[Module], port: u16, length: &str, times: usize) -> String {
    let ways = WAYS.iter().filter(|(name, ..)| names.contains(name));
    let jobs: String = ways.map(|(name, option, way)| format!("measure {name} {way} {option}\n")).collect();
    format!(
        "{}until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done\n\
         udhcpc -n -q -t 20 -T 1 -s /bin/lease -i eth0\n\
         measure() {{\n\
         name=$1\nbytes=/sys/class/net/eth0/statistics/$2_bytes\nshift 2\n\
         before=$(cat $bytes)\n\
         figure=$(for _ in $(seq {times}); do \
         iperf3 -c {HOST} -p {port} {length} -f k $* | awk '/receiver/ {{ print $7 }}'; \
         done | {})\n\
         echo \"bench: $name $figure $(($(cat $bytes) - before))\"\n\
         }}\n{jobs}",
        loading(modules),
        median_command(times),
    )
}

#[cfg(test)]
mod tests {
    use super::super::table::ROWS;
    use super::*;

    #[test]
    fn every_way_has_a_row() {
        let names: Names = WAYS.iter().map(|(name, ..)| *name).collect();
        let rows: Names =
            ROWS.iter().map(|row| row.name).filter(|name| name.starts_with(Bench::NAME)).collect();
        assert_eq!(names, rows);
    }
}
