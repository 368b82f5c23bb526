//! `hv test`: the tests in process, then the scenarios on QEMU.

mod book;
mod boots;
mod browser;
mod c_guest;
mod channels;
mod check;
mod ci;
mod conformance;
pub(crate) mod context;
mod counted;
mod debian;
mod debugger;
pub(crate) mod devices;
mod driver_faults;
mod drivers;
mod exec;
mod image;
mod in_process;
mod installed;
mod kexec;
mod keys;
mod kvm;
pub(crate) mod life;
mod listed;
mod machines;
mod options;
mod outputs;
mod outside;
mod own;
mod own_system;
pub(crate) mod packages;
mod programs;
mod room;
mod routines;
mod runner;
mod schema;
mod sequences;
mod services;
mod share;
mod signals;
mod snapshot;
mod soak;
mod suites;
mod traced;
mod uefi;
mod warm;
mod witness;

use std::process::Command;

use hv_setup::cache::Cache;
use hv_setup::developer::{BenchKvmArgs, TestArgs};
use hv_setup::exit::Exit;
use hv_setup::stock::{self, Piece, Stock};
use hv_setup::{interrupt, output, process, programs as bare, qemu, sources, target, ui};

use context::Context;
use room::Room;
use runner::{Step, Tally};

/// Name of the step that runs `cargo test`.
const IN_PROCESS: &str = "in-process";
/// Name of the step that checks the lock files; an earlier build would update them.
const LOCK_FILES: &str = "lock-files";

/// Returns every scenario.
fn steps() -> Vec<Step> {
    let mut steps = vec![Step::new(LOCK_FILES, |_| lock_files())];
    steps.extend(check::steps());
    steps.extend(options::steps());
    steps.extend(boots::steps());
    steps.extend(own::steps());
    steps.extend(programs::steps());
    steps.extend(channels::steps());
    steps.extend(routines::steps());
    steps.extend(drivers::steps());
    steps.extend(driver_faults::steps());
    steps.extend(sequences::steps());
    steps.extend(c_guest::steps());
    steps.extend(conformance::steps());
    steps.extend(uefi::steps());
    steps.extend(counted::steps());
    steps.extend(image::steps());
    steps.extend(debian::steps());
    steps.extend(debugger::steps());
    steps.extend(installed::steps());
    steps.extend(outputs::steps());
    steps.extend(outside::steps());
    steps.extend(life::steps());
    steps.extend(listed::steps());
    steps.extend(machines::steps());
    steps.extend(kexec::steps());
    steps.extend(keys::steps());
    steps.extend(kvm::steps());
    steps.extend(packages::steps());
    steps.extend(devices::steps());
    steps.extend(exec::steps());
    steps.extend(warm::steps());
    steps.extend(snapshot::steps());
    steps.extend(soak::steps());
    steps.extend(own_system::steps());
    steps.extend(share::steps());
    steps.extend(ci::steps());
    steps.extend(suites::steps());
    steps.extend(traced::steps());
    steps.extend(schema::steps());
    steps.extend(services::steps());
    steps.extend(witness::steps());
    steps.extend(book::steps());
    steps
}

/// Runs `hv bench kvm`.
pub(crate) fn bench_kvm(args: &BenchKvmArgs) -> anyhow::Result<Exit> {
    kvm::bench(args.timeout)
}

