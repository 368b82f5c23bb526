//! The hypervisor's program file: how large it is, and that nothing is in it that has no business there.

use std::path::Path;

use anyhow::{Context as _, ensure};
use elf::ElfBytes;
use elf::abi::PT_LOAD;
use elf::endian::LittleEndian;
use hv_setup::exit::Exit;
use hv_tlfs::rules::RULES;

use super::context::{Context, read};
use super::runner::Step;

/// Maximum number of bytes that are loaded: what they are, and little more. Who needs more states it here and in the
/// book's figures. The screen took 10 KiB: half of them the device, the rest its rules, its requests and its slot.
const LONGEST: u64 = 394 << 10;

/// Functions of VMBus that every packet, request and message passes through, by the parts of their symbols. They do not
/// depend on the types of devices.
const ONCE: [[&str; 2]; 4] = [
    ["8hv_vmbus6worker", "3run17h"],
    ["8hv_vmbus6worker6flight", "5start17h"],
    ["8hv_vmbus2io4send", "4push17h"],
    ["8hv_vmbus6settle", "6settle17h"],
];

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![
        Step::new("image/size", size),
        Step::new("image/once", once),
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
    let loaded: u64 = segments.iter().filter(|part| part.p_type == PT_LOAD).map(|part| part.p_filesz).sum();
    ensure!(loaded <= LONGEST, "{loaded} bytes of the hypervisor are loaded, more than {LONGEST}");
    Ok(())
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
