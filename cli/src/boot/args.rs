//! The options of `hv boot`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use hv_machine::ALIGN_2M;
use hv_machine::words::{is_given, split};

use crate::control::{Services, machine_name};
use crate::disks::DiskOption;
use crate::exit;
use crate::input::Input;
use crate::machine::debugger::Address;
use crate::machine::platform::VIRT;
use crate::machine::{Accel, Begin, Silence, Typing};
use crate::machines::Name;
use crate::net::NetOption;
use crate::setup::size::exact;
use crate::setup::stock::Stock;
use crate::setup::value;
use crate::snapshot::{FirmwareKind, Strict};
use crate::{terminal, trace};

/// Boot a kernel in a Hyper-V partition and report what it did
///
/// Without options: Debian's stock 6.12 cloud kernel on two VPs, which detects Hyper-V, loads its own hv_vmbus.ko,
/// connects to VMBus and powers off. Missing pieces are installed or downloaded first, once.
///
/// The guest's console is printed to stdout while it runs, followed by the report. On a terminal, keys go to the guest;
/// so does Ctrl-C once the guest reads input, and before that it ends the run. Ctrl-C three times within a second ends
/// the run, and so does Ctrl-A X; Ctrl-A H shows help. Input piped into `hv boot` is typed for a guest with a shell or
/// an init of its own, once it shows its first prompt.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = format!("{EXAMPLES}\n\n{}", exit::HELP))]
#[command(group = clap::ArgGroup::new(CONTROLLED).multiple(true))]
pub(crate) struct Args {
    /// Kernel to boot: an arm64 Image (plain, compressed, or an EFI zboot image), or an ELF64 program, entered at EL1
    /// with the device tree's address in X0
    #[arg(long, value_name = "FILE|-")]
    pub(super) kernel: Option<Input>,
    /// Built kernel tree: provides the kernel (arch/arm64/boot), --symbols (System.map) and --modules
    #[arg(long, value_name = "DIR", conflicts_with = "kernel")]
    pub(super) tree: Option<PathBuf>,
    /// Debian kernel to boot without --kernel and --tree [default: 6.12, or what the first disk has]
    #[arg(long, value_enum, conflicts_with_all = ["kernel", "tree"])]
    pub(super) stock: Option<Stock>,
    /// Initramfs [default for Linux: the stock one, with busybox and the modules]
    #[arg(long, value_name = "FILE|-")]
    pub(super) initrd: Option<Input>,
    /// Give the kernel no initramfs
    #[arg(long, conflicts_with_all = ["initrd", "run", "modules"])]
    pub(super) no_initrd: bool,
    /// Folder with the kernel's modules for the stock initramfs: the result of `make modules_install`, or a built
    /// kernel tree
    #[arg(long, value_name = "DIR", conflicts_with = "initrd")]
    pub(super) modules: Option<PathBuf>,
    /// Modules to load, with their dependencies, separated by commas
    #[arg(
        long,
        value_name = "NAME",
        value_delimiter = ',',
        default_value = LOAD,
        conflicts_with = "initrd"
    )]
    pub(super) load: Vec<String>,
    /// Actions of the stock initramfs once VMBus is up, separated by commas; ends with a power-off
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ACTION", conflicts_with = "initrd")]
    pub(super) run: Vec<Action>,
    /// SCSI disk: a raw, qcow2, VHD or VHDX image; can be repeated. The guest's writes go to a temporary copy
    /// (snapshot, the default), go to the file (rw), or fail (ro). at=CONTROLLER:LUN is the disk's address
    #[arg(long, value_name = "FILE[,ro|,rw|,snapshot]")]
    pub(super) disk: Vec<DiskOption>,
    /// What to boot from the first disk: the name of an entry of systemd-boot or grub, or a part of its title [default:
    /// the boot loader's]. A disk with a kernel boots it, with its initrd and command line, unless --kernel, --tree,
    /// --stock, --initrd, --no-initrd, --modules, --load, --run or --append root= is given
    #[arg(long, value_name = "NAME", requires = "disk")]
    #[arg(conflicts_with_all = ["kernel", "tree", "stock", "initrd", "no_initrd", "modules", "load", "run"])]
    pub(super) entry: Option<String>,
    /// ISO image in a DVD drive; can be repeated
    #[arg(long, value_name = "FILE")]
    pub(super) dvd: Vec<PathBuf>,
    /// Network card: on QEMU's user network (user), on that of passt, which is installed if it is missing (passt), or
    /// none. Neither needs root or set-up. A shell, and the command of `hv exec`, find it configured by DHCP. A forward
    /// leads from a port of the host, on 127.0.0.1 without ADDR, to one of the guest
    #[arg(long, value_name = "none|user|passt[,forward=tcp:[ADDR:]HOST:GUEST]...", default_value = "none")]
    pub(super) net: NetOption,
    /// Record the frames of the network card in a file for Wireshark and tcpdump, up to 1 GiB
    #[arg(long, value_name = "FILE")]
    pub(super) net_capture: Option<PathBuf>,
    /// Address space for disks that `hv ctl` adds, and for the growth of each disk, in MiB or with a unit (K, M, G)
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "0",
        hide_default_value = true,
        value_parser = value::size,
        requires = CONTROLLED
    )]
    pub(super) hotplug_room: u64,
    /// Text to append to the kernel's command line
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        allow_hyphen_values = true,
        hide_default_value = true,
        value_parser = appended
    )]
    pub(super) append: String,
    /// Number of virtual processors
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = value::whole::<u32>(1..=MAX_VPS, ""))]
    pub(super) vps: u32,
    /// Guest memory, in MiB or with a unit (K, M, G); a multiple of 2 MiB
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = memory)]
    pub(super) memory: u64,
    /// What runs the guest's instructions [default: kvm where it works and serves the options that are given, and
    /// else tcg]
    #[arg(long, value_enum)]
    pub(super) accel: Option<Accel>,
    /// CPU model in QEMU's notation [default: cortex-a72, or cortex-a76 for kernels with 16K pages]
    #[arg(long, value_name = "MODEL", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(super) cpu: Option<String>,
    /// Description of the machine that the guest gets
    #[arg(long, value_enum, default_value = "acpi")]
    pub(super) firmware: FirmwareKind,
    /// UUID of the machine in SMBIOS, which cloud images use as the instance id [default: the same on every run]
    #[arg(long, value_name = "UUID", value_parser = machine_uuid)]
    pub(super) uuid: Option<uuid::Uuid>,
    /// Set Azure's chassis asset tag; cloud-init then waits for Azure's services
    #[arg(long)]
    pub(super) azure: bool,
    /// Time limit in seconds of wall-clock time, 0 for none [default: 300, or 0 with --gdb, or on a terminal with --run
    /// shell, a disk's own system or `hv exec`]
    #[arg(long, value_name = "SECS", value_parser = value::seconds)]
    pub(super) timeout: Option<u32>,
    /// Seconds of wall-clock time without console output after which to print, once, the usual causes; 0 for never
    #[arg(long, value_name = "SECS", default_value_t = 20, value_parser = value::seconds)]
    pub(super) silence: u32,
    /// Make runs reproducible: count instructions as time, fix seeds and clock, keep the kernel at its link address
    #[arg(long)]
    pub(super) deterministic: bool,
    /// Listen for `hv ctl`, and give the guest the integration services, a keyboard, a mouse and a screen. The socket
    /// is this one, or without a value one that `hv ctl` and `hv ps` find
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, group = CONTROLLED)]
    pub(super) control: Option<Option<PathBuf>>,
    /// Name of the machine for `hv ctl` and `hv ps`, with all that --control gives [default: vm1, vm2 and so on,
    /// without it]
    #[arg(long, value_name = "NAME", group = CONTROLLED, value_parser = machine_name)]
    pub(super) name: Option<Name>,
    /// Give the guest Hyper-V sockets, as Unix sockets in this folder of mode 0700: host programs
    /// connect to DIR/vsock and send CONNECT PORT; the guest's connections to port P go
    /// to DIR/vsock_P. The folder is created if it does not exist
    #[arg(long, value_name = "DIR")]
    pub(super) vsock: Option<PathBuf>,
    /// Integration services and input devices on the guest's bus, separated by commas, or all or none: shutdown, time,
    /// heartbeat, kvp, vss, keyboard, mouse, fcopy, balloon, video [default: none; with --control, --name or a disk's
    /// own system all]
    #[arg(long, value_name = "LIST")]
    pub(super) devices: Option<Services>,
    /// Check the guest against the rules of the interface (`hv rules` lists them); broken rules are in the report. With
    /// a level: exit with 8 (`hv exec`: 121) if it breaks a rule of this level or a more
    /// severe one
    #[arg(long, value_name = "LEVEL", value_enum, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "report")]
    pub(super) strict: Option<Strict>,
    /// Offer the guest loopback connections, which return its messages and events, to test its code without a device
    #[arg(long)]
    pub(super) loopback: bool,
    /// Inject faults, such as 'call=HVCALL_SIGNAL_EVENT:HV_STATUS_INSUFFICIENT_BUFFERS@3' or
    /// 'lost=18@10%,migrate@50ms,seed=7'; the book has the syntax
    #[arg(long, value_name = "PLAN")]
    pub(super) inject: Option<String>,
    /// ELF file or System.map with names for guest addresses [default: those in the kernel itself: of an ELF
    /// file, or of Linux with CONFIG_KALLSYMS]
    #[arg(long, value_name = "FILE|-")]
    pub(super) symbols: Option<Input>,
    /// Wait for a debugger, on a Unix socket at this path or, without a value, in a new private folder. tcp:PORT is a
    /// port of the local host, through which every user of this machine can act as you
    #[arg(long, value_name = "PATH|tcp:PORT", num_args = 0..=1, default_missing_value = Address::FRESH)]
    pub(super) gdb: Option<Address>,
    /// Keep QEMU's command line, the console and the report in this folder; existing files of these names are replaced
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
    /// Write the report as JSON to a file, or with - to stdout (the console then goes to stderr; not with
    /// `hv exec`)
    #[arg(long, value_name = "FILE|-")]
    pub(super) json: Option<PathBuf>,
    /// Record every exit, hypercall, message, event, interrupt and timer in a file for Perfetto and `hv trace`
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Memory for records that have not been collected yet, for all VPs together; 64 bytes each
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = value::size, requires = "trace")]
    pub(super) trace_buffer: u64,
    /// Maximum size of the trace, with a unit or in MiB, at least 1M; records beyond it are dropped and counted
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = trace_limit, requires = "trace")]
    pub(super) trace_limit: u64,
    /// Report where the wall time went: the tool's parts, QEMU's, the hypervisor's, and the kernel's by its log. With
    /// --append 'initcall_debug ignore_loglevel', Linux's initcalls as well
    #[arg(long)]
    pub(super) timings: bool,
    /// Do not show the console
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// QEMU program to use instead of the one in $PATH
    #[arg(long, value_name = "FILE")]
    pub(super) qemu: Option<PathBuf>,
    /// EL2 program to use instead of building the one in bare/hypervisor
    #[arg(long, value_name = "FILE|-")]
    pub(super) hypervisor: Option<Input>,
    /// Resume the machine that `hv snapshot` saved in this folder, which stays as it is: any number of times,
    /// and any number of them side by side. The machine's hardware was fixed when it booted; --net,
    /// --control, --name and the output options are given again
    #[arg(long, value_name = "DIR", conflicts_with_all = SAVED)]
    pub(super) from: Option<PathBuf>,
    /// The program that `hv exec` talks to, to be run by the stock initramfs.
    #[arg(skip)]
    pub(super) agent: Option<Vec<u8>>,
    /// Number of folders of the host's that the guest gets.
    #[arg(skip)]
    pub(super) shares: usize,
    /// The machine may be resumed from a snapshot, or be saved as one.
    #[arg(skip)]
    pub(super) warm: bool,
    /// The first disk's own system boots.
    #[arg(skip)]
    pub(super) own_system: bool,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv boot
  cargo hv boot --vps 8 --json report.json
  cargo hv boot --stock 6.1 --run hotplug,crash
  cargo hv boot --run shell
  cargo hv boot --strict --json report.json
  cargo hv boot --trace boot.pftrace
  cargo hv boot --name web --run shell
  cargo hv boot --control vm.sock --run shell
  cargo hv boot --vsock sockets --run shell
  cargo hv boot --net user,forward=tcp:2222:22 --disk debian.img
  cargo hv boot --disk debian.img --entry 6.1
  cargo hv boot --disk data.img --append root=/dev/sda1
  cargo hv boot --from booted --name test1
  cargo hv boot --tree ~/linux --run hotplug
  cargo hv boot --kernel arch/arm64/boot/Image --modules staging/lib/modules/6.18.0 --load hv_utils
  cargo hv boot --kernel arch/arm64/boot/Image --initrd initrd.img --append loglevel=7";

