//! The network card on passt's network.

use std::net::TcpListener;
use std::sync::Mutex;

use anyhow::ensure;

use super::super::context::Context;
use super::super::life::until;
use super::super::packages;
use super::super::runner::Step;
use super::network::{BEGIN, GUEST, HOST, Server, files, get, pattern, serving, with_network};
use hv_setup::stock::Stock;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("devices/network/passt", passt).slow()]
}

/// Checks that the guest has the addresses of QEMU's user network, that bytes go out and come in, and that passt ends
/// with the run.
fn passt(context: &Context) -> anyhow::Result<()> {
    let server = Server::start()?;
    let host = server.port;
    let script = format!(
        "{BEGIN}\
         ip addr show dev eth0 | grep inet\ncat /etc/resolv.conf\n\
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
    booted.says("nameserver 10.0.2.3")?;
    booted.says("hv: got it")?;
    let port = used.into_inner().unwrap();
    until("passt ends with its machine", || Ok(TcpListener::bind(("127.0.0.1", port)).is_ok()))
}
