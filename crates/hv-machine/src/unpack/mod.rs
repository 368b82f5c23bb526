//! Compressed files, recognised by their first bytes, in the formats that the kernel's build produces.

mod lz4;
mod lzo;

use std::io::Read;

use super::Error;

/// Compressions of kernels and modules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// The .xz container.
    Xz,
    /// The .lzma file, predecessor of .xz.
    Lzma,
    /// bzip2.
    Bzip2,
    /// LZ4's legacy frame.
    Lz4,
    /// LZ4's frame.
    Lz4Frame,
    /// The container of lzop.
    Lzo,
}

/// Maximum size of the LZMA dictionary in KiB: `xz -9` uses 64 MiB, kernels from 6.7 on 128 MiB.
const DICTIONARY: u32 = 256 << 10;

impl Format {
    /// Returns the format of `bytes`; `None` if it is unknown.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Format); 7] = [
            (&[0x1f, 0x8b], Format::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Format::Xz),
            (b"BZh", Format::Bzip2),
            (&lz4::LEGACY, Format::Lz4),
            (&lz4::FRAME, Format::Lz4Frame),
            (&lzo::MAGIC, Format::Lzo),
        ];
        let known = MAGICS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|&(_, format)| format);
        known.or_else(|| is_lzma(bytes).then_some(Self::Lzma))
    }

    /// Returns the usual name of the format.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Lz4 | Self::Lz4Frame => "lz4",
            Self::Lzo => "lzo",
        }
    }

    /// Returns the format with this name in an EFI zboot image; newer kernels append the level ("zstd22", "xzkern").
    pub(crate) fn named(name: &[u8]) -> Option<Self> {
        const NAMES: [(&[u8], Format); 7] = [
            (b"gzip", Format::Gzip),
            (b"zstd", Format::Zstd),
            (b"xz", Format::Xz),
            (b"lzma", Format::Lzma),
            (b"bzip2", Format::Bzip2),
            (b"lz4", Format::Lz4),
            (b"lzo", Format::Lzo),
        ];
        NAMES.iter().find(|(known, _)| name.starts_with(known)).map(|&(_, format)| format)
    }

    /// Unpacks the first stream in `bytes`; what follows it is ignored, since EFI zboot puts the size there. `what`
    /// names the input in errors. Fails if the result exceeds `limit` bytes.
    pub(crate) fn unpack(self, bytes: &[u8], what: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Unpack { what: what.to_owned(), format: self.name(), source };
        // One byte more than the limit distinguishes "as large as the limit" from "larger".
        let most = limit.saturating_add(1);
        let out = match self {
            Self::Gzip => all(flate2::read::GzDecoder::new(bytes), most),
            Self::Zstd => zstd(bytes, most),
            Self::Xz => all(lzma_rust2::XzReader::new_mem_limit(bytes, false, DICTIONARY), most),
            Self::Lzma => lzma_rust2::LzmaReader::new_mem_limit(bytes, DICTIONARY, None)
                .and_then(|reader| all(reader, most)),
            Self::Bzip2 => all(bzip2::read::BzDecoder::new(bytes), most),
            Self::Lz4 => lz4::unpack(bytes, limit),
            Self::Lz4Frame => all(lz4_flex::frame::FrameDecoder::new(bytes), most),
            Self::Lzo => lzo::unpack(bytes, limit),
        };
        let out = out.map_err(failed)?;
        if out.len() as u64 > limit {
            return Err(Error::UnpacksTooBig { what: what.to_owned(), format: self.name(), limit });
        }
        Ok(out)
    }
}

/// Reads everything from a reader, up to `most` bytes.
fn all(reader: impl Read, most: u64) -> std::io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(most).read_to_end(&mut out)?;
    Ok(out)
}

/// Returns true if `bytes` look like an .lzma file, which has no magic number. Like the kernel (lib/decompress.c) and
/// `file`, requires the usual properties, a dictionary size that is a power of two or one and a half times that, and a
/// plausible or unknown size.
fn is_lzma(bytes: &[u8]) -> bool {
    let Some((header, _)) = bytes.split_first_chunk::<13>() else { return false };
    let [properties, d0, d1, d2, d3, size @ ..] = *header;
    let dictionary = u32::from_le_bytes([d0, d1, d2, d3]);
    let size = u64::from_le_bytes(size);
    let usual =
        dictionary >= 1 << 12 && (dictionary.is_power_of_two() || (dictionary / 3 * 2).is_power_of_two());
    properties == 0x5d && usual && (size == u64::MAX || size < 1 << 40)
}

