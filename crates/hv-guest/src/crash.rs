//! The crash report: five numbers, or three numbers and a text. One per crash.
//!
//! Reporting is possible in any context: it needs a conduit and no handle, does not allocate and takes no lock.
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

/// Makes one crash report, even if several CPUs crash. Usually a static.
#[doc(alias = "hv_setup_crash_handler")]
#[doc(alias = "hv_remove_crash_handler")]
#[derive(Debug)]
pub struct CrashReporter {
    reported: AtomicU32,
}

/// What was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reported {
    /// The parameters, and the text if there is one.
    Everything,
    /// The parameters only: the hypervisor supports no text.
    WithoutText,
}

/// Reason why there is no report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashError {
    /// A crash was already reported, by another CPU or earlier.
    Already,
    /// The hypervisor does not support crash reports.
    Unsupported,
    /// The hypervisor's status. The report may be retried.
    Hypervisor(HvError),
}

impl fmt::Display for CrashError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Already => f.write_str("a crash was already reported"),
            Self::Unsupported => f.write_str("the hypervisor does not support crash reports"),
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
    /// Creates a reporter that has not reported anything.
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

    /// Reports three numbers and a text, through a page reserved for it. Of a text longer than 4096 bytes only the end
    /// is reported, since a log ends with the cause.
    ///
    /// If the text is empty or the hypervisor supports no text, the report is made without it: the message bit is
    /// clear, so parameters 3 and 4 are not mistaken for a message.
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

    /// Reports three numbers and a text that is already in guest physical memory: `length` bytes, at most 4096, at
    /// `address`, all in one page.
    ///
    /// # Safety
    ///
    /// The host may read these bytes and show them to anyone with access to its log.
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

    /// Runs `report` unless a report has been made or is being made.
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

/// Returns the crash reporting capabilities of the hypervisor.
///
/// # Errors
///
/// The hypervisor's status.
#[doc(alias = "hv_get_crash_ctl")]
pub fn capabilities(conduit: &(impl Conduit + ?Sized)) -> Result<CrashControl, HvError> {
    registers::get(conduit, Register::CRASH_CONTROL)
}

/// Reports with the message bit if there is a text and the hypervisor supports it, else without.
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

/// Writes the parameters, then the control register once.
fn notify(
    conduit: &(impl Conduit + ?Sized),
    parameters: [u64; 5],
    control: CrashControl,
) -> Result<(), HvError> {
    for (register, value) in Register::CRASH_PARAMETERS.into_iter().zip(parameters) {
        registers::set(conduit, register, value)?;
    }
    let (name, value) = (Register::CRASH_CONTROL.name(), RegisterValue::from_u64(control.bits()));
    // SAFETY: the hypervisor reads the parameters and, if there is one, the text, whose address the callers vouch for;
    // it writes no guest memory.
    unsafe { registers::set_raw(conduit, VpIndex::SELF, name, value) }
}
