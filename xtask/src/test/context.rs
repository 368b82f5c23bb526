//! The scenarios' common parts: a way to run the tool, and a place for its files.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use super::schema;
use hv_setup::exit::Exit;
use hv_setup::{child, developer, interrupt, process, sources};

/// Lines of the console that a failure shows.
const TAIL: usize = 40;
/// Seconds after which a guest or a process counts as hung, and nothing else: without the slow scenarios, the slowest
/// took a third of it with twelve scenarios and eight busy loops on two cores.
pub(crate) const HUNG_SECONDS: &str = "1200";
/// The same.
pub(crate) const HUNG: Duration = Duration::from_secs(1200);

/// Shared by all scenarios of a run.
pub(crate) struct Context {
    scratch: tempfile::TempDir,
    _undo: interrupt::Undo,
    next: AtomicUsize,
    /// The tool under test.
    hv: PathBuf,
}

/// Name of the tool's copy.
const PROGRAM: &str = "hv";

/// The result of a finished `hv`.
pub(crate) struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The result of a finished `hv boot`.
pub(crate) struct Booted {
    /// Its exit code.
    pub(crate) code: Option<i32>,
    /// The report; null if there is none.
    pub(crate) json: Value,
    /// The report as written.
    pub(crate) json_text: String,
    /// The guest's console.
    pub(crate) console: String,
    /// Its stderr.
    pub(crate) stderr: String,
}

impl Context {
    /// Makes a place for files, with a copy of the tool: builds in scenarios may replace its file.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let hv = match std::env::var_os(developer::HV) {
            Some(file) => PathBuf::from(file),
            None => developer::package(&sources::checkout()?, "hv-cli", &["--no-default-features"])?,
        };
        Self::with(&hv)
    }

    /// Creates a context like [`Context::new`], with this tool.
    pub(crate) fn with(tool: &Path) -> anyhow::Result<Self> {
        let scratch = tempfile::Builder::new().prefix("hv-test-").tempdir()?;
        let hv = scratch.path().join(PROGRAM);
        fs::copy(tool, &hv).with_context(|| format!("cannot copy {}", tool.display()))?;
        let path = scratch.path().to_owned();
        let undo = interrupt::on_second_signal(move || drop(fs::remove_dir_all(&path)));
        Ok(Self { scratch, _undo: undo, next: AtomicUsize::new(0), hv })
    }

    /// Creates a new folder.
    pub(crate) fn folder(&self) -> anyhow::Result<PathBuf> {
        let dir = self.scratch.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Returns a command that runs the tool, and dies with this program. A machine has [`HUNG_SECONDS`] unless the
    /// arguments limit it.
    pub(crate) fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> anyhow::Result<Command> {
        let mut arguments: Vec<_> = arguments.iter().map(|word| word.as_ref().to_owned()).collect();
        let runs = arguments.first().is_some_and(|word| word == "boot" || word == "exec");
        if runs && !arguments.iter().take_while(|word| *word != "--").any(|word| word == "--timeout") {
            arguments.splice(1..1, ["--timeout", HUNG_SECONDS].map(OsString::from));
        }
        Ok(self.apart(&self.hv, &arguments))
    }

    /// Returns a command that runs a script with sh, in which the tool is `$0`.
    pub(crate) fn shell(&self, script: &str) -> Command {
        self.apart(Path::new("sh"), &["-c".into(), script.into(), self.hv.clone().into()])
    }

    /// Returns a command like [`Context::command`], which SIGHUP ends also if this program ignores it, as under
    /// nohup(1): a child inherits that, and env(1) of coreutils reverts it.
    pub(crate) fn command_that_hangs_up<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut words = vec![OsString::from("--default-signal=HUP"), self.hv.clone().into()];
        words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
        self.apart(Path::new("env"), &words)
    }

    /// Returns a command that dies with this program. The user's own machines are none of its business.
    fn apart(&self, program: &Path, arguments: &[OsString]) -> Command {
        let mut command = self.tied(program, arguments);
        command.env("XDG_RUNTIME_DIR", self.scratch.path()).stdin(Stdio::null());
        command
    }

    /// Returns a command that runs another program, and dies with this one.
    pub(crate) fn tied(&self, program: &Path, arguments: &[OsString]) -> Command {
        child::tied_by(&self.hv, program, arguments)
    }

    /// Runs the tool to its end.
    pub(crate) fn hv<S: AsRef<OsStr>>(&self, arguments: &[S]) -> anyhow::Result<Finished> {
        let done = process::run(&mut self.command(arguments)?, || {})?;
        Ok(Finished { code: done.status.code(), stdout: done.stdout, stderr: done.stderr })
    }

    /// Runs `hv boot` with these options to its end.
    pub(crate) fn boot(&self, options: &[&str]) -> anyhow::Result<Booted> {
        let dir = self.folder()?;
        let (keep, report) = (dir.join("keep"), dir.join("report.json"));
        let mut line: Vec<&OsStr> = vec!["boot".as_ref(), "--quiet".as_ref()];
        line.extend(["--keep".as_ref(), keep.as_os_str(), "--json".as_ref(), report.as_os_str()]);
        line.extend(options.iter().map(OsStr::new));
        let done = self.hv(&line)?;
        let json_text = fs::read_to_string(&report).unwrap_or_default();
        let json = serde_json::from_str(&json_text).unwrap_or(Value::Null);
        if !json.is_null() {
            schema::check(schema::BOOT, &json)?;
        }
        Ok(Booted { code: done.code, json, json_text, console: console(&keep), stderr: done.stderr })
    }
}

/// Returns the console so far of a run that keeps its files in `dir`.
pub(crate) fn console(dir: &Path) -> String {
    let bytes = fs::read(dir.join("console.txt")).unwrap_or_default();
    whole_lines(&String::from_utf8_lossy(&bytes))
}

