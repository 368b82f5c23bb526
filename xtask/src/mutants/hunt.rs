//! The suite against each wrong host.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::bail;
use hv_conformance::mutants::{Mutant, VARIABLE};
use hv_conformance::protocol::{self, Event};

use hv_setup::{process, ui};

/// The result of a run: the cases that failed, in order, each with the first failed check.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings(pub(super) Vec<(String, String)>);

impl Findings {
    /// Reads the result from the program's output. A case without an end is one in which the host panicked, or which
    /// never ended: `died` says how.
    fn read(stdout: &str, died: &str) -> Self {
        let mut found: Vec<(String, String)> = Vec::new();
        let mut note = |name: &str, what: &str| {
            if found.iter().all(|(known, _)| known != name) {
                found.push((name.to_owned(), what.to_owned()));
            }
        };
        let mut open = None;
        for event in stdout.lines().filter_map(protocol::parse) {
            match event {
                Event::Run(name) => open = Some(name),
                Event::Fail(name, what) => {
                    note(name, what);
                    open = None;
                }
                Event::Pass(_) | Event::Skip(..) => open = None,
                Event::Begin { .. } | Event::End(_) => {}
            }
        }
        if let Some(name) = open {
            note(name, died);
        }
        Self(found)
    }

    /// Returns the first case that failed, and the failed check.
    pub(super) fn first(&self) -> Option<&(String, String)> {
        self.0.first()
    }
}

/// Runs the program as a mutant, or as the right host.
fn run(program: &Path, number: Option<usize>) -> anyhow::Result<Findings> {
    let mut command = Command::new(program);
    command.env_remove(VARIABLE);
    if let Some(number) = number {
        command.env(VARIABLE, number.to_string());
    }
    let done = process::run(&mut command, || {})?;
    // A panic's place is on its first line, its message on the second.
    let said: Vec<&str> = done.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let died = said.get(1).or(said.first()).copied().unwrap_or("the host died");
    let findings = Findings::read(&done.stdout, died);
    if findings.0.is_empty() && !done.status.success() {
        bail!("{} ended with {}: {}", program.display(), done.status, said.join("; "));
    }
    Ok(findings)
}

/// Runs the suite against the right host, which must conform, and then against each of these mutants.
pub(super) fn hunt(
    program: &Path,
    chosen: &[(usize, &'static Mutant)],
) -> anyhow::Result<BTreeMap<usize, Findings>> {
    if let Some((case, what)) = run(program, None)?.first() {
        bail!("the right host fails {case}: {what}");
    }
    let title = "Running the suite against wrong hosts";
    let task = ui::Task::new(title);
    let next = AtomicUsize::new(0);
    let found = Mutex::new(BTreeMap::new());
    let work = || -> anyhow::Result<()> {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(&(number, _)) = chosen.get(at) else { return Ok(()) };
            task.say(format!("{title}: {at} of {}", chosen.len()));
            let findings = run(program, Some(number))?;
            if let Ok(mut found) = found.lock() {
                found.insert(number, findings);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")))
    })?;
    Ok(found.into_inner().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_that_failed_is_found_once() {
        let text = "@hv run a/x\n@hv fail a/x x.rs:1: one\n@hv run a/y\n@hv pass a/y\n@hv run a/z\n\
                    @hv fail a/z z.rs:2: two\n@hv run a/x\n@hv fail a/x x.rs:9: other\n";
        let found = [("a/x", "x.rs:1: one"), ("a/z", "z.rs:2: two")];
        let found = found.map(|(name, what)| (name.to_owned(), what.to_owned()));
        assert_eq!(Findings::read(text, "died"), Findings(found.to_vec()));
    }

    #[test]
    fn a_case_that_never_ended_failed() {
        let found = Findings::read("@hv run a/x\n@hv pass a/x\n@hv run a/y\n", "index out of bounds");
        assert_eq!(found.first(), Some(&("a/y".to_owned(), "index out of bounds".to_owned())));
        assert_eq!(Findings::read("@hv run a/x\n@hv skip a/x no\n", "died"), Findings::default());
    }
}
