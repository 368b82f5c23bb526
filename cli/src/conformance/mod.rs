//! `hv conformance`: runs the suite in a guest, on every machine shape, and reports.

mod matrix;
mod uefi;

#[cfg(test)]
pub(crate) use uefi::volume;

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use hv_conformance::report::{Report, Run};
use hv_machine::{Firmware, Image, RNG_SEED_LEN, Spec};
use hv_wire::control::Service;
use hv_wire::{BootDisk, BootFlags, BootInfo, platform};
use zerocopy::FromZeros as _;

use crate::boot::accel;
use crate::control::host_time;
use crate::exit::Exit;
use crate::input::Input;
use crate::machine::load::{self, STIMER_INTID, VMBUS_INTID};
use crate::machine::platform::{VIRT, longest};
use crate::machine::{Accel, Backing, Emulator, End, Outcome, Running, Settings, Typing};
use crate::net::{self, Network};
use crate::setup::qemu;
use crate::setup::{developer, programs, target, value};
use crate::{build, output, ui};
use matrix::{CallConvention, Granule, Shape};

/// Test whether the host conforms to Hyper-V's guest interface
///
/// Boots a guest that runs the conformance suite, once for each number of VPs, calling convention and page size, and
/// reports the results. With --kernel the guest is yours: any ELF program that links the hv-conformance crate and
/// writes its lines to the console (the crate's module `protocol`).
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Numbers of virtual processors
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4,8")]
    #[arg(value_parser = value::whole::<u32>(1..=hv_conformance::MAX_VPS as u64, ""))]
    vps: Vec<u32>,
    /// Calling conventions
    #[arg(long, value_enum, value_delimiter = ',', default_value = "smccc,hvc1")]
    conduit: Vec<CallConvention>,
    /// Page sizes of the guest
    #[arg(long, value_enum, value_delimiter = ',', default_value = "4k,16k,64k")]
    granule: Vec<Granule>,
    /// Run only cases with one of these words in their name: chapter, chapter/case, or a part of either
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    filter: String,
    /// Guest to boot instead of the built-in one
    #[arg(long, value_name = "FILE|-")]
    kernel: Option<Input>,
    /// What runs the guests' instructions [default: kvm where it works, unless --hypervisor or --qemu is given, and
    /// else tcg]. Page sizes that this machine's processors do not have are left out over KVM
    #[arg(long, value_enum)]
    accel: Option<Accel>,
    /// EL2 program to use instead of building the one in bare/hypervisor
    #[arg(long, value_name = "FILE|-")]
    hypervisor: Option<Input>,
    /// QEMU program to use instead of the one in $PATH
    #[arg(long, value_name = "FILE")]
    qemu: Option<PathBuf>,
    /// Format of the report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
    /// File for the report; - is stdout, the default
    #[arg(long, value_name = "FILE|-")]
    output: Option<PathBuf>,
    /// Time limit of a run in seconds
    #[arg(long, value_name = "SECS", default_value_t = 120, value_parser = value::seconds)]
    timeout: u32,
    /// Create the files to run the suite on a real machine in this folder, a UEFI application and a disk image with it,
    /// and run nothing
    #[arg(long, value_name = "FOLDER")]
    #[arg(conflicts_with_all = ["vps", "conduit", "granule", "filter", "kernel", "accel", "hypervisor", "qemu", "timeout"])]
    #[arg(conflicts_with_all = ["read", "list", "format", "output"])]
    uefi: Option<PathBuf>,
    /// Report the results that guests wrote elsewhere, and run nothing: text, or the disk image of --uefi after its run
    #[arg(long, value_name = "FILE|-", num_args = 1..)]
    #[arg(conflicts_with_all = ["vps", "conduit", "granule", "kernel", "accel", "hypervisor", "qemu", "timeout", "list"])]
    read: Vec<Input>,
    /// List the cases and the sources of their rules, and run nothing
    #[arg(long, conflicts_with_all = ["vps", "conduit", "granule", "kernel", "accel", "hypervisor", "qemu", "timeout"])]
    list: bool,
    /// Test the suite itself: run it in process against hosts that each have one fault, and name those that no case
    /// catches. With words: only hosts with one of them in their name or source file
    #[arg(long, value_name = "WORDS", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    #[arg(conflicts_with_all = ["vps", "conduit", "granule", "filter", "kernel", "accel", "hypervisor", "qemu", "timeout"])]
    #[arg(conflicts_with_all = ["uefi", "read"])]
    mutants: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  cargo hv conformance
  cargo hv conformance --vps 4 --conduit smccc --granule 4k --filter timers,clock
  cargo hv conformance --format junit --output conformance.xml
  cargo hv conformance --kernel my-guest --vps 2 --conduit smccc --granule 4k
  cargo hv conformance --mutants
  cargo hv conformance --mutants=timers.rs --format json
  cargo hv conformance --uefi esp
  cargo hv conformance --read hv-conformance.txt --format json

Exit codes: 0 the host conforms (or the suite catches its mutants), 1 it does not, 2 a bad option.";

