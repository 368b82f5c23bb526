//! Folders of the host: file systems of Linux's FUSE, whose requests the tool answers. They go to it as they are, and
//! its replies to the kernel: each begins with its length.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hv_wire::control::{MAX_SHARE_READ, MAX_SHARE_REQUEST, SHARE_PORT, share_step};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use vsock::VsockStream;

use crate::link;

/// Bytes of a reply's head (Linux, include/uapi/linux/fuse.h, `struct fuse_out_header`).
const HEAD: usize = 16;

/// Mounts a host folder at a path, which is made if it is not there. When the connection to the tool ends, the
/// folder is unmounted, and whoever waits for something of it gets an error.
///
/// # Errors
/// A step's, with the number of the step.
pub(crate) fn mount(index: u32, writable: bool, path: &[u8]) -> Result<(), (u8, io::Error)> {
    let path = Path::new(OsStr::from_bytes(path));
    std::fs::create_dir_all(path).map_err(|error| (share_step::FOLDER, error))?;
    let fuse = File::options().read(true).write(true).open("/dev/fuse").map_err(|error| {
        let is_missing = [Errno::NOENT, Errno::NODEV, Errno::NXIO].iter().any(|none| is(&error, *none));
        (if is_missing { share_step::FUSE } else { share_step::MOUNT }, error)
    })?;
    let socket = link::connect(SHARE_PORT + index).map_err(|error| (share_step::CONNECTION, error))?;
    serve(fuse, socket, writable, path).map_err(|error| (share_step::MOUNT, error))
}

/// Mounts a host folder that the tool serves over this socket, and has threads pass its requests on.
fn serve(fuse: File, socket: VsockStream, writable: bool, path: &Path) -> io::Result<()> {
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={MAX_SHARE_READ}",
        fuse.as_raw_fd()
    );
    let options = CString::new(options)?;
    let mut flags = MountFlags::NODEV | MountFlags::NOSUID;
    flags.set(MountFlags::RDONLY, !writable);
    rustix::mount::mount("host", path, "fuse.hv", flags, options.as_c_str())?;
    let (requests, outgoing) = (fuse.try_clone()?, socket.try_clone()?);
    let mounted = Arc::new(AtomicBool::new(true));
    thread::spawn({
        let mounted = Arc::clone(&mounted);
        move || {
            if pass_requests(requests, &outgoing) == RequestsEnd::Unmounted {
                mounted.store(false, Ordering::Release);
            }
            // Ends the other thread.
            let _ = outgoing.shutdown(Shutdown::Both);
        }
    });
    let path = path.to_owned();
    thread::spawn(move || {
        let _ = pass_replies(socket, fuse);
        // A process that waits for a reply would wait forever.
        if mounted.load(Ordering::Acquire) {
            let _ = rustix::mount::unmount(&path, UnmountFlags::FORCE | UnmountFlags::DETACH);
        }
    });
    Ok(())
}

/// Why no more requests are passed on.
#[derive(PartialEq, Eq)]
enum RequestsEnd {
    /// The folder was unmounted.
    Unmounted,
    /// The connection to the tool ended, or /dev/fuse cannot be read.
    Lost,
}

/// Passes requests on until the folder is unmounted, or the tool has gone.
fn pass_requests(mut fuse: File, mut socket: &VsockStream) -> RequestsEnd {
    let mut buffer = vec![0; MAX_SHARE_REQUEST];
    loop {
        // A read gives one request, whole.
        match fuse.read(&mut buffer) {
            Ok(0) => return RequestsEnd::Lost,
            // Whatever the error: a socket of a rescinded channel has ENODEV too (Linux, drivers/hv/ring_buffer.c,
            // `hv_ringbuffer_write`).
            Ok(count) if socket.write_all(&buffer[..count]).is_err() => return RequestsEnd::Lost,
            Ok(_) => {}
            Err(error) if is_passing(&error) => {}
            Err(error) if is(&error, Errno::NODEV) => return RequestsEnd::Unmounted,
            Err(_) => return RequestsEnd::Lost,
        }
    }
}

/// Passes replies on for as long.
fn pass_replies(mut socket: VsockStream, mut fuse: File) -> io::Result<()> {
    let mut reply = vec![0; HEAD + MAX_SHARE_READ as usize];
    loop {
        let (head, rest) = reply.split_at_mut(HEAD);
        socket.read_exact(head)?;
        let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let rest = length.checked_sub(HEAD).and_then(|length| rest.get_mut(..length));
        socket.read_exact(rest.ok_or(ErrorKind::InvalidData)?)?;
        // A write takes one reply, whole.
        match fuse.write(&reply[..length]) {
            Err(error) if !is_passing(&error) => return Err(error),
            _ => {}
        }
    }
}

/// Returns true for what is wrong with one request alone: a signal ended whoever waited for it (fuse(4), "ERRORS").
fn is_passing(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::INTR, Errno::AGAIN].iter().any(|passing| is(error, *passing))
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
