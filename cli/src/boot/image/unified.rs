//! Unified kernel images: an EFI program with a kernel, its initrd and its command line as sections (UAPI.5, "Unified
//! Kernel Image").
//!
//! Offsets are those of Microsoft's PE Format: the place of the signature at 0x3c; the file header's machine at 0,
//! number of sections at 2 and size of the optional header at 16; a section's name at 0, size in memory at 8, size and
//! place in the file at 16 and 20.

use anyhow::Context as _;

use crate::read_at::number;

/// The machine AArch64.
const AARCH64: u64 = 0xaa64;
/// Bytes of the signature, of the file header, and of a section's.
const SIGNATURE: &[u8] = b"PE\0\0";
const HEADER: usize = 20;
const SECTION: usize = 40;
/// Sections that are looked at, at most: a program has 96 at most.
const MOST: usize = 96;

/// The parts of a unified kernel image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Unified<'a> {
    pub(super) kernel: &'a [u8],
    pub(super) initrd: Option<&'a [u8]>,
    pub(super) options: String,
    /// The kernel's version, and the name of the system.
    pub(super) version: String,
    pub(super) title: String,
}

impl<'a> Unified<'a> {
    /// Finds the parts of a file; `None` if it is not a program for AArch64 with a kernel.
    ///
    /// # Errors
    /// A part ends behind the file.
    pub(super) fn of(file: &'a [u8]) -> anyhow::Result<Option<Self>> {
        let Some(sections) = sections(file) else { return Ok(None) };
        let mut found = Self::default();
        let mut names = Vec::new();
        for section in sections {
            let name = section[..8].trim_ascii_end();
            let name = &name[..name.iter().position(|byte| *byte == 0).unwrap_or(name.len())];
            // Profiles begin there, which change what is before them. Otherwise the first of each name counts.
            if name == b".profile" {
                break;
            }
            if names.contains(&name) {
                continue;
            }
            names.push(name);
            let bytes = || contents(file, section, name);
            match name {
                b".linux" => found.kernel = bytes()?,
                b".initrd" => found.initrd = Some(bytes()?),
                b".cmdline" => found.options = text(bytes()?),
                b".uname" => found.version = text(bytes()?),
                b".osrel" => found.title = pretty_name(&text(bytes()?)),
                _ => {}
            }
        }
        Ok((!found.kernel.is_empty()).then_some(found))
    }
}

/// Returns the sections of a program for AArch64.
fn sections(file: &[u8]) -> Option<impl Iterator<Item = &[u8]>> {
    let at = usize::try_from(number(file.get(0x3c..0x40)?)).ok()?;
    let head = file.get(at..)?.strip_prefix(SIGNATURE)?;
    let field = |at: usize| Some(number(head.get(at..at + 2)?));
    if field(0)? != AARCH64 {
        return None;
    }
    let (count, optional) = (field(2)? as usize, field(16)? as usize);
    Some(head.get(HEADER + optional..)?.chunks_exact(SECTION).take(count.min(MOST)))
}

/// Returns a section's contents: what is in the file may be longer, or end before its zeros in memory.
fn contents<'a>(file: &'a [u8], section: &[u8], name: &[u8]) -> anyhow::Result<&'a [u8]> {
    let field = |at: usize| number(&section[at..at + 4]);
    let (memory, length, at) = (field(8), field(16), field(20));
    let end = at + length.min(memory);
    let part =
        usize::try_from(at).ok().zip(usize::try_from(end).ok()).and_then(|(at, end)| file.get(at..end));
    part.with_context(|| {
        let name = String::from_utf8_lossy(name);
        format!("its part {name} ends at byte {end}, and the file at {}", file.len())
    })
}

/// Returns a section's text, without what is after its end.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).trim().to_owned()
}

/// Returns the system's name for users (os-release(5)).
fn pretty_name(release: &str) -> String {
    let name = release.lines().find_map(|line| line.trim().strip_prefix("PRETTY_NAME="));
    name.unwrap_or_default().trim_matches(['"', '\'']).to_owned()
}

/// Builds a program for a machine with these sections.
#[cfg(test)]
pub(super) fn program(machine: u16, sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 0x80];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x80;
    file.extend(SIGNATURE);
    let mut header = [0; HEADER];
    header[..2].copy_from_slice(&machine.to_le_bytes());
    header[2] = sections.len() as u8;
    header[16] = 24;
    file.extend(header);
    file.extend([0; 24]);
    let mut at = file.len() + sections.len() * SECTION;
    for (name, bytes) in sections {
        let mut section = [0; SECTION];
        section[..name.len()].copy_from_slice(name.as_bytes());
        let padded = bytes.len().next_multiple_of(16);
        for (place, value) in [(8, bytes.len()), (16, padded), (20, at)] {
            section[place..place + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        at += padded;
        file.extend(section);
    }
    for (_, bytes) in sections {
        file.extend(*bytes);
        let padding = bytes.len().next_multiple_of(16) - bytes.len();
        file.resize(file.len() + padding, 0);
    }
    file
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PARTS: [(&str, &[u8]); 6] = [
        (".osrel", b"ID=x\nPRETTY_NAME=\"The system\"\n"),
        (".cmdline", b"root=/dev/sda2 quiet\n\0\0"),
        (".uname", b"6.12.1"),
        (".linux", b"kernel"),
        (".initrd", b"initrd"),
        (".linux", b"another"),
    ];

    #[test]
    fn the_parts_are_sections() {
        let file = program(0xaa64, &PARTS);
        let found = Unified::of(&file).unwrap().unwrap();
        assert_eq!((found.kernel, found.initrd), (&b"kernel"[..], Some(&b"initrd"[..])));
        assert_eq!((&*found.options, &*found.version), ("root=/dev/sda2 quiet", "6.12.1"));
        assert_eq!(found.title, "The system");
        let profiles = [PARTS[3], (".profile", b"ID=other"), PARTS[1]];
        assert_eq!(Unified::of(&program(0xaa64, &profiles)).unwrap().unwrap().options, "");
    }

    #[test]
    fn other_programs_are_none() {
        for file in [program(0x8664, &PARTS), program(0xaa64, &PARTS[..3]), b"MZ".to_vec()] {
            assert_eq!(Unified::of(&file).unwrap(), None);
        }
    }

    #[test]
    fn a_part_behind_the_end_of_the_file_is_an_error() {
        let file = program(0xaa64, &PARTS);
        let mut said = Vec::new();
        for length in 0..file.len() - 16 {
            said.extend(Unified::of(&file[..length]).err().map(|error| error.to_string()));
        }
        let initrd = file.len() - 32;
        let expected = format!("its part .initrd ends at byte {}, and the file at {}", initrd + 6, initrd);
        assert!(said.contains(&expected), "{:?}", said.last());
    }

    proptest! {
        #[test]
        fn no_bytes_end_the_reader(at in 0usize..400, bytes in proptest::collection::vec(any::<u8>(), 1..40)) {
            let mut file = program(0xaa64, &PARTS);
            for (place, byte) in file.iter_mut().skip(at).zip(bytes) {
                *place = byte;
            }
            let _ = Unified::of(&file);
        }
    }
}
