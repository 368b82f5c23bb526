//! A run that is resumed from a snapshot of `hv snapshot`: the machine's own options are those of the snapshot, and
//! what is the host's is given again.

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::args::{Args, FirmwareKind, Strict};
use super::faults;
use super::keep::Keep;
use super::plan::{self, Origin, Plan};
use super::start::WITHOUT_PORT;
use crate::control::Server;
use crate::disks::Mode;
use crate::input::Named;
use crate::machine::{self, Begin, Settings, Typing};
use crate::net::{self, NetOption};
use crate::report::{self, About, Known};
use crate::setup::qemu::Qemu;
use crate::snapshot::{Folder, Versions};
use crate::symbols::Symbols;
use crate::terminal;

/// What a machine was started with, as far as a run that resumes it must know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    vps: u32,
    memory: u64,
    cpu: String,
    firmware: FirmwareKind,
    /// Bits of its services.
    devices: u32,
    /// It has a network card.
    network: bool,
    strict: Option<Strict>,
    inject: Option<String>,
    hotplug_room: u64,
    uuid: Option<uuid::Uuid>,
}

impl Args {
    /// Returns what a snapshot of this run's machine keeps of its options.
    pub(super) fn saved(&self, cpu: &str) -> Options {
        Options {
            vps: self.vps,
            memory: self.memory,
            cpu: cpu.to_owned(),
            firmware: self.firmware,
            devices: self.services().bits(),
            network: self.net != NetOption::None,
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
    /// The machine's are none, or contradict the network that is given.
    fn with(&self, saved: &Options) -> anyhow::Result<Self> {
        let services = crate::control::Services::of_bits(saved.devices);
        ensure!(
            (1..=8).contains(&saved.vps) && super::args::memory(&format!("{}K", saved.memory >> 10)).is_ok(),
            "it has {} VPs and {} bytes of memory, which no machine has",
            saved.vps,
            saved.memory
        );
        ensure!(
            saved.network || self.net == NetOption::None,
            "--net: the machine of the snapshot has no network card; leave --net out"
        );
        let net = match (&self.net, saved.network) {
            (NetOption::None, true) => NetOption::User(Vec::new()),
            (given, _) => given.clone(),
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

impl Plan {
    /// Resolves the options of a run that resumes the snapshot in `folder`, and reads that.
    pub(super) fn resume(args: &Args, folder: Folder, kept: &mut Keep) -> anyhow::Result<Self> {
        let about = folder.about.clone();
        let args = &args.with(&about.options).with_context(|| folder.explain())?;
        let symbols = args.symbols.as_ref().map(Symbols::read).transpose()?.unwrap_or_default();
        let orders =
            args.inject.as_deref().map(faults::judge).transpose().with_context(|| folder.explain())?;
        let socket = args.control.as_ref().and_then(Option::as_deref);
        let control = socket.map(|path| Server::listen(path, false)).transpose()?;
        let (network, capture) = net::open(&args.net, args.net_capture.as_deref(), false)?;
        let (mut entry, control) = plan::enter(args, control)?;
        let (hypervisor, (qemu, _)) = plan::set_up(args, false)?;
        let versions = Versions::current(hypervisor.path(), &qemu)?;
        about.versions.judge(&versions).with_context(|| folder.explain())?;
        let saved = folder.machine()?;
        let shared = saved.ram.share()?;
        let explain = folder.explain();
        let disks = about.disks.go_on(folder.disks).context(explain)?;
        let settings = Settings {
            backings: disks.backings()?,
            network,
            ..settings(args, &about.options.cpu, (qemu, &hypervisor), about.kernel.version.is_some())
        };
        let video = plan::has_screen(args).then(|| plan::video_base(args, None));
        let known = Known {
            firmware: args.firmware.into(),
            symbols,
            rules: orders.unwrap_or_default().rules,
            strict: args.strict.is_some(),
            fails_from: args.strict.and_then(Strict::fails_from),
            about: About {
                kernel: about.kernel,
                command_line: about.command_line,
                qemu: report::Qemu {
                    version: settings.qemu.version.clone(),
                    command: machine::command_line(&settings, about.ram_size),
                },
                memory_bytes: args.memory,
            },
        };
        kept.write("cmdline.txt", format!("{}\n", known.about.command_line).as_bytes());
        kept.write("qemu.txt", format!("{}\n", known.about.qemu.command).as_bytes());
        if let Some(entry) = &mut entry {
            // A list that lacks it is no reason to end.
            let _ = entry.set_kernel(known.about.kernel.title());
        }
        let sink = plan::sink(args);
        Ok(Self {
            settings,
            ram: shared,
            known,
            control,
            entry,
            sockets: None,
            disks,
            capture,
            video,
            trace: None,
            sink,
            origin: Origin::Saved(Box::new(saved), about.next_request),
            saved_with: Ok((versions, about.options)),
            agent: None,
            tag: plan::tag_for(sink)?,
            _hypervisor: hypervisor,
        })
    }
}

/// Returns the machine's settings, without its disks and network.
fn settings(args: &Args, cpu: &str, (qemu, hypervisor): (Qemu, &Named), is_linux: bool) -> Settings {
    Settings {
        qemu,
        hypervisor: Some(hypervisor.path().to_owned()),
        cpu: cpu.to_owned(),
        vps: args.vps,
        backings: Vec::new(),
        deterministic: false,
        control: true,
        sockets: false,
        network: None,
        gdb: None,
        monitor: true,
        timeout: args.limit(terminal::is_ours()),
        typing: match plan::typing(args, is_linux) {
            // It may have prompted before it was saved.
            Typing::Nothing if machine::is_piped() && !args.reads_stdin() => {
                Typing::Pipe { from: Begin::Prompt(None), last: b"" }
            }
            typing => typing,
        },
        silence: None,
    }
}
