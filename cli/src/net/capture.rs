//! `--net-capture`: the network's frames, from QEMU through a pipe into the user's file.
//!
//! A guest sends as many frames as it likes, and QEMU would write them all. So a thread copies whole records, as many
//! as fit. It keeps reading whatever becomes of them, since QEMU waits while the pipe is full.
//!
//! Source: IETF, draft-ietf-opsawg-pcap, "General File Structure", "File Header", "Packet Record".

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::pipe::PipeFlags;

use crate::output::{self, Pending};

/// Maximum size of a capture in bytes: no guest fills the disk.
const LIMIT: u64 = 1 << 30;
/// Interval between two looks whether the machine has ended.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Size of the file's header, and of a record's.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
/// Offset of the number of captured bytes in a record's header, and their maximum (libpcap, `MAXIMUM_SNAPLEN`).
const CAPTURED: usize = 8;
const LONGEST: usize = 256 << 10;

/// The file of `--net-capture`, which gets its name at the end of the run.
#[derive(Debug)]
pub(crate) struct Capture {
    path: PathBuf,
    /// The machine has ended.
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<(Pending, u64)>>>,
}

impl Capture {
    /// Begins a capture. Returns it, and the pipe that QEMU writes to.
    pub(super) fn begin(path: &Path) -> anyhow::Result<(File, Self)> {
        output::check("capture", "--net-capture", path)?;
        let pending =
            Pending::new(path).with_context(|| format!("cannot write the capture to {}", path.display()))?;
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("cannot make a pipe")?;
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let thread = std::thread::Builder::new()
            .name("capture".into())
            .spawn(move || copy(File::from(reader), pending, &told))?;
        Ok((File::from(writer), Self { path: path.to_owned(), ended, thread: Some(thread) }))
    }

    /// Gives the file its name. Returns the number of frames for which it had no room.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn finish(mut self) -> anyhow::Result<u64> {
        let finished = self.join().context("the capture is already finished")?;
        let finish = || {
            let (pending, left_out) = finished?;
            pending.commit()?;
            Ok::<_, io::Error>(left_out)
        };
        finish().with_context(|| format!("cannot write the capture to {}", self.path.display()))
    }

    fn join(&mut self) -> Option<io::Result<(Pending, u64)>> {
        self.ended.store(true, Ordering::Release);
        let thread = self.thread.take()?;
        Some(thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked"))))
    }
}

impl Drop for Capture {
    /// Removes what was written, unless it is finished.
    fn drop(&mut self) {
        drop(self.join());
    }
}

/// Copies records until the machine has ended and the pipe is empty.
fn copy(mut pipe: File, pending: Pending, ended: &AtomicBool) -> io::Result<(Pending, u64)> {
    let mut records = Records::new(BufWriter::new(pending), LIMIT);
    let mut bytes = vec![0; 64 << 10];
    loop {
        // What QEMU wrote before its end is seen after it.
        let last = ended.load(Ordering::Acquire);
        let ready = rustix::event::poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&LOOK));
        match ready {
            Ok(0) if last => break,
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match pipe.read(&mut bytes)? {
            0 => break,
            length => records.feed(&bytes[..length]),
        }
    }
    let (out, left_out) = records.finish()?;
    Ok((out.into_inner().map_err(io::IntoInnerError::into_error)?, left_out))
}

/// The records of a capture, copied whole.
struct Records<W> {
    out: W,
    /// Bytes that `out` still takes.
    room: u64,
    /// The beginning of a record, or of the file's header.
    part: Vec<u8>,
    headed: bool,
    left_out: u64,
    failed: Option<io::Error>,
}

impl<W: Write> Records<W> {
    fn new(out: W, limit: u64) -> Self {
        Self { out, room: limit, part: Vec::new(), headed: false, left_out: 0, failed: None }
    }

    /// Copies bytes as they come, in pieces of any length.
    fn feed(&mut self, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        self.part.extend_from_slice(bytes);
        let part = std::mem::take(&mut self.part);
        let mut rest = &*part;
        while let Some(length) = self.length(rest).filter(|length| *length <= rest.len()) {
            let (record, behind) = rest.split_at(length);
            self.put(record);
            rest = behind;
        }
        self.part = rest.to_vec();
    }

