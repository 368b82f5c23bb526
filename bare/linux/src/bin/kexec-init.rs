//! An /init that starts a second kernel in place of the first: kexec, as kexec-tools does it.
//!
//! It loads `/hv_vmbus.ko` and prints whether VMBus connected. If there is an `/Image`, it is started with `/initrd`;
//! the second kernel has none, and powers off. In a system that runs, it works as a program as well, in a root
//! directory with these files.
//!
//! The second kernel gets the first one's device tree with the new initramfs, and with a new `rng-seed`, which the
//! first kernel has erased: without one it waits for randomness for seconds.
//!
//! Source: Linux, kexec_load(2); Documentation/arch/arm64/booting.rst; Devicetree Specification 0.4, section 5,
//! "Flattened Devicetree (DTB) Format".
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls, and code for between two kernels")]

use core::arch::global_asm;
use core::ffi::CStr;
use core::fmt;

use linux::{call, error, number, read, say};

linux::entry!(main);

/// Maximum size of a file.
const LARGEST: usize = 128 << 20;
/// Alignment of an arm64 Image.
const ALIGN: u64 = 2 << 20;
const PAGE: u64 = 64 << 10;

/// The step that failed.
enum Failed {
    Call(&'static str, i64),
    Invalid(&'static str),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(what, error) => write!(f, "{what}: error {error}"),
            Self::Invalid(what) => write!(f, "{what} is invalid"),
        }
    }
}

fn called(what: &'static str) -> impl Fn(i64) -> Failed {
    move |error| Failed::Call(what, error)
}

fn main(_: *const u64) {
    if let Err(failed) = try_main() {
        say!("kexec: FAILED: {failed}");
    }
}

fn try_main() -> Result<(), Failed> {
    linux::mount(c"proc", c"/proc").map_err(called("mount /proc"))?;
    linux::mount(c"sysfs", c"/sys").map_err(called("mount /sys"))?;
    let image = read(c"/Image", LARGEST);
    let which = if image.is_ok() { "first" } else { "second" };
    say!("kexec: {which} kernel, {} processors", processors()?);
    let connected = connect()?;
    say!("kexec: {which} kernel {}", if connected { "connected" } else { "NOT connected" });
    let Ok(image) = image else { return Ok(()) };
    load(image)?;
    Err(Failed::Call("reboot", -linux::reboot(linux::KEXEC)))
}

/// Returns the number of CPUs that this process may run on.
fn processors() -> Result<u32, Failed> {
    let mut mask = [0u64; 16];
    let arguments = [0, size_of_val(&mask) as u64, mask.as_mut_ptr() as u64, 0, 0, 0];
    // SAFETY: the kernel writes to `mask` only.
    error(unsafe { call(number::SCHED_GETAFFINITY, arguments) }).map_err(called("sched_getaffinity"))?;
    Ok(mask.iter().map(|word| word.count_ones()).sum())
}

/// Loads the VMBus driver, and waits a few seconds for its connection.
fn connect() -> Result<bool, Failed> {
    const READ_ALL: u64 = 3;
    const EEXIST: i64 = 17;
    let module = read(c"/hv_vmbus.ko", LARGEST).map_err(called("/hv_vmbus.ko"))?;
    let arguments = [module.as_ptr() as u64, module.len() as u64, c"".as_ptr() as u64, 0, 0, 0];
    // SAFETY: the kernel reads the module and its arguments only.
    match error(unsafe { call(number::INIT_MODULE, arguments) }) {
        Ok(_) => {}
        // It is loaded already.
        Err(EEXIST) => {}
        Err(error) => return Err(Failed::Call("init_module", error)),
    }
    let log = linux::memory(1 << 20).map_err(called("mmap"))?;
    for _ in 0..100 {
        let arguments = [READ_ALL, log.as_mut_ptr() as u64, log.len() as u64, 0, 0, 0];
        // SAFETY: the kernel writes to `log` only.
        let length = error(unsafe { call(number::SYSLOG, arguments) }).map_err(called("syslog"))?;
        if find(&log[..length as usize], b"Vmbus version:").is_some() {
            return Ok(true);
        }
        // Seconds and nanoseconds.
        let time = [0u64, 50_000_000];
        // SAFETY: the kernel reads the time only.
        unsafe { call(number::NANOSLEEP, [time.as_ptr() as u64, 0, 0, 0, 0, 0]) };
    }
    Ok(false)
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|part| part == what)
}

/// A segment of the second kernel's memory, as kexec_load takes it.
#[repr(C)]
struct Segment {
    from: *const u8,
    size: u64,
    to: u64,
    room: u64,
}

impl Segment {
    fn new(from: &[u8], to: u64, room: u64) -> Self {
        Self { from: from.as_ptr(), size: from.len() as u64, to, room: room.next_multiple_of(PAGE) }
    }
}

