//! `hv doctor`: what is there and what is missing.

use crate::exit::Exit;
use crate::setup::cache::Cache;
use crate::setup::stock::{self, Piece, Stock};
use crate::setup::{qemu, system, target};
use crate::ui;

/// Say what is installed and cached, and what is missing
///
/// Changes nothing. Exits with 1 if something is missing that `hv boot` would have to install or fetch first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(_args: &Args) -> anyhow::Result<Exit> {
    let cache = Cache::open()?;
    let (name, debian) = system::name();
    let mut ready = true;
    let mut line = |what: &str, state: Result<String, String>, needed: bool| {
        ready &= state.is_ok() || !needed;
        let (mark, text) = match state {
            Ok(text) => ("ok", text),
            Err(text) => ("missing", text),
        };
        ui::out(&format!("{what:<18} {mark:<8} {text}\n"));
    };
    let hint = if debian { "" } else { "; packages can be installed and fetched on Debian only" };
    line("system", Ok(format!("{name}{hint}")), false);
    let qemu = qemu::find().ok_or("will be installed: Debian package qemu-system-arm".to_owned());
    let qemu = qemu.and_then(|path| qemu::check(path).map_err(|error| format!("{error:#}")));
    line("QEMU", qemu.map(|qemu| format!("{} {}", qemu.path.display(), qemu.version)), true);
    let rust = match target::find() {
        Ok(Some(toolchain)) => Ok(toolchain.description),
        Ok(None) => Err(format!("will be added with rustup, else from Debian: target {}", target::TARGET)),
        Err(error) => Err(format!("{error:#}")),
    };
    line("bare-metal Rust", rust, true);
    let pieces = [
        ("kernel 6.12", Piece::Kernel(Stock::Cloud612), true),
        ("busybox", Piece::Busybox, true),
        ("kernel 6.1", Piece::Kernel(Stock::Cloud61), false),
        ("kernel 6.12, 16K", Piece::Kernel(Stock::Pages16k), false),
    ];
    for (what, piece, needed) in pieces {
        let will = match (debian, needed) {
            (false, _) => "can be fetched on Debian only; give --kernel and --initrd",
            (true, true) => "will be fetched",
            (true, false) => "will be fetched when `hv test` or --stock needs it",
        };
        let state = stock::cached(&cache, piece).map(|found| format!("{} {}", found.package, found.version));
        line(what, state.ok_or_else(|| format!("{} {will}", piece.title())), needed);
    }
    line("cache", Ok(cache.dir().display().to_string()), false);
    Ok(if ready { Exit::Success } else { Exit::Failed })
}