/// What a resumed machine has from its snapshot, or cannot have.
const SAVED: [&str; 29] = [
    "kernel",
    "tree",
    "stock",
    "entry",
    "initrd",
    "no_initrd",
    "modules",
    "load",
    "run",
    "disk",
    "dvd",
    "hotplug_room",
    "append",
    "vps",
    "memory",
    "accel",
    "cpu",
    "firmware",
    "uuid",
    "azure",
    "deterministic",
    "vsock",
    "devices",
    "strict",
    "loopback",
    "inject",
    "gdb",
    "trace",
    "silence",
];

/// Maximum number of VPs.
pub(super) const MAX_VPS: u64 = hv_wire::platform::MAX_VPS as u64;

/// The machine's console.
const CONSOLE: &str = "console=ttyAMA0";
/// What the stock initramfs prints before it starts its shell.
pub(super) const SHELL: &str = "hv: shell\r\n";
/// The module that is loaded without --load.
const LOAD: &str = "hv_vmbus";
/// Kernel parameters for the user's own root file system, or another way to continue.
pub(super) const OWN_ROOT: [&str; 4] = ["root=", "rdinit=", "noinitrd", "nfsroot="];

/// The options of a machine with a control port.
const CONTROLLED: &str = "controlled";

/// An action of the stock initramfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Action {
    /// Power off
    Poweroff,
    /// Request a reset
    Reset,
    /// Make the kernel panic
    Crash,
    /// Take every processor but the first offline and online again
    Hotplug,
    /// Read the hypervisor's memory, which must fail
    Poke,
    /// Configure the network card of --net by DHCP
    Net,
    /// Wait until the host ends the guest, as with `hv ctl shutdown`
    Wait,
    /// A shell on the console
    Shell,
}

