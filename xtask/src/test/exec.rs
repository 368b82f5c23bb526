//! `hv exec`: a command in a stock guest, as a script on the host sees it.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hv_setup::process;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::context::{Context, HUNG_SECONDS, console};
use super::runner::Step;
use super::signals;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![
        Step::new("exec/6.12/streams-and-status", streams_and_status),
        Step::new("exec/6.12/patterns", patterns),
        Step::new("exec/6.12/stdin", stdin),
        Step::new("exec/6.12/much-output", much_output),
        Step::new("exec/6.12/reader-that-leaves", reader_that_leaves),
        Step::new("exec/6.12/ends", ends),
        Step::new("exec/6.12/agent-lost", agent_lost),
        Step::new("exec/6.12/silence", silence),
        Step::new("exec/6.12/terminal", terminal),
        Step::new("exec/6.12/network", network),
        Step::new("exec/6.12/no-network", no_network).slow(),
        Step::new("exec/refused", refused),
    ];
    steps.extend(["6.1", "16k"].map(|stock| {
        Step::new(format!("exec/{stock}/status"), move |context| {
            let done = run(context, &["--stock", stock, "--", "sh", "-c", "uname -r; exit 3"], &[])?;
            done.is(3)?;
            ensure!(done.stdout.starts_with(b"6."), "{}", done.text());
            Ok(())
        })
    }));
    steps
}

/// A finished `hv exec`.
pub(super) struct Done {
    code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    stderr: String,
}

impl Done {
    /// Returns both outputs, for an error.
    pub(super) fn text(&self) -> String {
        let tail = &self.stdout[..self.stdout.len().min(4096)];
        format!(
            "exit code {:?}\nstdout: {}\nstderr: {}",
            self.code,
            String::from_utf8_lossy(tail),
            self.stderr
        )
    }

    pub(super) fn is(&self, code: i32) -> anyhow::Result<()> {
        ensure!(self.code == Some(code), "expected exit code {code}: {}", self.text());
        Ok(())
    }

    pub(super) fn complains(&self, text: &str) -> anyhow::Result<()> {
        ensure!(self.stderr.contains(text), "stderr lacks {text:?}: {}", self.text());
        Ok(())
    }
}

/// Runs `hv exec` with these words and this stdin.
pub(super) fn run(context: &Context, words: &[&str], stdin: &[u8]) -> anyhow::Result<Done> {
    let mut line = vec!["exec"];
    if !words.contains(&"--timeout") {
        line.extend(["--timeout", HUNG_SECONDS]);
    }
    line.extend(words);
    let mut child = context
        .command(&line)?
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start hv exec")?;
    let (mut pipe, bytes) = (child.stdin.take().context("no stdin")?, stdin.to_vec());
    // A command that reads nothing closes the pipe.
    let writer = std::thread::spawn(move || drop(pipe.write_all(&bytes)));
    let mut pipe = child.stdout.take().context("no stdout")?;
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).map(|_| bytes)
    });
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    let status = process::wait(&mut child, &mut || {})?;
    let _ = writer.join();
    let stdout = reader.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
    let stderr = stderr.map(process::Reader::finish).unwrap_or_default();
    Ok(Done { code: status.code(), stdout, stderr })
}

fn streams_and_status(context: &Context) -> anyhow::Result<()> {
    let script = "echo out; echo err >&2; printf 'no line end'; exit 77";
    // What the tool installs is said by the first run alone.
    run(context, &["--", "true"], &[])?.is(0)?;
    let done = run(context, &["--", "sh", "-c", script], &[])?;
    done.is(77)?;
    ensure!(done.stdout == b"out\nno line end" && done.stderr == "err\n", "{}", done.text());
    let done = run(context, &["--report", "--", "sh", "-c", "kill -9 $$"], &[])?;
    done.is(137)?;
    done.complains("VMBus")?;
    let done = run(context, &["--", "printf", "%s|", "a b", "", "c\nd"], &[])?;
    done.is(0)?;
    ensure!(done.stdout == b"a b||c\nd|", "{}", done.text());
    Ok(())
}