/// Format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for users
    Text,
    /// Test Anything Protocol 13
    Tap,
    /// JUnit XML
    Junit,
    /// JSON
    Json,
}

/// Size of guest memory in bytes.
const MEMORY: u64 = 64 << 20;
/// The services that have cases.
const SERVICES: [Service; 10] = [
    Service::Shutdown,
    Service::TimeSync,
    Service::Heartbeat,
    Service::Kvp,
    Service::Vss,
    Service::Keyboard,
    Service::Mouse,
    Service::Video,
    Service::Fcopy,
    Service::Balloon,
];
/// Size of the guest's disk, for the cases about storage.
const DISK: u64 = 1 << 20;

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    if let Some(words) = &args.mutants {
        return hunt(args, words);
    }
    if hv_conformance::cases().all(|case| !hv_conformance::matches(case, &args.filter)) {
        bail!("no case matches --filter {}; --list lists them all", args.filter);
    }
    if args.list {
        ensure!(
            args.output.is_none() && args.format == Format::Text,
            "--list prints text to stdout: give neither --format nor --output"
        );
        return list(args);
    }
    if let Some(folder) = &args.uefi {
        return uefi::make(folder);
    }
    if let Some(file) = &args.output {
        output::check_unless_stdout("report", "--output", file)?;
    }
    if !args.read.is_empty() {
        let mut report = uefi::read(&args.read)?;
        report.expect_filter(&args.filter);
        return finish(args, &report);
    }
    let own = args.kernel.as_ref().map(|file| file.read("kernel", longest(MEMORY))).transpose()?;
    if let Some(kernel) = &own {
        // Before anything is installed or built.
        let shape = Shape { vps: 1, conduit: CallConvention::Smccc, granule: Granule::K4 };
        image(args, kernel.clone(), &shape, Accel::Tcg)?;
    }
    let options = [(args.qemu.is_some(), "--qemu"), (args.hypervisor.is_some(), "--hypervisor")];
    let accel = accel::choose_of(args.accel, accel::qemu_option(&options), None, true)?;
    let emulator = match accel {
        Accel::Kvm => None,
        Accel::Tcg => {
            Some((qemu::prepare(args.qemu.as_deref())?, build::hypervisor(args.hypervisor.as_ref())?))
        }
    };
    let kernel = match own {
        Some(kernel) => kernel,
        None => {
            let program = programs::build(&target::prepare()?, "guest")?;
            Input::from(&*program).read("kernel", longest(MEMORY))?
        }
    };
    let mut report = Report::default();
    for shape in matrix::shapes(&args.vps, &args.conduit, &args.granule) {
        let emulator = emulator.as_ref().map(|(qemu, hypervisor)| Emulator {
            qemu: qemu.clone(),
            hypervisor: Some(hypervisor.path().to_owned()),
            cpu: shape.granule.cpu().to_owned(),
        });
        let settings = settings(args, emulator, &shape)?;
        let task = ui::Task::new(format!("Running the suite: {shape}"));
        let outcome = run_guest(&settings, image(args, kernel.clone(), &shape, accel)?);
        drop(task);
        let outcome = outcome?;
        if accel == Accel::Kvm && lacks(&outcome, &shape) {
            ui::note(&format!("{shape}: left out, for {}", shape.granule.lacking()));
            continue;
        }
        let runs = collect(&outcome, &shape, &args.filter);
        ui::note(&format!("{shape}: {}", summary(&runs)));
        report.runs.extend(runs.runs);
    }
    ensure!(!report.runs.is_empty(), "this machine's processors have none of these page sizes");
    finish(args, &report)
}

/// Returns a disk whose blocks differ.
fn disk() -> anyhow::Result<Backing> {
    let file = File::from(rustix::fs::memfd_create("hv-disk", rustix::fs::MemfdFlags::CLOEXEC)?);
    let bytes: Vec<u8> = (0..DISK).map(|n| (n / 512 * 31 + n % 509) as u8).collect();
    file.write_all_at(&bytes, 0)?;
    Ok(Backing { file: Arc::new(file), name: "DISK".to_owned(), size: DISK, read_only: false, private: None })
}

/// Returns the machine of a shape, with every device that has cases.
fn settings(args: &Args, emulator: Option<Emulator>, shape: &Shape) -> anyhow::Result<Settings> {
    // Over KVM nothing is behind the card: what the guest sends is lost, and no case waits for a frame.
    let network = emulator.is_some().then(Network::user);
    Ok(Settings {
        emulator,
        vps: shape.vps,
        backings: vec![disk()?],
        deterministic: false,
        control: false,
        sockets: false,
        network,
        gdb: None,
        monitor: false,
        timeout: Some(Duration::from_secs(args.timeout.into())),
        typing: Typing::Nothing,
        silence: None,
    })
}

/// Hands over the hunt for mutants with one of these words in their name or file to xtask.
fn hunt(args: &Args, words: &str) -> anyhow::Result<Exit> {
    let format = match args.format {
        Format::Text => "text",
        Format::Json => "json",
        _ => bail!(
            "a mutants report is not available in this format: give --mutants with --format text or json"
        ),
    };
    let mut line: Vec<OsString> = ["--format", format].map(Into::into).to_vec();
    line.extend(args.list.then(|| "--list".into()));
    line.extend(args.output.iter().flat_map(|file| ["--output".into(), file.into()]));
    line.extend(["--".into(), words.into()]);
    developer::hand_over("mutants", line)
}

