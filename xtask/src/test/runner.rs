//! Runs steps side by side and keeps the score.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::context::Context;
use hv_setup::{interrupt, ui};

/// One test: a name and a function.
pub(super) struct Step {
    /// Its name, with slashes for groups.
    pub(super) name: String,
    /// Only `--all` runs it: it needs a large download or a long time.
    pub(super) slow: bool,
    run: Run,
}

/// The function of a step.
type Run = Box<dyn Fn(&Context) -> anyhow::Result<()> + Send + Sync>;

impl Step {
    /// Creates a test called `name` that passes if `run` does.
    pub(super) fn new(
        name: impl Into<String>,
        run: impl Fn(&Context) -> anyhow::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), slow: false, run: Box::new(run) }
    }

    /// Marks the test as slow: `hv test` leaves it out, `hv test --all` runs it.
    ///
    /// It sets up its downloads itself when it runs: the others do not wait for them.
    #[must_use]
    pub(super) fn slow(self) -> Self {
        Self { slow: true, ..self }
    }
}

/// Takes the slow steps out of `steps`, unless `all` are wanted, and tells how many there were.
pub(super) fn leave_out_slow(steps: &mut Vec<Step>, all: bool) -> usize {
    let count = steps.len();
    steps.retain(|step| all || !step.slow);
    count - steps.len()
}

/// The result of a step.
#[derive(Debug, serde::Serialize)]
pub(super) struct Ended {
    pub(super) name: String,
    /// `ok` or `failed`.
    pub(super) result: &'static str,
    pub(super) seconds: f64,
    /// Why it failed.
    pub(super) reason: Option<String>,
}

/// The score.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) passed: usize,
    pub(super) ignored: usize,
    pub(super) filtered: usize,
    /// Slow tests whose names were selected, but without `--all`.
    pub(super) slow: usize,
    /// Tests that failed in process, where cargo has said which.
    pub(super) failed_in_process: usize,
    /// Name and reason of each step that failed.
    pub(super) failures: Vec<(String, String)>,
    /// Every step that has run, in the order of their ends.
    pub(super) ended: Vec<Ended>,
    pub(super) started: Instant,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            passed: 0,
            ignored: 0,
            filtered: 0,
            slow: 0,
            failed_in_process: 0,
            failures: Vec::new(),
            ended: Vec::new(),
            started: Instant::now(),
        }
    }
}

impl Tally {
    /// Returns the number of failures.
    pub(super) fn failed(&self) -> usize {
        self.failed_in_process + self.failures.len()
    }

    /// Returns the score as JSON. The numbers count tests, of which the step in process has many.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "schema": 1,
            "passed": self.passed,
            "failed": self.failed(),
            "ignored": self.ignored,
            "filtered_out": self.filtered,
            "slow_left_out": self.slow,
            "seconds": self.started.elapsed().as_secs_f64(),
            "steps": self.ended,
        })
    }

    /// Returns the failures in full, also of a run that was interrupted.
    fn failures_in_full(&self) -> String {
        let mut text = String::new();
        if !self.failures.is_empty() {
            text.push_str("\nfailures:\n");
            for (name, reason) in &self.failures {
                text.push_str(&format!("\n---- {name} ----\n{}\n", reason.trim_end()));
            }
            text.push_str("\nfailures:\n");
            for (name, _) in &self.failures {
                text.push_str(&format!("    {name}\n"));
            }
        }
        text
    }

    /// Returns the failures in full, and the result in the form of `cargo test`.
    pub(super) fn closing_lines(&self) -> String {
        let mut text = self.failures_in_full();
        if let Some(hint) = slow_hint(self.slow) {
            text.push_str(&format!("\n{hint}\n"));
        }
        let verdict = if self.failed() == 0 { "ok" } else { "FAILED" };
        text.push_str(&format!(
            "\ntest result: {verdict}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; \
             finished in {:.2}s\n\n{} passed, {} failed\n",
            self.passed,
            self.failed(),
            self.ignored,
            self.filtered,
            self.started.elapsed().as_secs_f64(),
            self.passed,
            self.failed(),
        ));
        text
    }
}

/// Returns how many slow tests were left out, and what runs them; `None` if none was.
pub(super) fn slow_hint(count: usize) -> Option<String> {
    let tests = if count == 1 { "test was" } else { "tests were" };
    (count != 0).then(|| format!("{count} slow {tests} left out; `cargo hv test --all` runs them too"))
}

