//! Promises of the machine: scripts of single transitions.

use super::*;

pub(super) const CANCEL: Event = Event::Cancel {
    on_concurrent_insert: None,
};
pub(super) const RESUME: Event = Event::Resume {
    on_concurrent_insert: None,
};
use crate::name::{BackupId, BackupKind};

/// Bounds with which a task is requested when another is done.
fn limits() -> Limits {
    Limits {
        requested_ahead: 0,
        ..Limits::default()
    }
}

pub(super) const SECOND_MS: u64 = 1000;

pub(super) fn at(now_ms: u64) -> Context {
    Context {
        now_ms,
        jitter: 0.0,
    }
}

pub(super) fn restore() -> Operation {
    let link = |seconds, kind| ChainLink {
        backup_id: BackupId::new(seconds, kind).unwrap(),
        manifest_blake3: String::new(),
    };
    let request = Request::Restore(RestoreRequest {
        collection: "shop".into(),
        chain: vec![link(0, BackupKind::Full), link(60, BackupKind::Incremental)],
        tables: vec![TableMapping {
            source: "orders".into(),
            target: "orders".into(),
        }],
        strategy: RestoreStrategy::Sequential,
        of_target: None,
        plain_tables: Vec::new(),
        drill: None,
    });
    let steps = plan(&request, &[900, 100]).unwrap();
    let repository = ("id".to_owned(), "memory:".to_owned());
    let id = "restore-1".parse().unwrap();
    Operation::new(id, request, steps, repository, limits(), 0)
}

pub(super) fn tasks(count: usize) -> Vec<NewTask> {
    vec![
        NewTask {
            spec: TaskSpec::Whole,
            bytes_total: 100
        };
        count
    ]
}

pub(super) fn report(operation: &Operation, shard_idx: u32, status: ReportStatus) -> Event {
    let task = &operation.tasks[shard_idx as usize];
    Event::Reported(Report {
        step: operation.current_step,
        shard_idx,
        attempt: task.attempt,
        status,
        last_key: task.last_key.clone(),
        rows: task.rows + 1,
        bytes: task.bytes + 10,
        output: TaskOutput::None,
        segments_before: 0,
    })
}

pub(super) fn error(retriable: bool) -> ReportStatus {
    ReportStatus::Error {
        retriable,
        message: "disk on fire".into(),
    }
}

pub(super) fn cut_lost() -> ReportStatus {
    ReportStatus::CutLost {
        message: "the freeze is gone".into(),
    }
}

/// A backup that copies what it has cut, again if it did before.
fn copying(operation: &mut Operation, now_ms: u64) {
    let allocated = |step| Event::Allocated {
        step,
        tasks: tasks(1),
    };
    operation.step(at(now_ms), allocated(0)).unwrap();
    operation.step(at(now_ms), Event::Tick).unwrap();
    let cut = report(operation, 0, ReportStatus::Success);
    operation.step(at(now_ms), cut).unwrap();
    operation.step(at(now_ms), Event::Advance).unwrap();
    operation.step(at(now_ms), allocated(1)).unwrap();
    assert_eq!(operation.step_kind(), StepKind::Copy);
}

#[test]
fn a_cut_that_is_lost_is_taken_again_with_a_backoff_and_its_cause() {
    let mut operation = backup();
    operation.step(at(0), Event::Booted).unwrap();
    copying(&mut operation, 0);
    let lost = report(&operation, 0, cut_lost());
    assert_eq!(
        operation.step(at(0), lost).unwrap().effects,
        [Effect::Allocate]
    );
    assert_eq!(operation.step_kind(), StepKind::Cut);
    // Once it is at once, as after a restart.
    copying(&mut operation, 0);
    let lost = report(&operation, 0, cut_lost());
    operation.step(at(0), lost).unwrap();
    let allocated = Event::Allocated {
        step: 0,
        tasks: tasks(1),
    };
    assert_eq!(operation.step(at(0), allocated).unwrap().effects, []);
    let backoff_ms = operation.limits.first_backoff_ms;
    assert_eq!(operation.wake_at_ms(), Some(backoff_ms));
    let told = operation.tasks[0].error.as_deref();
    assert_eq!(told, Some("the freeze is gone"));
    let again = operation.step(at(backoff_ms), Event::Tick).unwrap().effects;
    assert_eq!(again, [Effect::Propose { shard_idx: 0 }]);
    // Where its tasks cannot even be found, the same.
    let cut = report(&operation, 0, ReportStatus::Success);
    operation.step(at(backoff_ms), cut).unwrap();
    operation.step(at(backoff_ms), Event::Advance).unwrap();
    let unfound = Event::AllocationFailed {
        step: 1,
        retriable: false,
        is_cut_lost: true,
        message: "the freeze is gone".into(),
    };
    operation.step(at(backoff_ms), unfound).unwrap();
    assert_eq!(operation.step_kind(), StepKind::Cut);
    assert_eq!(operation.lost_cut.as_ref().unwrap().times, 3);
}

