//! What of a run's options a snapshot of its machine keeps, and what a run that resumes it has of its own.

use anyhow::{bail, ensure};

use super::args::{Args, MAX_VPS, memory};
use crate::control::Services;
use crate::disks::Mode;
use crate::machine::Accel;
use crate::net::NetOption;
use crate::snapshot::{Options, WITHOUT_PORT};

impl Args {
    /// Returns what a snapshot of this run's machine keeps of its options.
    pub(super) fn saved(&self, cpu: &str) -> Options {
        Options {
            vps: self.vps,
            memory: self.memory,
            cpu: cpu.to_owned(),
            firmware: self.firmware,
            devices: self.services().bits(),
            network: match self.net {
                NetOption::None => None,
                NetOption::Card(back, _) => Some(back),
            },
            strict: self.strict,
            inject: self.inject.clone(),
            hotplug_room: self.hotplug_room,
            uuid: self.uuid,
        }
    }

    /// Returns the options of this run together with those of the machine that it resumes, which has a control
    /// port in any case.
    ///
    /// # Errors
    /// The machine's options are invalid, or contradict the network that is given.
    pub(super) fn with(&self, saved: &Options) -> anyhow::Result<Self> {
        let services = Services::of_bits(saved.devices);
        ensure!(
            (1..=MAX_VPS).contains(&saved.vps.into()) && memory(&format!("{}K", saved.memory >> 10)).is_ok(),
            "it has {} VPs and {} bytes of memory, which no machine has",
            saved.vps,
            saved.memory
        );
        let net = match (&self.net, saved.network) {
            (NetOption::None, None) => NetOption::None,
            (NetOption::None, Some(back)) => NetOption::Card(back, Vec::new()),
            (NetOption::Card(..), None) => {
                bail!("--net: the machine of the snapshot has no network card; leave --net out")
            }
            // QEMU keeps the state of its user network with the machine's.
            (NetOption::Card(given, _), Some(back)) => {
                ensure!(
                    *given == back,
                    "--net: the machine of the snapshot is on --net {back}; give that, or leave --net out"
                );
                self.net.clone()
            }
        };
        let control = match (&self.control, &self.name) {
            (None, None) => Some(None),
            (given, _) => given.clone(),
        };
        Ok(Self {
            vps: saved.vps,
            memory: saved.memory,
            cpu: Some(saved.cpu.clone()),
            firmware: saved.firmware,
            devices: Some(services),
            net,
            strict: saved.strict,
            inject: saved.inject.clone(),
            hotplug_room: saved.hotplug_room,
            uuid: saved.uuid,
            control,
            ..self.clone()
        })
    }

    /// Returns why `hv snapshot` cannot save a machine of these options, if it cannot.
    pub(super) fn unsaved(&self) -> Option<String> {
        let reasons = [
            (self.accel == Some(Accel::Kvm), "--accel kvm: only a machine of QEMU's can be saved"),
            (self.gdb.is_some(), "--gdb: its breakpoints are QEMU's"),
            (self.trace.is_some(), "--trace: its records are collected while it runs"),
            (self.deterministic, "--deterministic: it counts instructions from its start"),
            (self.vsock.is_some(), "--vsock: the other ends of its sockets are programs of the host"),
            (self.agent.is_some(), "hv exec: the other end of its command is here"),
        ];
        let reason = reasons.iter().find(|(is_so, _)| *is_so);
        reason.map(|(_, why)| format!("it was started with {why}")).or_else(|| {
            let disk = self.disk.iter().find(|disk| disk.mode == Mode::ReadWrite)?;
            Some(format!(
                "its disk {} is rw: others may change the file, and the snapshot would no longer fit it; start the machine \
                 with the disk as snapshot or ro",
                disk.path.display()
            ))
        }).or_else(|| (!self.has_control()).then(|| WITHOUT_PORT.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Back;

    #[test]
    fn a_machine_goes_on_on_the_network_that_it_had() {
        let [none, user, passt] =
            ["", "--net user", "--net passt"].map(|words| Args::of_words(words).saved("cortex-a72"));
        let net = |words: &str, saved: &Options| Args::of_words(words).with(saved).map(|args| args.net);
        assert_eq!(net("", &none).unwrap(), NetOption::None);
        assert_eq!(net("", &user).unwrap(), NetOption::Card(Back::User, Vec::new()));
        assert_eq!(net("", &passt).unwrap(), NetOption::Card(Back::Passt, Vec::new()));
        assert!(matches!(
            net("--net passt,forward=tcp:1:2", &passt).unwrap(),
            NetOption::Card(Back::Passt, _)
        ));
        for (words, saved, why) in [
            ("--net user", &none, "has no network card"),
            ("--net user", &passt, "is on --net passt"),
            ("--net passt", &user, "is on --net user"),
        ] {
            let error = net(words, saved).unwrap_err().to_string();
            assert!(error.contains(why), "{words}: {error}");
        }
    }
}
