//! A run with the agent in the guest, for `hv exec`: the same options and the same report, which is not the purpose of
//! the run.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use hv_machine::words::is_given;
use hv_wire::control::{AGENT_PORT, SHARE_PORT};

use super::args::{Action, Args};
use super::plan::Plan;
use super::run::{open, start, summarize};
use crate::control::Services;
use crate::exit::Exit;
use crate::net::NetOption;

/// Kernel parameters for another root than the stock initramfs, or another first program in it.
const OTHER_ROOT: [&str; 3] = ["root=", "rdinit=", "nfsroot="];

/// What the agent is needed for.
#[derive(Debug, Default)]
pub(crate) struct Agent {
    /// The agent's program.
    pub(crate) program: Vec<u8>,
    /// The command has a terminal, so the run has no time limit but one that is given.
    pub(crate) terminal: bool,
    /// The machine boots, whatever has booted before.
    pub(crate) cold: bool,
    /// Number of folders of the host's that the guest gets.
    pub(crate) shares: usize,
}

/// Outcome of such a run.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The machine's end, whatever rules were broken.
    pub(crate) end: Exit,
    /// The exit code of such a run.
    pub(crate) exit: Exit,
    /// The same in words.
    pub(crate) reason: String,
    /// The end of the guest's console.
    pub(crate) console: String,
    /// The report for users.
    pub(crate) report: String,
    /// The kernel's name for users.
    pub(crate) kernel: String,
    /// Everything was written that was to be.
    pub(crate) written: bool,
}

impl Args {
    /// Has the stock initramfs run the agent, which finds the tool through sockets in `folder` if the user has named no
    /// other.
    ///
    /// # Errors
    /// Options with which the agent would never run.
    pub(crate) fn set_agent(&mut self, agent: Agent, folder: Option<&Path>) -> anyhow::Result<()> {
        self.judge_agent()?;
        // Before the sockets are set.
        self.warm = !agent.cold && self.is_plain();
        if agent.terminal {
            // The user ends the run.
            self.timeout.get_or_insert(0);
        }
        self.agent = Some(agent.program);
        self.shares = agent.shares;
        self.vsock = self.vsock.take().or_else(|| folder.map(Path::to_owned));
        // stdout and stderr are the command's.
        self.quiet = true;
        Ok(())
    }

    /// Returns true if the user has named no folder for the guest's sockets.
    pub(crate) const fn is_without_sockets(&self) -> bool {
        self.vsock.is_none()
    }

    /// Returns true if the guest has the time of this run, and entropy that no other run has. The stock initramfs knows
    /// neither: no clock of the machine tells the time, and the machine may have booted for another run.
    pub(crate) const fn has_own_time(&self) -> bool {
        !self.deterministic
    }

    /// Returns true if the machine depends on nothing but what it starts with, and its boot is of no interest: one that
    /// has booted before is as good.
    fn is_plain(&self) -> bool {
        let without_devices = self.disk.is_empty()
            && self.dvd.is_empty()
            && self.net == NetOption::None
            && self.net_capture.is_none()
            && self.services() == Services::NONE;
        let without_ports = !self.has_control() && self.vsock.is_none() && self.gdb.is_none();
        let without_a_past = self.run.is_empty() && self.trace.is_none() && self.keep.is_none();
        let without_faults = self.inject.is_none() && !self.loopback && !self.deterministic;
        without_devices && without_ports && without_a_past && without_faults
    }

    /// Judges the options for a run with the agent.
    ///
    /// # Errors
    /// As for [`set_agent`](Self::set_agent).
    pub(crate) fn judge_agent(&self) -> anyhow::Result<()> {
        ensure!(
            self.initrd.is_none() && !self.no_initrd,
            "hv exec runs the command in the stock initramfs: leave --initrd and --no-initrd out"
        );
        ensure!(
            self.entry.is_none(),
            "--entry: hv exec runs the command in the stock initramfs; hv boot boots what a disk has"
        );
        ensure!(
            self.from.is_none(),
            "--from: hv exec keeps its own machines; hv boot --from resumes a snapshot"
        );
        ensure!(
            self.json.as_ref().is_none_or(|file| file.as_os_str() != "-"),
            "--json -: stdout is the command's; give a file"
        );
        let ends = |action: &&Action| !matches!(action, Action::Hotplug | Action::Poke | Action::Net);
        if let Some(action) = self.run.iter().find(ends) {
            let name =
                action.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
            anyhow::bail!("--run {name}: the command would never run; expected hotplug, poke or net");
        }
        if let Some(key) = OTHER_ROOT.iter().find(|key| is_given(&self.append, key)) {
            anyhow::bail!(
                "--append {key}: hv exec runs the command in the stock initramfs: leave {key} out; the command can mount a disk: \
                 mkdir -p /mnt && mount /dev/sda1 /mnt"
            );
        }
        Ok(())
    }
}

/// Runs a guest with the agent to its end. `begin` gets the sockets that the agent connects to, before the guest
/// starts: its own, and those of the folders. `ready` is set when it has connected: a silent console then needs no
/// explanation.
pub(crate) fn run_agent(
    args: &Args,
    ready: Arc<AtomicBool>,
    begin: impl FnOnce(UnixListener, Vec<UnixListener>),
) -> anyhow::Result<Ended> {
    let mut kept = open(args)?;
    let mut plan = Plan::resolve(args)?;
    plan.record(&mut kept);
    if let Some(silence) = &mut plan.settings.silence {
        silence.speaks = ready;
    }
    let sockets = plan.sockets.as_mut().context("a run with the agent has sockets")?;
    let agent = sockets.listen_to_guest(AGENT_PORT)?;
    let shares = (0..plan.agent.unwrap_or(0)).map(|index| sockets.listen_to_guest(SHARE_PORT + index));
    let shares = shares.collect::<anyhow::Result<_>>()?;
    begin(agent, shares);
    let mut ran = start(plan, &mut kept)?;
    let summary = summarize(&mut ran, &mut kept);
    kept.report(&summary)?;
    Ok(Ended {
        end: summary.end(),
        exit: summary.outcome(),
        reason: summary.explanation().to_owned(),
        console: ran.outcome.console,
        report: summary.to_string(),
        kernel: ran.known.about.kernel.title().to_owned(),
        written: !kept.complain(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_with_more_than_its_memory_boots_anew() {
        let warm = |words: &str, cold| {
            let mut args = Args::of_words(words);
            args.set_agent(Agent { cold, ..Agent::default() }, Some(Path::new("/x"))).unwrap();
            args.warm
        };
        for words in
            ["", "--vps 4 --memory 1G --cpu max", "--strict=error --json x --timeout 9", "--append quiet"]
        {
            assert!(warm(words, false) && !warm(words, true), "{words}");
        }
        for words in [
            "--disk x",
            "--disk x,rw",
            "--disk x,ro",
            "--dvd x",
            "--net user",
            "--devices time",
            "--control x",
            "--control",
            "--name x",
            "--vsock x",
            "--gdb x",
            "--run hotplug",
            "--trace x",
            "--keep x",
            "--inject lost=19",
            "--loopback",
            "--deterministic",
        ] {
            assert!(!warm(words, false), "{words}");
        }
    }
}