#[test]
fn a_cut_that_is_lost_where_none_can_be_taken_is_a_fatal_error_with_its_name() {
    let mut operation = backup();
    operation.step(at(0), Event::Booted).unwrap();
    copying(&mut operation, 0);
    operation.step(at(0), CANCEL).unwrap();
    let stopped = report(&operation, 0, ReportStatus::Stopped);
    operation.step(at(0), stopped).unwrap();
    assert_eq!(operation.step_kind(), StepKind::Rollback);
    let step = operation.current_step;
    let tasks = tasks(1);
    operation
        .step(at(0), Event::Allocated { step, tasks })
        .unwrap();
    let lost = report(&operation, 0, cut_lost());
    assert_eq!(
        operation.step(at(0), lost).unwrap().effects,
        [Effect::Finished]
    );
    assert_eq!(operation.state, State::Failed);
    let told = operation.error.as_deref();
    assert_eq!(told, Some("step rollback: the freeze is gone"));
}

pub(super) fn backup() -> Operation {
    let request = Request::Backup(BackupRequest {
        collection: "shop".into(),
        backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
        label: None,
        tables: vec!["orders".into()],
        parent: None,
        stream: "shop/1".into(),
        since_version: None,
        old_streams: Vec::new(),
        keeps_changes: false,
        found: None,
    });
    let steps = plan(&request, &[]).unwrap();
    let repository = ("id".to_owned(), "memory:".to_owned());
    let id = "backup-1".parse().unwrap();
    Operation::new(id, request, steps, repository, limits(), 0)
}

/// An operation whose first step has `count` tasks and has been asked to go.
fn started(count: usize) -> (Operation, Vec<Effect>) {
    let mut operation = restore();
    assert_eq!(
        operation.step(at(0), Event::Booted).unwrap().effects,
        [Effect::Allocate]
    );
    let effects = operation
        .step(
            at(0),
            Event::Allocated {
                step: 0,
                tasks: tasks(count),
            },
        )
        .unwrap()
        .effects;
    (operation, effects)
}

#[test]
fn requests_go_out_as_the_window_moves_and_the_barrier_waits_for_all() {
    let (mut operation, effects) = started(3);
    assert_eq!(
        effects,
        [
            Effect::Propose { shard_idx: 0 },
            Effect::Propose { shard_idx: 1 }
        ]
    );
    assert_eq!(operation.state, State::Proposing);
    let done = report(&operation, 1, ReportStatus::Success);
    assert_eq!(
        operation.step(at(1), done).unwrap().effects,
        [Effect::Propose { shard_idx: 2 }]
    );
    assert_eq!(operation.state, State::Waiting);
    let done = report(&operation, 0, ReportStatus::Success);
    assert_eq!(operation.step(at(2), done).unwrap().effects, []);
    assert_eq!(operation.current_step, 0);
    let done = report(&operation, 2, ReportStatus::Success);
    assert_eq!(
        operation.step(at(3), done).unwrap().effects,
        [Effect::Advance]
    );
    assert_eq!(operation.state, State::Applying);
    assert_eq!(
        operation.step(at(4), Event::Advance).unwrap().effects,
        [Effect::Allocate]
    );
    assert_eq!(
        (operation.current_step, operation.state),
        (1, State::Allocating)
    );
}

