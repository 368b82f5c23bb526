//! A run that is resumed from a snapshot of `hv snapshot`: the machine's own options are those of the snapshot, and
//! what is the host's is given again. It has the phases of one that boots (`resolve.rs`).

use anyhow::Context as _;

use super::args::{Args, SHELL};
use super::faults::{self, Orders};
use super::plan::{Origin, Plan, known};
use super::programs::{self, NoStock, Programs};
use super::{console, entry, place};
use crate::control::Server;
use crate::input::Named;
use crate::machine::{self, Begin, Emulator, Settings, Typing};
use crate::machines::Entry;
use crate::net::{self, Capture, Network};
use crate::setup::qemu::Qemu;
use crate::snapshot::{Folder, Versions};
use crate::symbols::Symbols;
use crate::timings::Counter;
use crate::{terminal, timings};

/// Options that were judged, and the snapshot's description. Nothing has been installed or copied.
struct Judged {
    /// The options, with those of the snapshot.
    args: Args,
    folder: Folder,
    control: Option<Server>,
    entry: Option<Entry>,
    orders: Orders,
    symbols: Symbols,
    network: Option<Network>,
    capture: Option<Capture>,
}

/// The programs that run the machine, which are those that saved it.
struct Ready {
    judged: Judged,
    hypervisor: Named,
    qemu: Qemu,
    versions: Versions,
}

impl Plan {
    /// Resolves the options of a run that resumes the snapshot in `folder`, and reads that.
    pub(super) fn resume(args: &Args, folder: Folder) -> anyhow::Result<Self> {
        let judged = timings::part("options and files", || Judged::of(args, folder))?;
        let ready = judged.set_up()?;
        timings::part("RAM and disks", || ready.place())
    }
}

impl Judged {
    /// Judges the options together with the snapshot's, and reads the user's files.
    fn of(args: &Args, folder: Folder) -> anyhow::Result<Self> {
        let args = args.with(&folder.about.options).with_context(|| folder.explain())?;
        let symbols = args.symbols.as_ref().map(Symbols::read).transpose()?.unwrap_or_default();
        let orders =
            args.inject.as_deref().map(faults::judge).transpose().with_context(|| folder.explain())?;
        let socket = args.control.as_ref().and_then(Option::as_deref);
        let control = socket.map(|path| Server::listen(path, false)).transpose()?;
        let (network, capture) = net::open(&args.net, args.net_capture.as_deref(), false)?;
        let (entry, control) = entry::enter(&args, control)?;
        let orders = orders.unwrap_or_default();
        Ok(Self { args, folder, control, entry, orders, symbols, network, capture })
    }

    /// Sets up what is missing, and compares it with what saved the machine.
    fn set_up(self) -> anyhow::Result<Ready> {
        let Programs { emulator, .. } =
            timings::part(programs::PART, || programs::set_up(&self.args, None::<NoStock>))?;
        let (hypervisor, qemu) = emulator.context("a machine of a snapshot is QEMU's")?;
        let versions = Versions::current(hypervisor.path(), &qemu)?;
        self.folder.about.versions.judge(&versions).with_context(|| self.folder.explain())?;
        Ok(Ready { judged: self, hypervisor, qemu, versions })
    }
}

impl Ready {
    /// Reads the machine, and gives it its disks.
    fn place(self) -> anyhow::Result<Plan> {
        let Self { judged, hypervisor, qemu, versions } = self;
        let Judged { args, folder, control, entry, orders, symbols, network, capture } = judged;
        let saved = folder.machine()?;
        let ram = saved.ram.clone();
        let (explain, about) = (folder.explain(), folder.about);
        let disks = about.disks.go_on(folder.disks).context(explain)?;
        let settings = Settings {
            backings: disks.backings()?,
            network,
            ..settings(&args, &about.options.cpu, (qemu, &hypervisor), about.kernel.version.is_some())
        };
        let video = place::has_screen(&args).then(|| place::video_base(&args, None));
        let guest = (about.kernel, about.command_line, symbols.into());
        let known = known(&args, &settings, guest, orders.rules, ram.layout());
        let sink = console::sink(&args);
        Ok(Plan {
            settings,
            ram,
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
            timings: args.timings.then_some(Counter::Other),
            tag: console::tag_for(sink)?,
            _hypervisor: Some(hypervisor),
        })
    }
}

/// Returns the machine's settings, without its disks and network.
fn settings(args: &Args, cpu: &str, (qemu, hypervisor): (Qemu, &Named), is_linux: bool) -> Settings {
    Settings {
        emulator: Some(Emulator {
            qemu,
            hypervisor: Some(hypervisor.path().to_owned()),
            cpu: cpu.to_owned(),
        }),
        vps: args.vps,
        backings: Vec::new(),
        deterministic: false,
        control: true,
        sockets: false,
        network: None,
        gdb: None,
        monitor: true,
        timeout: args.limit(terminal::is_ours()),
        typing: match console::typing(args, is_linux) {
            // It may have prompted before it was saved.
            Typing::Nothing if machine::is_piped() && !args.reads_stdin() => {
                Typing::Pipe { from: Begin::Resumed(SHELL), last: b"" }
            }
            typing => typing,
        },
        silence: None,
    }
}