/// Unpacks zstd. Data compressed by `zstd -22` from a pipe, as in the kernel's build, has a window of 128 MiB in its
/// header, more than the decoder accepts; a smaller window is equivalent for data that is no longer than the window.
fn zstd(bytes: &[u8], most: u64) -> std::io::Result<Vec<u8>> {
    /// 96 MiB, in the encoding of RFC 8878, "Window Descriptor": exponent 16, mantissa 4.
    const LONGEST_WINDOW: u8 = 16 << 3 | 4;
    /// Frame header descriptor: no window descriptor follows.
    const SINGLE_SEGMENT: u8 = 1 << 5;
    let mut head = bytes.iter().copied().take(6).collect::<Vec<_>>();
    if let [_, _, _, _, descriptor, window] = &mut *head
        && *descriptor & SINGLE_SEGMENT == 0
    {
        *window = (*window).min(LONGEST_WINDOW);
    }
    let rest = bytes.get(head.len()..).unwrap_or_default();
    let other = |error: ruzstd::decoding::errors::FrameDecoderError| std::io::Error::other(error.to_string());
    all(ruzstd::decoding::StreamingDecoder::new((&*head).chain(rest)).map_err(other)?, most)
}

#[cfg(test)]
pub(crate) mod test {
    use std::io::Write;

    use super::*;

    /// Compresses `bytes` with gzip.
    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("write to memory");
        encoder.finish().expect("write to memory")
    }

    /// Compresses `bytes` with zstd.
    pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// "hello\n" in xz with a CRC32 check, the form of kernel modules packed by `xz --check=crc32`.
    pub(crate) const HELLO_XZ: [u8; 60] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21, 0x01, 0x16,
        0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0x01, 0x00, 0x05, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x0a, 0x00,
        0x00, 0x00, 0x20, 0x30, 0x3a, 0x36, 0x00, 0x01, 0x1a, 0x06, 0xc5, 0xea, 0xc8, 0x79, 0x90, 0x42, 0x99,
        0x0d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x01, 0x59, 0x5a,
    ];

    /// A text packed by the tools of Debian 12 with the options of the kernel's build.
    pub(crate) const SAMPLES: [(Format, &[u8]); 7] = [
        (Format::Lz4, include_bytes!("samples/text.lz4")),
        (Format::Lz4Frame, include_bytes!("samples/text.frame.lz4")),
        (Format::Bzip2, include_bytes!("samples/text.bz2")),
        (Format::Lzma, include_bytes!("samples/text.lzma")),
        (Format::Lzo, include_bytes!("samples/text.lzo")),
        (Format::Xz, include_bytes!("samples/text.xz")),
        (Format::Zstd, include_bytes!("samples/text.zst")),
    ];
    pub(crate) const TEXT: &[u8] = include_bytes!("samples/text");

    #[test]
    fn what_the_usual_tools_pack_is_unpacked() {
        for (format, packed) in SAMPLES {
            assert_eq!(Format::of(packed), Some(format));
            let limit = TEXT.len() as u64;
            assert_eq!(format.unpack(packed, "test", limit).unwrap(), TEXT, "{format:?}");
            let error = format.unpack(packed, "test", limit - 1).unwrap_err();
            assert!(matches!(error, Error::UnpacksTooBig { .. }), "{format:?}: {error}");
            // The kernel's build appends the size.
            let sized = [packed, &(TEXT.len() as u32).to_le_bytes()].concat();
            assert_eq!(format.unpack(&sized, "test", limit).unwrap(), TEXT, "{format:?}");
        }
    }

    #[test]
    fn whatever_is_damaged_gives_bytes_or_an_error() {
        for (format, packed) in SAMPLES {
            let mut bytes = packed.to_vec();
            for at in (0..bytes.len()).filter(|at| *at < 64 || at % 7 == 0) {
                let was = bytes[at];
                for damage in [0, 0xff, was ^ 1, was ^ 0x80] {
                    bytes[at] = damage;
                    let _ = format.unpack(&bytes, "test", 1 << 16);
                }
                bytes[at] = was;
            }
            // The magic number selected the format.
            for cut in 9..packed.len() {
                let cut_off = format.unpack(&packed[..cut], "test", 1 << 16);
                // If a frame ends where a block would begin, nothing after the loss shows it.
                let open =
                    matches!(format, Format::Lz4 | Format::Lz4Frame) && cut < 12 || format == Format::Zstd;
                assert!(open || cut_off.is_err() || cut + 12 > packed.len(), "{format:?} cut at {cut}");
            }
        }
    }

    /// Checks that no dictionary of 4 GiB is allocated, whatever the header says.
    #[test]
    fn a_dictionary_without_measure_is_refused() {
        let mut packed = SAMPLES[3].1.to_vec();
        packed[1..5].copy_from_slice(&0x8000_0000u32.to_le_bytes());
        assert!(Format::Lzma.unpack(&packed, "test", 1 << 20).is_err());
    }

    #[test]
    fn a_long_window_is_taken() {
        // Packed from a pipe: no size in the header, so there is a window descriptor.
        let mut packed = SAMPLES[6].1.to_vec();
        assert_eq!(packed[4] & 1 << 5, 0);
        packed[5] = 17 << 3;
        assert_eq!(Format::Zstd.unpack(&packed, "test", 1 << 20).unwrap(), TEXT);
    }

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
