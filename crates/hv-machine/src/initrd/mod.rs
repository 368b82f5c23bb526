//! The stock initramfs: busybox, kernel modules, and a script that exercises them.

mod cpio;
mod module;

use super::Error;
use super::kernel::is_aarch64_elf;
pub use cpio::Archive;
pub use module::{Module, name_of};

/// The script that runs as /init.
const INIT: &[u8] = include_bytes!("init.sh");

/// What udhcpc runs when it has an address.
pub const LEASE: &[u8] = include_bytes!("lease.sh");

/// What the kernel runs when the host asks the guest to end: as /sbin/poweroff and as /sbin/reboot.
const ENDING: &[u8] = b"#!/bin/sh
echo \"hv: ${0##*/} in good order\" >/dev/console
exec \"/bin/${0##*/}\" -f
";

/// The busybox applets used by [`INIT`] and by a user at its shell.
const APPLETS: &[&str] = &[
    "awk",
    "cat",
    "cttyhack",
    "cut",
    "date",
    "devmem",
    "dmesg",
    "echo",
    "find",
    "findfs",
    "free",
    "grep",
    "head",
    "hexdump",
    "httpd",
    "insmod",
    "ip",
    "kill",
    "ls",
    "lsmod",
    "mkdir",
    "mount",
    "nproc",
    "nslookup",
    "ping",
    "poweroff",
    "ps",
    "reboot",
    "rmmod",
    "sed",
    "seq",
    "setsid",
    "sh",
    "sleep",
    "stty",
    "switch_root",
    "sync",
    "tail",
    "top",
    "udhcpc",
    "umount",
    "uname",
    "vi",
    "wc",
    "wget",
];

/// Builds the archive with `busybox`, a static AArch64 program, and `modules`, loaded in this order; and with the
/// program that the action `agent` runs, if there is one.
///
/// The script is controlled by the kernel command line: the words of `hv.run=`, separated by commas; init.sh lists
/// them.
///
/// # Errors
/// [`Error::NotBusybox`], and the errors of the archive.
pub fn stock(busybox: &[u8], modules: &[Module], agent: Option<&[u8]>) -> Result<Vec<u8>, Error> {
    if !is_aarch64_elf(busybox) {
        return Err(Error::NotBusybox);
    }
    let mut archive = Archive::new();
    for path in ["bin", "dev", "etc", "modules", "proc", "sbin", "sys", "tmp"] {
        archive.dir(path)?;
    }
    // The kernel opens it for /init before /init can mount devtmpfs.
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", 0o755, busybox)?;
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    for (number, module) in modules.iter().enumerate() {
        archive.file(&format!("modules/{number:03}-{}.ko", module.name), 0o644, &module.bytes)?;
    }
    for name in ["poweroff", "reboot"] {
        archive.file(&format!("sbin/{name}"), 0o755, ENDING)?;
    }
    if let Some(agent) = agent {
        archive.file("bin/hv-agent", 0o755, agent)?;
    }
    archive.file("bin/lease", 0o755, LEASE)?;
    archive.file("init", 0o755, INIT)?;
    archive.finish()
}

#[cfg(test)]
mod test {
    use super::*;

    /// Builds the head of an ELF executable for a machine.
    fn elf(machine: u16) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[16..18].copy_from_slice(&2u16.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file
    }

    #[test]
    fn modules_are_numbered_in_the_order_given() {
        let bytes = module::test::module(b"depends=\0");
        let module = |name: &str| Module::read(name, bytes.clone()).expect("module");
        let modules = [module("kernel/drivers/hv/hv_vmbus.ko"), module("hv-utils.ko")];
        let archive = stock(&elf(183), &modules, Some(b"agent")).expect("archive");
        let entries = cpio::test::entries(&archive);
        let data =
            |path: &str| entries.iter().find(|entry| entry.path == path).map(|entry| entry.data.clone());
        assert_eq!(data("modules/000-hv_vmbus.ko").as_ref(), Some(&bytes));
        assert_eq!(data("modules/001-hv_utils.ko"), Some(bytes));
        assert_eq!(data("init").as_deref(), Some(INIT));
        assert_eq!(data("bin/sh").as_deref(), Some(&b"busybox"[..]));
        assert_eq!(data("bin/hv-agent").as_deref(), Some(&b"agent"[..]));
    }

    #[test]
    fn a_busybox_that_the_guest_cannot_run_is_refused() {
        assert!(matches!(stock(&elf(62), &[], None), Err(Error::NotBusybox)));
        assert!(matches!(stock(b"", &[], None), Err(Error::NotBusybox)));
    }

    #[test]
    fn the_script_uses_only_applets_that_are_there() {
        let script = std::str::from_utf8(&[INIT, LEASE].concat()).expect("text").to_owned();
        for word in [
            "mount", "uname", "cat", "insmod", "dmesg", "grep", "sleep", "poweroff", "reboot", "cttyhack",
            "udhcpc", "ip", "ls",
        ] {
            assert!(!script.contains(word) || APPLETS.contains(&word), "{word}");
        }
    }
}