impl Args {
    /// Returns the guest's command line, with our additions inserted before the first bare `--`, since what follows
    /// goes to init. A parameter given by the user takes precedence.
    pub(super) fn command_line(&self) -> String {
        let (kernel, init) = split(self.append.trim());
        let given = |key: &str| is_given(kernel, key);
        let mut line = vec![kernel.trim().to_owned()];
        // A kernel that panicked would wait forever; this makes it request a reset, which ends the run.
        if !given("panic=") {
            line.push("panic=-1".to_owned());
        }
        if self.deterministic && !given("nokaslr") {
            line.push("nokaslr".to_owned());
        }
        let actions = self.actions();
        if !actions.is_empty() {
            line.push(format!("hv.run={}", actions.join(",")));
        }
        // A serial line has no size; the shell asks for it.
        if let Some((rows, columns)) = terminal::size().filter(|_| self.run.contains(&Action::Shell)) {
            line.push(format!("hv.size={rows}x{columns}"));
        }
        line.push(init.to_owned());
        line.retain(|part| !part.is_empty());
        line.join(" ")
    }

    /// Returns the actions of the stock initramfs. Who gets a shell, or a command of their own, finds the network
    /// configured.
    fn actions(&self) -> Vec<String> {
        let mut configured = self.net == NetOption::None || self.run.contains(&Action::Net);
        let mut actions = Vec::new();
        for action in &self.run {
            if *action == Action::Shell && !std::mem::replace(&mut configured, true) {
                actions.push("net".to_owned());
            }
            actions.extend(action.to_possible_value().map(|value| value.get_name().to_owned()));
        }
        if self.agent.is_some() {
            actions.extend((!configured).then(|| "net".to_owned()));
            actions.push("agent".to_owned());
        }
        actions
    }

