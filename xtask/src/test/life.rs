//! Runs that are ended from outside: nothing may be left behind.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal};

use super::context::{Context, HUNG, HUNG_SECONDS, console};
use super::runner::Step;
use hv_setup::exit::Exit;
use hv_setup::process;

/// Returns the scenarios.
pub(super) fn steps() -> Vec<Step> {
    let interrupted = Some(Exit::Interrupted as i32);
    [
        ("life/ctrl-c", Signal::INT, interrupted),
        ("life/terminated", Signal::TERM, interrupted),
        ("life/terminal-gone", Signal::HUP, interrupted),
        // A killed tool has no exit code, and QEMU must exit anyway.
        ("life/killed", Signal::KILL, None),
    ]
    .into_iter()
    .map(|(name, signal, code)| Step::new(name, move |context| ended_by(context, signal, code)))
    .chain(super::signals::steps())
    .chain([Step::new("life/warm-run-needs-no-apt", warm)])
    .collect()
}

/// Boots to a shell, sends a signal, and checks what is left.
fn ended_by(context: &Context, signal: Signal, code: Option<i32>) -> anyhow::Result<()> {
    let dir = context.folder()?;
    let temporary = dir.join("tmp");
    fs::create_dir(&temporary)?;
    let keep = dir.join("keep");
    let line = ["boot", "--quiet", "--vps", "1", "--run", "shell", "--timeout", HUNG_SECONDS, "--keep"];
    let mut line: Vec<std::ffi::OsString> = line.iter().map(Into::into).collect();
    line.push(keep.clone().into());
    let mut command = context.command_that_hangs_up(&line);
    let mut child = command.env("TMPDIR", &temporary).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let result = signalled(&mut child, &keep, signal);
    let _ = child.kill();
    let status = child.wait()?;
    let qemu = result?;
    ensure!(status.code() == code, "hv boot ended with {status}, expected {code:?}");
    until("QEMU is gone", || Ok(alive(qemu)?.is_none()))?;
    let left: Vec<_> = fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "temporary files are left: {left:?}");
    Ok(())
}

/// Waits for the guest's shell, sends the signal, and returns QEMU's process id and start time.
fn signalled(child: &mut Child, keep: &std::path::Path, signal: Signal) -> anyhow::Result<(i32, u64)> {
    until("the guest is at its shell", || {
        ensure!(child.try_wait()?.is_none(), "hv boot ended early:\n{}", console(keep));
        Ok(console(keep).contains("hv: shell"))
    })?;
    let pid = i32::try_from(child.id())?;
    let qemu = only_child(pid)?;
    let start = alive((qemu, 0))?.context("QEMU is not there")?;
    rustix::process::kill_process(Pid::from_raw(pid).context("no process id")?, signal)?;
    until("hv boot has ended", || Ok(child.try_wait()?.is_some()))?;
    Ok((qemu, start))
}

pub(crate) fn until(what: &str, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let start = Instant::now();
    while !condition()? {
        hv_setup::interrupt::check()?;
        if start.elapsed() > HUNG {
            bail!("not after {} s: {what}", HUNG.as_secs());
        }
        std::thread::sleep(process::POLL);
    }
    Ok(())
}

/// Returns parent and start time of a process, from `/proc/PID/stat`: fields 4 and 22.
fn parent_and_start(stat: &str) -> Option<(i32, u64)> {
    // The name, in parentheses, may contain blanks and parentheses.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // A zombie has exited; its parent has just not waited for it yet.
    (*fields.first()? != "Z").then_some(())?;
    Some((fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?))
}

fn stat(pid: i32) -> Option<(i32, u64)> {
    parent_and_start(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Returns the start time of a process, if it exists and (where a start time is given) is still the same one.
fn alive((pid, start): (i32, u64)) -> anyhow::Result<Option<u64>> {
    Ok(stat(pid).map(|(_, found)| found).filter(|&found| start == 0 || found == start))
}

/// Returns the process id of QEMU, given that of hv boot.
pub(crate) fn only_child(parent: i32) -> anyhow::Result<i32> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if stat(pid).is_some_and(|(found, _)| found == parent) {
            children.push(pid);
        }
    }
    match children[..] {
        [pid] => Ok(pid),
        _ => bail!("expected QEMU as the only child of hv boot, found {children:?}"),
    }
}

/// Checks that with everything cached a boot calls neither apt nor any network.
fn warm(context: &Context) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = context.folder()?;
    let asked = dir.join("asked");
    for program in ["apt-get", "apt-cache", "rustup", "sudo"] {
        let file = dir.join(program);
        fs::write(&file, format!("#!/bin/sh\necho {program} >>'{}'\nexit 1\n", asked.display()))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    let mut path = dir.clone().into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = context.command(&["boot", "--quiet", "--vps", "1", "--timeout", HUNG_SECONDS])?;
    let done = process::run(command.env("PATH", path), || {})?;
    ensure!(done.status.success(), "hv boot ended with {}: {}", done.status, done.stderr);
    let asked = fs::read_to_string(&asked).unwrap_or_default();
    ensure!(asked.is_empty(), "hv boot called {asked}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_start_time() {
        let line = "42 (a b) c) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3";
        assert_eq!(parent_and_start(line), Some((7, 98765)));
        assert_eq!(parent_and_start(&line.replace(" S ", " Z ")), None);
        let own = i32::try_from(std::process::id()).unwrap();
        let start = alive((own, 0)).unwrap().unwrap();
        assert_eq!(alive((own, start)).unwrap(), Some(start));
        assert_eq!(alive((own, start + 1)).unwrap(), None);
    }
}