/// Runs the steps, `jobs` at a time, and passes `show` a line for each that is done. Once a step has failed and `room`
/// has an error, no further one starts, and that error is returned.
pub(super) fn run(
    steps: &[Step],
    context: &Context,
    jobs: usize,
    tally: &mut Tally,
    show: &(dyn Fn(&str) + Sync),
    room: &(dyn Fn() -> anyhow::Result<()> + Sync),
) -> anyhow::Result<()> {
    let next = AtomicUsize::new(0);
    let short = Mutex::new(None);
    let done = Mutex::new((0, tally));
    let task = ui::Task::quiet(format!("{} scenarios", steps.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(steps.len()) {
            scope.spawn(|| {
                while let Some(step) = steps.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if interrupt::requested() {
                        return;
                    }
                    let started = Instant::now();
                    let result = (step.run)(context);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    if interrupt::requested() {
                        return;
                    }
                    done.0 += 1;
                    let verdict = if result.is_ok() { "ok" } else { "FAILED" };
                    let seconds = started.elapsed().as_secs_f64();
                    show(&format!("test {} ... {verdict} ({seconds:.1} s)\n", step.name));
                    task.say(format!("{} of {} scenarios done", done.0, steps.len()));
                    let reason = result.err().map(|error| format!("{error:#}"));
                    if let Some(error) = reason.as_ref().and_then(|_| room().err()) {
                        next.store(steps.len(), Ordering::Relaxed);
                        *short.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    match &reason {
                        None => done.1.passed += 1,
                        Some(reason) => done.1.failures.push((step.name.clone(), reason.clone())),
                    }
                    let result = if reason.is_none() { "ok" } else { "failed" };
                    done.1.ended.push(Ended { name: step.name.clone(), result, seconds, reason });
                }
            });
        }
    });
    let (_, tally) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let short = short.into_inner().unwrap_or_else(PoisonError::into_inner);
    let ended = interrupt::check().map_err(anyhow::Error::from);
    ended.and(short.map_or(Ok(()), Err)).inspect_err(|_| show(&tally.failures_in_full()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_counted_once() {
        let steps: Vec<Step> = (0..9)
            .map(|n| {
                Step::new(format!("step/{n}"), move |_| {
                    anyhow::ensure!(n % 4 != 3, "three of four");
                    Ok(())
                })
            })
            .collect();
        let tool = tempfile::NamedTempFile::new().unwrap();
        let context = Context::with(tool.path()).unwrap();
        let mut tally = Tally { passed: 100, filtered: 1, ..Tally::default() };
        run(&steps, &context, 2, &mut tally, &|_| {}, &|| Ok(())).unwrap();
        let text = tally.closing_lines();
        assert!(
            text.contains(
                "test result: FAILED. 107 passed; 2 failed; 0 ignored; 0 measured; 1 filtered out;"
            )
        );
        assert!(text.ends_with("\n107 passed, 2 failed\n"));
        assert!(text.contains("---- step/3 ----\nthree of four\n"));
        let json = tally.json();
        assert_eq!(
            (&json["passed"], &json["failed"], &json["filtered_out"]),
            (&107.into(), &2.into(), &1.into())
        );
        let steps = json["steps"].as_array().unwrap();
        assert_eq!(steps.len(), 9);
        let failed = steps.iter().find(|step| step["name"] == "step/3").unwrap();
        assert_eq!((&failed["result"], &failed["reason"]), (&"failed".into(), &"three of four".into()));
    }

    #[test]
    fn a_run_that_fills_the_disk_ends_at_the_first_failure() {
        let steps: Vec<Step> = (0..9)
            .map(|n| {
                Step::new(format!("step/{n}"), move |_| {
                    anyhow::ensure!(n < 2, "cannot write");
                    Ok(())
                })
            })
            .collect();
        let tool = tempfile::NamedTempFile::new().unwrap();
        let context = Context::with(tool.path()).unwrap();
        let mut tally = Tally::default();
        let shown = Mutex::new(String::new());
        let show = |text: &str| shown.lock().unwrap().push_str(text);
        let full = || anyhow::bail!("/t has 3 bytes free");
        let error = run(&steps, &context, 1, &mut tally, &show, &full).unwrap_err();
        assert_eq!(error.to_string(), "/t has 3 bytes free");
        assert_eq!((tally.passed, tally.failures.len()), (2, 1));
        assert!(shown.into_inner().unwrap().contains("---- step/2 ----\ncannot write\n"));
    }

    #[test]
    fn slow_steps_run_with_all_alone_and_are_counted_without() {
        let steps = || {
            let step = |name: &str| Step::new(name, |_| Ok(()));
            vec![step("quick"), step("long").slow(), step("large").slow()]
        };
        let mut quick = steps();
        let slow = leave_out_slow(&mut quick, false);
        assert_eq!((slow, quick.len(), &*quick[0].name), (2, 1, "quick"));
        let text = Tally { slow, ..Tally::default() }.closing_lines();
        assert!(text.contains("2 slow tests were left out; `cargo hv test --all` runs them too"), "{text}");
        let mut all = steps();
        assert_eq!((leave_out_slow(&mut all, true), all.len()), (0, 3));
        assert!(!Tally::default().closing_lines().contains("slow"));
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<String> = super::super::steps().into_iter().map(|step| step.name).collect();
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