/// Checks that the guest expands what the host's shell has left: a pattern of paths that only the guest has.
fn patterns(context: &Context) -> anyhow::Result<()> {
    let says = |words: &[&str]| -> anyhow::Result<String> {
        let done = run(context, words, &[])?;
        done.is(0)?;
        Ok(String::from_utf8(done.stdout)?)
    };
    // As a user types it, through the shell of this machine.
    let line = format!("exec \"$0\" exec --timeout {HUNG_SECONDS} -- cat /sys/bus/vmbus/devices/*/class_id");
    let mut typed = context.shell(&line);
    let done = process::run(&mut typed, || {})?;
    let classes: Vec<&str> = done.stdout.lines().collect();
    let is_class = |line: &&str| {
        let guid = line.strip_prefix('{').and_then(|line| line.strip_suffix('}'));
        guid.is_some_and(|guid| guid.len() == 36 && guid.matches('-').count() == 4)
    };
    ensure!(
        done.status.success() && !classes.is_empty() && classes.iter().all(is_class),
        "{}: {}{}",
        done.status,
        done.stdout,
        done.stderr
    );
    // In order; a word that matches nothing, that is no absolute path, or that is a script, stays as it is.
    let words = ["/bin/[v]i", "/bin/busyb*", "/bin/**sybox", "/no/such/*", "*", "b*n", "/bin/[", "ls /bin/*"];
    let expected = "/bin/vi|/bin/busybox|/bin/busybox|/no/such/*|*|b*n|/bin/[|ls /bin/*|";
    let said = says(&[&["--", "printf", "%s|"], &words[..]].concat())?;
    ensure!(said == expected, "{said}");
    let said = says(&["--", "echo", "/proc/sys/kernel/random/uu*", "/sys/class/*/lo"])?;
    ensure!(said == "/proc/sys/kernel/random/uuid /sys/class/net/lo\n", "{said}");
    // Regular expressions, which may match folders of the root as patterns.
    let words = ["/[a-z]*/", "/bi.*/", "/b?n/vi", "/*", "//[a-z]*/", "/[a-z]/d"];
    let said = says(&[&["--", "printf", "%s|"], &words[..]].concat())?;
    ensure!(said == words.map(|word| format!("{word}|")).concat(), "{said}");
    let said = says(&["--no-glob", "--", "echo", "/bin/busyb*"])?;
    ensure!(said == "/bin/busyb*\n", "{said}");
    // Of a folder of the host, too.
    let folder = context.folder()?;
    for name in ["b.sh", "a.sh", ".hidden.sh"] {
        std::fs::write(folder.join(name), name)?;
    }
    let share = format!("{}:/tests", folder.display());
    let said = says(&["--dir", &share, "--", "cat", "/tests/*.sh"])?;
    ensure!(said == "a.shb.sh", "{said}");
    // A name that is no text is one too, and hidden ones are matched by a dot.
    std::fs::write(folder.join(OsStr::from_bytes(b"c\xff.sh")), "c")?;
    let said = says(&["--dir", &share, "--", "cat", "/tests/*.sh", "/tests/.h*"])?;
    ensure!(said == "a.shb.shc.hidden.sh", "{said}");
    let said = says(&["--", "echo", "/sys/bus/vmb*/"])?;
    ensure!(said == "/sys/bus/vmbus/\n", "{said}");
    Ok(())
}

fn stdin(context: &Context) -> anyhow::Result<()> {
    // More than both windows, with every byte.
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|n| (n ^ (n >> 8)) as u8).collect();
    let done = run(context, &["--", "cat"], &bytes)?;
    done.is(0)?;
    ensure!(done.stdout == bytes, "cat gave {} bytes, other than it got", done.stdout.len());
    // A command that leaves most of it.
    let done = run(context, &["--", "head", "-c", "5"], &bytes)?;
    done.is(0)?;
    ensure!(done.stdout == bytes[..5], "{}", done.text());
    // One that cannot be read.
    let done = context.command(&["exec", "--", "true"])?.stdin(std::fs::File::open("/")?).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(said.contains("cannot read stdin: Is a directory"), "{}: {said}", done.status);
    Ok(())
}

fn much_output(context: &Context) -> anyhow::Result<()> {
    let done = run(context, &["--", "dd", "if=/dev/zero", "bs=65536", "count=512"], &[])?;
    done.is(0)?;
    ensure!(
        done.stdout.len() == 32 << 20 && done.stdout.iter().all(|byte| *byte == 0),
        "{}",
        done.stdout.len()
    );
    done.complains("512+0 records out")
}

