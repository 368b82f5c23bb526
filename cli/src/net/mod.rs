//! The guest's network: QEMU's user network, or passt. Neither needs root or any set-up of the host's.

mod capture;
mod option;
mod passt;

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

pub(crate) use capture::Capture;
pub(crate) use option::{Back, Forward, NetOption};
pub(crate) use passt::Passt;

/// Address of the guest's card: Microsoft's part, and what is the same on every run.
pub(crate) const MAC: [u8; 6] = [0x00, 0x15, 0x5d, 0x48, 0x56, 0x01];

/// The network of a machine.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) back: Back,
    pub(crate) forwards: Vec<Forward>,
    /// The pipe that QEMU writes the frames to.
    pub(crate) capture: Option<Arc<File>>,
}

impl Network {
    /// Returns QEMU's user network without forwarded ports.
    pub(crate) fn user() -> Self {
        Self { back: Back::User, forwards: Vec::new(), capture: None }
    }

    /// Starts the program behind the card; `None` if that is QEMU itself.
    pub(crate) fn start(&self) -> Option<anyhow::Result<Passt>> {
        (self.back == Back::Passt).then(|| Passt::start(&self.forwards))
    }
}

/// Installs the program behind the card, if it is missing.
///
/// # Errors
/// Its installation fails.
pub(crate) fn set_up(option: &NetOption) -> anyhow::Result<()> {
    match option {
        NetOption::Card(Back::Passt, _) => Passt::set_up(),
        _ => Ok(()),
    }
}

/// Resolves the options.
pub(crate) fn open(
    option: &NetOption,
    capture: Option<&Path>,
    deterministic: bool,
) -> anyhow::Result<(Option<Network>, Option<Capture>)> {
    let NetOption::Card(back, forwards) = option else {
        ensure!(capture.is_none(), "--net-capture records a network, and there is none: give --net user too");
        return Ok((None, None));
    };
    ensure!(
        !deterministic,
        "--net and --deterministic contradict each other: what comes from a network differs from run to run"
    );
    forwards.iter().try_for_each(is_free)?;
    let capture = capture.map(Capture::begin).transpose()?;
    let (file, capture) = capture.unzip();
    let capture_file = file.map(Arc::new);
    Ok((Some(Network { back: *back, forwards: forwards.clone(), capture: capture_file }), capture))
}

/// Checks that a port can be listened on. QEMU, which then does that, says less of why it cannot.
fn is_free(forward: &Forward) -> anyhow::Result<()> {
    let Forward { address, host, .. } = forward;
    TcpListener::bind((*address, *host)).map(|_| ()).with_context(|| {
        format!(
            "cannot listen on port {host} of {address} for forward={forward}; give another port or address"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(option: &str, capture: Option<&Path>, deterministic: bool) -> String {
        format!("{:#}", open(&option.parse().unwrap(), capture, deterministic).unwrap_err())
    }

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("net.pcap");
        assert!(error("none", Some(&file), false).contains("give --net user too"));
        assert!(error("user", None, true).contains("contradict each other"));
        assert!(error("user", Some(Path::new("-")), false).contains("./-"));
        assert!(error("user", Some(dir.path()), false).contains("--net-capture"));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_with_its_number() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = error(&format!("user,forward=tcp:{port}:22"), None, false);
        assert!(error.contains(&format!("port {port} of 127.0.0.1")), "{error}");
    }
}
