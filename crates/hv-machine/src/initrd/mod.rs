//! The stock initial file system: busybox, kernel modules, and a script that tries them out.

mod cpio;

use elf::abi::ET_REL;

use super::Error;
use super::kernel::is_aarch64_elf;
use super::unpack::Format;
pub use cpio::Archive;

/// What runs as /init.
const INIT: &[u8] = include_bytes!("init.sh");

/// The busybox applets that [`INIT`] and a user at its shell need.
const APPLETS: &[&str] = &[
    "awk", "cat", "cttyhack", "cut", "date", "devmem", "dmesg", "echo", "find", "free", "grep", "head",
    "hexdump", "insmod", "kill", "ls", "lsmod", "mkdir", "mount", "nproc", "poweroff", "ps", "reboot",
    "rmmod", "sed", "seq", "setsid", "sh", "sleep", "stty", "sync", "tail", "top", "uname", "vi", "wc",
];

/// Most bytes that a module unpacks to: far more than any has.
const MODULE_LIMIT: u64 = 256 << 20;

/// Builds the archive with `busybox`, a static AArch64 program, and `modules` as name and content, which are loaded
/// in this order. Modules may be compressed with gzip, zstd or xz.
///
/// The script takes its orders from the kernel command line: the words of `hv.run=`, separated by commas; init.sh
/// lists them.
///
/// # Errors
/// [`Error::NotBusybox`], [`Error::NotAModule`], and what unpacking or the archive can say.
pub fn stock<N: AsRef<str>>(busybox: &[u8], modules: &[(N, Vec<u8>)]) -> Result<Vec<u8>, Error> {
    if !is_aarch64_elf(busybox) {
        return Err(Error::NotBusybox);
    }
    let mut archive = Archive::new();
    for path in ["bin", "dev", "modules", "proc", "sys", "tmp"] {
        archive.dir(path)?;
    }
    // The kernel opens it for /init before /init can mount devtmpfs.
    archive.character_device("dev/console", 5, 1)?;
    archive.file("bin/busybox", 0o755, busybox)?;
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    for (number, (name, bytes)) in modules.iter().enumerate() {
        let name = name.as_ref();
        let unpacked = match Format::of(bytes) {
            Some(format) => &format.unpack(bytes, name, MODULE_LIMIT)?,
            None => bytes,
        };
        // e_type: a module is a relocatable object.
        if !is_aarch64_elf(unpacked) || unpacked.get(16..18) != Some(&ET_REL.to_le_bytes()) {
            return Err(Error::NotAModule { name: name.to_owned() });
        }
        archive.file(&format!("modules/{number:02}-{}.ko", stem(name)), 0o644, unpacked)?;
    }
    archive.file("init", 0o755, INIT)?;
    archive.finish()
}

/// "hv_vmbus" for "some/where/hv_vmbus.ko.xz".
fn stem(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.split('.').next().unwrap_or(file)
}

#[cfg(test)]
mod test {
    use super::super::unpack::test::gzip;
    use super::*;

    fn elf(kind: u16, machine: u16) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[16..18].copy_from_slice(&kind.to_le_bytes());
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file
    }

    #[test]
    fn modules_are_unpacked_and_numbered_in_the_order_given() {
        let module = elf(1, 183);
        let modules = [("kernel/drivers/hv/hv_vmbus.ko.gz", gzip(&module)), ("hv_utils.ko", module.clone())];
        let archive = stock(&elf(2, 183), &modules).expect("archive");
        let entries = cpio::test::entries(&archive);
        let data =
            |path: &str| entries.iter().find(|entry| entry.path == path).map(|entry| entry.data.clone());
        assert_eq!(data("modules/00-hv_vmbus.ko"), Some(module.clone()));
        assert_eq!(data("modules/01-hv_utils.ko"), Some(module));
        assert_eq!(data("init").as_deref(), Some(INIT));
        assert_eq!(data("bin/sh").as_deref(), Some(&b"busybox"[..]));
    }

    #[test]
    fn what_the_guest_cannot_run_is_refused() {
        let none: [(&str, Vec<u8>); 0] = [];
        assert!(matches!(stock(&elf(2, 62), &none), Err(Error::NotBusybox)));
        assert!(matches!(stock(b"", &none), Err(Error::NotBusybox)));
        for bad in [elf(1, 62), elf(2, 183), b"text".to_vec()] {
            let error = stock(&elf(2, 183), &[("hv_vmbus.ko", bad)]).unwrap_err();
            assert!(matches!(&error, Error::NotAModule { name } if name == "hv_vmbus.ko"), "{error}");
        }
        let cut = gzip(&elf(1, 183))[..20].to_vec();
        assert!(matches!(stock(&elf(2, 183), &[("hv_vmbus.ko.gz", cut)]), Err(Error::Unpack { .. })));
    }

    #[test]
    fn the_script_uses_only_applets_that_are_there() {
        let script = std::str::from_utf8(INIT).expect("text");
        for word in
            ["mount", "uname", "cat", "insmod", "dmesg", "grep", "sleep", "poweroff", "reboot", "cttyhack"]
        {
            assert!(!script.contains(word) || APPLETS.contains(&word), "{word}");
        }
    }
}
