//! The crash report: one, with five numbers, or three and a text.
//!
//! It can be made from any context: it takes a conduit and no handle, allocates nothing, takes no lock.
//!
//! Source: TLFS, "Partitions", "Partition Crash Enlightenment".

use core::fmt;

use hv_tlfs::crash::CrashControl;
use hv_tlfs::page::SIZE;
use hv_tlfs::register::RegisterValue;
use hv_tlfs::status::HvError;
use hv_tlfs::vp::VpIndex;

use crate::conduit::Conduit;
use crate::page::{Memory, Page};
use crate::registers::{self, Register};
use crate::sync::{AtomicU32, Ordering};

/// Makes one crash report, whichever CPU crashes first. Usually a static.
#[doc(alias = "hv_setup_crash_handler")]
#[doc(alias = "hv_remove_crash_handler")]
#[derive(Debug)]
pub struct CrashReporter {
    reported: AtomicU32,
}

/// What was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The parameters, and the text if there was one.
    Everything,
    /// The parameters: the hypervisor takes no text.
    WithoutText,
}

/// Why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashError {
    /// There has been one: another CPU's, or one of a crash before this one.
    Already,
    /// The hypervisor takes none.
    Unsupported,
    /// The hypervisor's status. Another attempt can be made.
    Hypervisor(HvError),
}

impl fmt::Display for CrashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("a crash has been reported already"),
            Self::Unsupported => f.write_str("the hypervisor takes no crash reports"),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CrashError {}

impl From<HvError> for CrashError {
    fn from(error: HvError) -> Self {
        Self::Hypervisor(error)
    }
}

impl Default for CrashReporter {
    fn default() -> Self {
        Self::new()
    }
}

impl CrashReporter {
    /// Nothing reported yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { reported: AtomicU32::new(0) }
    }

    /// Reports five numbers. The host logs them; Linux sends the error code, the guest OS id, program counter, stack
    /// pointer and 0.
    ///
    /// # Errors
    ///
    /// [`CrashError`].
    #[doc(alias = "hyperv_report_panic")]
    pub fn report(
        &self,
        conduit: &(impl Conduit + ?Sized),
        parameters: [u64; 5],
    ) -> Result<Reported, CrashError> {
        self.once(|| {
            if !capabilities(conduit)?.crash_notify() {
                return Err(CrashError::Unsupported);
            }
            notify(conduit, parameters, CrashControl::CRASH_NOTIFY)?;
            Ok(Reported::Everything)
        })
    }

    /// Reports three numbers and a text, through a page that is kept for it. Of a text longer than 4096 bytes the end is
    /// reported, where a log says what happened.
    ///
    /// An empty text, or a hypervisor that takes none, does not keep the report from being made: then the message bit is
    /// not set, so that nobody takes parameters 3 and 4 for a message.
    ///
    /// # Errors
    ///
    /// [`CrashError`].
    #[doc(alias = "hyperv_report_panic_msg")]
    #[doc(alias = "hv_kmsg_dump")]
    pub fn report_text(
        &self,
        conduit: &(impl Conduit + ?Sized),
        parameters: [u64; 3],
        text: &[u8],
        page: &'static Page,
        memory: &impl Memory,
    ) -> Result<Reported, CrashError> {
        let text = text.get(text.len().saturating_sub(SIZE)..).unwrap_or(text);
        self.once(|| {
            page.write(0, text);
            notify_with_text(conduit, parameters, memory.gpa(page), text.len())
        })
    }

    /// Reports three numbers and a text that lies in guest physical memory already: `length` bytes, 4096 at most, at
    /// `address`, all in one page.
    ///
    /// # Safety
    ///
    /// The host may read these bytes and show them to whoever looks at its log.
    ///
    /// # Errors
    ///
    /// [`CrashError`].
    #[doc(alias = "hyperv_report_panic_msg")]
    pub unsafe fn report_text_at(
        &self,
        conduit: &(impl Conduit + ?Sized),
        parameters: [u64; 3],
        address: u64,
        length: usize,
    ) -> Result<Reported, CrashError> {
        self.once(|| notify_with_text(conduit, parameters, address, length.min(SIZE)))
    }

    /// Runs `report` unless a report was made or is being made.
    fn once(&self, report: impl FnOnce() -> Result<Reported, CrashError>) -> Result<Reported, CrashError> {
        if self.reported.swap(1, Ordering::Relaxed) != 0 {
            return Err(CrashError::Already);
        }
        let result = report();
        if result.is_err() {
            self.reported.store(0, Ordering::Relaxed);
        }
        result
    }
}

/// What the hypervisor can do with a crash.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "hv_get_crash_ctl")]
pub fn capabilities(conduit: &(impl Conduit + ?Sized)) -> Result<CrashControl, HvError> {
    registers::get(conduit, Register::CRASH_CONTROL)
}

/// Reports with the message bit if there is a text and the hypervisor takes one, else without.
fn notify_with_text(
    conduit: &(impl Conduit + ?Sized),
    [p0, p1, p2]: [u64; 3],
    address: u64,
    length: usize,
) -> Result<Reported, CrashError> {
    let supported = capabilities(conduit)?;
    if !supported.crash_notify() {
        return Err(CrashError::Unsupported);
    }
    if length == 0 || !supported.crash_message() {
        notify(conduit, [p0, p1, p2, 0, 0], CrashControl::CRASH_NOTIFY)?;
        return Ok(if length == 0 { Reported::Everything } else { Reported::WithoutText });
    }
    let control = CrashControl::CRASH_NOTIFY.with_crash_message(true);
    notify(conduit, [p0, p1, p2, address, length as u64], control)?;
    Ok(Reported::Everything)
}

/// Writes the parameters, then, once, the control register.
fn notify(
    conduit: &(impl Conduit + ?Sized),
    parameters: [u64; 5],
    control: CrashControl,
) -> Result<(), HvError> {
    for (register, value) in Register::CRASH_PARAMETERS.into_iter().zip(parameters) {
        registers::set(conduit, register, value)?;
    }
    let (name, value) = (Register::CRASH_CONTROL.name(), RegisterValue::from_u64(control.bits()));
    // SAFETY: the hypervisor reads the parameters, and the text if there is one; it writes no memory. What it reads, the
    // callers vouch for.
    unsafe { registers::set_raw(conduit, VpIndex::SELF, name, value) }
}