    /// Judges the actions of the stock initramfs: what no guest of these options can do.
    ///
    /// # Errors
    /// A network is asked for, and there is none.
    pub(super) fn judge_actions(&self) -> anyhow::Result<()> {
        ensure!(
            self.net != NetOption::None || !self.run.contains(&Action::Net),
            "--run net gives the network card an address, and there is none: give --net user too"
        );
        Ok(())
    }

    /// Returns true if the machine has a control port.
    pub(super) fn has_control(&self) -> bool {
        self.control.is_some() || self.name.is_some()
    }

    /// Returns the integration services and input devices on the guest's bus. An installed system has them all, as on
    /// Hyper-V: its clock comes from one.
    pub(super) fn services(&self) -> Services {
        let is_whole = self.has_control() || self.own_system;
        self.devices.unwrap_or(if is_whole { Services::all() } else { Services::NONE })
    }

    /// Returns the modules that the guest's devices need.
    pub(super) fn device_modules(&self) -> Vec<&'static str> {
        let mut names = self.services().modules();
        if self.vsock.is_some() {
            names.push("hv_sock");
        }
        if self.shares != 0 {
            names.push("fuse");
        }
        if self.net != NetOption::None {
            names.push("hv_netvsc");
        }
        if !self.disk.is_empty() || !self.dvd.is_empty() || self.hotplug_room != 0 {
            names.push("hv_storvsc");
        }
        if !self.disk.is_empty() || self.hotplug_room != 0 {
            names.push("sd_mod");
            if is_given(&self.append, "root=") {
                // ext4 asks for the sum by its name, which its module does not tell.
                names.extend(["crc32c_generic", "ext4"]);
            }
        }
        if !self.dvd.is_empty() {
            names.extend(["sr_mod", "isofs"]);
        }
        names
    }

    /// Parses the options in these words.
    #[cfg(test)]
    pub(super) fn of_words(words: &str) -> Self {
        tests::parse(words).unwrap()
    }

    /// Returns when to explain a guest's silence: not if a user or a debugger makes it wait.
    pub(super) fn silence(&self, command_line: &str) -> Option<Silence> {
        let waits = self.gdb.is_some() || self.run.contains(&Action::Shell) || self.silence == 0;
        (!waits).then(|| Silence {
            after: Duration::from_secs(self.silence.into()),
            command_line: command_line.to_owned(),
            acpi_alone: self.firmware == FirmwareKind::Acpi,
            speaks: Arc::default(),
        })
    }

    /// Returns true if an input file is standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        let files = [&self.kernel, &self.initrd, &self.symbols, &self.hypervisor];
        files.into_iter().flatten().any(|file| *file == Input::Stdin)
    }

    /// Returns true if the first disk's own system boots, should it have one: no other kernel, and nothing that only
    /// the stock initramfs does, is asked for.
    pub(super) fn may_boot_disk(&self) -> bool {
        let kernel = self.kernel.is_some() || self.tree.is_some() || self.stock.is_some();
        let initrd = self.initrd.is_some() || self.no_initrd || self.modules.is_some();
        let other = self.agent.is_some() || !self.run.is_empty() || self.load != [LOAD];
        let root = OWN_ROOT.iter().any(|key| is_given(&self.append, key));
        !self.disk.is_empty() && !kernel && !initrd && !other && !root
    }

    /// Returns the options with the command line of a disk's system before what is appended. A system made for other
    /// machines names their consoles: this machine's comes after them, unless the user names one.
    ///
    /// # Errors
    /// It is not a command line.
    pub(super) fn with_system(&self, options: &str, has_initrd: bool) -> anyhow::Result<Self> {
        let names = is_given(options, "console=") && !is_given(options, CONSOLE);
        let console = if names && !is_given(&self.append, "console=") { CONSOLE } else { "" };
        let parts = [options.trim(), console, self.append.trim()];
        let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let append = appended(&parts.join(" ")).map_err(anyhow::Error::msg)?;
        Ok(Self { append, no_initrd: !has_initrd, own_system: true, ..self.clone() })
    }

    /// Returns the stock kernel, if one boots.
    pub(super) fn stock(&self) -> Stock {
        self.stock.unwrap_or(Stock::Cloud612)
    }

    /// Returns what of a piped stdin the guest gets: nothing if the stock initramfs alone runs, which reads nothing
    /// without a shell.
    pub(super) fn piped(&self, is_linux: bool) -> Typing {
        let shell = self.run.contains(&Action::Shell);
        let own = self.own_system
            || self.initrd.is_some()
            || self.no_initrd
            || (is_given(&self.append, "root=") && self.run.is_empty());
        match (is_linux, shell, own) {
            (false, ..) => Typing::Pipe { from: Begin::Start, last: b"" },
            // The script says so before it starts the shell, which ends with its input.
            (true, true, _) => Typing::Pipe { from: Begin::Prompt(Some(SHELL)), last: b"\nexit\n" },
            (true, false, true) => Typing::Pipe { from: Begin::Prompt(None), last: b"" },
            (true, false, false) => Typing::Nothing,
        }
    }

    /// Returns the time limit of the run, with or without a person at a terminal.
    pub(super) fn limit(&self, person: bool) -> Option<Duration> {
        let is_used = self.own_system || self.run.contains(&Action::Shell);
        let open_ended = self.gdb.is_some() || (person && is_used);
        let seconds = self.timeout.unwrap_or(if open_ended { 0 } else { 300 });
        (seconds != 0).then(|| Duration::from_secs(seconds.into()))
    }
}

