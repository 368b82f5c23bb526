//! The tests that need no QEMU: `cargo test`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context as _;

use super::runner::{Ended, Tally};
use hv_setup::{process, sources, ui};

/// Runs `cargo test --workspace` and adds its counts.
pub(super) fn run(tally: &mut Tally, show: &dyn Fn(&str)) -> anyhow::Result<()> {
    let started = Instant::now();
    let task = ui::Task::new("Building and running the tests in process (cargo test --workspace)");
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut child = Command::new(cargo)
        .current_dir(sources::checkout()?)
        .args(["test", "--workspace", "--locked", "--no-fail-fast"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let say = |prefix: &'static [&'static str]| {
        let task = task.clone();
        move |line: &str| {
            let line = line.trim_start();
            if prefix.iter().any(|prefix| line.starts_with(prefix)) {
                task.say(format!("cargo test: {line}"));
            }
        }
    };
    let stdout = child.stdout.take().map(|pipe| process::collect(pipe, |_| {}));
    let stderr =
        child.stderr.take().map(|pipe| process::collect(pipe, say(&["Compiling", "Running", "Doc-tests"])));
    let status = process::wait(&mut child, &mut || {})?;
    let stdout = stdout.map(process::Reader::finish).unwrap_or_default();
    let stderr = stderr.map(process::Reader::finish).unwrap_or_default();
    drop(task);
    let counts = Counts::of(&stdout);
    tally.passed += counts.passed;
    tally.ignored += counts.ignored;
    tally.failed_in_process += counts.failed;
    if !status.success() {
        let tail = |text: &str| {
            let lines: Vec<&str> = text.lines().filter(|line| !line.ends_with("... ok")).collect();
            lines[lines.len().saturating_sub(120)..].join("\n")
        };
        show(&format!("{}\n{}\n", tail(&stderr), tail(&stdout)));
        if counts.failed == 0 {
            tally.failures.push((super::IN_PROCESS.to_owned(), format!("cargo test ended with {status}")));
        }
    } else if counts.passed == 0 {
        tally.failures.push((super::IN_PROCESS.to_owned(), "cargo test ran no test".to_owned()));
    }
    let verdict = if status.success() { "ok" } else { "FAILED" };
    let reason = (!status.success()).then(|| format!("{} tests failed ({status})", counts.failed));
    tally.ended.push(Ended {
        name: super::IN_PROCESS.to_owned(),
        result: if status.success() { "ok" } else { "failed" },
        seconds: started.elapsed().as_secs_f64(),
        reason,
    });
    show(&format!(
        "test {} ... {verdict} ({} passed, {} failed)\n",
        super::IN_PROCESS,
        counts.passed,
        counts.failed
    ));
    Ok(())
}

/// Sums over the lines `test result: ok. 12 passed; 0 failed; 0 ignored; ...`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) passed: usize,
    failed: usize,
    ignored: usize,
}

impl Counts {
    /// Adds up what programs with tests print.
    pub(super) fn of(output: &str) -> Self {
        let mut sums = Self::default();
        for line in output.lines().filter_map(|line| line.strip_prefix("test result: ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            for pair in words.windows(2) {
                let Ok(number) = pair[0].parse::<usize>() else { continue };
                match pair[1].trim_end_matches(';') {
                    "passed" => sums.passed += number,
                    "failed" => sums.failed += number,
                    "ignored" => sums.ignored += number,
                    _ => {}
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_crates_are_added() {
        let output = "running 3 tests\ntest a ... ok\n\
                      test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s\n\
                      test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1s\n";
        assert_eq!(Counts::of(output), Counts { passed: 7, failed: 2, ignored: 1 });
    }
}
