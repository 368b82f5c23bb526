//! Ctrl-C, SIGTERM and a terminal that goes away.
//!
//! They end the process at once, wherever it is, unless something is under way that has to be taken down in good order: a
//! guest, a program that was started, a file half written. What takes that care holds an [`Orderly`] and looks at
//! [`check`]; a second signal ends it at once all the same.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::exit::Exit;

static CAME: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// A signal ends the process at once.
static AT_ONCE: OnceLock<Arc<AtomicBool>> = OnceLock::new();
/// How many [`Orderly`] there are.
static HELD: Mutex<usize> = Mutex::new(0);

/// A signal asked for the end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// Catches the signals.
pub fn install() -> std::io::Result<()> {
    let at_once = AT_ONCE.get_or_init(|| Arc::new(AtomicBool::new(true)));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let code = Exit::Interrupted as i32;
        signal_hook::flag::register_conditional_shutdown(signal, code, Arc::clone(at_once))?;
        signal_hook::flag::register(signal, Arc::clone(CAME.get_or_init(Arc::default)))?;
        // The second one.
        signal_hook::flag::register(signal, Arc::clone(at_once))?;
    }
    Ok(())
}

/// While one of these is there, the first signal is only noted.
#[derive(Debug)]
pub struct Orderly(());

/// Has a signal wait for whoever looks at [`check`].
pub fn orderly() -> Orderly {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    *held += 1;
    if *held == 1 {
        set_at_once(false);
    }
    // A signal that came just before is the first one all the same.
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

/// True once a signal came.
pub fn requested() -> bool {
    CAME.get().is_some_and(|came| came.load(Ordering::SeqCst))
}

/// Fails once a signal came.
pub fn check() -> Result<(), Interrupted> {
    if requested() { Err(Interrupted) } else { Ok(()) }
}
