//! An /init on the disk that it runs from, which tries out the other ones: a process for each CPU writes and reads,
//! around the page cache and through it, in order and at random.
//!
//! Linux names disks in the order in which their probes end, so they are known by their sizes.
//!
//! What a page of the disk of 24 MiB has in the end is a function of its number ([`word`], [`generation`]), so that the
//! host can check it. That of 4 MiB, if there is one, is read-only, with the words of generation 3; so is the DVD.
//!
//! Source: Linux, include/uapi/linux/fs.h, include/uapi/linux/cdrom.h, include/uapi/asm-generic/fcntl.h.
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls")]

use core::ffi::CStr;
use core::sync::atomic::{AtomicBool, Ordering};

use linux::{call, number, say};

/// Bytes of a page of the pattern.
const PAGE: u64 = 4096;
/// Bytes of the disk that is written, and of what is read only.
const DATA: u64 = 24 << 20;
const LOCKED: u64 = 4 << 20;
/// Bytes of the longest transfer.
const LONG: usize = 1 << 20;
/// The disk is divided into this many parts, the last of which is discarded.
const DISCARDED: u64 = 8;

const O_RDONLY: u64 = 0;
const O_RDWR: u64 = 2;
const O_CREAT: u64 = 0o100;
const O_DIRECT: u64 = 0o200_000;
const O_NONBLOCK: u64 = 0o4000;
const BLKROGET: u64 = 0x125e;
const BLKFLSBUF: u64 = 0x1261;
const BLKGETSIZE64: u64 = 0x8008_1272;
const BLKDISCARD: u64 = 0x1277;
const CDROMEJECT: u64 = 0x5309;
const CDROMCLOSETRAY: u64 = 0x5319;
const CDROM_DRIVE_STATUS: u64 = 0x5326;
const CDROM_LOCKDOOR: u64 = 0x5329;
const TRAY_OPEN: u64 = 2;
const DISC_OK: u64 = 4;
const SIGCHLD: u64 = 17;

linux::entry!(main);

/// Memory for transfers, aligned for O_DIRECT whatever the kernel's page.
#[repr(C, align(65536))]
struct Buffer([u64; LONG / 8]);

static mut BUFFER: Buffer = Buffer([0; LONG / 8]);

/// Returns the buffer of this process, once.
fn buffer() -> &'static mut [u64] {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    assert!(!TAKEN.swap(true, Ordering::Relaxed), "the buffer is taken");
    let buffer = &raw mut BUFFER;
    // SAFETY: `TAKEN` lets this happen once in a process, and processes share no memory, so this is the only reference.
    unsafe { &mut (*buffer).0 }
}

fn main(_: *const u64) {
    let outcome = run();
    match outcome {
        Ok(cpus) => say!("disk: all good on {cpus} processors"),
        Err((what, error)) => say!("disk: FAILED: {what}: {error}"),
    }
    // SAFETY: the call takes nothing.
    unsafe { call(number::SYNC, [0; 6]) };
}

type Failure = (&'static str, i64);

fn run() -> Result<u64, Failure> {
    let cpus = processors();
    let path = find(DATA).ok_or(("no disk of 24 MiB", 0))?;
    let disk = open(path, O_RDWR | O_DIRECT)?;
    let size = size(disk)?;
    say!("disk: data has {size} bytes, read-only {}", read_only(disk)?);
    let pages = size / PAGE;
    let share = pages / cpus;
    for cpu in 0..cpus {
        let end = if cpu + 1 == cpus { pages } else { (cpu + 1) * share };
        if fork()? == 0 {
            let code = match worker(path, cpu, cpu * share, end) {
                Ok(()) => 0,
                Err((what, error)) => {
                    say!("disk: FAILED on processor {cpu}: {what}: {error}");
                    1
                }
            };
            // SAFETY: the call takes a number, and ends the process.
            unsafe { call(number::EXIT, [code, 0, 0, 0, 0, 0]) };
        }
    }
    for _ in 0..cpus {
        if wait()? != 0 {
            return Err(("a worker", 0));
        }
    }
    let buffer = buffer();
    discard(disk, size, buffer)?;
    let file = open(c"/proof", O_RDWR | O_CREAT)?;
    fill(buffer, 0, |_| 4);
    write(file, buffer, 0)?;
    sync(file)?;
    buffer.fill(0);
    read(file, buffer, 0)?;
    check(buffer, 0, |_| 4)?;
    if let Some(path) = find(LOCKED) {
        locked(path, buffer)?;
    }
    if let Ok(dvd) = open(c"/dev/sr0", O_RDONLY) {
        optical(dvd, buffer)?;
    }
    Ok(cpus)
}

/// Finds the disk of a size.
fn find(wanted: u64) -> Option<&'static CStr> {
    [c"/dev/sda", c"/dev/sdb", c"/dev/sdc"].into_iter().find(|path| {
        let Ok(disk) = open(path, O_RDONLY) else { return false };
        let found = size(disk);
        close(disk);
        found == Ok(wanted)
    })
}