/// Loads the second kernel to where the first one is, and the rest after it.
fn load(image: &[u8]) -> Result<(), Failed> {
    const ARM64: u64 = 183 << 16;
    /// Offset of the size in memory in an Image's header.
    const IMAGE_SIZE: usize = 16;
    /// Distance of the rest from the kernel: after what firmware left there, too.
    const BEHIND: u64 = 64 << 20;
    let initrd = read(c"/initrd", LARGEST).map_err(called("/initrd"))?;
    let tree = read(c"/sys/firmware/fdt", 2 << 20).map_err(called("/sys/firmware/fdt"))?;
    let size = image.get(IMAGE_SIZE..IMAGE_SIZE + 8).and_then(|bytes| bytes.try_into().ok());
    let size = u64::from_le_bytes(size.ok_or(Failed::Invalid("/Image"))?);
    let kernel = kernel_address()?;
    let tree_at = (kernel + size + BEHIND).next_multiple_of(ALIGN);
    let purgatory_at = tree_at + ALIGN;
    let initrd_at = purgatory_at + ALIGN;
    patch(tree, initrd_at, initrd_at + initrd.len() as u64).ok_or(Failed::Invalid("/sys/firmware/fdt"))?;
    let purgatory = purgatory(kernel, tree_at)?;
    let segments = [
        Segment::new(image, kernel, size),
        Segment::new(tree, tree_at, tree.len() as u64),
        Segment::new(purgatory, purgatory_at, PAGE),
        Segment::new(initrd, initrd_at, initrd.len() as u64),
    ];
    let arguments = [purgatory_at, segments.len() as u64, segments.as_ptr() as u64, ARM64, 0, 0];
    // SAFETY: the kernel reads the segments and what they point to, and writes nothing.
    error(unsafe { call(number::KEXEC_LOAD, arguments) }).map_err(called("kexec_load"))?;
    Ok(())
}

/// Returns the address of the running kernel, by /proc/iomem.
fn kernel_address() -> Result<u64, Failed> {
    let invalid = || Failed::Invalid("/proc/iomem");
    let map = read(c"/proc/iomem", 1 << 16).map_err(called("/proc/iomem"))?;
    let map = core::str::from_utf8(map).map_err(|_| invalid())?;
    let line = map.lines().find(|line| line.ends_with(" : Kernel code")).ok_or_else(invalid)?;
    let start = line.trim_start().split('-').next().unwrap_or_default();
    // Code begins after the header.
    u64::from_str_radix(start, 16).map(|start| start & !(ALIGN - 1)).map_err(|_| invalid())
}

/// Puts the addresses of the initramfs into a device tree, and new bytes in place of the seed. `None` if it is no
/// device tree, or lacks these properties.
fn patch(tree: &mut [u8], start: u64, end: u64) -> Option<()> {
    const BEGIN_NODE: u32 = 1;
    const END_NODE: u32 = 2;
    const PROPERTY: u32 = 3;
    const NOP: u32 = 4;
    let word = |tree: &[u8], at: usize| -> Option<u32> {
        Some(u32::from_be_bytes(tree.get(at..at + 4)?.try_into().ok()?))
    };
    let (structure, strings) = (word(tree, 8)? as usize, word(tree, 12)? as usize);
    let seed_name = find(tree.get(strings..)?, b"rng-seed\0")?;
    let (mut at, mut found, mut seeded) = (structure, 0, false);
    loop {
        match word(tree, at)? {
            BEGIN_NODE => {
                let name = CStr::from_bytes_until_nul(tree.get(at + 4..)?).ok()?;
                at += 4 + (name.count_bytes() + 1).next_multiple_of(4);
            }
            PROPERTY => {
                let (length, name) = (word(tree, at + 4)? as usize, word(tree, at + 8)? as usize);
                let name = CStr::from_bytes_until_nul(tree.get(strings + name..)?).ok()?;
                let value = match name.to_bytes() {
                    b"linux,initrd-start" => Some(start),
                    b"linux,initrd-end" => Some(end),
                    _ => None,
                };
                if let Some(value) = value {
                    tree.get_mut(at + 12..at + 12 + length)?
                        .copy_from_slice(value.to_be_bytes().get(..length)?);
                    found += 1;
                }
                at += 12 + length.next_multiple_of(4);
            }
            NOP => {
                let mut length = 4;
                while word(tree, at + length)? == NOP {
                    length += 4;
                }
                // The head of a property, and at least 16 bytes of seed.
                if !seeded && length >= 12 + 16 {
                    let property = tree.get_mut(at..at + length)?;
                    for (n, value) in [PROPERTY, length as u32 - 12, seed_name as u32].iter().enumerate() {
                        property[n * 4..n * 4 + 4].copy_from_slice(&value.to_be_bytes());
                    }
                    let seed = &mut property[12..];
                    // SAFETY: the kernel writes to `seed` only.
                    unsafe {
                        call(number::GETRANDOM, [seed.as_mut_ptr() as u64, seed.len() as u64, 0, 0, 0, 0])
                    };
                    seeded = true;
                }
                at += length;
            }
            END_NODE => at += 4,
            // FDT_END.
            _ => return (found == 2 && seeded).then_some(()),
        }
    }
}

// Linux enters it with the MMU off. An Image is entered with the tree's address in X0, and zeros in X1 to X3.
global_asm!(
    ".pushsection .rodata",
    ".balign 8",
    "purgatory:",
    "ldr x0, 2f",
    "ldr x16, 1f",
    "mov x1, xzr",
    "mov x2, xzr",
    "mov x3, xzr",
    "br x16",
    "1: .quad 0",
    "2: .quad 0",
    "purgatory_end:",
    ".popsection"
);

/// Returns the code that runs between the kernels.
fn purgatory(kernel: u64, tree: u64) -> Result<&'static [u8], Failed> {
    unsafe extern "C" {
        static purgatory: u8;
        static purgatory_end: u8;
    }
    let (start, end) = (&raw const purgatory, &raw const purgatory_end);
    // SAFETY: the bytes between two labels of one section, which is never written to.
    let code = unsafe { core::slice::from_raw_parts(start, end as usize - start as usize) };
    let copy = linux::memory(code.len()).map_err(called("mmap"))?;
    copy.copy_from_slice(code);
    let (_, words) = copy.split_at_mut(code.len() - 16);
    words[..8].copy_from_slice(&kernel.to_le_bytes());
    words[8..].copy_from_slice(&tree.to_le_bytes());
    Ok(copy)
}
