//! Errors in the user's input, each with the value, what was expected, and what to do.

/// Describes the beginning of a file that is not a kernel.
fn beginning(len: usize, start: &str) -> String {
    if len == 0 { "an empty file".to_owned() } else { format!("{len} bytes, starting with {start}") }
}

/// Reason why no guest could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is in none of the known formats.
    #[error(
        "the kernel ({}) has no known format: give an arm64 Image (raw, or \
         compressed with gzip, zstd, xz, lzma, bzip2, lz4 or lzo), an EFI zboot image, or an AArch64 ELF file",
        beginning(*.len, .start)
    )]
    NotAKernel {
        /// Length of the file in bytes.
        len: usize,
        /// Its first bytes in hexadecimal.
        start: String,
    },
    /// A kernel for another architecture.
    #[error("the kernel is for {machine}, expected arm64: build or fetch an arm64 kernel")]
    ForeignKernel {
        /// Architecture of the kernel.
        machine: String,
    },
    /// An EFI program without a kernel's header.
    #[error(
        "the kernel is an EFI program without an arm64 Image header (a unified kernel image?); give the kernel \
         that is inside, as an arm64 Image or an EFI zboot image"
    )]
    EfiProgram,
    /// The Image is compiled for big-endian data.
    #[error("the kernel is big-endian (CONFIG_CPU_BIG_ENDIAN); Hyper-V is little-endian: build it without")]
    BigEndian,
    /// The file ends before the length in its header.
    #[error("the kernel is truncated: {what} ends at byte {need}, the file has {len}; fetch it again")]
    Truncated {
        /// The part that is cut off.
        what: &'static str,
        /// The expected end of that part.
        need: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// A header field has an invalid value.
    #[error("the kernel's header is damaged: {field} is {value:#x}, expected {expected}; fetch it again")]
    BadHeader {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The valid values.
        expected: &'static str,
    },
    /// EFI zboot with an unknown compression.
    #[error(
        "the EFI zboot kernel is compressed with {name:?}; gzip, zstd, xz, lzma, bzip2, lz4 and lzo are known: rebuild \
         it with CONFIG_KERNEL_GZIP or unpack it by hand"
    )]
    ZbootCompression {
        /// The name in its header.
        name: String,
    },
    /// Compressed data could not be unpacked.
    #[error("cannot unpack {what} ({format}); the file is damaged or truncated, fetch it again")]
    Unpack {
        /// The data that was unpacked.
        what: String,
        /// The compression.
        format: &'static str,
        /// The decompressor's error.
        source: std::io::Error,
    },
    /// Compressed data that unpacks to more than is accepted.
    #[error("{what} ({format}) unpacks to more than {} MiB, the maximum here; a kernel may have as many as --memory gives the guest", .limit >> 20)]
    UnpacksTooBig {
        /// The data that was unpacked.
        what: String,
        /// The compression.
        format: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The ELF file could not be parsed.
    #[error("the kernel is an ELF file that cannot be read: {reason}; build or fetch it again")]
    Elf {
        /// The parser's error.
        reason: String,
    },
    /// There are no bytes to load.
    #[error("the ELF kernel has no loadable segment; give a linked executable, not an object file")]
    ElfEmpty,
    /// A segment or the entry point is outside guest RAM.
    #[error(
        "the ELF kernel's {what} at {start:#x}..{end:#x} is outside guest RAM {ram_start:#x}..{ram_end:#x}; link it \
         to physical addresses in there (for Linux give the Image, not vmlinux)"
    )]
    ElfOutsideRam {
        /// "segment" or "entry point".
        what: &'static str,
        /// First address.
        start: u64,
        /// End, exclusive.
        end: u64,
        /// First address of guest RAM.
        ram_start: u64,
        /// End of guest RAM, exclusive.
        ram_end: u64,
    },
    /// Two segments overlap.
    #[error("two segments of the ELF kernel overlap at {gpa:#x}; link it again")]
    ElfOverlap {
        /// First address in both segments.
        gpa: u64,
    },
    /// Guest memory is too small for what must be in it at the start.
    #[error("{memory} MiB of guest memory is too small for this guest: give --memory {need}M or more")]
    MemoryTooSmall {
        /// The guest memory, in MiB.
        memory: u64,
        /// The required memory, in MiB.
        need: u64,
    },
    /// There is no room for the initrd.
    #[error(
        "the initrd of {initrd} bytes does not fit into {memory} MiB of guest memory beside the kernel: give \
         --memory {need}M or more"
    )]
    InitrdTooBig {
        /// Its size in bytes.
        initrd: u64,
        /// The guest memory, in MiB.
        memory: u64,
        /// The required memory, in MiB.
        need: u64,
    },
    /// A memory size that the hypervisor cannot map.
    #[error(
        "{memory} bytes of guest memory: expected a multiple of 2 MiB up to {max} MiB; give --memory one"
    )]
    MemorySize {
        /// The requested size, in bytes.
        memory: u64,
        /// The maximum, in MiB.
        max: u64,
    },
    /// An invalid number of virtual processors.
    #[error("{vps} virtual processors: expected 1 to {max}")]
    Vps {
        /// The requested number.
        vps: u32,
        /// The maximum.
        max: u32,
    },
    /// An interrupt number that is not a free PPI.
    #[error("INTID {intid} for {what}: expected 16 to 31, not taken by a timer or by the other one")]
    Intid {
        /// The use of the interrupt.
        what: &'static str,
        /// The requested number.
        intid: u32,
    },
    /// A command line longer than the kernel accepts.
    #[error("the kernel command line has {len} bytes with the defaults; Linux takes {max}: shorten --append")]
    CommandLineTooLong {
        /// Its length in bytes.
        len: usize,
        /// The maximum, in bytes.
        max: usize,
    },
    /// A command line that is not a valid C string.
    #[error("the kernel command line contains a NUL character; remove it from --append")]
    CommandLineNul,
    /// The device tree could not be written.
    #[error("cannot write the guest's device tree: {0}")]
    Fdt(#[from] vm_fdt::Error),
    /// A file name or size that a cpio archive cannot represent.
    #[error("cannot put {path:?} into the initrd: {reason}")]
    Cpio {
        /// Path inside the archive.
        path: String,
        /// The reason.
        reason: &'static str,
    },
    /// Not an AArch64 kernel module.
    #[error("{name} is not an AArch64 kernel module, plain or compressed; take it from the kernel's package")]
    NotAModule {
        /// Its name.
        name: String,
    },
    /// Not an AArch64 executable.
    #[error("busybox is not an AArch64 executable; take it from Debian's busybox-static:arm64")]
    NotBusybox,
}
