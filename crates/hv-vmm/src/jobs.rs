//! Jobs for workers, each of which is taken by one.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::accounts::lock;

/// Jobs that wait for a worker. A worker is woken only if fewer workers are about to take a job than jobs wait: one
/// that has just completed a piece of a command is given the next one, and takes that itself. A job of another command
/// may wait until that worker has told the bus of its piece.
pub(crate) struct Jobs<J> {
    line: Mutex<Line<J>>,
    added: Condvar,
}

/// What is under the lock of [`Jobs`].
struct Line<J> {
    waiting: VecDeque<J>,
    /// Workers that are about to take a job.
    returning: usize,
}

impl<J> Jobs<J> {
    /// Makes it without jobs.
    pub(crate) const fn new() -> Self {
        let line = Line { waiting: VecDeque::new(), returning: 0 };
        Self { line: Mutex::new(line), added: Condvar::new() }
    }

    /// Adds a job. Returns true if it wakes a worker for it.
    pub(crate) fn push(&self, job: J) -> bool {
        let mut line = lock(&self.line);
        line.waiting.push_back(job);
        let wakes = line.waiting.len() > line.returning;
        drop(line);
        if wakes {
            self.added.notify_one();
        }
        wakes
    }

    /// Records that a worker takes a job soon, with [`next`](Self::next).
    pub(crate) fn returns(&self) {
        lock(&self.line).returning += 1;
    }

    /// Takes the oldest job, and waits for it. The worker [has said so](Self::returns).
    pub(crate) fn next(&self) -> J {
        let mut line = lock(&self.line);
        line.returning -= 1;
        loop {
            match line.waiting.pop_front() {
                Some(job) => return job,
                None => line = self.added.wait(line).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    use super::Jobs;

    #[test]
    fn a_worker_is_woken_for_a_job_that_none_takes_anyway() {
        let jobs = Jobs::new();
        jobs.returns();
        assert!(!jobs.push(1), "the worker that returns takes it");
        assert_eq!(jobs.next(), 1);
        assert!(jobs.push(2), "none returns");
        jobs.returns();
        assert!(jobs.push(3), "the worker that returns takes the other one");
        assert_eq!(jobs.next(), 2);
    }

    #[test]
    fn each_job_is_taken_once_while_workers_come_and_go() {
        const JOBS: u32 = 2000;
        const END: u32 = 2 * JOBS;
        let (jobs, count) = (Jobs::new(), AtomicU32::new(0));
        let work = || {
            let mut taken = Vec::new();
            loop {
                jobs.returns();
                // As the bus does when a piece is done: each even number has a next one.
                if let Some(job) = taken.last().filter(|job| u32::is_multiple_of(**job, 2)) {
                    jobs.push(job + 1);
                }
                match jobs.next() {
                    END => return taken,
                    job => taken.push(job),
                }
                if count.fetch_add(1, Ordering::Relaxed) + 1 == END {
                    jobs.push(END);
                    jobs.push(END);
                }
            }
        };
        let mut taken = thread::scope(|scope| {
            let workers = [(); 2].map(|()| scope.spawn(work));
            for job in 0..JOBS {
                jobs.push(2 * job);
            }
            workers.map(|worker| worker.join().unwrap()).concat()
        });
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..END));
    }
}
