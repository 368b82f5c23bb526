//! QEMU's log of the instructions that it executes: one line each.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Context as _;
use hv_setup::qemu::Qemu;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

/// How often the end of the run is looked for while nothing is logged.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// Version since which QEMU has the second of the two options.
const NEW_OPTION: (u32, u32) = (8, 1);
/// Options that have QEMU translate each instruction for itself.
const ONE_EACH: [&str; 2] = ["-singlestep", "-accel tcg,one-insn-per-tb=on"];

/// How often each address was executed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(pub(super) HashMap<u64, u64>);

impl Counts {
    /// Counts a line; all others than those of the log are ignored.
    ///
    /// QEMU writes `Trace CPU: POINTER [CS_BASE/PC/FLAGS/CFLAGS] SYMBOL` (accel/tcg/cpu-exec.c, `log_cpu_exec`).
    fn add(&mut self, line: &[u8]) {
        let Some(rest) = line.strip_prefix(b"Trace ") else { return };
        let Some(pc) = rest.split(|byte| *byte == b'/').nth(1) else { return };
        let address = std::str::from_utf8(pc).ok().and_then(|pc| u64::from_str_radix(pc, 16).ok());
        if let Some(address) = address {
            *self.0.entry(address).or_default() += 1;
        }
    }

    /// Reads a log to its end.
    fn read(&mut self, log: impl Read) -> std::io::Result<()> {
        let mut log = BufReader::with_capacity(1 << 20, log);
        let mut line = Vec::new();
        while log.read_until(b'\n', &mut line)? > 0 {
            self.add(&line);
            line.clear();
        }
        Ok(())
    }

    /// Returns what these have more than the others.
    pub(super) fn without(mut self, others: &Self) -> Self {
        for (address, count) in &others.0 {
            if let Some(own) = self.0.get_mut(address) {
                *own = own.saturating_sub(*count);
            }
        }
        self.0.retain(|_, count| *count > 0);
        self
    }
}

/// A QEMU that logs into a named pipe.
pub(super) struct Tap {
    program: PathBuf,
    pipe: PathBuf,
}

impl Tap {
    /// Makes it in a folder, of this QEMU; it logs what is executed of this code. A guest may wait for millions of
    /// instructions.
    pub(super) fn new(folder: &Path, qemu: &Qemu, code: &Range<u64>) -> anyhow::Result<Self> {
        let (program, pipe) = (folder.join("qemu"), folder.join("log"));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .context("cannot make a named pipe")?;
        // The tool also starts it to ask for its version.
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in\n*-icount*) exec {qemu} \"$@\" {options} -d exec,nochain \
             -dfilter {start:#x}..{last:#x} -D {pipe} ;;\n\
             *) exec {qemu} \"$@\" ;;\nesac\n",
            qemu = quoted(&qemu.path)?,
            options = ONE_EACH[usize::from(version(&qemu.version) >= NEW_OPTION)],
            start = code.start,
            last = code.end - 1,
            pipe = quoted(&pipe)?,
        );
        fs::write(&program, script).context("cannot write a script")?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700))?;
        Ok(Self { program, pipe })
    }

    /// Returns the program's path.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// Counts what is logged while `run` runs.
    ///
    /// # Errors
    /// The pipe cannot be read.
    pub(super) fn count<T>(&self, run: impl FnOnce() -> T) -> anyhow::Result<(T, Counts)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let pipe = rustix::fs::open(&self.pipe, flags, Mode::empty()).context("cannot open a named pipe")?;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut counts = Counts::default();
                counts.read(Live { pipe: fs::File::from(pipe), over: &over }).map(|()| counts)
            });
            let result = run();
            over.store(true, Ordering::Release);
            let counts =
                reader.join().expect("the reader does not panic").context("cannot read QEMU's log")?;
            Ok((result, counts))
        })
    }
}

/// A named pipe, whose end is that of the run: before QEMU opens it, it looks as if it had ended.
struct Live<'a> {
    pipe: fs::File,
    over: &'a AtomicBool,
}

impl Read for Live<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            // Asked first: what was written before the end is still read.
            let over = self.over.load(Ordering::Acquire);
            match self.pipe.read(buffer) {
                Ok(0) if over => return Ok(0),
                Ok(0) => thread::sleep(std::time::Duration::from_millis(20)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&TICK))?;
                }
                result => return result,
            }
        }
    }
}

/// Returns a path as a word of the shell.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let path = path.to_str().with_context(|| format!("the path {} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", path.replace('\'', "'\\''")))
}

/// Returns major and minor number of a version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"Trace 0: 0x7f41 [0000000000000000/0000000040190004/00000061/ff020201] \n\
        qemu: something else\n\
        Trace 1: 0x7f42 [0000000000000000/0000000040190004/00000061/ff020201] _ZN10hypervisor5power\n\
        Trace 0: 0x7f43 [0000000000000000/00000000401a3fa8/00000061/ff020201]\n";

    fn counts(log: &[u8]) -> Counts {
        let mut counts = Counts::default();
        counts.read(log).unwrap();
        counts
    }

    #[test]
    fn addresses_are_counted_on_all_cpus() {
        assert_eq!(counts(LOG).0, HashMap::from([(0x4019_0004, 2), (0x401a_3fa8, 1)]));
        assert_eq!(counts(b"Trace 0: 0x7f [0/zz/0]\nTrace\n").0, HashMap::new());
    }

    #[test]
    fn what_both_have_is_taken_off() {
        let two = counts(&[LOG, LOG].concat());
        assert_eq!(two.without(&counts(LOG)), counts(LOG));
        assert_eq!(counts(LOG).without(&counts(LOG)), Counts::default());
    }

    #[test]
    fn the_option_is_that_of_the_version() {
        assert!(
            version("7.2.22") < NEW_OPTION && version("8.1.0") >= NEW_OPTION && version("10.0") > NEW_OPTION
        );
    }

    #[test]
    fn what_is_written_before_the_end_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let qemu = Qemu { path: "/bin/true".into(), version: "7.2".to_owned(), sandbox: false };
        let tap = Tap::new(folder.path(), &qemu, &(0x1000..0x2000)).unwrap();
        let (written, read) = tap.count(|| fs::write(&tap.pipe, LOG)).unwrap();
        written.unwrap();
        assert_eq!(read, counts(LOG));
        // A run that never starts QEMU has counted nothing.
        assert_eq!(tap.count(|| ()).unwrap().1, Counts::default());
    }
}
