//! The machine for all measurements, with and without the hypervisor.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hv_machine::{Firmware, Identity, Image, RNG_SEED_LEN, Spec};
use hv_wire::{BootFlags, BootInfo};

use crate::disks::{Chosen, DiskOption, Disks, Mode};
use crate::input::Input;
use crate::machine::load::{self, STIMER_INTID, VMBUS_INTID};
use crate::machine::platform::{CPU, VIRT, longest};
use crate::machine::{DIRECT_START, Emulator, End, Outcome, Running, Settings, Typing};
use crate::net::Network;
use crate::setup::qemu::Qemu;
use crate::trace::{Collector, Region};
use crate::{interrupt, report};

/// Bytes of RAM of a machine whose measurement does not depend on it.
pub(super) const MEMORY: u64 = 512 << 20;
/// The network card's address, a local one.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Bytes of the trace's rings, and of the records that are kept, as `hv boot` has them.
const TRACE: u64 = 64 << 20;
const TRACE_LIMIT: u64 = 1 << 30;
/// Prefix of a measuring program's lines.
const PREFIX: &str = "bench: ";

/// Prerequisites of the measurements.
pub(super) struct Setup {
    pub(super) qemu: Qemu,
    pub(super) hypervisor: PathBuf,
    /// Time limit of each boot.
    pub(super) limit: Option<Duration>,
}

/// A guest.
#[derive(Clone)]
pub(super) struct Guest {
    pub(super) kernel: PathBuf,
    pub(super) initrd: Option<Vec<u8>>,
    pub(super) append: String,
    pub(super) vps: u32,
    /// Bytes of its RAM.
    pub(super) memory: u64,
    pub(super) firmware: Firmware,
    /// It has a disk.
    pub(super) disk: bool,
    /// It has a network card.
    pub(super) network: bool,
    /// It is traced, and checked against the rules of the strict mode.
    pub(super) observed: bool,
}

impl Setup {
    /// Boots a guest to its end: with or without the hypervisor, in counted instructions or wall-clock time.
    pub(super) fn boot(&self, guest: &Guest, hosted: bool, deterministic: bool) -> anyhow::Result<Outcome> {
        let kernel = Input::from(&*guest.kernel).read("kernel", longest(guest.memory))?;
        let mut image = hv_machine::build(
            Spec::new(&VIRT, kernel, [0x5a; RNG_SEED_LEN])
                .with_initrd(guest.initrd.clone())
                .with_append(&*guest.append)
                .with_memory(guest.memory)
                .with_vps(guest.vps)
                .with_firmware(guest.firmware)
                .with_vmbus_intid(VMBUS_INTID)
                .with_stimer_intid(STIMER_INTID),
        )?;
        if !hosted {
            take_identity(&mut image)?;
        }
        // For messages and events that the guest sends to itself.
        let mut orders =
            BootInfo { flags: BootFlags::LOOPBACK, ..load::orders(&image, guest.vps, guest.memory) };
        if guest.network {
            orders.flags |= BootFlags::NETWORK;
            orders.mac[..MAC.len()].copy_from_slice(&MAC);
        }
        let behind = load::end_of_own(guest.vps, guest.memory);
        let trace = guest.observed.then_some(Region { base: behind, size: TRACE, vps: guest.vps });
        if let Some(Region { base, size, .. }) = trace {
            orders.flags |= BootFlags::STRICT | BootFlags::TRACE;
            (orders.trace_base, orders.trace_size) = (base, size);
        }
        let disks = guest.disk.then(|| disk(behind + orders.trace_size)).transpose()?;
        let backings = disks.as_ref().map(Disks::backings).transpose()?.unwrap_or_default();
        if let Some(disks) = &disks {
            (orders.disk_count, orders.disks, ..) = disks.boot();
        }
        let ram = load::ram(&image, &orders, false)?;
        ram.write(DIRECT_START, &trampoline(&image))?;
        let settings = Settings {
            emulator: Some(Emulator {
                qemu: self.qemu.clone(),
                hypervisor: hosted.then(|| self.hypervisor.clone()),
                cpu: CPU.to_owned(),
            }),
            vps: guest.vps,
            backings,
            deterministic,
            control: false,
            sockets: false,
            network: guest.network.then(Network::user),
            gdb: None,
            monitor: false,
            timeout: self.limit,
            typing: Typing::Nothing,
            silence: None,
        };
        let collect = |region| Collector::start(ram.clone(), region, TRACE_LIMIT);
        // Stopped when it is dropped: what it has collected is of no interest.
        let _collector = trace.map(collect).transpose()?;
        let outcome = Running::start(&settings, ram, None, None, None)?.wait()?;
        interrupt::check()?;
        if let (End::Timeout, Some(limit)) = (&outcome.end, self.limit) {
            bail!("a guest was not done after {} s: give it more with --timeout", limit.as_secs());
        }
        match report::trouble(&outcome).filter(|_| hosted) {
            Some(trouble) => bail!("{trouble}"),
            None => Ok(outcome),
        }
    }
}

/// Makes a small disk, whose memory begins at an address.
fn disk(base: u64) -> anyhow::Result<Disks> {
    let file = tempfile::NamedTempFile::new().context("cannot make a file")?;
    file.as_file().set_len(1 << 20)?;
    let option = DiskOption { path: file.path().to_owned(), mode: Mode::Snapshot, place: None };
    Chosen::open(&[option], &[], base, 0)?.prepare(Identity::DEFAULT.uuid)
}