    /// Returns the length of the next record; `None` before its header is there.
    fn length(&mut self, rest: &[u8]) -> Option<usize> {
        if !self.headed {
            return Some(FILE_HEADER);
        }
        // In the byte order of the host.
        let captured = rest.get(..RECORD_HEADER)?.get(CAPTURED..)?.first_chunk()?;
        let captured = u32::from_ne_bytes(*captured) as usize;
        if captured > LONGEST {
            let said = format!("QEMU wrote a record of {captured} bytes, expected at most {LONGEST}");
            self.failed.get_or_insert_with(|| io::Error::other(said));
            return None;
        }
        Some(RECORD_HEADER + captured)
    }

    fn put(&mut self, record: &[u8]) {
        let is_frame = std::mem::replace(&mut self.headed, true);
        let length = record.len() as u64;
        if self.left_out != 0 || length > self.room {
            self.left_out += u64::from(is_frame);
            return;
        }
        self.room -= length;
        if let Err(error) = self.out.write_all(record) {
            self.failed.get_or_insert(error);
        }
    }

    /// Returns the file, and the number of frames that are not in it.
    fn finish(mut self) -> io::Result<(W, u64)> {
        self.out.flush()?;
        self.failed.map_or(Ok((self.out, self.left_out)), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The file's header, and frames of these lengths.
    fn capture(frames: &[usize]) -> Vec<u8> {
        let mut bytes = vec![0xd4; FILE_HEADER];
        for (number, length) in frames.iter().enumerate() {
            for word in [number as u32, 0, *length as u32, *length as u32] {
                bytes.extend_from_slice(&word.to_ne_bytes());
            }
            bytes.resize(bytes.len() + length, number as u8);
        }
        bytes
    }

    fn copied(bytes: &[u8], piece: usize, limit: u64) -> io::Result<(Vec<u8>, u64)> {
        let mut records = Records::new(Vec::new(), limit);
        bytes.chunks(piece).for_each(|piece| records.feed(piece));
        records.finish()
    }

    #[test]
    fn whole_records_are_copied_as_long_as_they_fit() {
        let all = capture(&[60, 0, 1514, 65_536, 42]);
        for piece in [1, 7, 4096, 1 << 20] {
            assert_eq!(copied(&all, piece, 1 << 20).unwrap(), (all.clone(), 0), "{piece}");
            // The frame that does not fit is left out, and so are those after it.
            let limit = capture(&[60, 0, 1514]).len() as u64 + 1000;
            assert_eq!(copied(&all, piece, limit).unwrap(), (capture(&[60, 0, 1514]), 2), "{piece}");
        }
        // A record that was cut off by the machine's end is none.
        assert_eq!(copied(&all[..all.len() - 1], 100, 1 << 20).unwrap().0, capture(&[60, 0, 1514, 65_536]));
        assert_eq!(copied(&[], 1, 1 << 20).unwrap(), (Vec::new(), 0));
    }

    #[test]
    fn a_record_without_measure_is_an_error_and_kept_nowhere() {
        let mut bad = capture(&[60]);
        let at = FILE_HEADER + CAPTURED;
        bad[at..at + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        let mut records = Records::new(Vec::new(), 1 << 20);
        records.feed(&bad);
        (0..100).for_each(|_| records.feed(&[0; 4096]));
        assert!(records.part.len() < 4096, "{} bytes", records.part.len());
        assert!(records.finish().unwrap_err().to_string().contains("4294967295"));
    }

    #[test]
    fn a_capture_has_its_name_when_it_is_whole_and_none_is_left_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("net.pcap");
        let (mut pipe, held) = Capture::begin(&file).unwrap();
        let frames = capture(&[60; 1000]);
        pipe.write_all(&frames).unwrap();
        assert!(!file.exists());
        assert_eq!(held.finish().unwrap(), 0);
        assert_eq!(std::fs::read(&file).unwrap(), frames);
        std::fs::remove_file(&file).unwrap();
        drop(Capture::begin(&file).unwrap());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn a_full_disk_stops_no_machine() {
        let (mut pipe, held) = Capture::begin(Path::new("/dev/full")).unwrap();
        // More than the pipe holds: the thread keeps reading.
        pipe.write_all(&capture(&[1514; 1000])).unwrap();
        let error = format!("{:#}", held.finish().unwrap_err());
        assert!(error.contains("cannot write the capture to /dev/full"), "{error}");
    }
}
