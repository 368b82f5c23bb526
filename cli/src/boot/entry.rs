//! A run's place among the machines that run.

use super::args::Args;
use crate::control::Server;
use crate::interrupt;
use crate::machines::{Entry, Machines};

/// Adds the machine to those that run, and gives it its control port. A machine that was given no name, and needs none,
/// runs also where it cannot be added.
pub(super) fn enter(args: &Args, control: Option<Server>) -> anyhow::Result<(Option<Entry>, Option<Server>)> {
    let is_found = args.name.is_some() || args.control == Some(None);
    let entry = match Machines::open().and_then(|machines| machines.add(args.name.as_ref())) {
        Err(error) if is_found || interrupt::is_cause(&error) => return Err(error),
        entered => entered.ok(),
    };
    let control = match (control, &entry, args.control.as_ref().and_then(Option::as_deref)) {
        (Some(server), Some(entry), Some(path)) => {
            entry.link(path)?;
            Some(server)
        }
        (None, Some(entry), _) if is_found => Some(Server::of(entry, args.deterministic)?),
        (server, _, _) => server,
    };
    Ok((entry, control))
}
