//! The plan of a run: a machine that is ready to start.

use std::path::PathBuf;

use super::args::Args;
use super::keep::Keep;
use crate::control::Server;
use crate::disks::Disks;
use crate::input::Named;
use crate::machine::{self, Emulator, Layout, Ram, Saved, Settings, Sink};
use crate::machines::Entry;
use crate::net::Capture;
use crate::report::{self, About, Kernel, Known};
use crate::snapshot::{Cached, Options, Strict, Versions};
use crate::sockets;
use crate::symbols::Later;
use crate::timings::Counter;
use crate::trace::Region;

/// A run that is ready to start.
pub(super) struct Plan {
    pub(super) settings: Settings,
    /// RAM, loaded with the guest and the hypervisor's boot information.
    pub(super) ram: Ram,
    /// What the report needs to know about the guest.
    pub(super) known: Known,
    /// Where the machine listens for `hv ctl`.
    pub(super) control: Option<Server>,
    /// Its place among the machines that run.
    pub(super) entry: Option<Entry>,
    /// Where programs find the guest's sockets.
    pub(super) sockets: Option<sockets::Server>,
    /// The guest's disks.
    pub(super) disks: Disks,
    /// The file with the network's frames.
    pub(super) capture: Option<Capture>,
    /// Physical address of the video memory, if the guest has a screen.
    pub(super) video: Option<u64>,
    /// The trace, if there is one.
    pub(super) trace: Option<Recording>,
    /// Where the console is shown.
    pub(super) sink: Sink,
    /// Where the machine comes from.
    pub(super) origin: Origin,
    /// What a snapshot of the machine fits, and what it keeps of the options; or why the machine cannot be saved.
    pub(super) saved_with: Result<(Versions, Options), String>,
    /// Number of folders of the host's that the agent in the guest mounts, if the run has an agent.
    pub(super) agent: Option<u32>,
    /// The report has the run's time by its parts.
    pub(super) timings: Option<Counter>,
    /// The tag in the report's header, if the report follows the console.
    pub(super) tag: Option<String>,
    /// The hypervisor's file, if QEMU runs it; it may be a copy that is removed with this value.
    pub(super) _hypervisor: Option<Named>,
}

/// A trace that is recorded.
pub(super) struct Recording {
    /// The rings' place in the machine's RAM.
    pub(super) region: Region,
    /// The file that it is written to.
    pub(super) file: PathBuf,
    /// Maximum size of the file in bytes.
    pub(super) limit: u64,
}

/// Origin of a machine.
pub(super) enum Origin {
    /// It boots.
    Boot,
    /// It is resumed from a snapshot of the cache, if there is one, or boots and is saved as that.
    Cached(Cached),
    /// It is resumed from a snapshot of the user's, with this name of the next request to the hypervisor.
    Saved(Box<Saved>, u32),
}

impl Plan {
    /// Writes what is known of the guest to the folder of `--keep`, and to the list of machines.
    pub(super) fn record(&mut self, kept: &mut Keep) {
        let about = &self.known.about;
        kept.write("cmdline.txt", format!("{}\n", about.command_line).as_bytes());
        if let Some(qemu) = &about.qemu {
            kept.write("qemu.txt", format!("{}\n", qemu.command).as_bytes());
        }
        if let Some(entry) = &mut self.entry {
            // A list that lacks it is no reason to end.
            let _ = entry.set_kernel(about.kernel.title());
        }
    }

    /// Returns the announcement of the run.
    pub(super) fn announcement(&self) -> String {
        let Settings { vps, emulator, .. } = &self.settings;
        let by = match emulator {
            Some(Emulator { qemu, cpu, .. }) => format!("{cpu}, QEMU {}", qemu.version),
            None => "over KVM".to_owned(),
        };
        let tag = self.tag.as_ref().map_or_else(String::new, |tag| {
            format!("; its report begins with \"report {tag}\", a word that the guest cannot know")
        });
        let name = self.entry.as_ref().filter(|_| self.settings.control);
        let name = name.map_or_else(String::new, |entry| format!(" as {}", entry.name()));
        let verb = if matches!(self.origin, Origin::Saved(..)) { "Resuming" } else { "Booting" };
        format!("{verb} {}{name} on {vps} VPs ({by}){tag}", self.known.about.kernel.title())
    }
}

/// Returns what the report needs to know about the guest: its kernel, command line and symbols, the rules of its fault
/// plan, and the machine with this RAM.
pub(super) fn known(
    args: &Args,
    settings: &Settings,
    (kernel, command_line, symbols): (Kernel, String, Later),
    rules: Vec<String>,
    layout: Layout,
) -> Known {
    Known {
        firmware: args.firmware.into(),
        symbols,
        rules,
        strict: args.strict.is_some(),
        fails_from: args.strict.and_then(Strict::fails_from),
        about: About {
            kernel,
            command_line,
            accel: settings.accel(),
            qemu: settings.emulator.as_ref().map(|emulator| report::Qemu {
                version: emulator.qemu.version.clone(),
                command: machine::command_line(settings, emulator, layout),
            }),
            memory_bytes: args.memory,
        },
    }
}
