//! `hv doctor`: what is installed and what is missing.

use crate::exit::Exit;
use crate::setup::cache::Cache;
use crate::setup::stock::{self, Piece, Stock};
use crate::setup::{qemu, system, target};
use crate::ui;

/// Report what is installed and cached, and what is missing
///
/// Changes nothing. What is needed for some commands alone is installed or fetched when one of them runs: such rows say
/// "later". KVM is part of the machine and its kernel: where it does not work, its row says "no" and why.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "\
Exit codes:
  0    everything that hv boot needs is present
  1    something is missing, which hv boot would install or fetch first
  2    a bad option, or a cache that cannot be read";

/// An item that was checked.
#[derive(Debug, serde::Serialize)]
struct Item {
    name: &'static str,
    /// Whether it is present.
    present: bool,
    /// Whether `hv boot` needs it.
    needed: bool,
    /// Whether it comes with the machine, or never.
    #[serde(skip)]
    fixed: bool,
    /// Its path and version, or what will be done about it.
    detail: String,
}

#[derive(Debug, serde::Serialize)]
struct Findings {
    /// Version of this format.
    schema: u32,
    /// True if nothing required is missing.
    ready: bool,
    items: Vec<Item>,
}

impl Item {
    fn new(name: &'static str, needed: bool, state: Result<String, String>) -> Self {
        let present = state.is_ok();
        Self { name, present, needed, fixed: false, detail: state.unwrap_or_else(|reason| reason) }
    }

    /// Returns what no command installs.
    fn fixed(name: &'static str, state: Result<String, String>) -> Self {
        Self { fixed: true, ..Self::new(name, false, state) }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Exit> {
    let items = items()?;
    let ready = items.iter().all(|item| item.present || !item.needed);
    let findings = Findings { schema: 1, ready, items };
    if args.json {
        ui::out(&format!("{}\n", serde_json::to_string_pretty(&findings)?));
    } else {
        for Item { name, present, needed, fixed, detail } in &findings.items {
            let mark = match (present, needed, fixed) {
                (true, ..) => "ok",
                (false, true, _) => "missing",
                (false, false, true) => "no",
                (false, false, false) => "later",
            };
            ui::out(&format!("{name:<18} {mark:<8} {}\n", ui::one_line(detail)));
        }
    }
    Ok(if ready { Exit::Success } else { Exit::Failed })
}

fn items() -> anyhow::Result<Vec<Item>> {
    let cache = Cache::open()?;
    let (name, debian) = system::name();
    let hint = if debian { "" } else { "; packages can be installed and fetched only on Debian" };
    let qemu = qemu::find().ok_or("will be installed: Debian package qemu-system-arm".to_owned());
    let qemu = qemu.and_then(|path| qemu::check(path).map_err(|error| format!("{error:#}")));
    let qemu = qemu.map(|qemu| format!("{} {}", qemu.path.display(), qemu.version));
    let rust = |target, when: &str| match target::find(target) {
        Ok(Some(toolchain)) => Ok(toolchain.description),
        Ok(None) => Err(format!("will be added with rustup, else from Debian{when}: target {target}")),
        Err(error) => Err(format!("{error:#}")),
    };
    let kvm = hv_vmm::probe().map_err(|why| format!("{why:#}"));
    // Where KVM runs the guest, neither QEMU nor the hypervisor is used.
    let emulated = kvm.is_err();
    let mut items = vec![
        Item::new("system", false, Ok(format!("{name}{hint}"))),
        Item::new("QEMU", emulated, qemu),
        Item::new("bare-metal Rust", emulated, rust(target::TARGET, "")),
        Item::new("Rust for the agent", false, rust(target::LINUX_TARGET, " when `hv exec` needs it")),
        Item::fixed("KVM", kvm.map(|()| "works: `hv boot` uses it".to_owned())),
    ];
    let pieces = [
        ("kernel 6.12", Piece::Kernel(Stock::Cloud612), true),
        ("busybox", Piece::Busybox, true),
        ("kernel 6.1", Piece::Kernel(Stock::Cloud61), false),
        ("kernel 6.12, 16K", Piece::Kernel(Stock::Pages16k), false),
        ("UEFI firmware", Piece::Uefi, false),
    ];
    for (what, piece, needed) in pieces {
        let will = match (debian, needed) {
            (false, _) => "can be fetched only on Debian; give --kernel and --initrd",
            (true, true) => "will be fetched",
            (true, false) => "will be fetched when `hv test` or --stock needs it",
        };
        let state = stock::cached(&cache, piece).map(|found| format!("{} {}", found.package, found.version));
        items.push(Item::new(what, needed, state.ok_or_else(|| format!("{} {will}", piece.title()))));
    }
    items.push(Item::new("cache", false, Ok(cache.dir().display().to_string())));
    Ok(items)
}
