//! What the guest is made of: the user's files, each read once, and the stock ones.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use hv_machine::{Identity, Image, RNG_SEED_LEN, Spec};

use super::args::Args;
use super::{STIMER_INTID, VMBUS_INTID};
use crate::machine::platform::VIRT;
use crate::setup::cache::Cache;
use crate::setup::stock;
use crate::symbols::Symbols;
use crate::{input, ui};

/// What the user gave.
#[derive(Debug)]
pub(super) struct Given {
    /// The kernel, unpacked.
    pub(super) kernel: Option<Vec<u8>>,
    pub(super) initrd: Option<Vec<u8>>,
    /// Names for guest addresses: those that the user gave, else those of an ELF kernel.
    pub(super) symbols: Symbols,
}

impl Given {
    /// Reads the files.
    pub(super) fn read(args: &Args) -> anyhow::Result<Self> {
        let longest = input::longest(args.memory);
        let symbols = args.symbols.as_ref().map(Symbols::read).transpose()?;
        let initrd = args.initrd.as_ref().map(|file| file.read("initrd", longest)).transpose()?;
        let kernel = args.kernel.as_ref().map(|file| file.read("kernel", longest)).transpose()?;
        let kernel = kernel.map(|kernel| hv_machine::unpack_kernel(kernel, args.memory)).transpose()?;
        let symbols = symbols.unwrap_or_else(|| own_symbols(kernel.as_deref().unwrap_or_default()));
        Ok(Self { kernel, initrd, symbols })
    }
}

/// The symbols of an ELF kernel.
fn own_symbols(kernel: &[u8]) -> Symbols {
    Symbols::of_elf(kernel).unwrap_or_else(|many| {
        ui::note(&format!("The kernel's symbols are left out: {many}"));
        Symbols::default()
    })
}

/// Puts the guest together.
pub(super) fn image(
    args: &Args,
    given: &Given,
    stock: Option<&(stock::Kernel, PathBuf)>,
) -> anyhow::Result<Image> {
    let kernel = match (stock, &given.kernel) {
        (Some((kernel, _)), _) => read(&kernel.image)?,
        (None, Some(kernel)) => kernel.clone(),
        (None, None) => bail!("no kernel given"),
    };
    let initrd = match (&given.initrd, stock) {
        (Some(initrd), _) => Some(initrd.clone()),
        (None, Some((kernel, busybox))) => Some(stock_initrd(busybox, &kernel.modules)?),
        // A kernel of the user's own has its drivers built in, if it is to do something here.
        (None, None) if !args.run.is_empty() => {
            let busybox = stock::busybox(&Cache::open()?)?;
            Some(stock_initrd(&busybox, &[])?)
        }
        (None, None) => None,
    };
    Ok(hv_machine::build(Spec {
        platform: &VIRT,
        kernel,
        initrd,
        append: args.command_line(),
        memory: args.memory,
        vps: args.vps,
        firmware: args.firmware.into(),
        vmbus_intid: VMBUS_INTID,
        stimer_intid: STIMER_INTID,
        identity: Identity {
            uuid: args.uuid.map_or(Identity::DEFAULT.uuid, uuid::Uuid::into_bytes),
            azure: args.azure,
        },
        rng_seed: seed(args.deterministic)?,
    })?)
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    input::read(file, input::LONGEST).with_context(|| format!("cannot read {}", file.display()))
}

/// The stock initial file system, with the VMBus driver.
fn stock_initrd(busybox: &Path, modules: &[PathBuf]) -> anyhow::Result<Vec<u8>> {
    let name = |file: &Path| file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let vmbus = modules.iter().filter(|file| name(file).starts_with("hv_vmbus.ko"));
    let modules = vmbus.map(|file| Ok((name(file), read(file)?))).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(hv_machine::initrd::stock(&read(busybox)?, &modules)?)
}

/// Entropy for the guest.
fn seed(deterministic: bool) -> anyhow::Result<[u8; RNG_SEED_LEN]> {
    if deterministic { Ok([0x5a; RNG_SEED_LEN]) } else { random() }
}

/// Bytes that nothing can know.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let random = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    random.context("cannot read /dev/urandom")?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_seed_is_the_same_each_time_and_a_random_one_is_not() {
        assert_eq!(seed(true).unwrap(), seed(true).unwrap());
        assert_ne!(seed(false).unwrap(), seed(false).unwrap());
    }
}