/// Puts what the kernel prints in the middle of a program's line after that line. It does so when it likes: on a slow
/// machine, for instance, it says how long an interrupt took.
pub(crate) fn whole_lines(console: &str) -> String {
    let (mut text, mut behind) = (String::with_capacity(console.len()), String::new());
    for line in console.split_inclusive('\n') {
        match kernels_part(line) {
            Some(at) => {
                text.push_str(&line[..at]);
                behind.push_str(&line[at..]);
            }
            None => {
                text.push_str(line);
                text.push_str(&std::mem::take(&mut behind));
            }
        }
    }
    text + &behind
}

/// Returns where a kernel's message begins in a line: `[   47.185134] `, but not at its start.
fn kernels_part(line: &str) -> Option<usize> {
    let is_time = |text: &str| {
        let Some((seconds, micros)) = text.split_once('.') else { return false };
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        micros.len() == 6 && digits(micros) && !seconds.is_empty() && digits(seconds.trim_start_matches(' '))
    };
    let mut starts = line.match_indices('[').map(|(at, _)| at).filter(|at| *at > 0);
    starts.find(|at| line[at + 1..].split_once("] ").is_some_and(|(time, _)| is_time(time)))
}

impl Booted {
    /// Fails with `what` and the run's output.
    fn fail<T>(&self, what: &str) -> anyhow::Result<T> {
        let lines: Vec<&str> = self.console.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
        bail!(
            "{what}\nexit code {:?}, stderr:\n{}\nwarnings: {}\nend of the console:\n{tail}",
            self.code,
            self.stderr.trim_end(),
            self.json["warnings"]
        )
    }

    /// Checks a condition.
    pub(crate) fn check(&self, condition: bool, what: &str) -> anyhow::Result<()> {
        if condition { Ok(()) } else { self.fail(&format!("not true: {what}")) }
    }

    /// Checks how the run ended: the exit code and the report's word for it.
    pub(crate) fn ended(&self, exit: Exit, word: &str) -> anyhow::Result<()> {
        self.check(self.code == Some(exit as i32), &format!("exit code {}", exit as i32))?;
        self.is("/exit", word)
    }

    /// Checks a value of the report.
    pub(crate) fn is(&self, pointer: &str, expected: impl Into<Value>) -> anyhow::Result<()> {
        let expected = expected.into();
        let found = self.json.pointer(pointer).unwrap_or(&Value::Null);
        if *found == expected {
            return Ok(());
        }
        self.fail(&format!("{pointer} in the report is {found}, expected {expected}"))
    }

    /// Checks that the console has a text.
    pub(crate) fn says(&self, text: &str) -> anyhow::Result<()> {
        self.check(self.console.contains(text), &format!("the console says {text:?}"))
    }

    /// Checks that the console does not have a text.
    pub(crate) fn never_says(&self, text: &str) -> anyhow::Result<()> {
        self.check(!self.console.contains(text), &format!("the console never says {text:?}"))
    }

    /// Returns the strings in a list of the report.
    pub(crate) fn strings(&self, pointer: &str) -> Vec<String> {
        let list = self.json.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten().filter_map(|item| Some(item.as_str()?.to_owned())).collect()
    }

    /// Returns the numbers of the VP registers, in the order of first use.
    pub(crate) fn registers(&self) -> Vec<u64> {
        let list = self.json["registers"].as_array();
        list.into_iter().flatten().filter_map(|register| register["number"].as_u64()).collect()
    }
}

impl Finished {
    /// Checks that the program rejected its options with exit code 2 and one line that contains `text`.
    pub(crate) fn refused(&self, text: &str) -> anyhow::Result<()> {
        let all = || format!("exit code {:?}, stdout:\n{}\nstderr:\n{}", self.code, self.stdout, self.stderr);
        ensure!(self.code == Some(Exit::Usage as i32), "expected exit code 2: {}", all());
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        ensure!(errors.len() == 1, "expected one line with an error: {}", all());
        ensure!(self.stderr.contains(text), "expected an error with {text:?}: {}", all());
        ensure!(!self.stderr.contains("panicked"), "a panic: {}", all());
        ensure!(self.stdout.is_empty(), "expected nothing on stdout: {}", all());
        Ok(())
    }
}

/// Reads a file of the scenarios' own.
pub(crate) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_limit_has_that_of_a_hung_one() {
        let context = Context::with(Path::new("/bin/true")).unwrap();
        let words = |line: &[&str]| {
            let command = context.command(line).unwrap();
            let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            words.join(" ")
        };
        assert!(words(&["boot", "--vps", "1"]).ends_with("boot --timeout 1200 --vps 1"));
        assert!(words(&["exec", "--", "true"]).ends_with("exec --timeout 1200 -- true"));
        assert!(words(&["boot", "--timeout", "4"]).ends_with("boot --timeout 4"));
        assert!(words(&["ps"]).ends_with("ps"));
    }

    #[test]
    fn a_line_that_the_kernel_interrupts_is_whole() {
        let console = "[    0.000000] Booting\r\ndisk: all good on 2[   47.185134] hrtimer: interrupt took 5 ns\r\n processors\r\n\
                       [   48.000000] sd [1.5] end\r\nhv: a[b] [c.d] [1.000001]\r\nlast [   49.000000] one";
        let expected = "[    0.000000] Booting\r\ndisk: all good on 2 processors\r\n[   47.185134] hrtimer: interrupt took 5 ns\r\n\
                        [   48.000000] sd [1.5] end\r\nhv: a[b] [c.d] [1.000001]\r\nlast [   49.000000] one";
        assert_eq!(whole_lines(console), expected);
    }
}
