//! The hypervisor's program file: how large it is, and that nothing is in it that has no business there. And how much
//! of a guest's program is the client of VMBus.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use elf::ElfBytes;
use elf::abi::{PT_LOAD, STT_FUNC};
use elf::endian::LittleEndian;
use hv_setup::exit::Exit;
use hv_setup::sources;
use hv_tlfs::rules::RULES;

use super::context::{Context, read};
use super::runner::Step;

/// Maximum number of bytes that are loaded, without the paths of sources: what they are, and little more. Who needs
/// more states it here and in the book's figures. The screen took 10 KiB: half of them the device, the rest its rules,
/// its requests and its slot. What its messages show in a trace took 1.5, the queue of frames and its copies 1, a Get
/// in parts 1, calls that are compiled for their control words 1.5, and received frames that share packets 1.5.
const LONGEST: u64 = 400 << 10;

/// Maximum number of bytes of the client's functions in a program that uses it from contact to the end.
const CLIENT: u64 = 24 << 10;

/// Functions of VMBus that every packet, request and message passes through, by the parts of their symbols. They do not
/// depend on the types of devices.
const ONCE: [[&str; 2]; 4] = [
    ["8hv_vmbus6worker", "3run17h"],
    ["8hv_vmbus6worker6flight", "5start17h"],
    ["8hv_vmbus2io4send", "4push17h"],
    ["8hv_vmbus6settle", "6settle17h"],
];

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("image/size", size),
        Step::new("image/once", once),
        Step::new("image/client", client),
        Step::new("image/texts", |context| {
            let (asks, program) = (RULES[0].asks.as_bytes(), program(context)?);
            let found = program.windows(asks.len()).any(|part| part == asks);
            ensure!(!found, "the texts of the strict mode's rules are in the hypervisor");
            Ok(())
        }),
    ]
}

/// Builds the hypervisor.
fn program(context: &Context) -> anyhow::Result<Vec<u8>> {
    let built = context.hv(&["build"])?;
    ensure!(built.code == Some(Exit::Success as i32), "{}", built.stderr);
    read(Path::new(built.stdout.trim_end()))
}

fn size(context: &Context) -> anyhow::Result<()> {
    let program = program(context)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&program)?;
    let segments = elf.segments().context("a program without segments")?;
    let parts = segments.iter().filter(|part| part.p_type == PT_LOAD).map(|part| elf.segment_data(&part));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let loaded = (all - paths(&parts, &places()?)) as u64;
    ensure!(
        loaded <= LONGEST,
        "{loaded} bytes of the hypervisor are loaded, without the paths of sources, more than {LONGEST}"
    );
    Ok(())
}

/// Returns the folders that the sources are in: this checkout, and what cargo has fetched.
fn places() -> anyhow::Result<Vec<PathBuf>> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    Ok([Some(sources::checkout()?), home].into_iter().flatten().collect())
}

/// Returns the bytes that the paths of these folders take: a panic names its source's, which is longer in some
/// checkouts than in others.
fn paths(parts: &[&[u8]], folders: &[PathBuf]) -> usize {
    let taken = |folder: &PathBuf| {
        let path = [folder.as_os_str().as_encoded_bytes(), b"/"].concat();
        let times = |part: &&[u8]| part.windows(path.len()).filter(|found| *found == path).count();
        parts.iter().map(times).sum::<usize>() * path.len()
    };
    folders.iter().map(taken).sum()
}

/// Checks that VMBus is compiled once, and not for each type of device.
fn once(context: &Context) -> anyhow::Result<()> {
    let program = program(context)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&program)?;
    let (symbols, names) = elf.symbol_table()?.context("a program without symbols")?;
    let names: Vec<&str> =
        symbols.iter().filter_map(|symbol| names.get(symbol.st_name as usize).ok()).collect();
    for parts in ONCE {
        let found: Vec<_> =
            names.iter().filter(|name| parts.iter().all(|part| name.contains(part))).collect();
        ensure!(found.len() == 1, "{parts:?} is in the hypervisor {} times: {found:?}", found.len());
    }
    Ok(())
}

/// Checks how much of `bench-client` is `hv-vmbus-client`: all functions that are its own, are made for its traits and
/// types, or have it inlined; not the program's allocator.
fn client(context: &Context) -> anyhow::Result<()> {
    const USES: &str = "12bench_client4uses";
    let file = hv_setup::programs::output("bench-client")?;
    let program = read(&file)?;
    let elf = ElfBytes::<LittleEndian>::minimal_parse(&program)?;
    let (symbols, names) = elf.symbol_table()?.context("a program without symbols")?;
    let mut sizes: Vec<(u64, &str)> = symbols
        .iter()
        .filter(|symbol| symbol.st_symtype() == STT_FUNC)
        .filter_map(|symbol| Some((symbol.st_size, names.get(symbol.st_name as usize).ok()?)))
        .filter(|(_, name)| ["hv_vmbus_client", USES].iter().any(|part| name.contains(part)))
        .filter(|(_, name)| !name.contains("bus..memory..Pool$u20$as$u20$"))
        .collect();
    sizes.sort_unstable();
    let sum: u64 = sizes.iter().map(|(size, _)| size).sum();
    eprintln!("  {sum} bytes in {} functions", sizes.len());
    ensure!(
        sizes.iter().any(|(_, name)| name.contains(USES)),
        "the program does not use the client: {sizes:?}"
    );
    ensure!(sum <= CLIENT, "{sum} bytes of the program are the client's, more than {CLIENT}: {sizes:#?}");
    // It does what it is measured for.
    let booted =
        super::programs::program(context, "bench-client", &["--devices", "heartbeat", "--vps", "1"])?;
    booted.ended(Exit::Success, "power-off")?;
    booted.says("bench: client has received")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_does_not_depend_on_where_the_sources_are() {
        let image = |root: &str| format!("ab{root}/a.rs{root}/b/c.rs{root}x");
        let sizes = ["/a", "/home/user/checkout"].map(|root| {
            let (image, folders) = (image(root), [PathBuf::from(root)]);
            image.len() - paths(&[image.as_bytes()], &folders) - root.len()
        });
        assert_eq!(sizes, [sizes[0]; 2]);
        assert_eq!(sizes[0], "aba.rsb/c.rsx".len());
    }
}
