//! An /init that counts what a stock kernel's drivers of Hyper-V's disk and network card take for a request:
//! instructions of the kernel, whatever it does them for, from the system call to the data.
//!
//! It loads the modules `/modules/0`, `/modules/1`, ..., and prints `bench: NAME VALUE` for each figure.
//!
//! Source: Linux, include/uapi/linux/perf_event.h, if_packet.h, sockios.h; packet(7), netdevice(7).
#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "system calls")]

use core::ffi::CStr;

use linux::{call, error, number, say};

/// Requests that a figure is the mean of.
const REPETITIONS: u64 = 64;
/// Bytes of a read and of a frame, as `bench-drivers` has them.
const PAGE: usize = 4096;
const FRAME: usize = 60;

/// perf_event_attr, as far as PERF_ATTR_SIZE_VER0.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample: [u64; 3],
    flags: u64,
    rest: [u64; 2],
}
const _: () = assert!(size_of::<Attributes>() == 64);

/// PERF_COUNT_HW_INSTRUCTIONS, and `exclude_user` of the flags.
const INSTRUCTIONS: u64 = 1;
const NOT_USER: u64 = 1 << 4;

const O_DIRECT: u64 = 0o200_000;
const HERE: u64 = -100i64 as u64;
const AF_PACKET: u64 = 17;
const SOCK_RAW: u64 = 3;
const SIOCGIFFLAGS: u64 = 0x8913;
const SIOCSIFFLAGS: u64 = 0x8914;
const SIOCGIFHWADDR: u64 = 0x8927;
const SIOCGIFINDEX: u64 = 0x8933;
const IFF_UP: u16 = 1;
const MSG_DONTWAIT: u64 = 0x40;
/// Types of frames: ARP, and one for experiments (IEEE 802, "Local experimental Ethertypes").
const ARP: [u8; 2] = [8, 6];
const NOTHING: [u8; 2] = [0x88, 0xb5];

linux::entry!(main);

type Failure = (&'static str, i64);

fn result(what: &'static str, value: i64) -> Result<u64, Failure> {
    error(value).map_err(|error| (what, error))
}

#[repr(C, align(4096))]
struct Buffer([u8; PAGE]);

fn main(_: *const u64) {
    match run() {
        Ok(()) => say!("bench: done"),
        Err((what, error)) => say!("bench: failed: {what}: error {error}"),
    }
}

fn run() -> Result<(), Failure> {
    linux::mount(c"devtmpfs", c"/dev").map_err(|error| ("mount", error))?;
    load();
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        config: INSTRUCTIONS,
        flags: NOT_USER,
        ..Attributes::default()
    };
    // Of all that runs on CPU 0.
    let (all, cpu, none) = (u64::MAX, 0, u64::MAX);
    // SAFETY: the kernel reads the attributes only.
    let event =
        unsafe { call(number::PERF_EVENT_OPEN, [&raw const attributes as u64, all, cpu, none, 0, 0]) };
    let event = result("perf_event_open", event)?;
    disk(event)?;
    network(event)
}

/// Loads all modules, in their order.
fn load() {
    for digit in b'0'..=b'9' {
        let mut path = *b"/modules/0\0";
        path[9] = digit;
        let Ok(path) = CStr::from_bytes_until_nul(&path) else { return };
        let Ok(module) = linux::read(path, 4 << 20) else { return };
        let (image, len) = (module.as_ptr() as u64, module.len() as u64);
        // SAFETY: the kernel reads module and parameters only.
        let loaded = unsafe { call(number::INIT_MODULE, [image, len, c"".as_ptr() as u64, 0, 0, 0]) };
        if loaded < 0 {
            say!("bench: module {}: error {}", digit - b'0', -loaded);
        }
    }
}

/// Returns the number of instructions that the kernel has executed.
fn counted(event: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: the kernel writes eight bytes to `value`.
    unsafe { call(number::READ, [event, &raw mut value as u64, 8, 0, 0, 0]) };
    value
}

/// Counts the kernel's instructions for `what`, done many times, without those of counting.
fn count(event: u64, mut what: impl FnMut() -> Result<(), Failure>) -> Result<u64, Failure> {
    for _ in 0..8 {
        what()?;
    }
    let start = counted(event);
    let empty = counted(event) - start;
    let start = counted(event);
    for _ in 0..REPETITIONS {
        what()?;
    }
    Ok((counted(event) - start - empty) / REPETITIONS)
}

fn sleep(milliseconds: u64) {
    let time = [0u64, milliseconds * 1_000_000];
    // SAFETY: the kernel reads the time only.
    unsafe { call(number::NANOSLEEP, [time.as_ptr() as u64, 0, 0, 0, 0, 0]) };
}

