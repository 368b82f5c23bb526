//! The machine that `hv ctl` asks.

use std::ffi::OsStr;
use std::fmt;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::TOOL;
use crate::machines::{Machines, RunningMachine};

/// Location of a control port.
#[derive(Debug)]
pub(super) enum Target {
    /// At a machine that runs.
    Machine(Box<RunningMachine>),
    /// On a socket of the user's.
    Socket(PathBuf),
}

impl Target {
    /// Finds the machine of a name, the socket of a path, or, without a word, the one machine that runs.
    ///
    /// # Errors
    /// No machine with a control port runs, or several do.
    pub(super) fn find(word: Option<&OsStr>) -> anyhow::Result<Self> {
        let machines = Machines::open().and_then(|machines| machines.list());
        match (word, machines) {
            (_, Ok(machines)) => Self::choose(word, machines),
            // A path needs no list.
            (Some(word), Err(_)) => Self::choose(Some(word), Vec::new()),
            (None, Err(error)) => Err(error),
        }
    }

    fn choose(word: Option<&OsStr>, machines: Vec<RunningMachine>) -> anyhow::Result<Self> {
        if let Some(word) = word {
            let named = machines.into_iter().find(|machine| OsStr::new(machine.name.as_str()) == word);
            return match named {
                Some(machine) if machine.control.is_none() => bail!(
                    "{} has no control port; start it with --name or --control to give it one",
                    described(&machine)
                ),
                Some(machine) => Ok(Self::Machine(Box::new(machine))),
                None => Ok(Self::Socket(word.into())),
            };
        }
        let (with, without): (Vec<_>, Vec<_>) =
            machines.into_iter().partition(|machine| machine.control.is_some());
        match <[RunningMachine; 1]>::try_from(with) {
            Ok([machine]) => Ok(Self::Machine(Box::new(machine))),
            Err(with) if with.is_empty() => {
                let without = without.iter().map(|machine| format!("\n{} has none", described(machine)));
                let without: String = without.collect();
                bail!("no machine with a control port runs; start one with {TOOL} boot --name NAME{without}")
            }
            Err(with) => {
                let with: String = with.iter().map(|machine| format!("\n{}", described(machine))).collect();
                bail!(
                    "several machines run: give the name of one of them, as in {TOOL} ctl NAME status{with}"
                )
            }
        }
    }

    /// Connects to the control port.
    pub(super) fn connect(&self) -> anyhow::Result<UnixStream> {
        match self {
            Self::Machine(machine) => machine
                .connect()
                .with_context(|| format!("cannot connect to {self}, which may have ended; {TOOL} ps lists those that run")),
            Self::Socket(path) => UnixStream::connect(path).or_else(|error| {
                let what = format!(
                    "there is no machine called {0} and none on a socket {0}; {TOOL} ps lists those that run, and {TOOL} boot --name \
                     or --control starts one",
                    path.display()
                );
                match error.kind() {
                    // That says it all.
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => bail!(what),
                    _ => Err(error).context(what),
                }
            }),
        }
    }
}

/// Describes a machine, with its process.
fn described(machine: &RunningMachine) -> String {
    format!("{} (process {}, since {})", machine.name, machine.facts.pid, machine.facts.since)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Machine(machine) => write!(f, "the machine {}", machine.name),
            Self::Socket(path) => write!(f, "the machine on {}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::Machines;

    /// Machines that run, each with a control port or without one.
    fn choose(word: Option<&str>, all: &[(&str, bool)]) -> Result<String, String> {
        let parent = tempfile::tempdir().unwrap();
        let machines = Machines::at(parent.path().join("machines"));
        let entries: Vec<_> = all
            .iter()
            .map(|(name, port)| {
                let entry = machines.add(Some(&name.parse().unwrap())).unwrap();
                let listener = port.then(|| entry.listen().unwrap());
                (entry, listener)
            })
            .collect();
        let chosen = Target::choose(word.map(OsStr::new), machines.list().unwrap());
        drop(entries);
        chosen.map(|target| target.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_one_machine_is_found() {
        assert_eq!(choose(None, &[("a", true)]).unwrap(), "the machine a");
        assert_eq!(choose(None, &[("a", false), ("b", true)]).unwrap(), "the machine b");
        assert_eq!(choose(Some("b"), &[("a", true), ("b", true)]).unwrap(), "the machine b");
        assert_eq!(choose(Some("c"), &[("a", true)]).unwrap(), "the machine on c");
        assert_eq!(choose(Some("./a"), &[("a", true)]).unwrap(), "the machine on ./a");
    }

    #[test]
    fn what_is_not_clear_is_listed() {
        let error = choose(None, &[("a", true), ("b", true), ("c", false)]).unwrap_err();
        assert!(error.contains("several") && error.contains("\na (process"), "{error}");
        assert!(error.contains("\nb (process") && !error.contains("\nc "), "{error}");
        let error = choose(None, &[("a", false)]).unwrap_err();
        assert!(error.contains("hv boot --name") && error.contains("\na (process"), "{error}");
        assert!(choose(None, &[]).unwrap_err().contains("no machine with a control port runs"));
        assert!(choose(Some("a"), &[("a", false)]).unwrap_err().contains("has no control port"));
    }

    #[test]
    fn a_socket_with_nothing_behind_it_is_one_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let [none, gone] = ["none", "gone"].map(|name| folder.path().join(name));
        drop(std::os::unix::net::UnixListener::bind(&gone).unwrap());
        let error =
            |path: &std::path::Path| format!("{:#}", Target::Socket(path.to_owned()).connect().unwrap_err());
        for path in [&none, &gone] {
            let error = error(path);
            assert!(error.contains("there is no machine called") && error.contains("hv ps"), "{error}");
            assert!(!error.contains("os error"), "{error}");
        }
        // What else may be wrong is said.
        let long = error(&folder.path().join("x".repeat(200)));
        assert!(long.contains("there is no machine called") && long.contains("SUN_LEN"), "{long}");
    }
}