/// Checks a reader that leaves, as in `hv exec -- yes | head`.
fn reader_that_leaves(context: &Context) -> anyhow::Result<()> {
    let mut child = context
        .command(&["exec", "--", "yes"])?
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start hv exec")?;
    let mut first = [0; 4];
    child.stdout.take().context("no stdout")?.read_exact(&mut first)?;
    let stderr = child.stderr.take().map(|pipe| process::collect(pipe, |_| {}));
    let status = process::wait(&mut child, &mut || {})?;
    let stderr = stderr.map(process::Reader::finish).unwrap_or_default();
    ensure!(first == *b"y\ny\n" && status.code() == Some(128 + 13), "{status}: {stderr}");
    Ok(())
}

/// Checks that each end that is not the command's has its own code and reason.
fn ends(context: &Context) -> anyhow::Result<()> {
    let done = run(context, &["--", "no-such-command"], &[])?;
    done.is(127)?;
    done.complains("the guest cannot run no-such-command: No such file")?;
    let done = run(context, &["--", "/etc"], &[])?;
    done.is(126)?;
    let done = run(context, &["--", "sh", "-c", "echo c >/proc/sysrq-trigger"], &[])?;
    done.is(123)?;
    done.complains("the guest reported a crash")?;
    let done = run(context, &["--", "poweroff", "-f"], &[])?;
    done.is(122)?;
    done.complains("the command had not ended: the guest powered off")?;
    let done = run(context, &["--timeout", "20", "--", "sleep", "1000"], &[])?;
    done.is(124)?;
    let done = run(context, &["--append", "module_blacklist=vsock", "--", "true"], &[])?;
    done.is(122)?;
    done.complains("the kernel needs CONFIG_VSOCKETS")?;
    done.complains("the guest's agent had not connected")
}

/// Checks that a run ends, and says why, when its agent is killed or its connection is cut.
fn agent_lost(context: &Context) -> anyhow::Result<()> {
    let done = run(context, &["--", "sh", "-c", "echo said; kill -9 $PPID; sleep 1000"], &[])?;
    done.is(122)?;
    done.complains("\n  Killed\n")?;
    done.complains("the command had not ended: the guest powered off")?;
    ensure!(done.stdout.is_empty() || done.stdout == b"said\n", "{}", done.text());
    // The greeting, the command and its first words are fewer packets.
    let script = "while :; do echo said; sleep 0.05; done";
    let done = run(context, &["--inject", "rescind=sockets@20", "--", "sh", "-c", script], &[])?;
    done.is(122)?;
    done.complains("hv: FAILED: agent: ")?;
    done.complains("the command had not ended: the guest powered off")?;
    ensure!(done.stdout.starts_with(b"said\n"), "{}", done.text());
    Ok(())
}

/// Checks that a console that is silent while the command runs is not reported. Before that it may be: the hint comes
/// once, so only what follows the command's first word counts.
fn silence(context: &Context) -> anyhow::Result<()> {
    let done = run(context, &["--silence", "3", "--", "sh", "-c", "echo runs >&2; sleep 6"], &[])?;
    done.is(0)?;
    ensure!(done.stderr.ends_with("runs\n"), "{}", done.text());
    Ok(())
}

/// Checks that a command finds the network of `--net` configured, and a shell does too.
fn network(context: &Context) -> anyhow::Result<()> {
    // No route, no name server and no address without DHCP.
    let script = "ip -4 -o addr show eth0 | grep -o 'inet [0-9.]*'; ip route | grep -o 'via [0-9.]*'; cat /etc/resolv.conf; \
                  ping -c 1 -W 30 10.0.2.2 >/dev/null && echo reached";
    let done = run(context, &["--net", "user", "--", "sh", "-c", script], &[])?;
    done.is(0)?;
    let wanted = "inet 10.0.2.15\nvia 10.0.2.2\nnameserver 10.0.2.3\nreached\n";
    // What the tool installs is said there too.
    ensure!(done.stdout == wanted.as_bytes() && !done.stderr.contains("hv: NO"), "{}", done.text());
    let line = ["boot", "--quiet", "--net", "user", "--run", "shell", "--timeout", HUNG_SECONDS, "--keep"];
    let keep = context.folder()?.join("keep");
    let mut command = context.command(&line)?;
    let mut child = command.arg(&keep).stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    // It is typed at the first prompt.
    child.stdin.take().context("no stdin")?.write_all(b"ip route; poweroff -f\n")?;
    let status = process::wait(&mut child, &mut || {})?;
    let console = console(&keep);
    ensure!(status.success() && console.contains("default via 10.0.2.2 dev eth0"), "{status}:\n{console}");
    Ok(())
}

