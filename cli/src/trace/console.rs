//! The guest's console as records, created by the tool, since no hypervisor sees what a guest writes to its UART.

use std::fs::File;
use std::io::{BufWriter, Seek as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use hv_trace::{NO_VP, Payload, Record, What};
use zerocopy::IntoBytes as _;

/// Number of bytes of a line in one record.
const PART: usize = 45;
/// Maximum number of console records: no guest fills the disk.
const MOST: u64 = 1 << 20;

/// Receiver of guest output, line by line.
#[derive(Debug, Clone)]
pub(super) struct Lines(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Time of the newest collected record: a line comes after it.
    newest: Arc<AtomicU64>,
    /// The incomplete line, with the time of its start.
    line: Vec<u8>,
    began: u64,
    file: BufWriter<File>,
    records: u64,
    failed: Option<std::io::Error>,
}

/// The recorded guest output.
#[derive(Debug)]
pub(super) struct Console {
    /// The records, to be read from here.
    pub(super) file: File,
    /// Number of records.
    pub(super) records: u64,
}

impl Lines {
    pub(super) fn new(newest: Arc<AtomicU64>) -> anyhow::Result<Self> {
        let file = tempfile::tempfile().context("cannot create a temporary file for the trace")?;
        let file = BufWriter::new(file);
        let state = State { newest, line: Vec::new(), began: 0, file, records: 0, failed: None };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Records the output that has arrived.
    pub(super) fn hear(&self, bytes: &[u8]) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in bytes {
            if state.line.is_empty() {
                state.began = state.newest.load(Ordering::Relaxed);
            }
            match byte {
                b'\n' => state.write(false),
                b'\r' => {}
                _ => {
                    if state.line.len() == PART {
                        state.write(true);
                    }
                    state.line.push(byte);
                }
            }
        }
    }

    /// Returns what was recorded.
    pub(super) fn finish(&self) -> anyhow::Result<Console> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.line.is_empty() {
            state.write(false);
        }
        if let Some(error) = state.failed.take() {
            return Err(error).context("cannot write the console's temporary file for the trace");
        }
        state.file.flush()?;
        let mut file = state.file.get_ref().try_clone()?;
        file.rewind()?;
        Ok(Console { file, records: state.records })
    }
}

impl State {
    /// Writes a line, or the available part of it.
    fn write(&mut self, more: bool) {
        let what = What::Console { more, text: Payload::new(&self.line) };
        let raw = Record { time: self.began, vp: NO_VP, what }.encode();
        self.line.clear();
        if self.records < MOST && self.failed.is_none() {
            self.failed = self.file.write_all(raw.as_bytes()).err();
            self.records += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use zerocopy::FromBytes as _;

    use super::*;

    fn heard(pieces: &[(&[u8], u64)]) -> Vec<(u64, bool, String)> {
        let newest = Arc::new(AtomicU64::new(0));
        let lines = Lines::new(Arc::clone(&newest)).unwrap();
        for (bytes, time) in pieces {
            newest.store(*time, Ordering::Relaxed);
            lines.hear(bytes);
        }
        let Console { mut file, records } = lines.finish().unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, records * 64);
        let records =
            bytes.chunks(64).map(|raw| Record::decode(&hv_trace::Raw::read_from_bytes(raw).unwrap()));
        records
            .map(|record| match record.what {
                What::Console { more, text } => {
                    (record.time, more, String::from_utf8_lossy(text.kept()).into_owned())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_line_has_the_time_at_which_it_began() {
        assert_eq!(
            heard(&[(b"one\r\ntw", 5), (b"o\n", 9), (b"", 10), (b"end", 11)]),
            [(5, false, "one".into()), (5, false, "two".into()), (11, false, "end".into())]
        );
    }

    #[test]
    fn a_long_line_goes_on_in_the_next_record() {
        let parts = heard(&[(&[b'x'; 100], 1), (b"\n", 2)]);
        let shape: Vec<_> = parts.iter().map(|(_, more, text)| (*more, text.len())).collect();
        assert_eq!(shape, [(true, 45), (true, 45), (false, 10)]);
    }
}