/// Judges what is appended to the command line: an open quote would swallow the words after it.
fn appended(text: &str) -> Result<String, String> {
    if let Some((at, found)) = text.char_indices().find(|(_, c)| matches!(c, '\n' | '\r' | '\0')) {
        return Err(format!("character {found:?} at byte {at}: a command line is one line"));
    }
    if !text.matches('"').count().is_multiple_of(2) {
        return Err("a double quote is not closed: quotes come in pairs".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses the maximum size of a trace.
fn trace_limit(text: &str) -> Result<u64, String> {
    match value::size(text)? {
        bytes if bytes >= trace::LEAST => Ok(bytes),
        bytes => Err(format!("it is {}; expected {} or more", exact(bytes), exact(trace::LEAST))),
    }
}

/// Parses the size of the guest's memory: what lies after it begins at a multiple of 2 MiB.
pub(super) fn memory(text: &str) -> Result<u64, String> {
    let most = VIRT.max_memory;
    let size = value::size(text)?;
    if size == 0 || size > most || !size.is_multiple_of(ALIGN_2M) {
        return Err(format!(
            "it is {}; expected a multiple of 2 MiB up to {}, such as 512M",
            exact(size),
            exact(most)
        ));
    }
    Ok(size)
}

/// Parses a UUID.
fn machine_uuid(text: &str) -> Result<uuid::Uuid, String> {
    uuid::Uuid::parse_str(text).map_err(|_| {
        "expected 32 hexadecimal digits, as in 1b4e28ba-2fa1-4d2b-883f-0016d3cca427 (`uuidgen` makes one)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests;