/// Checks that a command runs without a network that does not answer, and its user learns why it has none.
fn no_network(context: &Context) -> anyhow::Result<()> {
    let done = run(context, &["--net", "user", "--inject", "sent=lost", "--", "echo", "ran"], &[])?;
    done.is(0)?;
    ensure!(done.stdout == b"ran\n", "{}", done.text());
    done.complains("hv: NO address for eth0: the network has not answered by DHCP\n")
}

/// Checks that Ctrl-A X ends the machine and restores the terminal: not raw, not on the other screen, not in colour.
fn terminal(context: &Context) -> anyhow::Result<()> {
    let (ours, theirs) = signals::terminal()?;
    let temporary = context.folder()?.join("tmp");
    std::fs::create_dir(&temporary)?;
    // A word that begins with a dash is not an option of the program that makes the terminal the command's.
    let script = "printf '\\033[?1049h\\033[31m'; tty; exec sleep 1000";
    let done = run_at(context, &["--shell", "--", "-x"], (&ours, &theirs), &temporary, &[])?;
    ensure!(done.0 == Some(127), "{done:?}");
    let words = ["--timeout", HUNG_SECONDS, "--shell", "--", "sh", "-c", script];
    let (code, shown) = run_at(context, &words, (&ours, &theirs), &temporary, b"/dev/pts/")?;
    ensure!(code == Some(130), "{code:?}: {shown}");
    ensure!(shown.contains("\x1b[?1049l") && shown.contains("\x1b[0m"), "{shown:?}");
    ensure!(signals::echoes(&theirs)?, "the terminal does not echo");
    let left: Vec<_> = std::fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

/// Runs `hv exec` at a terminal, and types Ctrl-A X once that shows `until`, if that is not empty. Returns the exit
/// code, and what was shown.
fn run_at(
    context: &Context,
    words: &[&str],
    (ours, theirs): (&OwnedFd, &OwnedFd),
    temporary: &Path,
    until: &[u8],
) -> anyhow::Result<(Option<i32>, String)> {
    let mut child = context
        .command(&[&["exec"], words].concat())?
        .env("TMPDIR", temporary)
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs.try_clone()?)
        .spawn()
        .context("cannot start hv exec")?;
    let (mut shown, mut typed, mut status) = (Vec::new(), until.is_empty(), None);
    loop {
        let mut ready = [PollFd::new(ours, PollFlags::IN)];
        let wait = Timespec::try_from(Duration::from_millis(50))?;
        if rustix::event::poll(&mut ready, Some(&wait))? != 0 {
            let mut buffer = [0; 4096];
            let count = rustix::io::read(ours, &mut buffer)?;
            shown.extend_from_slice(&buffer[..count]);
        } else if status.is_some() {
            break;
        }
        if !typed && shown.windows(until.len()).any(|part| part == until) {
            rustix::io::write(ours, b"\x01x")?;
            typed = true;
        }
        status = status.or(child.try_wait()?);
    }
    let code = status.and_then(|status| status.code());
    Ok((code, String::from_utf8_lossy(&shown).into_owned()))
}

fn refused(context: &Context) -> anyhow::Result<()> {
    for (words, said) in [
        (&["--initrd", "x", "--", "true"][..], "leave --initrd"),
        (&["--run", "crash", "--", "true"][..], "expected hotplug, poke or net"),
        (&["--append", "root=/dev/sda1", "--", "true"][..], "the command can mount a disk"),
        (&["uname"][..], "the command goes after --"),
        (&["--json", "-", "--", "true"][..], "stdout is the command's"),
        (&["--shell"][..], "not a terminal"),
        (&["--vps", "0", "--", "true"][..], "--vps"),
    ] {
        let done = run(context, words, &[])?;
        done.is(125)?;
        done.complains(said)?;
    }
    Ok(())
}