/// Lists the cases.
fn list(args: &Args) -> anyhow::Result<Exit> {
    let cases = hv_conformance::cases().filter(|case| hv_conformance::matches(case, &args.filter));
    let lines: Vec<String> =
        cases.map(|case| format!("{case:?}\n    {}, \"{}\"\n", case.page, case.section)).collect();
    ui::out(&format!("{}{} cases\n", lines.concat(), lines.len()));
    Ok(Exit::Success)
}

/// Builds the guest, with its instructions on the command line.
fn image(args: &Args, kernel: Vec<u8>, shape: &Shape, accel: Accel) -> anyhow::Result<Image> {
    let mut append = format!(
        "{} conformance.loopback=1 conformance.crash=1 conformance.video={:#x}",
        shape.command_line(),
        platform::VIDEO_WINDOW
    );
    if accel == Accel::Kvm {
        append.push_str(" conformance.kvm=1");
    }
    if !args.filter.is_empty() {
        append.push_str(&format!(" conformance.filter={}", args.filter));
    }
    Ok(hv_machine::build(
        Spec::new(&VIRT, kernel, [0x5a; RNG_SEED_LEN])
            .with_append(append)
            .with_memory(MEMORY)
            .with_vps(shape.vps)
            .with_firmware(Firmware::DeviceTree)
            .with_vmbus_intid(VMBUS_INTID)
            .with_stimer_intid(STIMER_INTID),
    )?)
}

/// Returns the boot information: connections for messages and events that the guest sends to itself, and the devices.
fn orders(image: &Image, vps: u32) -> BootInfo {
    let [a, b, c, d, e, f] = net::MAC;
    let mut orders = BootInfo {
        flags: BootFlags::LOOPBACK | BootFlags::NETWORK,
        host_time: host_time(false),
        services: SERVICES.map(Service::bit).iter().sum(),
        disk_count: 1,
        mac: [a, b, c, d, e, f, 0, 0],
        ..load::orders(image, vps, MEMORY)
    };
    orders.video_base = orders.vps_base + orders.vps_size;
    let base = orders.video_base + platform::VIDEO_BYTES;
    orders.disks[0] = BootDisk { base, size: DISK, id: *b"conformance-disk", ..BootDisk::new_zeroed() };
    orders
}

/// Runs the guest to its end.
fn run_guest(settings: &Settings, image: Image) -> anyhow::Result<Outcome> {
    let orders = orders(&image, settings.vps);
    let ram = load::ram(&image, &orders, false)?;
    let outcome = Running::start(settings, ram, None, None, None)?.wait()?;
    if outcome.end == End::Interrupted {
        bail!(crate::interrupt::Interrupted);
    }
    if outcome.console.is_empty() && !outcome.complaints.is_empty() {
        bail!("{} says: {}", outcome.accel.program(), outcome.complaints.trim_end());
    }
    Ok(outcome)
}

/// Collects the runs in the console output, with their problems; a machine that printed none counts as a failed run.
/// Returns true if the guest ended before the suite, because the CPU does not have the page size.
fn lacks(outcome: &Outcome, shape: &Shape) -> bool {
    let ran = !Report::from_console(&outcome.console).runs.is_empty();
    !ran && outcome.end != End::Timeout && outcome.console.contains(&shape.granule.lacking())
}

fn collect(outcome: &Outcome, shape: &Shape, filter: &str) -> Report {
    let mut report = Report::from_console(&outcome.console);
    report.expect_filter(filter);
    if report.runs.is_empty() {
        report.runs.push(Run {
            setting: shape.setting(),
            problems: vec!["the guest did not run the suite".to_owned()],
            ..Run::default()
        });
    }
    if let Some(run) = report.runs.last_mut() {
        run.problems.extend(crate::report::trouble(outcome));
        if outcome.end == End::Timeout {
            run.problems.push("the time limit was reached".to_owned());
        }
        let last = || outcome.console.lines().rev().find(|line| !line.trim().is_empty());
        if let (false, Some(line)) = (run.problems.is_empty(), last()) {
            run.problems.push(format!("the console ends with: {}", line.trim()));
        }
    }
    report
}

fn summary(report: &Report) -> String {
    let totals = report.totals();
    let verdict = if report.conforms() { "conforms" } else { "does NOT conform" };
    let (passed, failed, skipped) = (totals.passed, totals.failed, totals.skipped);
    format!("{passed} passed, {failed} failed, {skipped} skipped: {verdict}")
}

fn finish(args: &Args, report: &Report) -> anyhow::Result<Exit> {
    let text = match args.format {
        Format::Text => report.text(),
        Format::Tap => report.tap(),
        Format::Junit => report.junit(),
        Format::Json => report.json(),
    };
    output::publish("report", args.output.as_deref(), &text)?;
    Ok(if report.conforms() { Exit::Success } else { Exit::Failed })
}
