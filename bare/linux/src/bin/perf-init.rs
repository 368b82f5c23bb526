//! An /init that does what `perf stat` and `perf record` do: it counts an event, and takes samples at its overflows.
//!
//! Source: Linux, include/uapi/linux/perf_event.h; perf_event_open(2).
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls and shared pages")]

use core::sync::atomic::{AtomicU64, Ordering};

use linux::{call, error, number, say};

/// perf_event_attr, as far as PERF_ATTR_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    breakpoint_address: u64,
}
const _: () = assert!(size_of::<Attributes>() == 64);

/// Events of PERF_TYPE_HARDWARE.
const EVENTS: [(&str, u64); 2] = [("cycles", 0), ("instructions", 1)];
/// PERF_SAMPLE_IP.
const SAMPLE_IP: u64 = 1;
/// PERF_EVENT_IOC_ENABLE, PERF_EVENT_IOC_DISABLE.
const ENABLE: u64 = 0x2400;
const DISABLE: u64 = 0x2401;
/// Bytes of the ring and its control page; `data_head` is at 1024 in that.
const PAGES: u64 = 9 * 4096;
const DATA_HEAD: u64 = 1024;

linux::entry!(main);

fn main(_: *const u64) {
    for (name, config) in EVENTS {
        match open(&Attributes { config, flags: 1, ..Attributes::default() }) {
            Ok(event) => say!("perf: counted {} {name}", count(event)),
            Err(error) => say!("perf: no {name}: error {error}"),
        }
        let sampling = Attributes {
            config,
            flags: 1,
            sample_period: 100_000,
            sample_type: SAMPLE_IP,
            ..Attributes::default()
        };
        match open(&sampling) {
            Ok(event) => say!("perf: sampled {} bytes at {name}", sample(event)),
            Err(error) => say!("perf: no samples at {name}: error {error}"),
        }
    }
    say!("perf: done");
}

/// Opens an event of this process, on any CPU.
fn open(attributes: &Attributes) -> Result<u64, i64> {
    let attributes = Attributes { size: size_of::<Attributes>() as u32, ..*attributes };
    let every = u64::MAX;
    // SAFETY: the kernel reads the attributes only.
    error(unsafe { call(number::PERF_EVENT_OPEN, [&raw const attributes as u64, 0, every, every, 0, 0]) })
}

/// Does some work to count.
fn work() {
    for n in 0..2_000_000u64 {
        core::hint::black_box(n);
    }
}

fn control(event: u64, what: u64) {
    // SAFETY: the call takes no memory.
    unsafe { call(number::IOCTL, [event, what, 0, 0, 0, 0]) };
}

fn count(event: u64) -> u64 {
    control(event, ENABLE);
    work();
    control(event, DISABLE);
    let mut value = 0u64;
    // SAFETY: the kernel writes eight bytes to `value`.
    let length = unsafe { call(number::READ, [event, &raw mut value as u64, 8, 0, 0, 0]) };
    if length == 8 { value } else { 0 }
}

/// Returns the number of bytes of samples.
fn sample(event: u64) -> u64 {
    const READ_WRITE: u64 = 3;
    const SHARED: u64 = 1;
    // SAFETY: the kernel maps new pages.
    let ring = unsafe { call(number::MMAP, [0, PAGES, READ_WRITE, SHARED, event, 0]) };
    if ring < 0 {
        return 0;
    }
    control(event, ENABLE);
    work();
    control(event, DISABLE);
    // SAFETY: the page stays mapped, and the kernel changes the word as an atomic.
    let head = unsafe { &*((ring as u64 + DATA_HEAD) as *const AtomicU64) };
    head.load(Ordering::Acquire)
}
