//! The guest's image, built of its parts.

use std::path::Path;

use anyhow::Context as _;
use hv_machine::initrd::Module;
use hv_machine::{Identity, Image, RNG_SEED_LEN, Spec, linux};
use hv_wire::control::Service;

use super::args::Args;
use super::modules::Modules;
use crate::machine::load::{STIMER_INTID, VMBUS_INTID};
use crate::machine::platform::platform;
use crate::{input, random, report};

/// Describes an unpacked kernel, except for its page size.
pub(super) fn about(path: String, container: Option<&'static str>, kernel: &[u8]) -> report::Kernel {
    report::Kernel {
        path,
        package: None,
        format: if hv_machine::is_aarch64_elf(kernel) { "ELF64" } else { "Image" }.into(),
        container: container.map(Into::into),
        version: linux::version(kernel).map(str::to_owned),
        page_size_bytes: None,
    }
}

/// Builds the guest.
pub(super) fn build(args: &Args, kernel: Vec<u8>, initrd: Option<Vec<u8>>) -> anyhow::Result<Image> {
    let platform = platform(args.accel.unwrap_or_default(), args.services().has(Service::Video));
    let uuid = args.uuid.map_or(Identity::DEFAULT.uuid, uuid::Uuid::into_bytes);
    Ok(hv_machine::build(
        Spec::new(&platform, kernel, seed(args.deterministic)?)
            .with_initrd(initrd)
            .with_append(args.command_line())
            .with_memory(args.memory)
            .with_vps(args.vps)
            .with_firmware(args.firmware.into())
            .with_vmbus_intid(VMBUS_INTID)
            .with_stimer_intid(STIMER_INTID)
            .with_identity(Identity::DEFAULT.with_uuid(uuid).with_azure(args.azure)),
    )?)
}

/// Builds the stock initramfs with these modules.
pub(super) fn stock_initrd(args: &Args, busybox: &Path, modules: &[Module]) -> anyhow::Result<Vec<u8>> {
    Ok(hv_machine::initrd::stock(&read(busybox)?, modules, args.agent.as_deref())?)
}

/// Returns the modules to load: those that were asked for, and those of the guest's devices where they are not part of
/// the kernel.
pub(super) fn wanted(args: &Args, modules: &Modules) -> Vec<String> {
    let devices = args.device_modules().into_iter().filter(|name| modules.knows(name)).map(str::to_owned);
    args.load.iter().cloned().chain(devices).collect()
}

/// Reads a file that the tool has fetched.
pub(super) fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    input::read(file, input::LONGEST).with_context(|| format!("cannot read {}", file.display()))
}

/// Returns entropy for the guest.
fn seed(deterministic: bool) -> anyhow::Result<[u8; RNG_SEED_LEN]> {
    if deterministic { Ok([0x5a; RNG_SEED_LEN]) } else { random::bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_seed_is_the_same_each_time_and_a_random_one_is_not() {
        assert_eq!(seed(true).unwrap(), seed(true).unwrap());
        assert_ne!(seed(false).unwrap(), seed(false).unwrap());
    }

    #[test]
    fn what_devices_need_is_loaded_where_it_is_there() {
        let tree = tempfile::tempdir().unwrap();
        std::fs::write(tree.path().join("modules.order"), "a/hv_vmbus.o\nb/hv_storvsc.o\nc/ext4.o\n")
            .unwrap();
        let modules = Modules::open(tree.path(), None).unwrap();
        let wanted = |words: &str| wanted(&Args::of_words(words), &modules);
        assert_eq!(wanted(""), ["hv_vmbus"]);
        assert_eq!(wanted("--disk a"), ["hv_vmbus", "hv_storvsc"]);
        assert_eq!(wanted("--disk a --append root=/dev/sda"), ["hv_vmbus", "hv_storvsc", "ext4"]);
    }
}
