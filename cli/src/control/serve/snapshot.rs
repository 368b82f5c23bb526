//! The request for a snapshot.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::super::lines::{Failure, Given, Reason, SavedLine};
use super::super::port::ControlPort;
use super::machine::unanswered;
use crate::disks::Live;
use crate::snapshot::{Made, Saver, Unsaved};
use crate::{interrupt, process};

/// Saves the machine for a client. What goes to or comes from the hypervisor is waited for.
pub(super) fn save(
    (port, disks, saver): (&ControlPort, &Live, &Saver),
    folder: &Path,
    timeout: Duration,
    client: &UnixStream,
) -> Result<Given, Failure> {
    super::absolute(folder)?;
    saver.judge(disks).map_err(unsaved)?;
    let end = Instant::now().checked_add(timeout);
    let check = || {
        interrupt::check()?;
        anyhow::ensure!(!has_gone(client), "the client has gone");
        anyhow::ensure!(end.is_none_or(|end| Instant::now() < end), "it takes longer than {timeout:?}");
        Ok(())
    };
    loop {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        let still = port.still(left, || check().is_ok()).map_err(unanswered)?;
        match saver.save(folder, disks, || still.next_request(), &check) {
            // Something was on its way.
            Err(Unsaved::Busy) if !left.is_zero() => {}
            Err(why) => return Err(unsaved(why)),
            Ok(Made { bytes, paused }) => {
                let paused_ms = u64::try_from(paused.as_millis()).unwrap_or(u64::MAX);
                return Ok(Given::Saved(SavedLine { bytes, paused_ms }));
            }
        }
        drop(still);
        std::thread::sleep(process::POLL);
    }
}

/// Returns true once a client has closed its socket. One that has merely said all that it will say waits for its reply.
fn has_gone(client: &UnixStream) -> bool {
    let mut polls = [PollFd::new(client, PollFlags::empty())];
    let polled = poll(&mut polls, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
    polled.is_ok() && polls[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

fn unsaved(why: Unsaved) -> Failure {
    match why {
        Unsaved::Refused(why) => {
            Failure::new(Reason::Unsupported, format!("the machine cannot be saved: {why}"))
        }
        Unsaved::Busy => Failure::new(
            Reason::Busy,
            "the machine was not saved: there was always something on its way between hv boot and the hypervisor; try again later",
        ),
        Unsaved::Ended => Failure::new(Reason::Ended, "the machine has ended"),
        Unsaved::Failed(error) => {
            Failure::new(Reason::Refused, format!("the machine was not saved: {error:#}"))
        }
    }
}