/// Writes and reads the pages from `first` to `end`, on one processor.
fn worker(path: &CStr, cpu: u64, first: u64, end: u64) -> Result<(), Failure> {
    let mask = 1u64 << cpu;
    // SAFETY: the kernel reads the mask.
    result("sched_setaffinity", unsafe {
        call(number::SCHED_SETAFFINITY, [0, 8, &raw const mask as u64, 0, 0, 0])
    })?;
    let direct = open(path, O_RDWR | O_DIRECT)?;
    let buffered = open(path, O_RDWR)?;
    let buffer = buffer();
    // In order, as long as a transfer may be.
    let mut at = first;
    while at < end {
        let count = (end - at).min(LONG as u64 / PAGE);
        let part = &mut buffer[..(count * PAGE / 8) as usize];
        fill(part, at, |_| 1);
        write(direct, part, at * PAGE)?;
        at += count;
    }
    sync(direct)?;
    // Around the page cache at random.
    let mut random = cpu;
    for _ in 0..64 {
        random = mixed(random);
        let page = first + random % (end - first);
        let part = &mut buffer[..PAGE as usize / 8];
        read(direct, part, page * PAGE)?;
        check(part, page, |_| 1)?;
    }
    // Some of them again, through the page cache.
    for page in (first..end).filter(|page| generation(*page) == 2) {
        let part = &mut buffer[..PAGE as usize / 8];
        fill(part, page, generation);
        write(buffered, part, page * PAGE)?;
    }
    sync(buffered)?;
    let mut at = first;
    while at < end {
        let count = (end - at).min(LONG as u64 / PAGE);
        let part = &mut buffer[..(count * PAGE / 8) as usize];
        part.fill(0);
        read(direct, part, at * PAGE)?;
        check(part, at, generation)?;
        at += count;
    }
    Ok(())
}

/// Discards the last part of the disk, which reads as zeros then.
fn discard(disk: u64, size: u64, buffer: &mut [u64]) -> Result<(), Failure> {
    let range = [size - size / DISCARDED, size / DISCARDED];
    control(disk, BLKDISCARD, &raw const range as u64, "BLKDISCARD")?;
    let mut at = range[0];
    while at < size {
        let part = &mut buffer[..((size - at).min(LONG as u64) / 8) as usize];
        part.fill(1);
        read(disk, part, at)?;
        if part.iter().any(|word| *word != 0) {
            return Err(("what was discarded is not zero", at as i64));
        }
        at += part.len() as u64 * 8;
    }
    Ok(())
}

/// Checks a disk that is read-only.
fn locked(path: &CStr, buffer: &mut [u64]) -> Result<(), Failure> {
    let disk = open(path, O_RDONLY | O_DIRECT)?;
    let is_locked = read_only(disk)?;
    say!("disk: locked has {} bytes, read-only {is_locked}", size(disk)?);
    if is_locked != 1 || open(path, O_RDWR).is_ok() {
        return Err(("a read-only disk can be written", 0));
    }
    read(disk, buffer, 0)?;
    check(buffer, 0, |_| 3)
}

/// Checks a DVD: it is read, kept in its drive, ejected, and put back.
fn optical(dvd: u64, buffer: &mut [u64]) -> Result<(), Failure> {
    say!("disk: sr0 has {} bytes", size(dvd)?);
    read(dvd, buffer, 0)?;
    check(buffer, 0, |_| 3)?;
    let door = open(c"/dev/sr0", O_RDONLY | O_NONBLOCK)?;
    close(dvd);
    control(door, CDROM_LOCKDOOR, 0, "CDROM_LOCKDOOR")?;
    control(door, CDROMEJECT, 0, "CDROMEJECT")?;
    // To open it otherwise closes the tray.
    expect(door, TRAY_OPEN)?;
    control(door, CDROMCLOSETRAY, 0, "CDROMCLOSETRAY")?;
    expect(door, DISC_OK)?;
    control(door, BLKFLSBUF, 0, "BLKFLSBUF")?;
    let again = open(c"/dev/sr0", O_RDONLY)?;
    read(again, &mut buffer[..512], 0)?;
    check(&buffer[..512], 0, |_| 3)
}

/// Asks a drive how its tray is.
fn expect(door: u64, state: u64) -> Result<(), Failure> {
    const CURRENT_SLOT: u64 = 0x7fff_ffff;
    // SAFETY: the call takes numbers.
    let found = result("CDROM_DRIVE_STATUS", unsafe {
        call(number::IOCTL, [door, CDROM_DRIVE_STATUS, CURRENT_SLOT, 0, 0, 0])
    })?;
    if found == state { Ok(()) } else { Err(("the state of the tray", found as i64)) }
}

