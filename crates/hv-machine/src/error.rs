//! What can be wrong with what the user gave, each with the value, what was expected, and what to do.

/// Why no guest could be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// None of the known formats.
    #[error(
        "the kernel ({len} bytes, starting with {start}) has no known format: give an arm64 Image (raw, or \
         compressed with gzip, zstd, xz, lzma, bzip2, lz4 or lzo), an EFI zboot image, or an AArch64 ELF file"
    )]
    NotAKernel {
        /// Length of the file in bytes.
        len: usize,
        /// Its first bytes in hexadecimal.
        start: String,
    },
    /// A kernel, but for something else.
    #[error("the kernel is for {machine}; an arm64 one is needed")]
    ForeignKernel {
        /// The machine that it is for.
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
    /// The file ends before what its header promises.
    #[error("the kernel is truncated: {what} ends at byte {need}, the file has {len}; fetch it again")]
    Truncated {
        /// The part that does not fit.
        what: &'static str,
        /// Where that part should end.
        need: u64,
        /// Length of the file in bytes.
        len: u64,
    },
    /// A header field has a value that can't be.
    #[error("the kernel's header is damaged: {field} is {value:#x}, expected {expected}; fetch it again")]
    BadHeader {
        /// The field.
        field: &'static str,
        /// What it holds.
        value: u64,
        /// What it may hold.
        expected: &'static str,
    },
    /// EFI zboot with a compression that we can't undo.
    #[error(
        "the EFI zboot kernel is compressed with {name:?}; gzip, zstd, xz, lzma, bzip2, lz4 and lzo are known: rebuild \
         it with CONFIG_KERNEL_GZIP or unpack it by hand"
    )]
    ZbootCompression {
        /// The name in its header.
        name: String,
    },
    /// Compressed data does not unpack.
    #[error("cannot unpack {what} ({format}); the file is damaged or truncated, fetch it again")]
    Unpack {
        /// What was unpacked.
        what: String,
        /// The compression.
        format: &'static str,
        /// What the decompressor said.
        source: std::io::Error,
    },
    /// Compressed data that does not end where it would still be of use.
    #[error("{what} ({format}) unpacks to more than {limit} bytes; give more with --memory if that is right")]
    UnpacksTooBig {
        /// What was unpacked.
        what: String,
        /// The compression.
        format: &'static str,
        /// The most that was accepted, in bytes.
        limit: u64,
    },
    /// The ELF file does not parse.
    #[error("the kernel is an ELF file that cannot be read: {reason}; build or fetch it again")]
    Elf {
        /// What the parser said.
        reason: String,
    },
    /// No bytes to load.
    #[error("the ELF kernel has no loadable segment; give a linked executable, not an object file")]
    ElfEmpty,
    /// A segment or the entry lies elsewhere.
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
    /// Two segments claim the same bytes.
    #[error("two segments of the ELF kernel overlap at {gpa:#x}; link it again")]
    ElfOverlap {
        /// First address that both claim.
        gpa: u64,
    },
    /// What has to be in memory at the start does not fit.
    #[error("{memory} MiB of guest memory are too small for this guest: give --memory {need}M or more")]
    MemoryTooSmall {
        /// What there is, in MiB.
        memory: u64,
        /// What is needed, in MiB.
        need: u64,
    },
    /// The initrd leaves no room.
    #[error(
        "the initrd of {initrd} MiB does not fit into {memory} MiB of guest memory beside the kernel: give \
         --memory {need}M or more"
    )]
    InitrdTooBig {
        /// Its size in MiB, rounded up.
        initrd: u64,
        /// What there is, in MiB.
        memory: u64,
        /// What is needed, in MiB.
        need: u64,
    },
    /// Not a size that the hypervisor can map.
    #[error("{memory} bytes of guest memory: expected a multiple of 2 MiB up to {max} MiB")]
    MemorySize {
        /// What was asked for, in bytes.
        memory: u64,
        /// The most, in MiB.
        max: u64,
    },
    /// Number of virtual processors.
    #[error("{vps} virtual processors: expected 1 to {max}")]
    Vps {
        /// What was asked for.
        vps: u32,
        /// The most.
        max: u32,
    },
    /// An interrupt number that can't be one of the guest's own PPIs.
    #[error("INTID {intid} for {what}: expected 16 to 31, not taken by a timer or by the other one")]
    Intid {
        /// What the interrupt is for.
        what: &'static str,
        /// What was asked for.
        intid: u32,
    },
    /// Command line that the kernel would cut.
    #[error("the kernel command line has {len} bytes with the defaults; Linux takes {max}: shorten --append")]
    CommandLineTooLong {
        /// Its length in bytes.
        len: usize,
        /// The most, in bytes.
        max: usize,
    },
    /// Command line that can't be a C string.
    #[error("the kernel command line holds a NUL character; remove it from --append")]
    CommandLineNul,
    /// The device tree can't be written.
    #[error("cannot write the guest's device tree: {0}")]
    Fdt(#[from] vm_fdt::Error),
    /// A file name or size that a cpio archive can't hold.
    #[error("cannot put {path:?} into the initrd: {reason}")]
    Cpio {
        /// Path inside the archive.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Not an AArch64 kernel module.
    #[error(
        "{name} is not an AArch64 kernel module, also not a compressed one; take it from the kernel's package"
    )]
    NotAModule {
        /// Its name.
        name: String,
    },
    /// Not an AArch64 program.
    #[error("busybox is not an AArch64 executable; take it from Debian's busybox-static:arm64")]
    NotBusybox,
}
