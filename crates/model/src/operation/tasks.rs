//! The tasks of a step. The machine keeps beside them what it asks of them after each event, so that an event
//! costs the same with 4 and with 10,000 tasks.

use std::collections::BTreeSet;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

use super::task::{Task, TaskStatus};

/// What is counted of the tasks of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskCounts {
    /// All of them.
    pub total: u64,
    /// Those that are requested.
    pub running: u64,
    /// Those that are done.
    pub done: u64,
    /// Those that failed for good.
    pub failed: u64,
    /// Rows done.
    pub rows: u64,
    /// Bytes done.
    pub bytes: u64,
}

/// The tasks of a step, in order. They are read as a slice and changed by [`Operation::step`](super::Operation::step).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tasks {
    all: Vec<Task>,
    counts: TaskCounts,
    running: BTreeSet<u32>,
    /// Those that are pending, by the time before which they are not requested.
    pending: BTreeSet<(u64, u32)>,
    with_error: BTreeSet<u32>,
    highest_attempt: u32,
}

impl Deref for Tasks {
    type Target = [Task];

    fn deref(&self) -> &[Task] {
        &self.all
    }
}

impl FromIterator<Task> for Tasks {
    fn from_iter<T: IntoIterator<Item = Task>>(tasks: T) -> Self {
        let mut all = Self::default();
        for task in tasks {
            let at = all.all.len() as u32;
            all.counts.total += 1;
            all.count(at, &task);
            all.all.push(task);
        }
        all
    }
}

impl Tasks {
    /// What is counted of them.
    pub fn counts(&self) -> TaskCounts {
        self.counts
    }

    /// The highest attempt of any of them; attempts only count up.
    pub fn highest_attempt(&self) -> u32 {
        self.highest_attempt
    }

    /// The last error of the first task that has one.
    pub fn first_error(&self) -> Option<&str> {
        let first = self.all.get(*self.with_error.first()? as usize)?;
        first.error.as_deref()
    }

    /// The places of those that are requested.
    pub(super) fn running(&self) -> impl Iterator<Item = u32> {
        self.running.iter().copied()
    }

    /// The pending task to be requested first: the time of its backoff, and its place. Those that did not fail
    /// come before those that did.
    pub(super) fn first_pending(&self) -> Option<(u64, u32)> {
        self.pending.first().copied()
    }

    /// Until when the last of the pending tasks waits for its backoff.
    pub(super) fn last_backoff_ms(&self) -> Option<u64> {
        self.pending.last().map(|(not_before_ms, _)| *not_before_ms)
    }

    /// Whether no task has anything left to do.
    pub(super) fn are_over(&self) -> bool {
        self.running.is_empty() && self.pending.is_empty()
    }

    /// Changes a task. There is one at this place.
    pub(super) fn change<T>(&mut self, at: u32, change: impl FnOnce(&mut Task) -> T) -> T {
        let mut task = std::mem::replace(&mut self.all[at as usize], Task::vacant());
        self.discount(at, &task);
        let changed = change(&mut task);
        self.count(at, &task);
        self.all[at as usize] = task;
        changed
    }

    fn count(&mut self, at: u32, task: &Task) {
        match task.status {
            TaskStatus::Pending => {
                self.pending.insert((task.not_before_ms, at));
            }
            TaskStatus::Running => {
                self.running.insert(at);
                self.counts.running += 1;
            }
            TaskStatus::Done => self.counts.done += 1,
            TaskStatus::Failed => self.counts.failed += 1,
        }
        if task.error.is_some() {
            self.with_error.insert(at);
        }
        self.highest_attempt = self.highest_attempt.max(task.attempt);
        self.counts.rows += task.rows;
        self.counts.bytes += task.bytes;
    }

    fn discount(&mut self, at: u32, task: &Task) {
        match task.status {
            TaskStatus::Pending => {
                self.pending.remove(&(task.not_before_ms, at));
            }
            TaskStatus::Running => {
                self.running.remove(&at);
                self.counts.running -= 1;
            }
            TaskStatus::Done => self.counts.done -= 1,
            TaskStatus::Failed => self.counts.failed -= 1,
        }
        self.with_error.remove(&at);
        self.counts.rows -= task.rows;
        self.counts.bytes -= task.bytes;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::operation::{NewTask, TaskSpec};

    fn task() -> Task {
        let spec = TaskSpec::Whole;
        Task::new(
            NewTask {
                spec,
                bytes_total: 9,
            },
            0,
        )
    }

    proptest! {
        #[test]
        fn what_is_counted_is_what_counting_anew_would_find(
            changes in proptest::collection::vec((0u32..5, 0u8..4, 0u64..3, 0u64..100, any::<bool>()), 0..60),
        ) {
            let mut tasks: Tasks = std::iter::repeat_with(task).take(5).collect();
            for (at, status, not_before_ms, rows, failed) in changes {
                tasks.change(at, |task| {
                    task.status = match status {
                        0 => TaskStatus::Pending,
                        1 => TaskStatus::Running,
                        2 => TaskStatus::Done,
                        _ => TaskStatus::Failed,
                    };
                    task.not_before_ms = not_before_ms;
                    (task.rows, task.bytes) = (rows, rows * 3);
                    task.error = failed.then(|| format!("{rows}"));
                });
                let anew: Tasks = tasks.iter().cloned().collect();
                prop_assert_eq!(&anew, &tasks);
                let first = tasks.iter().find_map(|task| task.error.as_deref());
                prop_assert_eq!(tasks.first_error(), first);
                let running = tasks.iter().filter(|task| task.status == TaskStatus::Running);
                prop_assert_eq!(tasks.counts().running as usize, running.count());
            }
        }
    }
}
