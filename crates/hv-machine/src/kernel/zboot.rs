//! The EFI zboot container: a small PE program that contains a compressed kernel.
//!
//! Source: Linux, drivers/firmware/efi/libstub/zboot-header.S.

use super::super::Error;
use super::super::unpack::Format;
use super::{u16_at, u32_at};

/// PE machine number of 64-bit ARM.
pub(super) const MACHINE_ARM64: u16 = 0xaa64;

/// Returns the machine number in the PE header of `file`; `None` without such a header.
pub(super) fn pe_machine(file: &[u8]) -> Option<u16> {
    let pe = pe_header(file)?;
    u16_at(file, pe + 4)
}

/// Returns the offset of the PE header, which the MS-DOS header gives at offset 60.
fn pe_header(file: &[u8]) -> Option<usize> {
    let pe = usize::try_from(u32_at(file, 60)?).ok()?;
    (file.starts_with(b"MZ") && file.get(pe..)?.starts_with(b"PE\0\0")).then_some(pe)
}

/// Returns the end of the last PE section, which is the minimum length of the file; `None` without a PE header.
pub(super) fn pe_end(file: &[u8]) -> Option<u64> {
    let pe = pe_header(file)?;
    let sections = usize::from(u16_at(file, pe + 6)?);
    let optional = usize::from(u16_at(file, pe + 20)?);
    let table = pe + 24 + optional;
    let mut end = 0;
    for section in 0..sections {
        let header = table + section * 40;
        let size = u64::from(u32_at(file, header + 16)?);
        let start = u64::from(u32_at(file, header + 20)?);
        end = end.max(start + size);
    }
    Some(end)
}

/// Returns the compressed kernel inside `file` and its compression; `None` if `file` is not a zboot image.
pub(super) fn payload(file: &[u8]) -> Result<Option<(Format, &[u8])>, Error> {
    if !file.starts_with(b"MZ") || file.get(4..8) != Some(b"zimg") {
        return Ok(None);
    }
    let len = file.len() as u64;
    let header = Error::Truncated { what: "the zboot header", need: 64, len };
    let (Some(offset), Some(size), Some(name)) = (u32_at(file, 8), u32_at(file, 12), file.get(24..56)) else {
        return Err(header);
    };
    if let Some(machine) = pe_machine(file).filter(|&machine| machine != MACHINE_ARM64) {
        let machine = format!("PE machine {machine:#06x}");
        return Err(Error::ForeignKernel { machine });
    }
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    let format = Format::named(name);
    let format =
        format.ok_or_else(|| Error::ZbootCompression { name: String::from_utf8_lossy(name).into_owned() })?;
    let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(size));
    let payload = usize::try_from(start).ok().zip(usize::try_from(end).ok());
    let payload = payload.and_then(|(start, end)| file.get(start..end));
    payload.map(|payload| Some((format, payload))).ok_or(Error::Truncated {
        what: "the compressed kernel",
        need: end,
        len,
    })
}

#[cfg(test)]
pub(crate) mod test {
    use super::super::super::unpack::test::{gzip, zstd};
    use super::super::image::test::image;
    use super::super::load;
    use super::*;

    const RAM: std::ops::Range<u64> = 0x4040_0000..0x5040_0000;

    /// Builds a zboot image that claims to contain `payload` compressed with `name`.
    pub(crate) fn zboot(name: &str, payload: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x200];
        file[..2].copy_from_slice(b"MZ");
        file[4..8].copy_from_slice(b"zimg");
        file[8..12].copy_from_slice(&0x200u32.to_le_bytes());
        file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file[24..24 + name.len()].copy_from_slice(name.as_bytes());
        file.extend_from_slice(payload);
        file
    }

    #[test]
    fn the_image_inside_is_loaded() {
        let image = image(0x10000);
        for (name, mut payload) in [("gzip", gzip(&image)), ("zstd", zstd(&image)), ("zstd22", zstd(&image))]
        {
            payload.extend_from_slice(&(image.len() as u32).to_le_bytes());
            let kernel = load(zboot(name, &payload), RAM).expect(name);
            assert_eq!(kernel.segments, [(RAM.start, image.clone())]);
        }
    }

    #[test]
    fn an_unknown_compression_is_named() {
        let text = load(zboot("brotli", b""), RAM).unwrap_err().to_string();
        assert!(text.contains("\"brotli\""), "{text}");
    }

    #[test]
    fn a_payload_beyond_the_file_is_a_truncated_kernel() {
        let mut file = zboot("gzip", &gzip(&image(0x10000)));
        let len = file.len() as u64;
        file.pop();
        let error = load(file, RAM).unwrap_err();
        assert!(
            matches!(error, Error::Truncated { need, len: l, .. } if need == len && l == len - 1),
            "{error}"
        );
    }
}
