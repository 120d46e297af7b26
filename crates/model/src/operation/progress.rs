//! How far an operation is: one number for the whole, counts for those who want to know more.

use serde::Serialize;

use super::{Operation, State, StepKind, TaskStatus};

/// The weight of a step that moves no bytes, against a thousandth of all bytes.
const FIXED_WEIGHT: u64 = 1;

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Progress {
    /// 0 to 100; never falls, and 100 only when done.
    pub percent: f64,
    /// Rows moved in all steps, those of indexes too.
    pub rows_done: u64,
    /// Bytes done in all steps.
    pub bytes_done: u64,
    /// Bytes to do in all steps, as far as known.
    pub bytes_total: u64,
    /// Shards done in the current step.
    pub shards_done: u64,
    /// Shards of the current step.
    pub shards_total: u64,
}

impl Operation {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        let current = self.current_step as usize;
        let task_rows = self.task_rows();
        let task_bytes = self.tasks.iter().map(|task| task.bytes).sum::<u64>();
        let bytes_total: u64 = self.steps.iter().map(|step| step.bytes_total).sum();
        let done = self
            .tasks
            .iter()
            .filter(|task| task.status == TaskStatus::Done)
            .count();
        Progress {
            percent: f64::from(
                self.percent_floor
                    .max(self.percent_now(current, task_bytes)),
            ) / 100.0,
            rows_done: self.rows_before + task_rows,
            bytes_done: self.bytes_before + task_bytes,
            bytes_total: bytes_total.max(self.bytes_before + task_bytes),
            shards_done: done as u64,
            shards_total: self.tasks.len() as u64,
        }
    }

    /// Rows that the tasks of the current step moved. Those that are only read to prove something
    /// have been counted when they were moved.
    pub(super) fn task_rows(&self) -> u64 {
        match self.step_kind() {
            StepKind::Verify => 0,
            _ => self.tasks.iter().map(|task| task.rows).sum(),
        }
    }

    /// Hundredths of a percent, computed from the plan alone.
    fn percent_now(&self, current: usize, task_bytes: u64) -> u32 {
        if self.state == State::Done {
            return 10_000;
        }
        let all: u64 = self.steps.iter().map(|step| step.bytes_total).sum();
        let fixed = FIXED_WEIGHT.max(all / 1000);
        let weight = |at: usize| {
            self.steps
                .get(at)
                .map_or(0, |step| step.bytes_total + fixed)
        };
        let total: u64 = (0..self.steps.len()).map(weight).sum();
        let before: u64 = (0..current).map(weight).sum();
        let here = if self.state == State::Applying {
            weight(current)
        } else {
            task_bytes.min(self.steps.get(current).map_or(0, |step| step.bytes_total))
        };
        let share = u128::from(before + here) * 10_000 / u128::from(total.max(1));
        u32::try_from(share).unwrap_or(u32::MAX).min(9_999)
    }

    /// Keeps what was shown: a new attempt or a better estimate never takes progress back.
    pub(super) fn raise_floor(&mut self) {
        let bytes = self.tasks.iter().map(|task| task.bytes).sum();
        let now = self.percent_now(self.current_step as usize, bytes);
        self.percent_floor = self.percent_floor.max(now);
    }
}