/// Returns the lines that a program printed, or an error if it stopped before the line `last`.
pub(super) fn said<'a>(outcome: &'a Outcome, last: &str) -> anyhow::Result<Vec<&'a str>> {
    let lines: Vec<&str> =
        outcome.console.lines().filter_map(|line| line.trim_end().strip_prefix(PREFIX)).collect();
    if !lines.iter().any(|line| line.starts_with(last)) {
        let text = outcome.console.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        bail!("the guest ended without printing `{PREFIX}{last}`: {text} {}", outcome.complaints.trim());
    }
    Ok(lines)
}

/// Parses name and value of a line, and how often the operation was repeated if it says so.
pub(super) fn figure(line: &str) -> anyhow::Result<(&str, u64, Option<u64>)> {
    let number = |text: &str| {
        text.parse().with_context(|| format!("the guest printed {line:?}, expected a name and numbers"))
    };
    let (name, numbers) = line.split_once(' ').unwrap_or((line, ""));
    let (value, repetitions) = numbers.split_once(' ').map_or((numbers, None), |(a, b)| (a, Some(b)));
    Ok((name, number(value)?, repetitions.map(number).transpose()?))
}

/// Returns code that enters the kernel with the device tree in X0.
fn trampoline(image: &Image) -> Vec<u8> {
    // ldr x0, #16 · ldr x1, #20 · br x1 · nop; the two words follow.
    const CODE: [u32; 4] = [0x5800_0080, 0x5800_00a1, 0xd61f_0020, 0xd503_201f];
    let mut bytes: Vec<u8> = CODE.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.extend(image.x0.to_le_bytes());
    bytes.extend(image.entry.to_le_bytes());
    bytes
}

/// Removes Hyper-V's identity from the FADT: a kernel that finds it makes hypercalls, which nothing would answer.
fn take_identity(image: &mut Image) -> anyhow::Result<()> {
    const NAME: &[u8; 8] = b"MsHyperV";
    /// Offsets in the FADT (ACPI specification, "Fixed ACPI Description Table").
    const IDENTITY: usize = 268;
    const CHECKSUM: usize = 9;
    for (_, bytes) in &mut image.segments {
        let Some(start) = bytes.windows(4).position(|word| word == b"FACP") else { continue };
        let Some(identity) = bytes.get_mut(start + IDENTITY..start + IDENTITY + NAME.len()) else { continue };
        if *identity == *NAME {
            identity.fill(0);
            let sum = NAME.iter().fold(0, |sum: u8, &byte| sum.wrapping_add(byte));
            bytes[start + CHECKSUM] = bytes[start + CHECKSUM].wrapping_add(sum);
            return Ok(());
        }
    }
    bail!("the firmware tables have no FADT with Hyper-V's identity")
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros as _;

    use super::*;

    fn image() -> Image {
        Image {
            segments: Vec::new(),
            entry: 0x1122,
            x0: 0x3344,
            page_size: None,
            command_line: String::new(),
        }
    }

    #[test]
    fn a_fadt_without_identity_has_a_right_checksum() {
        let mut table = vec![0; 276];
        table[..4].copy_from_slice(b"FACP");
        table[268..].copy_from_slice(b"MsHyperV");
        table[9] = table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)).wrapping_neg();
        let mut image = Image {
            segments: vec![(0, table)],
            entry: 0,
            x0: 0,
            page_size: None,
            command_line: String::new(),
        };
        take_identity(&mut image).unwrap();
        let table = &image.segments[0].1;
        assert_eq!(table[268..], [0; 8]);
        assert_eq!(table.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0);
        assert!(take_identity(&mut image).is_err());
    }

    #[test]
    fn the_trampoline_ends_with_what_it_loads() {
        let code = trampoline(&image());
        assert_eq!(code.len(), 32);
        assert_eq!(code[16..24], 0x3344u64.to_le_bytes());
        assert_eq!(code[24..], 0x1122u64.to_le_bytes());
    }

    fn outcome(console: &str) -> Outcome {
        Outcome {
            accel: crate::machine::Accel::Tcg,
            end: crate::machine::End::Timeout,
            report: hv_wire::Report::new_box_zeroed().unwrap(),
            vps: Vec::new(),
            console: console.to_owned(),
            console_dropped: 0,
            console_earlier: 0,
            console_left_out: 0,
            log_failed: None,
            complaints: String::new(),
            over: None,
            wall: Duration::ZERO,
        }
    }

    #[test]
    fn figures_are_found_among_other_lines() {
        let outcome = outcome("boot\r\nbench: fast-get-smccc 130 9\r\nnoise\nbench: eom 1\nbench: done\n");
        let lines = said(&outcome, "done").unwrap();
        assert_eq!(lines, ["fast-get-smccc 130 9", "eom 1", "done"]);
        assert_eq!(figure(lines[0]).unwrap(), ("fast-get-smccc", 130, Some(9)));
        assert_eq!(figure(lines[1]).unwrap(), ("eom", 1, None));
    }

    #[test]
    fn a_program_that_is_not_done_or_says_nonsense_has_no_figures() {
        assert!(said(&outcome("bench: eom 1\n"), "done").is_err());
        assert!(said(&outcome(""), "done").is_err());
        for line in ["eom", "eom x", "eom -1", "eom 1.5", "eom 1 x", "eom 1 2 3"] {
            assert!(figure(line).is_err(), "{line}");
        }
    }
}
