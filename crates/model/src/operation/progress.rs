//! How far an operation is: one number for the whole, counts for those who want to know more.

use serde::Serialize;

use super::{OperationHead, Request, State, StepKind};

/// The weight of a step that moves no bytes, against a thousandth of all bytes.
const FIXED_WEIGHT: u64 = 1;
/// What shares of steps are counted in.
const SHARE: u64 = 1 << 20;

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

impl OperationHead {
    /// How far it is.
    pub fn progress(&self) -> Progress {
        let current = self.current_step as usize;
        let bytes_total: u64 = self.steps.iter().map(|step| step.bytes_total).sum();
        let counts = self.counts;
        // At the end those of the last step are among those before.
        let (rows, bytes) = match self.state {
            State::Done | State::Cancelled => (0, 0),
            _ => (self.task_rows(), counts.bytes),
        };
        Progress {
            percent: f64::from(
                self.percent_floor
                    .max(self.percent_now(current, counts.bytes)),
            ) / 100.0,
            rows_done: self.rows_before + rows,
            bytes_done: self.bytes_before + bytes,
            bytes_total: bytes_total.max(self.bytes_before + bytes),
            shards_done: counts.done,
            shards_total: counts.total,
        }
    }

    /// Rows that the tasks of the current step moved. Those that are only read to prove something
    /// have been counted when they were moved.
    pub(super) fn task_rows(&self) -> u64 {
        match self.step_kind() {
            StepKind::Verify => 0,
            _ => self.counts.rows,
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
            self.steps.get(at).map_or(0, |step| {
                let share = share_of(&self.request, step.kind);
                share.map_or(step.bytes_total + fixed, |share| share * SHARE)
            })
        };
        let total: u64 = (0..self.steps.len()).map(weight).sum();
        let before: u64 = (0..current).map(weight).sum();
        let here = if self.state == State::Applying {
            weight(current)
        } else {
            self.done_of(weight(current), current, task_bytes)
        };
        let share = u128::from(before + here) * 10_000 / u128::from(total.max(1));
        u32::try_from(share).unwrap_or(u32::MAX).min(9_999)
    }

    /// As much of the weight of a step as its tasks have done: by their bytes, or by their number where bytes
    /// are not known.
    fn done_of(&self, weight: u64, step: usize, task_bytes: u64) -> u64 {
        let bytes_total = self.steps.get(step).map_or(0, |step| step.bytes_total);
        let (done, all) = if bytes_total > 0 {
            (task_bytes.min(bytes_total), bytes_total)
        } else {
            (self.counts.done, self.counts.total.max(1))
        };
        let done = u128::from(weight) * u128::from(done) / u128::from(all);
        u64::try_from(done).unwrap_or(weight)
    }

    /// Keeps what was shown: a new attempt or a better estimate never takes progress back.
    pub(super) fn raise_floor(&mut self) {
        let now = self.percent_now(self.current_step as usize, self.counts.bytes);
        self.percent_floor = self.percent_floor.max(now);
    }
}