#[test]
fn an_error_sends_back_only_its_shard_after_a_backoff_that_doubles() {
    let (mut operation, _) = started(2);
    let mut now_ms = 0;
    for backoff_s in [1, 2, 4, 8, 16, 30, 30] {
        let Event::Reported(mut failed) = report(&operation, 0, error(true)) else {
            unreachable!()
        };
        (failed.rows, failed.bytes) = (0, 0);
        assert_eq!(
            operation
                .step(at(now_ms), Event::Reported(failed))
                .unwrap()
                .effects,
            []
        );
        assert_eq!(operation.state, State::Allocating);
        assert_eq!(operation.tasks[1].status, TaskStatus::Running);
        assert_eq!(operation.wake_at_ms(), Some(now_ms + backoff_s * SECOND_MS));
        assert_eq!(
            operation
                .step(at(now_ms + backoff_s * SECOND_MS - 1), Event::Tick)
                .unwrap()
                .effects,
            []
        );
        now_ms += backoff_s * SECOND_MS;
        assert_eq!(
            operation.step(at(now_ms), Event::Tick).unwrap().effects,
            [Effect::Propose { shard_idx: 0 }]
        );
    }
    assert_eq!(operation.tasks[0].attempt, 8);
    assert_eq!(operation.tasks[1].attempt, 1);
}

#[test]
fn reports_of_an_old_attempt_or_a_second_time_change_nothing() {
    let (mut operation, _) = started(2);
    let first = report(&operation, 0, ReportStatus::Success);
    operation
        .step(at(1), report(&operation, 0, error(true)))
        .unwrap();
    operation.step(at(5 * SECOND_MS), Event::Tick).unwrap();
    let before = operation.clone();
    assert_eq!(
        operation.step(at(5 * SECOND_MS), first).unwrap().effects,
        []
    );
    assert_eq!(operation, before);
    let second = report(&operation, 0, ReportStatus::Success);
    operation.step(at(6 * SECOND_MS), second.clone()).unwrap();
    let before = operation.clone();
    operation.step(at(6 * SECOND_MS), second).unwrap();
    assert_eq!(operation, before);
}

#[test]
fn a_worker_that_falls_silent_is_replaced() {
    let (mut operation, _) = started(1);
    let lease_ms = operation.limits.lease_ms;
    assert_eq!(
        operation.step(at(lease_ms), Event::Tick).unwrap().effects,
        [Effect::Abort {
            step: 0,
            shard_idx: 0
        }]
    );
    assert_eq!(
        operation.tasks[0].error.as_deref(),
        Some("no report for 600 s")
    );
    let again = operation
        .step(at(lease_ms + SECOND_MS), Event::Tick)
        .unwrap()
        .effects;
    assert_eq!(again, [Effect::Propose { shard_idx: 0 }]);
    assert_eq!(operation.tasks[0].attempt, 2);
}

#[test]
fn a_fatal_error_fails_once_nothing_runs_and_can_be_resumed_after_repair() {
    let (mut operation, _) = started(2);
    let fatal = report(&operation, 0, error(false));
    assert_eq!(
        operation.step(at(1), fatal).unwrap().effects,
        [Effect::Abort {
            step: 0,
            shard_idx: 1
        }]
    );
    assert_eq!(operation.state, State::Waiting);
    let stopped = report(&operation, 1, ReportStatus::Stopped);
    assert_eq!(
        operation.step(at(2), stopped).unwrap().effects,
        [Effect::Finished]
    );
    assert_eq!(operation.state, State::Failed);
    assert_eq!(
        operation.error.as_deref(),
        Some("step prepare: disk on fire")
    );
    let resumed = operation.step(at(3), RESUME).unwrap().effects;
    assert_eq!(
        resumed,
        [
            Effect::Propose { shard_idx: 0 },
            Effect::Propose { shard_idx: 1 }
        ]
    );
    assert_eq!(operation.error, None);
}