/// Runs the command.
pub(crate) fn run(args: &TestArgs) -> anyhow::Result<Exit> {
    let wanted = |name: &str| args.filters.is_empty() || args.filters.iter().any(|part| name.contains(part));
    let all = steps();
    let total = all.len() + 1;
    let mut steps: Vec<Step> = all.into_iter().filter(|step| wanted(&step.name)).collect();
    let slow = runner::leave_out_slow(&mut steps, args.all);
    let in_process = wanted(IN_PROCESS);
    let selected = steps.len() + usize::from(in_process);
    if selected == 0 && slow != 0 {
        anyhow::bail!("{} has only slow tests; give --all to run them", args.filters.join(" or "));
    }
    if selected == 0 {
        anyhow::bail!("no test has {} in its name; see `cargo hv test --list`", args.filters.join(" or "));
    }
    if args.list {
        let names = in_process.then_some(IN_PROCESS).into_iter().chain(steps.iter().map(|step| &*step.name));
        ui::out(&names.map(|name| format!("{name}\n")).collect::<String>());
        if let Some(hint) = runner::slow_hint(slow) {
            ui::note(&hint);
        }
        return Ok(Exit::Success);
    }
    if let Some(file) = &args.json {
        output::check_unless_stdout("score", "--json", file)?;
    }
    let stdout_is_taken = args.json.as_ref().is_some_and(|file| file.as_os_str() == "-");
    let room = Room::new(Cache::open()?.dir().to_owned())?;
    if let Some(warning) = args.filters.is_empty().then(|| room.warning()).transpose()?.flatten() {
        ui::note(&warning);
    }
    let room = || room.check();
    // The scenarios' folders go away at the end.
    let _orderly = interrupt::orderly();
    let show = |text: &str| if stdout_is_taken { ui::lines(text) } else { ui::out(text) };
    let mut tally = Tally { filtered: total - selected - slow, slow, ..Tally::default() };
    let context = Context::new()?;
    if let Some(place) = steps.iter().position(|step| step.name == LOCK_FILES) {
        runner::run(&[steps.remove(place)], &context, 1, &mut tally, &show, &room)?;
    }
    if !steps.is_empty() {
        let missing = prepare(&show)?;
        let count = steps.len();
        steps.retain(|step| !missing.iter().any(|kernel| step.name.contains(kernel)));
        tally.ignored = count - steps.len();
    }
    if in_process {
        in_process::run(&mut tally, &show)?;
    }
    if !steps.is_empty() {
        runner::run(&steps, &context, args.jobs, &mut tally, &show, &room)?;
    }
    let json = serde_json::to_string_pretty(&tally.json())? + "\n";
    let written = match &args.json {
        Some(file) if !stdout_is_taken => output::write("score", file, json.as_bytes()),
        Some(_) => {
            ui::out(&json);
            Ok(())
        }
        None => Ok(()),
    };
    show(&tally.closing_lines());
    written?;
    Ok(if tally.failed() == 0 { Exit::Success } else { Exit::Failed })
}

/// Checks that the lock files match the manifests: the committed versions are tested.
fn lock_files() -> anyhow::Result<()> {
    let root = sources::checkout()?;
    for folder in ["", "bare", "fuzz"].map(|folder| root.join(folder)) {
        if !folder.join("Cargo.lock").is_file() {
            continue;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut tree = Command::new(cargo);
        tree.current_dir(&folder).args(["tree", "--quiet", "--locked", "--workspace", "--depth", "0"]);
        let done = process::run(&mut tree, || {})?;
        anyhow::ensure!(
            done.status.success(),
            "{}: {}; run cargo check there and commit Cargo.lock",
            folder.display(),
            done.complaint("error")
        );
    }
    Ok(())
}

/// Sets up what the scenarios need, so that none of them has to. Returns a part of the names of those that cannot run,
/// since this release of Debian lacks their kernel.
fn prepare(show: &dyn Fn(&str)) -> anyhow::Result<Vec<&'static str>> {
    let qemu = qemu::prepare(None)?;
    let toolchain = target::prepare()?;
    show(&format!("QEMU {}; {}\n", qemu.version, toolchain.description));
    let cache = Cache::open()?;
    let mut missing = Vec::new();
    for (stock, name) in [(Stock::Cloud612, "/6.12/"), (Stock::Cloud61, "/6.1/"), (Stock::Pages16k, "/16k/")]
    {
        match stock::prepare(&cache, &[Piece::Kernel(stock), Piece::Busybox]) {
            Ok(pieces) => show(&format!("{} {}\n", pieces[0].package, pieces[0].version)),
            Err(error) if stock != Stock::Cloud612 && error.is::<stock::NotOffered>() => {
                ui::note(&format!("{error}; tests with {name} in their names are ignored"));
                missing.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    match stock::prepare(&cache, &[Piece::Uefi]) {
        Ok(pieces) => show(&format!("{} {}\n", pieces[0].package, pieces[0].version)),
        Err(error) if error.is::<stock::NotOffered>() => {
            ui::note(&format!("{error}; {} is ignored", uefi::FIRMWARE));
            missing.push(uefi::FIRMWARE);
        }
        Err(error) => return Err(error),
    }
    witness::prepare()?;
    for name in
        ["hypervisor"].into_iter().chain(programs::PROGRAMS).chain(machines::PROGRAMS).chain([kexec::PROGRAM])
    {
        bare::build(&toolchain, name)?;
    }
    bare::application()?;
    bare::agent()?;
    c_guest::prepare(&toolchain)?;
    Ok(missing)
}
