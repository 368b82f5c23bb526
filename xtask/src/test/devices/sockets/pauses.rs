//! A guest that sends while the tool is stopped, and so waits in the middle of a stream.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::ensure;
use rustix::process::{Pid, Signal, kill_process};

use super::super::super::context::{Context, HUNG_SECONDS};
use super::super::super::life::{only_child, until};
use super::{Host, SEND, SMALL, busybox, programs};
use hv_setup::exit::Exit;
use hv_setup::stock::Stock;

/// What a thread has done.
struct Thread {
    /// It can run, or does.
    runnable: bool,
    /// For how long it has run, and how long it has waited for a processor until it ran.
    times: [Duration; 2],
}

impl Thread {
    /// Returns the threads of a process by their ids (Linux, proc_pid_stat(5) and
    /// Documentation/scheduler/sched-stats.rst).
    fn all(pid: i32) -> HashMap<OsString, Self> {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let thread = |folder: &Path| {
            let [stat, times] = ["stat", "schedstat"].map(|name| fs::read_to_string(folder.join(name)).ok());
            let (stat, times) = (stat?, times?);
            let mut times = times.split(' ').map(|word| word.parse().ok().map(Duration::from_nanos));
            let runnable = stat.rsplit_once(") ")?.1.starts_with('R');
            Some(Self { runnable, times: [times.next()??, times.next()??] })
        };
        tasks.filter_map(|task| Some((task.file_name(), thread(&task.path())?))).collect()
    }
}

/// Returns true if the threads of a process have run for less than a tenth of a while, and none can run: one with work
/// either runs or waits for a processor all the time. On a busy machine an idle one waits, too, when it wakes up.
fn is_idle(pid: i32) -> bool {
    const LOOK: Duration = Duration::from_millis(200);
    let before = Thread::all(pid);
    std::thread::sleep(LOOK);
    let (mut run, mut worst) = (Duration::ZERO, Duration::ZERO);
    for (id, thread) in Thread::all(pid) {
        let earlier = before.get(&id).map_or([Duration::ZERO; 2], |thread| thread.times);
        let [ran, waited] = [0, 1].map(|at| thread.times[at].saturating_sub(earlier[at]));
        if thread.runnable {
            return false;
        }
        (run, worst) = (run + ran, worst.max(ran + waited));
    }
    run < LOOK / 10 && worst < LOOK / 2
}

/// Stops the tool until its guest has nothing that it can do, or QEMU has ended.
fn pause(tool: Pid, qemu: i32) -> anyhow::Result<()> {
    kill_process(tool, Signal::STOP)?;
    let idle = until("the guest is idle", || Ok(is_idle(qemu)));
    kill_process(tool, Signal::CONT)?;
    idle
}

/// Checks that a guest that sends more than the tool's socket holds, while the tool is stopped, waits in the middle of
/// a stream. Nothing of it is lost.
pub(super) fn pauses(context: &Context) -> anyhow::Result<()> {
    const STREAMS: usize = 16;
    let script = format!("for n in $(seq {STREAMS}); do\n(until {SEND}; do :; done) &\ndone\nwait");
    let initrd =
        programs(context, Stock::Cloud612, &["socat"], &["usr/bin/socat"], &[], Vec::new(), &script)?;
    let folder = context.folder()?;
    let host = Host::new(&folder.join("sockets"), SMALL)?;
    let mut command = context.command(&["boot", "--quiet", "--timeout", HUNG_SECONDS])?;
    command.arg("--initrd").arg(initrd).arg("--vsock").arg(&host.folder);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let whole = busybox()?;
    let (pid, arrived) = (Pid::from_child(&child), || host.arrived.load(Ordering::Relaxed));
    let mut waited = 0;
    let ended = until("the guest has sent everything", || {
        // Only what arrives needs QEMU's process.
        if arrived() > 0
            && let Ok(qemu) = only_child(i32::try_from(child.id())?)
        {
            pause(pid, qemu)?;
            // Whoever is idle with a part of a stream cannot send the rest.
            waited += u32::from(arrived() % whole.0 != 0 && child.try_wait()?.is_none());
        }
        Ok(child.try_wait()?.is_some())
    });
    if ended.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    ended?;
    ensure!(status.code() == Some(Exit::Success as i32), "it ended with {status}");
    ensure!(waited > 0, "the guest never had to wait");
    (0..STREAMS).try_for_each(|_| host.gets(whole))
}