/// Does something until it succeeds, for some seconds.
fn until<T>(mut what: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for _ in 0..200 {
        if let Ok(value) = what() {
            return Ok(value);
        }
        sleep(20);
    }
    what()
}

/// Reads of a page, around the page cache.
fn disk(event: u64) -> Result<(), Failure> {
    // SAFETY: the kernel reads the path only.
    let open = || unsafe { call(number::OPENAT, [HERE, c"/dev/sda".as_ptr() as u64, O_DIRECT, 0, 0, 0]) };
    let file = until(|| result("/dev/sda", open()))?;
    let mut buffer = Buffer([0; PAGE]);
    let read = count(event, || {
        let arguments = [file, buffer.0.as_mut_ptr() as u64, PAGE as u64, 0, 0, 0];
        // SAFETY: the kernel writes to the buffer, which is borrowed mutably.
        match result("pread", unsafe { call(number::PREAD64, arguments) })? {
            4096 => Ok(()),
            short => Err(("short read", short as i64)),
        }
    })?;
    say!("bench: driver-read-linux {read}");
    Ok(())
}

/// ifreq: the name, and what is asked for.
#[repr(C, align(8))]
struct Request([u8; 40]);

impl Request {
    const fn new() -> Self {
        let mut request = [0; 40];
        [request[0], request[1], request[2], request[3]] = *b"eth0";
        Self(request)
    }

    fn ask(&mut self, socket: u64, what: u64) -> Result<u64, Failure> {
        // SAFETY: the kernel reads and writes the request, which is borrowed mutably.
        let done = unsafe { call(number::IOCTL, [socket, what, self.0.as_mut_ptr() as u64, 0, 0, 0]) };
        result("eth0", done)
    }
}

/// sockaddr_ll.
#[repr(C, align(4))]
struct Address([u8; 20]);

/// Measures frames to the network, some of which it answers.
fn network(event: u64) -> Result<(), Failure> {
    let arp = u64::from(u16::from_be_bytes([ARP[1], ARP[0]]));
    // SAFETY: the call takes numbers only.
    let socket = result("socket", unsafe { call(number::SOCKET, [AF_PACKET, SOCK_RAW, arp, 0, 0, 0]) })?;
    let mut request = Request::new();
    until(|| request.ask(socket, SIOCGIFFLAGS))?;
    request.0[16] |= IFF_UP as u8;
    request.ask(socket, SIOCSIFFLAGS)?;
    request.ask(socket, SIOCGIFHWADDR)?;
    let mut mac = [0; 6];
    mac.copy_from_slice(&request.0[18..24]);
    request.ask(socket, SIOCGIFINDEX)?;
    let mut address = Address([0; 20]);
    address.0[0] = AF_PACKET as u8;
    address.0[4..8].copy_from_slice(&request.0[16..20]);
    // The link comes up a little later.
    sleep(500);
    let mut seen = 0;
    let mut round = |kind: [u8; 2], wait: bool| {
        count(event, || {
            send(socket, &address, &frame(mac, kind))?;
            spin();
            seen += u64::from(wait && receive(socket));
            Ok(())
        })
    };
    let (nothing, answered) = (round(NOTHING, false)?, round(ARP, true)?);
    // What the clock's interrupts take.
    let idle = count(event, || {
        spin();
        Ok(())
    })?;
    say!("bench: driver-send-linux {}", nothing - idle);
    if seen < REPETITIONS {
        return Err(("answers", seen as i64));
    }
    say!("bench: driver-receive-linux {}", answered - nothing);
    Ok(())
}

/// Builds a frame with an ARP request for the network's gateway (RFC 826), or the same of a type that nothing takes.
fn frame(mac: [u8; 6], kind: [u8; 2]) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&kind);
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&[10, 0, 2, 15]);
    frame[38..42].copy_from_slice(&[10, 0, 2, 2]);
    frame
}

fn send(socket: u64, address: &Address, frame: &[u8; FRAME]) -> Result<(), Failure> {
    let to = address.0.as_ptr() as u64;
    // SAFETY: the kernel reads frame and address only.
    let sent = unsafe { call(number::SENDTO, [socket, frame.as_ptr() as u64, FRAME as u64, 0, to, 20]) };
    result("sendto", sent).map(drop)
}

/// Takes a frame, if there is one.
fn receive(socket: u64) -> bool {
    let mut frame = [0u8; 128];
    // SAFETY: the kernel writes to the frame, which is borrowed mutably.
    let got = unsafe { call(number::RECVFROM, [socket, frame.as_mut_ptr() as u64, 128, MSG_DONTWAIT, 0, 0]) };
    got > 0
}

/// Gives the network time to answer, in instructions that are not the kernel's.
fn spin() {
    for n in 0..300_000u64 {
        core::hint::black_box(n);
    }
}