/// Returns a word of a page's pattern.
fn word(page: u64, place: u64, generation: u64) -> u64 {
    mixed(page << 20 ^ place << 8 ^ generation)
}

/// Computes SplitMix64's finalizer.
fn mixed(seed: u64) -> u64 {
    let a = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ a >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ b >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ c >> 31
}

/// Returns the generation that a page has in the end: every eighth or so is written a second time.
fn generation(page: u64) -> u64 {
    if mixed(page).is_multiple_of(8) { 2 } else { 1 }
}

fn fill(words: &mut [u64], first: u64, generation: fn(u64) -> u64) {
    for (page, words) in (first..).zip(words.chunks_mut(PAGE as usize / 8)) {
        let generation = generation(page);
        (0..).zip(words).for_each(|(place, value)| *value = word(page, place, generation));
    }
}

fn check(words: &[u64], first: u64, generation: fn(u64) -> u64) -> Result<(), Failure> {
    for (page, words) in (first..).zip(words.chunks(PAGE as usize / 8)) {
        let generation = generation(page);
        if (0..).zip(words).any(|(place, value)| *value != word(page, place, generation)) {
            return Err(("a page is not what was written", page as i64));
        }
    }
    Ok(())
}

fn result(what: &'static str, result: i64) -> Result<u64, Failure> {
    u64::try_from(result).map_err(|_| (what, -result))
}

fn open(path: &CStr, flags: u64) -> Result<u64, Failure> {
    let here = -100i64 as u64;
    // SAFETY: the kernel reads the path.
    result("open", unsafe { call(number::OPENAT, [here, path.as_ptr() as u64, flags, 0o600, 0, 0]) })
}

fn close(file: u64) {
    // SAFETY: the call takes a number.
    unsafe { call(number::CLOSE, [file, 0, 0, 0, 0, 0]) };
}

fn write(file: u64, words: &[u64], at: u64) -> Result<(), Failure> {
    let len = size_of_val(words) as u64;
    // SAFETY: the kernel reads the words.
    let done =
        result("write", unsafe { call(number::PWRITE64, [file, words.as_ptr() as u64, len, at, 0, 0]) })?;
    if done == len { Ok(()) } else { Err(("a short write", done as i64)) }
}

fn read(file: u64, words: &mut [u64], at: u64) -> Result<(), Failure> {
    let len = size_of_val(words) as u64;
    // SAFETY: the kernel writes to the words, which nothing else uses meanwhile.
    let done =
        result("read", unsafe { call(number::PREAD64, [file, words.as_mut_ptr() as u64, len, at, 0, 0]) })?;
    if done == len { Ok(()) } else { Err(("a short read", done as i64)) }
}

fn sync(file: u64) -> Result<(), Failure> {
    // SAFETY: the call takes a number.
    result("fsync", unsafe { call(number::FSYNC, [file, 0, 0, 0, 0, 0]) }).map(|_| ())
}

fn control(file: u64, what: u64, argument: u64, name: &'static str) -> Result<(), Failure> {
    // SAFETY: the argument is a number, or points to what this call reads or writes, which the caller owns.
    result(name, unsafe { call(number::IOCTL, [file, what, argument, 0, 0, 0]) }).map(|_| ())
}

fn size(file: u64) -> Result<u64, Failure> {
    let mut size = 0u64;
    control(file, BLKGETSIZE64, &raw mut size as u64, "BLKGETSIZE64")?;
    Ok(size)
}

fn read_only(file: u64) -> Result<u32, Failure> {
    let mut state = 0u32;
    control(file, BLKROGET, &raw mut state as u64, "BLKROGET")?;
    Ok(state)
}

fn processors() -> u64 {
    let mut mask = [0u64; 16];
    // SAFETY: the kernel writes to the mask.
    unsafe {
        call(number::SCHED_GETAFFINITY, [0, size_of_val(&mask) as u64, mask.as_mut_ptr() as u64, 0, 0, 0])
    };
    mask.iter().map(|word| u64::from(word.count_ones())).sum::<u64>().max(1)
}

/// Makes a second process. Returns 0 in it.
fn fork() -> Result<u64, Failure> {
    // SAFETY: without shared memory the child has copies of all that this process has.
    result("fork", unsafe { call(number::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) })
}

/// Waits for the end of a child, and gives its status.
fn wait() -> Result<u32, Failure> {
    let mut status = 0u32;
    // SAFETY: the kernel writes to the status.
    result("wait", unsafe { call(number::WAIT4, [u64::MAX, &raw mut status as u64, 0, 0, 0, 0]) })?;
    Ok(status)
}