#[test]
fn what_is_refused_before_anything_was_written_is_rolled_back_and_says_why() {
    let (mut operation, _) = started(2);
    let message = "the server is a standby".to_owned();
    let refused = report(&operation, 0, ReportStatus::Refused { message });
    operation.step(at(1), refused).unwrap();
    assert_eq!(operation.state, State::Waiting);
    let stopped = report(&operation, 1, ReportStatus::Stopped);
    operation.step(at(2), stopped).unwrap();
    assert_eq!(operation.step_kind(), StepKind::Rollback);
    assert_eq!(operation.error.as_deref(), Some("the server is a standby"));
}

#[test]
fn a_restart_extends_no_deadline() {
    let (mut operation, _) = started(1);
    let deadline_ms = operation.operation_deadline_ms;
    operation.step(at(deadline_ms - 1), Event::Booted).unwrap();
    assert_eq!(operation.operation_deadline_ms, deadline_ms);
    operation.step(at(deadline_ms + 1), Event::Booted).unwrap();
    operation.step(at(deadline_ms + 1), Event::Tick).unwrap();
    let stopped = report(&operation, 0, ReportStatus::Stopped);
    operation.step(at(deadline_ms + 1), stopped).unwrap();
    assert_eq!(operation.state, State::Failed);
    assert!(operation.head.error.unwrap().contains("used up its time"));
}

#[test]
fn pausing_moves_the_deadlines_and_sends_nothing() {
    let (mut operation, _) = started(3);
    let deadline_ms = operation.operation_deadline_ms;
    let aborts = operation.step(at(10), Event::Pause).unwrap().effects;
    assert_eq!(
        aborts,
        [
            Effect::Abort {
                step: 0,
                shard_idx: 0
            },
            Effect::Abort {
                step: 0,
                shard_idx: 1
            }
        ]
    );
    for shard_idx in 0..2 {
        let stopped = report(&operation, shard_idx, ReportStatus::Stopped);
        assert_eq!(operation.step(at(11), stopped).unwrap().effects, []);
    }
    assert_eq!(operation.wake_at_ms(), None);
    assert_eq!(
        operation
            .step(at(deadline_ms * 2), Event::Booted)
            .unwrap()
            .effects,
        []
    );
    assert!(matches!(
        operation.step(at(20), Event::Pause),
        Err(IllegalEvent::Stopping { .. })
    ));
    let resumed = operation
        .step(at(10 + deadline_ms), RESUME)
        .unwrap()
        .effects;
    assert_eq!(resumed.len(), 2);
    assert_eq!(operation.operation_deadline_ms, deadline_ms * 2);
    assert_eq!(operation.tasks[0].failures, 0);
}

#[test]
fn a_cancel_rolls_back_and_comes_too_late_for_a_result_that_exists() {
    let (mut operation, _) = started(1);
    operation.step(at(1), CANCEL).unwrap();
    let stopped = report(&operation, 0, ReportStatus::Stopped);
    assert_eq!(
        operation.step(at(2), stopped).unwrap().effects,
        [Effect::Allocate]
    );
    assert_eq!(operation.step_kind(), StepKind::Rollback);
    assert!(matches!(
        operation.step(at(3), CANCEL),
        Err(IllegalEvent::RollingBack { .. })
    ));
    let mut finishing = restore();
    finishing.current_step = finishing.steps.len() as u32 - 1;
    assert!(matches!(
        finishing.step(at(3), CANCEL),
        Err(IllegalEvent::TooLate { step: "finish", .. })
    ));
    operation
        .step(
            at(3),
            Event::Allocated {
                step: 1,
                tasks: tasks(1),
            },
        )
        .unwrap();
    let done = report(&operation, 0, ReportStatus::Success);
    assert_eq!(
        operation.step(at(4), done).unwrap().effects,
        [Effect::Advance]
    );
    assert_eq!(
        operation.step(at(5), Event::Advance).unwrap().effects,
        [Effect::Finished]
    );
    assert_eq!(operation.state, State::Cancelled);
    let over = operation.step(at(6), RESUME).unwrap_err();
    assert_eq!(
        over.to_string(),
        "operation restore-1 is cancelled and cannot be resumed"
    );
}
