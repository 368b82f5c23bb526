//! `hv exec`: a command in a stock guest, as a script on the host sees it.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use anyhow::{Context as _, ensure};
use hv_setup::process;

use super::context::Context;
use super::runner::Step;

/// The scenarios.
pub(super) fn steps() -> Vec<Step> {
    let mut steps = vec![
        Step::new("exec/6.12/streams-and-status", streams_and_status),
        Step::new("exec/6.12/stdin", stdin),
        Step::new("exec/6.12/much-output", much_output),
        Step::new("exec/6.12/reader-that-leaves", reader_that_leaves),
        Step::new("exec/6.12/ends", ends),
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
struct Done {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

impl Done {
    /// Both outputs, for an error.
    fn text(&self) -> String {
        let tail = &self.stdout[..self.stdout.len().min(4096)];
        format!(
            "exit code {:?}\nstdout: {}\nstderr: {}",
            self.code,
            String::from_utf8_lossy(tail),
            self.stderr
        )
    }

    fn is(&self, code: i32) -> anyhow::Result<()> {
        ensure!(self.code == Some(code), "expected exit code {code}: {}", self.text());
        Ok(())
    }

    fn complains(&self, text: &str) -> anyhow::Result<()> {
        ensure!(self.stderr.contains(text), "stderr lacks {text:?}: {}", self.text());
        Ok(())
    }
}

/// Runs `hv exec` with these words and this stdin.
fn run(context: &Context, words: &[&str], stdin: &[u8]) -> anyhow::Result<Done> {
    let mut line = vec!["exec"];
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

/// As in `hv exec -- yes | head`.
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

/// What is no end of the command's has a code and a reason of its own.
fn ends(context: &Context) -> anyhow::Result<()> {
    let done = run(context, &["--", "no-such-command"], &[])?;
    done.is(127)?;
    done.complains("the guest cannot run the command: No such file")?;
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

fn refused(context: &Context) -> anyhow::Result<()> {
    for (words, said) in [
        (&["--initrd", "x", "--", "true"][..], "leave --initrd"),
        (&["--run", "crash", "--", "true"][..], "expected hotplug, poke or net"),
        (&["--json", "-", "--", "true"][..], "stdout is the command's"),
        (&["--shell"][..], "no terminal"),
        (&["--vps", "0", "--", "true"][..], "--vps"),
    ] {
        let done = run(context, words, &[])?;
        done.is(125)?;
        done.complains(said)?;
    }
    Ok(())
}
