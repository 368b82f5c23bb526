//! Ctrl-C, SIGTERM and a closed terminal.
//!
//! A signal ends the process immediately, unless something must be shut down in an orderly way: a guest, a child
//! process, a half-written file. Code that does so holds an [`Orderly`] and polls [`check`]; a second signal ends the
//! process immediately even then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::exit::Exit;

static CAME: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Set while a signal ends the process immediately.
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// Number of [`Orderly`] values.
static HELD: Mutex<usize> = Mutex::new(0);

/// A signal requested the end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Installs the signal handlers.
pub fn install() -> std::io::Result<()> {
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = Exit::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(at_once))?;
        signal_hook::flag::register(signal, Arc::clone(CAME.get_or_init(Arc::default)))?;
        // The second signal.
        signal_hook::flag::register(signal, Arc::clone(at_once))?;
    }
    Ok(())
}

/// While one of these exists, the first signal is only recorded.
#[derive(Debug)]
pub struct Orderly(());

/// Makes a signal wait for the next call of [`check`].
pub fn orderly() -> Orderly {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    *held += 1;
    if *held == 1 {
        set_at_once(false);
    }
    // A signal that arrived just before still counts as the first one.
    if requested() {
        set_at_once(true);
    }
    Orderly(())
}

impl Drop for Orderly {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        *held -= 1;
        if *held == 0 {
            set_at_once(true);
        }
    }
}

fn set_at_once(value: bool) {
    if let Some(at_once) = AT_ONCE.get() {
        at_once.store(value, Ordering::SeqCst);
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
