//! What a guest does not have by itself, above all if it has booted for another run: the time, and random numbers that
//! no other run has.

use std::io::{self, ErrorKind};

use hv_wire::control::AGENT_ENTROPY;
use rustix::time::{ClockId, Timespec};

/// Sets the clock, and adds entropy to the kernel's.
///
/// # Errors
/// The kernel refuses it, or the tool has sent no entropy.
pub(crate) fn renew(seconds: u64, nanoseconds: u32, entropy: &[u8]) -> io::Result<()> {
    let entropy: [u8; AGENT_ENTROPY] = entropy.try_into().map_err(|_| ErrorKind::InvalidData)?;
    let seconds = i64::try_from(seconds).map_err(|_| ErrorKind::InvalidData)?;
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    rustix::time::clock_settime(ClockId::Realtime, time)?;
    random::add(entropy)
}

/// The requests that the standard library does not have.
#[expect(unsafe_code, reason = "two requests of a device, by their numbers")]
mod random {
    use std::fs::File;
    use std::io;

    use hv_wire::control::AGENT_ENTROPY;
    use rustix::ioctl::{NoArg, Opcode, Setter, ioctl, opcode};

    /// `struct rand_pool_info` (Linux, include/uapi/linux/random.h).
    #[repr(C)]
    struct PoolInfo {
        /// Bits of entropy.
        entropy_count: i32,
        /// Bytes in `buf`.
        buf_size: i32,
        buf: [u8; AGENT_ENTROPY],
    }

    /// `RNDADDENTROPY` (the same file).
    const ADD: Opcode = opcode::write::<[i32; 2]>(b'R', 3);
    /// `RNDRESEEDCRNG` (the same file).
    const RESEED: Opcode = opcode::none(b'R', 7);

    /// Adds entropy through one of the kernel's random devices, and has all later random numbers made from it.
    pub(super) fn add(entropy: [u8; AGENT_ENTROPY]) -> io::Result<()> {
        let device = File::options().write(true).open("/dev/urandom")?;
        let info = PoolInfo {
            entropy_count: 8 * AGENT_ENTROPY as i32,
            buf_size: AGENT_ENTROPY as i32,
            buf: entropy,
        };
        // SAFETY: ADD is Linux's number of a request that reads a `rand_pool_info` and as many bytes after it as its
        // second member says (drivers/char/random.c, `random_ioctl`), which are all in PoolInfo. It writes to no memory
        // of this process. The device is the one of that driver: this program is the first of a stock initramfs.
        let add = unsafe { Setter::<ADD, PoolInfo>::new(info) };
        // SAFETY: the request reads memory of `add`, which lives until the call returns, and writes none of this
        // process's.
        unsafe { ioctl(&device, add) }?;
        // SAFETY: RESEED is Linux's number of a request without an argument.
        let reseed = unsafe { NoArg::<RESEED>::new() };
        // SAFETY: the request has no argument, so it reaches no memory of this process.
        unsafe { ioctl(&device, reseed) }?;
        Ok(())
    }
}
