//! Kernel modules and their .modinfo.
//!
//! Source: Linux, include/linux/module.h, `MODULE_INFO`: "key=value" strings in the section .modinfo, each terminated
//! by NUL.

use elf::ElfBytes;
use elf::abi::ET_REL;
use elf::endian::LittleEndian;

use super::super::Error;
use super::super::kernel::is_aarch64_elf;
use super::super::unpack::Format;

/// Maximum unpacked size of a module: far more than any module has.
const LIMIT: u64 = 256 << 20;

/// A module, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Module {
    /// The module's name in the kernel.
    pub name: String,
    /// The object file.
    pub bytes: Vec<u8>,
    /// Names of the modules that must be loaded first.
    pub depends: Vec<String>,
    /// Version of the kernel it was built for; empty if not recorded.
    pub version: String,
}

impl Module {
    /// Reads a module, compressed or not. `file` is the file name.
    ///
    /// # Errors
    /// [`Error::NotAModule`], and the errors of unpacking.
    pub fn read(file: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let bytes = match Format::of(&bytes) {
            Some(format) => format.unpack(&bytes, file, LIMIT)?,
            None => bytes,
        };
        // e_type: a module is a relocatable object.
        if !is_aarch64_elf(&bytes) || bytes.get(16..18) != Some(&ET_REL.to_le_bytes()) {
            return Err(Error::NotAModule { name: file.to_owned() });
        }
        let info = info(&bytes).unwrap_or_default();
        let values =
            |key: &'static str| info.iter().filter_map(move |(known, value)| (known == key).then_some(value));
        let depends = values("depends").flat_map(|names| names.split(',')).filter(|name| !name.is_empty());
        let depends = depends.map(name_of).collect();
        let version = values("vermagic").next().and_then(|text| text.split_whitespace().next());
        let version = version.unwrap_or_default().to_owned();
        Ok(Self { name: name_of(file), depends, version, bytes })
    }
}

/// Returns keys and values of a module; `None` if it has no .modinfo.
fn info(module: &[u8]) -> Option<Vec<(String, String)>> {
    let file = ElfBytes::<LittleEndian>::minimal_parse(module).ok()?;
    let header = file.section_header_by_name(".modinfo").ok()??;
    let (section, _) = file.section_data(&header).ok()?;
    let pairs = section.split(|&byte| byte == 0).filter_map(|text| {
        let (key, value) = std::str::from_utf8(text).ok()?.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    });
    Some(pairs.collect())
}

/// Returns the name of the module in a file: "hv_vmbus" for "some/where/hv-vmbus.ko.xz". In names `-` and `_` are the
/// same.
#[must_use]
pub fn name_of(file: &str) -> String {
    let file = file.rsplit('/').next().unwrap_or(file);
    file.split('.').next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
pub(super) mod test {
    use super::super::super::unpack::test::gzip;
    use super::*;

    /// Builds a relocatable AArch64 object with this .modinfo.
    pub(crate) fn module(info: &[u8]) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        (file[16], file[18], file[20]) = (1, 183, 1);
        file.extend_from_slice(info);
        let names_at = file.len() as u64;
        file.extend_from_slice(names);
        let sections = file.len() as u64;
        file.resize(file.len() + 64, 0);
        let all = [(1u32, 1u32, 64, info.len() as u64), (10, 3, names_at, names.len() as u64)];
        for (name, kind, at, size) in all {
            let mut section = vec![0; 64];
            section[..4].copy_from_slice(&name.to_le_bytes());
            section[4..8].copy_from_slice(&kind.to_le_bytes());
            section[24..32].copy_from_slice(&at.to_le_bytes());
            section[32..40].copy_from_slice(&size.to_le_bytes());
            file.extend_from_slice(&section);
        }
        file[40..48].copy_from_slice(&sections.to_le_bytes());
        file[58..64].copy_from_slice(&[64, 0, 3, 0, 2, 0]);
        file
    }

    #[test]
    fn a_module_says_what_it_needs() {
        let file =
            module(b"license=GPL\0depends=hv-vmbus,ptp\0vermagic=6.12.1-test SMP mod_unload aarch64\0");
        for bytes in [file.clone(), gzip(&file)] {
            let read = Module::read("kernel/drivers/hv/hv_utils.ko.gz", bytes).unwrap();
            assert_eq!((read.name.as_str(), read.version.as_str()), ("hv_utils", "6.12.1-test"));
            assert_eq!(read.depends, ["hv_vmbus", "ptp"]);
            assert_eq!(read.bytes, file);
        }
        let silent = Module::read("a.ko", module(b"depends=\0")).unwrap();
        assert_eq!((silent.depends.len(), silent.version.as_str()), (0, ""));
    }

    #[test]
    fn what_is_no_module_is_refused() {
        for bad in [&b"text"[..], &module(b"")[..63], &[]] {
            assert!(matches!(Module::read("a.ko", bad.to_vec()), Err(Error::NotAModule { .. })));
        }
        let mut damaged = module(b"depends=a\0");
        for at in 0..damaged.len() {
            let was = std::mem::replace(&mut damaged[at], 0xff);
            let _ = Module::read("a.ko", damaged.clone());
            damaged[at] = was;
        }
    }
}
