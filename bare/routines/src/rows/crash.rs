//! The crash report, from the last VP.

use hv_guest::crash::{self, CrashError, CrashReporter, Reported};
use hv_guest::page::Page;

use super::Os;

/// The content of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Five numbers.
    Numbers,
    /// Three numbers and no text.
    Empty,
    /// Three numbers and more text than the 4096 bytes that can be reported.
    Long,
}

/// Returns the text of [`Kind::Long`]: only its end arrives.
pub(crate) fn long_text() -> [u8; 5000] {
    core::array::from_fn(|i| b'a' + (i % 23) as u8)
}

/// Reports a crash from the last VP, once; a host that ends the guest at a crash ends it here.
pub(crate) fn report<O: Os>(os: &O, kind: Kind) {
    let page: &'static Page = &os.pages()[1];
    os.on(os.vps() - 1, &|| {
        let conduit = os.conduit();
        let can = crash::capabilities(&conduit).expect("it tells what it can");
        assert!(can.crash_notify() && can.crash_message());
        let reporter = CrashReporter::new();
        let text = |text: &[u8]| reporter.report_text(&conduit, [11, 12, 13], text, page, os.memory());
        let reported = match kind {
            Kind::Numbers => reporter.report(&conduit, [11, 12, 13, 14, 15]),
            Kind::Empty => text(b""),
            Kind::Long => text(&long_text()),
        };
        assert_eq!(reported, Ok(Reported::Everything));
        assert_eq!(text(b"again"), Err(CrashError::Already));
    });
}
