//! What interrupts the thread of a virtual CPU: a signal, from another thread or from a timer, whose handler has
//! KVM_RUN return at once.
//!
//! Between the last look at what was asked for and KVM_RUN a signal has no system call to interrupt, so it must leave a
//! mark: `kvm_run.immediate_exit`, with which KVM_RUN returns EINTR before it enters the guest (Linux,
//! Documentation/virt/kvm/api.rst, "KVM_RUN"). The handler finds it through a variable of its thread.
#![expect(unsafe_code, reason = "a signal handler, a timer")]

use std::cell::Cell;
use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::mem;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence};
use std::time::Duration;

use kvm_ioctls::{KvmRunWrapper, VcpuFd};
use libc::{c_int, c_long, pid_t, siginfo_t, timer_t};
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler, unblock_signal};

use crate::kvm::Waker;

/// The timer sends its signal to one thread (Linux, include/uapi/asm-generic/siginfo.h; libc has it for glibc alone).
const SIGEV_THREAD_ID: c_int = 4;

thread_local! {
    /// The mark of the virtual CPU that this thread runs, or null. It has no destructor, and its address is known
    /// without a call, so a signal handler may read it.
    static MARK: Cell<*const AtomicU8> = const { Cell::new(ptr::null()) };
}

/// Returns the signal that interrupts a virtual CPU: the first that programs may use as they like.
fn signal() -> c_int {
    SIGRTMIN()
}

/// Leaves the mark.
extern "C" fn interrupt(_: c_int, _: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: a pointer in `MARK` is that of a `Flag`, put there by `KvmThread::enter` in this thread, which the
    // handler interrupts. That `KvmThread` owns the flag, is still in this thread (it is not `Send`), and takes the
    // pointer out before it drops the flag. If it is leaked, so is the flag.
    if let Some(mark) = unsafe { MARK.get().as_ref() } {
        mark.store(1, Ordering::Relaxed);
    }
}

/// The mark of a virtual CPU: a byte of its `kvm_run`, in a mapping of its own.
#[derive(Debug)]
pub(super) struct Flag {
    byte: NonNull<AtomicU8>,
    /// The mapping with the byte. Nothing accesses it but through the pointer.
    _mapping: KvmRunWrapper,
}

// SAFETY: the pointer is to a byte in a mapping that the flag owns and unmaps when it is dropped, and that is accessed
// as an atomic alone.
unsafe impl Send for Flag {}
// SAFETY: the byte is accessed as an atomic alone, which several threads may do at a time, and stays mapped until the
// flag is dropped.
unsafe impl Sync for Flag {}

impl Flag {
    /// Maps that of a virtual CPU. `size` is the size of its `kvm_run`.
    pub(super) fn of(fd: &VcpuFd, size: usize) -> Result<Self, kvm_ioctls::Error> {
        let mut mapping = KvmRunWrapper::mmap_from_fd(fd, size)?;
        let byte = NonNull::from(&mut mapping.as_mut_ref().immediate_exit).cast();
        Ok(Self { byte, _mapping: mapping })
    }

    /// Removes the mark.
    pub(super) fn clear(&self) {
        // SAFETY: the byte is in a mapping that `self` owns, an `AtomicU8` has the size and the alignment of a byte,
        // and this process accesses it as an atomic alone: `KvmVcpu`'s accesses are to another mapping, and the
        // kernel's to its own. No access by the kernel is at the same time: it reads the byte in KVM_RUN.
        unsafe { self.byte.as_ref() }.store(0, Ordering::Relaxed);
        // Pending requests are checked after it: a signal in between would lose its mark.
        compiler_fence(Ordering::SeqCst);
    }
}

/// A thread that runs a virtual CPU, as long as this exists.
#[derive(Debug)]
pub struct KvmThread {
    flag: Arc<Flag>,
    /// It stays in its thread.
    _thread: PhantomData<*const ()>,
}

impl KvmThread {
    pub(super) fn enter(flag: &Arc<Flag>) -> io::Result<Self> {
        MARK.set(flag.byte.as_ptr());
        let thread = Self { flag: Arc::clone(flag), _thread: PhantomData };
        register_signal_handler(signal(), interrupt)?;
        unblock_signal(signal()).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(thread)
    }
}

impl Drop for KvmThread {
    fn drop(&mut self) {
        // Unless the thread has entered another one since.
        if ptr::eq(MARK.get(), self.flag.byte.as_ptr()) {
            MARK.set(ptr::null());
        }
    }
}

/// What interrupts a thread that runs a virtual CPU: by the first real-time signal, and a timer that sends it.
#[derive(Debug)]
pub struct KvmWaker {
    process: pid_t,
    thread: pid_t,
    timer: timer_t,
}

// SAFETY: the timer is a number of the process's, which any of its threads may use; it is deleted once, when the waker
// is dropped.
unsafe impl Send for KvmWaker {}
// SAFETY: the timer is a number of the process's, and the system calls that take it may be made by several threads at a
// time.
unsafe impl Sync for KvmWaker {}

impl KvmWaker {
    /// Creates that of the calling thread.
    pub(super) fn of_this_thread() -> io::Result<Self> {
        // SAFETY: it only returns a number.
        let thread = unsafe { libc::gettid() };
        // SAFETY: the structure is a plain one of the C library's, for which all zeros are a value.
        let mut event: libc::sigevent = unsafe { mem::zeroed() };
        event.sigev_signo = signal();
        event.sigev_notify = SIGEV_THREAD_ID;
        event.sigev_notify_thread_id = thread;
        let mut timer = ptr::null_mut();
        // SAFETY: both pointers are to variables that outlive the call, which reads the first and writes the second.
        let created = unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) };
        if created != 0 {
            return Err(io::Error::last_os_error());
        }
        // A process has an id that fits.
        Ok(Self { process: std::process::id() as pid_t, thread, timer })
    }
}

impl Drop for KvmWaker {
    fn drop(&mut self) {
        // SAFETY: the timer was created by `of_this_thread`, and is deleted here alone.
        let _ = unsafe { libc::timer_delete(self.timer) };
    }
}

impl Waker for KvmWaker {
    fn interrupt(&self) {
        let (process, thread, signal) = (self.process, self.thread, signal());
        // SAFETY: the call takes three numbers, and no memory. It sends a signal, for which `KvmThread::enter` has set
        // a handler that any thread of this process may run; a thread that has ended gets none, and a number that
        // another thread has now, has the handler find that one's mark, or none.
        let _ = unsafe {
            libc::syscall(libc::SYS_tgkill, c_long::from(process), c_long::from(thread), c_long::from(signal))
        };
    }

    fn interrupt_after(&self, time: Option<Duration>) {
        // Zero would stop the timer.
        let value = time.map_or(Duration::ZERO, |time| time.max(Duration::from_nanos(1)));
        let value = libc::timespec {
            tv_sec: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: c_long::from(value.subsec_nanos() as i32),
        };
        let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = libc::itimerspec { it_interval: once, it_value: value };
        // SAFETY: the timer exists, since `self` does; the setting outlives the call, which reads it; the old one is
        // not asked for.
        let _ = unsafe { libc::timer_settime(self.timer, 0, &raw const setting, ptr::null_mut()) };
    }
}
