//! Promises of operations that wait before one of their steps.

use super::*;
use crate::name::{BackupId, BackupKind};

const RESUME: Event = Event::Resume {
    on_concurrent_insert: None,
};
const CANCEL: Event = Event::Cancel {
    on_concurrent_insert: None,
};
const HOUR_MS: u64 = 60 * 60 * 1000;

fn at(now_ms: u64) -> Context {
    Context {
        now_ms,
        jitter: 0.0,
    }
}

/// Does the one task of a step, and lets the next one begin. Returns what follows from that.
fn pass(operation: &mut Operation, now_ms: u64) -> Vec<Effect> {
    let step = operation.current_step;
    let tasks = vec![NewTask::whole()];
    (operation.step(at(now_ms), Event::Allocated { step, tasks })).unwrap();
    let report = Report {
        step,
        shard_idx: 0,
        attempt: operation.tasks[0].attempt,
        status: ReportStatus::Success,
        last_key: None,
        rows: 0,
        bytes: 0,
        output: TaskOutput::None,
        segments_before: 0,
    };
    (operation.step(at(now_ms), Event::Reported(report))).unwrap();
    let advanced = operation.step(at(now_ms), Event::Advance);
    advanced.unwrap().effects
}

/// A backup whose tables are frozen, at a time, and which is to wait then.
fn held(now_ms: u64) -> Operation {
    let operation = frozen(now_ms, false);
    assert_eq!(operation.step_kind(), StepKind::Copy);
    operation
}

/// A backup whose tables are frozen, of one moment with others or not.
fn frozen(now_ms: u64, exact: bool) -> Operation {
    let request = Request::PartBackup(PartBackupRequest {
        collection: "shop".into(),
        backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
        label: None,
        patterns: "shop.*".into(),
        tables: Vec::new(),
        exclude: Default::default(),
        unmatched: Vec::new(),
        partitions: None,
        known: None,
        without_secrets: false,
        of_shard: Some("one".into()),
        exact,
        holds: true,
    });
    let steps = plan(&request, &[]).unwrap();
    let repository = ("id".to_owned(), "memory:".to_owned());
    let id = "backup-1".parse().unwrap();
    let mut operation = Operation::new(id, request, steps, repository, Limits::default(), 0);
    operation.step(at(0), Event::Booted).unwrap();
    assert_eq!(pass(&mut operation, now_ms), []);
    operation
}

#[test]
fn it_begins_nothing_of_the_step_until_it_is_resumed_and_then_goes_to_its_end() {
    let mut operation = held(10);
    assert!(operation.is_held() && operation.is_paused() && operation.awaits_user());
    // Neither time nor a crash moves it, and no time of it is used up.
    for event in [Event::Booted, Event::Tick, Event::Advance] {
        let outcome = operation.step(at(1000 * HOUR_MS), event).unwrap();
        assert_eq!(outcome.effects, []);
        assert!(operation.is_held());
    }
    assert_eq!(operation.wake_at_ms(), None);
    let left_ms = operation.operation_deadline_ms;
    let resumed = operation.step(at(10 + HOUR_MS), RESUME).unwrap();
    assert_eq!(resumed.effects, [Effect::Allocate]);
    assert!(!operation.is_paused());
    assert_eq!(operation.operation_deadline_ms, left_ms + HOUR_MS);
    for _ in 0..2 {
        pass(&mut operation, 20 + HOUR_MS);
    }
    assert_eq!(operation.state, State::Done);
}

#[test]
fn it_is_given_up_like_any_other() {
    let mut operation = held(10);
    let cancelled = operation.step(at(20), CANCEL).unwrap();
    assert_eq!(cancelled.effects, [Effect::Allocate]);
    assert_eq!(operation.step_kind(), StepKind::Rollback);
    pass(&mut operation, 30);
    assert_eq!(operation.state, State::Cancelled);
}

#[test]
fn where_its_cut_is_lost_it_waits_again_when_it_is_taken_again() {
    let mut operation = held(10);
    operation.step(at(20), RESUME).unwrap();
    let lost = Event::AllocationFailed {
        step: operation.current_step,
        retriable: false,
        is_cut_lost: true,
        message: "the freeze is gone".into(),
    };
    operation.step(at(30), lost).unwrap();
    assert_eq!(operation.step_kind(), StepKind::Cut);
    assert!(!operation.is_paused());
    assert_eq!(pass(&mut operation, 40), []);
    assert!(operation.is_held());
}

#[test]
fn one_that_is_of_one_moment_with_others_waits_twice_and_fails_where_its_cut_is_lost() {
    let mut operation = frozen(10, true);
    assert_eq!(operation.step_kind(), StepKind::Verify);
    assert!(operation.is_held());
    operation.step(at(20), RESUME).unwrap();
    assert_eq!(pass(&mut operation, 30), []);
    assert_eq!(operation.step_kind(), StepKind::Copy);
    assert!(operation.is_held());
    operation.step(at(40), RESUME).unwrap();
    let lost = Event::AllocationFailed {
        step: operation.current_step,
        retriable: false,
        is_cut_lost: true,
        message: "the freeze is gone".into(),
    };
    operation.step(at(50), lost).unwrap();
    assert_eq!(operation.state, State::Failed);
    let error = operation.error.as_deref().unwrap();
    assert!(error.contains("the freeze is gone"), "{error}");
}
