//! Ctrl-C, Ctrl-\, SIGTERM and a closed terminal.
//!
//! A signal ends the process immediately, unless something must be shut down in an orderly way: a guest, a child
//! process, a half-written file. Code that does so holds an [`Orderly`] and polls [`check`]; a second signal ends the
//! process even then, after running every [`Undo`].

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

static CAME: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Set while a signal ends the process immediately.
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Number of [`Orderly`] values.
static HELD: Mutex<usize> = Mutex::new(0);
/// What a second signal has to do, the newest last.
type List = Mutex<Vec<Entry>>;
/// That of this process.
static UNDONE: List = Mutex::new(Vec::new());

/// The number of an [`Undo`], and what it does.
struct Entry(u64, Box<dyn FnMut() + Send>);

/// A signal requested the end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Installs the signal handlers. A SIGHUP that was ignored at the start stays so: nohup(1) starts programs that way.
pub fn install() -> std::io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut signals = vec![SIGINT, SIGQUIT, SIGTERM];
    signals.extend((!ignores(&status, SIGHUP)).then_some(SIGHUP));
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for &signal in &signals {
        let code = Exit::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(at_once))?;
        signal_hook::flag::register(signal, Arc::clone(CAME.get_or_init(Arc::default)))?;
    }
    // A guest that may write to a folder can reach the limit of ulimit -f: the write fails, and the tool continues.
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let mut signals = Signals::new(signals)?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut forever = signals.forever();
        forever.next();
        // What may end at once has.
        if forever.next().is_some() {
            undo(&UNDONE);
            signal_hook::low_level::exit(Exit::Interrupted as i32);
        }
    })?;
    Ok(())
}

/// Returns true if a process with this `/proc/PID/status` ignores a signal (proc_pid_status(5), `SigIgn`).
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

/// While one of these exists, the first signal is only recorded.
#[derive(Debug)]
pub struct Orderly(());

/// Makes a signal wait for the next call of [`check`].
pub fn orderly() -> Orderly {
    let mut held = lock(&HELD);
    *held += 1;
    if *held == 1 {
        set_at_once(false);
    }
    Orderly(())
}

impl Drop for Orderly {
    fn drop(&mut self) {
        let mut held = lock(&HELD);
        *held -= 1;
        if *held == 0 {
            set_at_once(true);
        }
    }
}

/// Action that even a second signal must undo: a file that would be left, a terminal that would stay as it is.
pub struct Undo {
    number: u64,
    list: &'static List,
    _orderly: Orderly,
}

impl fmt::Debug for Undo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Undo").field(&self.number).finish()
    }
}

/// Has a second signal do this before the end, on another thread, at any time while the result is there. It must not
/// wait, and it may be done although its owner is just doing it too.
pub fn on_second_signal(undo: impl FnMut() + Send + 'static) -> Undo {
    add(&UNDONE, undo)
}

/// Adds to a list.
fn add(list: &'static List, undo: impl FnMut() + Send + 'static) -> Undo {
    static NEXT: Mutex<u64> = Mutex::new(0);
    let orderly = orderly();
    let mut next = lock(&NEXT);
    *next += 1;
    lock(list).push(Entry(*next, Box::new(undo)));
    Undo { number: *next, list, _orderly: orderly }
}

impl Drop for Undo {
    fn drop(&mut self) {
        lock(self.list).retain(|entry| entry.0 != self.number);
    }
}

/// Does what is left to undo, the newest first.
fn undo(list: &List) {
    lock(list).iter_mut().rev().for_each(|entry| entry.1());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_at_once(value: bool) {
    if let Some(at_once) = AT_ONCE.get() {
        at_once.store(value, Ordering::SeqCst);
    }
}

/// Acts as a signal does: the user asked for the end in another way.
pub fn request() {
    if let Some(came) = CAME.get() {
        came.store(true, Ordering::SeqCst);
    }
}

/// Returns true once a signal has arrived.
pub fn requested() -> bool {
    CAME.get().is_some_and(|came| came.load(Ordering::SeqCst))
}

/// Returns an error once a signal has arrived.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}

/// Returns true if an error is a signal's, also where it passed through an I/O error.
#[must_use]
pub fn is_cause(error: &anyhow::Error) -> bool {
    let in_io = |cause: &(dyn std::error::Error + 'static)| {
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        inner.is_some_and(|inner| inner.is::<Interrupted>())
    };
    error.is::<Interrupted>() || error.chain().any(|cause| cause.is::<Interrupted>() || in_io(cause))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_interrupted_read_is_known_for_one() {
        let read = || Err::<(), _>(std::io::Error::other(Interrupted));
        assert!(is_cause(&read().context("cannot read x").unwrap_err()));
        assert!(is_cause(&anyhow::Error::from(Interrupted).context("cannot read x")));
        assert!(!is_cause(&anyhow::anyhow!("interrupted")));
    }

    #[test]
    fn an_ignored_signal_is_known() {
        let status =
            "Name:\thv\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0000000000004002\n";
        assert!(ignores(status, SIGHUP) && !ignores(status, SIGINT) && !ignores(status, SIGTERM));
        assert!(!ignores("", SIGHUP) && !ignores("SigIgn:\tx\n", SIGHUP));
    }

    #[test]
    fn what_is_left_is_undone_from_the_newest_on() {
        // Not the process's own: other tests have files that would be undone with these.
        static LIST: List = Mutex::new(Vec::new());
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let done = Arc::clone(&done);
            add(&LIST, move || lock(&done).push(what))
        };
        let (_first, gone, _last) = (note("first"), note("gone"), note("last"));
        drop(gone);
        undo(&LIST);
        assert_eq!(*lock(&done), ["last", "first"]);
    }
}