/// How much of the whole a step is, about, in hundredths, where its bytes do not tell: what an increment
/// copies is not known before, and what the steps of a mend move cannot be compared, nor be known before
/// the earlier ones are done.
fn share_of(request: &Request, step: StepKind) -> Option<u64> {
    let share = match request {
        Request::MendRows(_) => match step {
            StepKind::Copy => 12,
            StepKind::Stage => 58,
            StepKind::Finish => 26,
            _ => 1,
        },
        Request::Mend(_) => match step {
            StepKind::Stage => 70,
            StepKind::Commit => 18,
            StepKind::Verify => 8,
            _ => 1,
        },
        Request::Backup(backup) if backup.since_version.is_some() => match step {
            StepKind::Copy => 97,
            _ => 1,
        },
        Request::Backup(_)
        | Request::Restore(_)
        | Request::PartBackup(_)
        | Request::Maintain(_)
        | Request::Cluster(_) => {
            return None;
        }
    };
    Some(share)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{BackupId, BackupKind};
    use crate::operation::{
        BackupRequest, ClusterRequest, ClusterWork, Context, Event, FindBy, HOLD, Limits, NewTask,
        Operation, Report, ReportStatus, RowMendRequest, RowScope, RowTableMend, ShardAgent,
        TaskCounts, TaskOutput, TaskSpec, plan,
    };

    #[test]
    fn what_the_last_step_has_done_is_counted_once() {
        let request = Request::Cluster(ClusterRequest {
            cluster: "prod".into(),
            collection: "shop".into(),
            work: ClusterWork::Mend {
                backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
            },
            shards: vec![ShardAgent {
                shard: "1".into(),
                replica: "a".into(),
                agent: "https://db1:7443".into(),
                server: "db1:/data/".into(),
            }],
            arguments: serde_json::Map::from_iter([(HOLD.to_owned(), true.into())]),
            left: Vec::new(),
            others: Vec::new(),
            take_over_after_ms: 0,
            on_concurrent_insert: None,
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        let id = "mend-1".parse().unwrap();
        let mut operation = Operation::new(id, request, steps, repository, Limits::default(), 0);
        let context = Context {
            now_ms: 0,
            jitter: 0.0,
        };
        for step in 0..3 {
            let task = NewTask {
                spec: TaskSpec::Shard {
                    shard: "1".into(),
                    shard_idx: 0,
                },
                bytes_total: 0,
            };
            let tasks = vec![task];
            (operation.step(context, Event::Allocated { step, tasks })).unwrap();
            let report = Report {
                step,
                shard_idx: 0,
                attempt: operation.tasks[0].attempt,
                status: ReportStatus::Success,
                last_key: None,
                // What was staged is counted by who makes it live.
                rows: [0, 20, 30][step as usize],
                bytes: [0, 500, 700][step as usize],
                output: TaskOutput::None,
                segments_before: 0,
            };
            operation.step(context, Event::Reported(report)).unwrap();
            operation.step(context, Event::Advance).unwrap();
        }
        assert_eq!(operation.state, State::Done);
        let progress = operation.progress();
        assert_eq!((progress.rows_done, progress.bytes_done), (30, 700));
    }

    #[test]
    fn a_mend_that_has_yet_to_stage_is_not_shown_as_nearly_done() {
        let before = BackupRequest {
            collection: "shop".into(),
            backup_id: BackupId::new(60, BackupKind::Incremental).unwrap(),
            label: None,
            tables: vec!["orders".into()],
            parent: None,
            stream: "shop/1".into(),
            since_version: Some(1.into()),
            old_streams: Vec::new(),
            keeps_changes: false,
            found: None,
        };
        let request = Request::MendRows(RowMendRequest {
            before,
            chain: Vec::new(),
            find_by: FindBy::Changes { later: Vec::new() },
            tables: vec![RowTableMend {
                table: "orders".into(),
                range: None,
                create: false,
                also: Vec::new(),
                added_columns: Vec::new(),
                scope: RowScope::default(),
            }],
            undoes: None,
            expected: Vec::new(),
            planned: None,
            of_target: None,
            beside_writers: false,
            max_write_wait_ms: None,
            untold: Vec::new(),
        });
        let steps = plan(&request, &[]).unwrap();
        let repository = ("id".to_owned(), "memory:".to_owned());
        let id = "mend-1".parse().unwrap();
        let mut operation = Operation::new(id, request, steps, repository, Limits::default(), 0);
        let counts = |done, bytes| TaskCounts {
            total: 2,
            done,
            bytes,
            ..TaskCounts::default()
        };
        // What the copy moved is nothing beside what is to be staged.
        operation.steps[1].bytes_total = 1_000;
        operation.bytes_before = 1_000;
        operation.current_step = 4;
        operation.steps[4].bytes_total = 400;
        operation.counts = counts(0, 0);
        assert_eq!(operation.progress().percent, 15.0);
        operation.counts = counts(0, 100);
        assert_eq!(operation.progress().percent, 29.5);
        // Of the last step no bytes are known.
        operation.current_step = 6;
        operation.counts = counts(0, 0);
        assert_eq!(operation.progress().percent, 74.0);
        operation.counts = counts(1, 0);
        assert_eq!(operation.progress().percent, 87.0);
    }
}
