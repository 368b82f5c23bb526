//! The session: from the connection to the end of the command.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use hv_wire::control::{CONTROL_VERSION, FromAgent, MAX_AGENT_DATA, ToAgent};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use crate::job::{self, Job};
use crate::link::Uplink;
use crate::order::Order;
use crate::renew::renew;
use crate::share;

/// What a descriptor of a poll belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Link,
    Stdin,
    Output(usize),
    End,
}

/// Runs the tool's command. `notice` is for its user, before the command writes anything.
pub(crate) fn run(notice: &str) -> io::Result<()> {
    let mut link = Uplink::connect()?;
    link.say(&FromAgent::Ready { version: CONTROL_VERSION });
    let mut order = Order::default();
    while !order.complete {
        link.flush()?;
        wait(&[(Who::Link, link.fd(), link_events(&link))])?;
        // What comes after the start is the job's.
        let (mut renewed, mut shared) = (Ok(()), Ok(()));
        link.hear(|message| {
            match message {
                ToAgent::Renew { seconds, nanoseconds, entropy } => {
                    renewed = renew(seconds, nanoseconds, entropy);
                }
                ToAgent::Share { index, writable, path } => {
                    shared = share::mount(index, writable, path)
                        .map_err(|(step, error)| FromAgent::NotShared { index, step, error: number(&error) });
                }
                _ => order.take(&message),
            }
            !order.complete && renewed.is_ok() && shared.is_ok()
        })?;
        renewed.map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the guest's time and random numbers cannot be renewed: {error}"),
            )
        })?;
        if let Err(message) = shared {
            link.say(&message);
            return take_leave(&mut link);
        }
    }
    if !notice.is_empty() {
        // At a terminal there is one output.
        let (stream, end) = if order.terminal.is_some() { (1, "\r\n") } else { (2, "\n") };
        link.say(&FromAgent::Output { stream, bytes: format!("hv: {notice}{end}").as_bytes() });
    }
    match Job::start(&order) {
        Ok(job) => serve(&mut link, job)?,
        Err(error) => link.say(&FromAgent::NotStarted { error: number(&error) }),
    }
    take_leave(&mut link)
}

/// Returns Linux's number of an error.
fn number(error: &io::Error) -> u32 {
    error.raw_os_error().unwrap_or(rustix::io::Errno::IO.raw_os_error()) as u32
}

/// Passes bytes on until the command has ended, and all of its output is on its way.
fn serve(link: &mut Uplink, mut job: Job) -> io::Result<()> {
    loop {
        link.flush()?;
        let ready = wait(&interests(link, &job))?;
        if ready.contains(&Who::Link)
            && let Err(error) = hear(link, &mut job)
        {
            job.signal(Signal::KILL.as_raw() as u32);
            return Err(error);
        }
        let fed = job.feed();
        if fed != 0 {
            link.say(&FromAgent::Credit { bytes: fed as u32 });
        }
        for which in 0..job.outputs.len() {
            if ready.contains(&Who::Output(which)) {
                pass(link, &mut job, which, 1);
            }
        }
        if ready.contains(&Who::End)
            && let Some(status) = job.try_wait()?
        {
            // What it has written before it ended; a process that it has left behind may hold the pipe.
            (0..job.outputs.len()).for_each(|which| pass(link, &mut job, which, usize::MAX));
            link.say(&job::outcome(status));
            return Ok(());
        }
    }
}

/// Passes output on, of `most` reads at most.
fn pass(link: &mut Uplink, job: &mut Job, which: usize, most: usize) {
    let mut buffer = [0; MAX_AGENT_DATA];
    // A pipe holds this many bytes at most (pipe(7), F_SETPIPE_SZ); a process left behind may keep writing.
    let mut budget: usize = 1 << 20;
    for _ in 0..most {
        let Some(bytes) = job.read(which, &mut buffer) else { return };
        budget = budget.saturating_sub(bytes.len());
        link.say(&FromAgent::Output { stream: which as u8 + 1, bytes });
        if budget == 0 {
            return;
        }
    }
}

/// Does what the tool says.
fn hear(link: &mut Uplink, job: &mut Job) -> io::Result<()> {
    let mut dropped = 0;
    link.hear(|message| {
        match message {
            ToAgent::Input { bytes } => dropped += job.input(bytes),
            ToAgent::InputEnd {} => job.end_input(),
            ToAgent::Signal { number } => job.signal(number),
            ToAgent::Resize { rows, columns } => job.resize(rows, columns),
            ToAgent::OutputEnd { stream } => job.close(usize::from(stream).wrapping_sub(1)),
            ToAgent::Word { .. }
            | ToAgent::Start { .. }
            | ToAgent::Renew { .. }
            | ToAgent::Share { .. }
            | ToAgent::Bye {} => {}
        }
        true
    })?;
    if dropped != 0 {
        link.say(&FromAgent::Credit { bytes: dropped as u32 });
    }
    Ok(())
}

/// Waits until the tool has everything.
fn take_leave(link: &mut Uplink) -> io::Result<()> {
    // The machine may be gone a moment after the tool's last message.
    rustix::fs::sync();
    let mut over = false;
    while !over {
        link.flush()?;
        wait(&[(Who::Link, link.fd(), link_events(link))])?;
        link.hear(|message| {
            over = matches!(message, ToAgent::Bye {});
            !over
        })?;
    }
    Ok(())
}

fn link_events(link: &Uplink) -> PollFlags {
    if link.has_output() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
}

/// Returns what to wait for while the command runs.
fn interests<'s>(link: &'s Uplink, job: &'s Job) -> Vec<(Who, BorrowedFd<'s>, PollFlags)> {
    let mut all =
        vec![(Who::Link, link.fd(), link_events(link)), (Who::End, job.ended.as_fd(), PollFlags::IN)];
    if let Some(stdin) = job.stdin.as_ref().filter(|_| job.has_input()) {
        all.push((Who::Stdin, stdin.as_fd(), PollFlags::OUT));
    }
    if !link.is_full() {
        let outputs = job.outputs.iter().enumerate();
        let open = outputs.filter_map(|(which, output)| Some((which, output.as_ref()?)));
        all.extend(open.map(|(which, output)| (Who::Output(which), output.as_fd(), PollFlags::IN)));
    }
    all
}

/// Waits, and returns who has something.
fn wait(interests: &[(Who, BorrowedFd<'_>, PollFlags)]) -> io::Result<Vec<Who>> {
    let mut set: Vec<PollFd<'_>> =
        interests.iter().map(|(_, fd, events)| PollFd::from_borrowed_fd(*fd, *events)).collect();
    match poll(&mut set, None) {
        Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
        result => result?,
    };
    let ready = interests.iter().zip(&set).filter(|(_, poll)| !poll.revents().is_empty());
    Ok(ready.map(|((who, ..), _)| *who).collect())
}
