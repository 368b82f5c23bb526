//! The network: iperf3 in a stock guest, to this computer and back, on this machine's card and on QEMU's virtio-net.
//! Both are on QEMU's user network.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use hv_machine::initrd::{LEASE, Module};
use hv_setup::cache::Cache;
use hv_setup::developer::BenchDevicesArgs;
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Stock};

use super::peer::{self, Peer};
use super::table::{Figures, said};
use crate::test::context::Context;
use crate::test::devices::file_systems::load;
use crate::test::devices::storage::tool;
use crate::test::packages::initrd_of;

/// The figures, and iperf3's option for each: which way the bytes go.
const NAMES: [(&str, &str); 2] = [("net-send", ""), ("net-receive", "-R")];
/// This computer, on the user network.
const HOST: &str = "10.0.2.2";
/// What a run may take besides the measurements.
const START: Duration = Duration::from_secs(300);

/// What both sides need.
pub(super) struct Bench {
    initrd: PathBuf,
    /// iperf3 on this computer.
    server: PathBuf,
    port: u16,
    vps: String,
    limit: Duration,
}

impl Bench {
    pub(super) fn prepare(context: &Context, args: &BenchDevicesArgs) -> anyhow::Result<Self> {
        let server = tool("iperf3", "iperf3")?;
        // Free until the server takes it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut modules = Vec::new();
        load(&stock::drivers(&Cache::open()?, Stock::Cloud612)?, "hv_netvsc", &mut modules)?;
        modules.extend(peer::drivers(&["virtio_net"])?);
        let mut files = files_of(&modules);
        files.push(("bin/lease".to_owned(), LEASE.to_vec()));
        let script = script(&modules, port, args.seconds);
        let initrd = initrd_of(context, &["iperf3"], &["usr/bin/iperf3"], &[], &files, &script)?;
        let limit = START + 4 * Duration::from_secs(u64::from(args.seconds));
        Ok(Self { initrd, server, port, vps: args.vps.to_string(), limit })
    }

    /// Measures this machine's card.
    pub(super) fn here(&self, context: &Context) -> anyhow::Result<Figures> {
        let _server = self.serve()?;
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
        said(&booted.console, &names())
    }

    /// Measures QEMU's virtio-net, without the hypervisor.
    pub(super) fn peer(&self, peer: &Peer) -> anyhow::Result<Figures> {
        let _server = self.serve()?;
        let mut command = peer.command(&self.initrd, "");
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        said(&peer::output(command, self.limit)?, &names())
    }

    /// Starts iperf3 on this computer.
    fn serve(&self) -> anyhow::Result<Server> {
        let mut command = Command::new(&self.server);
        command.args(["-s", "-B", "127.0.0.1", "-p", &self.port.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Server(command.spawn().context("cannot start iperf3")?))
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

/// Returns the names of the figures.
fn names() -> Vec<&'static str> {
    NAMES.iter().map(|(name, _)| *name).collect()
}

/// Returns modules as files of an initrd.
pub(super) fn files_of(modules: &[Module]) -> Vec<(String, Vec<u8>)> {
    modules.iter().map(|module| (format!("modules/{}.ko", module.name), module.bytes.clone())).collect()
}

/// Returns commands that load modules. Those of the other machine find no device, or do not load.
pub(super) fn loading(modules: &[Module]) -> String {
    let names: Vec<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    format!("cd\nfor name in {}; do insmod /modules/$name.ko 2>/dev/null; done\n", names.join(" "))
}

/// Returns the script of both guests. iperf3 prints what the receiver got, in kbit/s.
fn script(modules: &[Module], port: u16, seconds: u32) -> String {
    let jobs: String = NAMES.iter().map(|(name, option)| format!("measure {name} {option}\n")).collect();
    format!(
        "{}until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done\n\
         udhcpc -n -q -t 20 -T 1 -s /bin/lease -i eth0\n\
         measure() {{\n\
         name=$1\nshift\n\
         echo \"bench: $name $(iperf3 -c {HOST} -p {port} -O 1 -t {seconds} -f k $* | awk '/receiver/ {{ print $7 }}')\"\n\
         }}\n{jobs}",
        loading(modules)
    )
}
