//! Compressed files, recognised by their first bytes.

use std::io::Read;

use super::Error;

/// Compressions that kernels and modules come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz container.
    Xz,
}

impl Format {
    /// The format of `bytes`, `None` where they are none of the known ones.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Format); 3] = [
            (&[0x1f, 0x8b], Format::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Format::Xz),
        ];
        MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, format)| format)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }

    /// Unpacks the first stream in `bytes`; what follows it is ignored, since EFI zboot puts the size there.
    /// `what` names the input in errors. Fails when the result has more than `limit` bytes.
    pub(crate) fn unpack(self, bytes: &[u8], what: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Unpack { what: what.to_owned(), format: self.name(), source };
        let reader: Box<dyn Read + '_> = match self {
            Self::Gzip => Box::new(flate2::read::GzDecoder::new(bytes)),
            Self::Zstd => Box::new(
                ruzstd::decoding::StreamingDecoder::new(bytes)
                    .map_err(|error| failed(std::io::Error::other(error.to_string())))?,
            ),
            Self::Xz => Box::new(lzma_rust2::XzReader::new(bytes, false)),
        };
        let mut out = Vec::new();
        // One byte more than allowed tells "as big as the limit" from "bigger".
        reader.take(limit.saturating_add(1)).read_to_end(&mut out).map_err(failed)?;
        if out.len() as u64 > limit {
            return Err(Error::UnpacksTooBig { what: what.to_owned(), format: self.name(), limit });
        }
        Ok(out)
    }
}

#[cfg(test)]
pub(crate) mod test {
    use std::io::Write;

    use super::*;

    /// `bytes` in gzip.
    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("write to memory");
        encoder.finish().expect("write to memory")
    }

    /// `bytes` in zstd.
    pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// "hello\n" in xz with a CRC32 check, as `xz --check=crc32` writes kernel modules.
    pub(crate) const HELLO_XZ: [u8; 60] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21, 0x01, 0x16,
        0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x00,
        0x00, 0x00, 0x20, 0x30, 0x3a, 0x36, 0x00, 0x01, 0x1a, 0x06, 0xc5, 0xea, 0xc8, 0x79, 0x90, 0x42, 0x99,
        0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];

    #[test]
    fn each_format_unpacks_to_what_was_packed() {
        let data = b"hello\n".repeat(1000);
        for packed in [gzip(&data), zstd(&data)] {
            let format = Format::of(&packed).expect("magic");
            assert_eq!(format.unpack(&packed, "test", 6000).expect("unpack"), data);
        }
        assert_eq!(Format::of(&HELLO_XZ), Some(Format::Xz));
        assert_eq!(Format::Xz.unpack(&HELLO_XZ, "test", 6).expect("unpack"), b"hello\n");
        assert_eq!(Format::of(b"hello"), None);
    }

    #[test]
    fn bytes_after_the_stream_are_ignored() {
        for mut packed in [gzip(b"hello\n"), zstd(b"hello\n"), HELLO_XZ.to_vec()] {
            packed.extend_from_slice(&6u32.to_le_bytes());
            let format = Format::of(&packed).expect("magic");
            assert_eq!(format.unpack(&packed, "test", 6).expect("unpack"), b"hello\n");
        }
    }

    #[test]
    fn more_than_the_limit_is_refused() {
        let bomb = gzip(&vec![0; 1 << 20]);
        assert!(matches!(
            Format::Gzip.unpack(&bomb, "test", (1 << 20) - 1),
            Err(Error::UnpacksTooBig { limit: 0xf_ffff, .. })
        ));
    }

    #[test]
    fn a_truncated_stream_is_an_error() {
        for packed in [gzip(b"hello\n"), zstd(b"hello\n"), HELLO_XZ.to_vec()] {
            let format = Format::of(&packed).expect("magic");
            for cut in [packed.len() / 2, packed.len() - 4] {
                let error = format.unpack(&packed[..cut], "test", 6).err();
                // zstd without a checksum has no trailer that could be missing.
                assert!(format == Format::Zstd || error.is_some(), "{format:?} cut at {cut}");
            }
        }
    }
}
