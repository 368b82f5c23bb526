//! The machines that run: `hv ps` lists them, `hv ctl` finds one by itself or by its name, and none leaves anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::context::{Context, Finished, HUNG_SECONDS};
use super::life::until;
use super::runner::Step;
use super::schema;
use hv_setup::exit::Exit;
use hv_setup::process;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    vec![Step::new("ps/6.12/found", found), Step::new("ps/6.12/nothing-left", nothing_left)]
}

/// A user's session, with machines of its own.
struct Session<'c> {
    context: &'c Context,
    folder: PathBuf,
}

impl<'c> Session<'c> {
    fn new(context: &'c Context) -> anyhow::Result<Self> {
        Ok(Self { context, folder: context.folder()? })
    }

    fn hv(&self, words: &[&str]) -> anyhow::Result<Finished> {
        let mut command = self.context.command(words)?;
        let done = process::run(command.env("XDG_RUNTIME_DIR", &self.folder), || {})?;
        Ok(Finished { code: done.status.code(), stdout: done.stdout, stderr: done.stderr })
    }

    fn start(&self, words: &[&str]) -> anyhow::Result<Booted> {
        let mut line = vec!["boot", "--quiet", "--vps", "1", "--timeout", HUNG_SECONDS];
        line.extend(words);
        let mut command = self.context.command(&line)?;
        command.env("XDG_RUNTIME_DIR", &self.folder);
        Ok(Booted(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Returns the machines, as JSON.
    fn list(&self) -> anyhow::Result<Vec<Value>> {
        let done = self.hv(&["ps", "--json"])?;
        ensure!(done.code == Some(0), "hv ps ended with {:?}: {}", done.code, done.stderr);
        let json = serde_json::from_str(&done.stdout)?;
        schema::check("hv ps --json", &json)?;
        Ok(json["machines"].as_array().context("no list")?.clone())
    }

    /// Waits until the list has a machine whose kernel is known, and returns it.
    fn listed(&self, name: &str) -> anyhow::Result<Value> {
        let mut found = Value::Null;
        until("the machine is listed", || {
            let all = self.list()?;
            found = all.into_iter().find(|machine| machine["name"] == name).unwrap_or_default();
            Ok(found["kernel"].is_string())
        })?;
        Ok(found)
    }
}

/// A machine. Dropping it ends it.
struct Booted(Child);

impl Booted {
    fn ended(&mut self, code: Exit) -> anyhow::Result<()> {
        until("the machine has ended", || Ok(self.0.try_wait()?.is_some()))?;
        let status = self.0.wait()?;
        ensure!(status.code() == Some(code as i32), "it ended with {status}");
        Ok(())
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_empty(folder: &Path) -> anyhow::Result<()> {
    let left: Vec<_> = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "{left:?} is left");
    Ok(())
}

fn found(context: &Context) -> anyhow::Result<()> {
    let session = Session::new(context)?;
    let none = session.hv(&["ps"])?;
    ensure!(none.code == Some(0) && none.stdout.is_empty(), "{}", none.stdout);
    session.hv(&["ctl", "status"])?.refused("no machine with a control port runs")?;
    let mut web = session.start(&["--name", "web", "--run", "wait"])?;
    let listed = session.listed("web")?;
    ensure!(listed["pid"] == web.0.id() && listed["control"].is_string(), "{listed}");
    // It need not be named, nor is it mistaken for one without a control port.
    let plain = session.start(&["--gdb"])?;
    ensure!(session.listed("vm1")?["control"].is_null());
    until("the driver is ready", || {
        let status = session.hv(&["ctl", "status", "--json", "--timeout", HUNG_SECONDS])?;
        ensure!(status.code == Some(0), "{}", status.stderr);
        let status: Value = serde_json::from_str(&status.stdout)?;
        Ok(status["result"]["services"]["shutdown"]["state"] == "ready")
    })?;
    session.hv(&["ctl", "vm1", "status"])?.refused("has no control port")?;
    // A second one, whose socket is the user's.
    let socket = context.folder()?.join("vm.sock");
    let path = socket.to_string_lossy().into_owned();
    let mut second = session.start(&["--gdb", "--control", &path])?;
    ensure!(session.listed("vm2")?["control"] == *path);
    let several = session.hv(&["ctl", "status"])?;
    several.refused("several machines run")?;
    ensure!(several.stderr.contains("web (process") && several.stderr.contains("vm2 (process"));
    ensure!(!several.stderr.contains("vm1 (process"), "{}", several.stderr);
    session.hv(&["boot", "--name", "web"])?.refused("--name web: a machine of this name runs")?;
    let text = session.hv(&["ps"])?.stdout;
    ensure!(text.lines().count() == 4 && text.contains(&path), "{text}");
    // Killed machines are forgotten, and so the first is the only one again.
    second.0.kill()?;
    second.0.wait()?;
    drop(plain);
    ensure!(session.hv(&["ctl", "web", "status", "--timeout", HUNG_SECONDS])?.code == Some(0));
    ensure!(session.list()?.len() == 1);
    let down = session.hv(&["ctl", "shutdown", "--timeout", HUNG_SECONDS])?;
    ensure!(down.code == Some(0), "the guest refused to power off: {}", down.stderr);
    web.ended(Exit::Success)?;
    is_empty(&session.folder)
}

/// Checks that Ctrl-C leaves no folder, and that what a kill leaves goes with the next command.
fn nothing_left(context: &Context) -> anyhow::Result<()> {
    let session = Session::new(context)?;
    let mut machine = session.start(&["--name", "web", "--gdb"])?;
    session.listed("web")?;
    let pid = Pid::from_raw(i32::try_from(machine.0.id())?).context("no process id")?;
    rustix::process::kill_process(pid, Signal::INT)?;
    machine.ended(Exit::Interrupted)?;
    is_empty(&session.folder)?;
    let machine = session.start(&["--name", "web", "--gdb"])?;
    session.listed("web")?;
    drop(machine);
    ensure!(session.folder.join("hv-arm64/web").exists(), "a kill leaves its folder");
    ensure!(session.list()?.is_empty());
    is_empty(&session.folder)
}
