//! The report: kept in memory while the firmware stands still, then shown and written to a file.
#![expect(unsafe_code, reason = "after a panic the lock may be held forever")]

use core::fmt;

use hv_conformance::protocol::PREFIX;
use spin::Mutex;

use crate::firmware;

/// The file on the volume that the application was loaded from.
pub(crate) const FILE: &str = "\\hv-conformance.txt";

/// Several times what the suite prints in two runs.
const BYTES: usize = 512 << 10;

struct Text {
    bytes: [u8; BYTES],
    len: usize,
    /// How much the console has shown.
    shown: usize,
}

static TEXT: Mutex<Text> = Mutex::new(Text { bytes: [0; BYTES], len: 0, shown: 0 });

/// The writer of the report.
#[derive(Debug)]
pub(crate) struct Report;

impl fmt::Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut kept = TEXT.lock();
        let len = kept.len;
        let Some(place) = kept.bytes.get_mut(len..len + text.len()) else { return Err(fmt::Error) };
        place.copy_from_slice(text.as_bytes());
        kept.len += text.len();
        Ok(())
    }
}

/// Writes a line to the report.
macro_rules! note {
    ($($text:tt)*) => {{
        use core::fmt::Write as _;
        // Text that does not fit is dropped.
        let _ = writeln!($crate::report::Report, "{}", format_args!($($text)*));
    }};
}
pub(crate) use note;

impl Report {
    /// Writes all of it to the file, and shows the new part on the console: everything if there is no file, otherwise
    /// all but the cases that passed or were skipped.
    pub(crate) fn deliver() {
        let mut kept = TEXT.lock();
        let text = core::str::from_utf8(&kept.bytes[..kept.len]).unwrap_or_default();
        let written = firmware::write_file(FILE, text.as_bytes());
        for line in text[kept.shown..].lines() {
            let event = line.strip_prefix(PREFIX).unwrap_or("fail");
            if written.is_err() || event.starts_with("fail") || event.starts_with("begin") {
                firmware::show(line);
            }
        }
        if let Err(why) = written {
            firmware::show_status("no report could be written to the volume of the application:", why);
        }
        kept.shown = kept.len;
    }

    /// Frees the lock, whoever holds it: the holder will not come back.
    pub(crate) fn unlock() {
        if TEXT.is_locked() {
            // SAFETY: there is one thread of control, and it does not return to the code that held the lock.
            unsafe { TEXT.force_unlock() };
        }
    }
}
