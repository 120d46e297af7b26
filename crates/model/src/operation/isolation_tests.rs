//! Promises of steps whose tables do not stop each other.

use super::*;

const CANCEL: Event = Event::Cancel {
    on_concurrent_insert: None,
};
const RESUME: Event = Event::Resume {
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
use crate::part::{OnConcurrentInsert, PartitionMethod, TableName};

fn at(now_ms: u64) -> Context {
    Context {
        now_ms,
        jitter: 0.0,
    }
}

fn table(name: &str) -> TableName {
    TableName::new("shop", name)
}

/// A mend of two tables whose plans are being made.
fn assessing() -> Operation {
    let mend = |name: &str| TableMend {
        source: table(name),
        target: table(name),
        create: false,
        replace: false,
        has_parts: true,
        replica_path: None,
        restore_place: false,
        redefine: None,
        undo: None,
    };
    let request = Request::Mend(MendRequest {
        source: MendSource::Backup {
            collection: "shop".into(),
            link: ChainLink {
                backup_id: BackupId::new(0, BackupKind::Full).unwrap(),
                manifest_blake3: String::new(),
            },
            of_target: None,
            shard: None,
        },
        tables: vec![mend("orders"), mend("goods")],
        stopped: Vec::new(),
        unmatched: Vec::new(),
        different: Vec::new(),
        databases: std::collections::BTreeMap::new(),
        partitions: None,
        data: true,
        order: PartitionMethod::Auto,
        on_concurrent_insert: OnConcurrentInsert::Fail,
        keep_undo: None,
        check_table: false,
        check_kept: false,
        apply_mutations: false,
        holds: false,
        drill: None,
    });
    let steps = plan(&request, &[]).unwrap();
    let repository = ("id".to_owned(), "memory:".to_owned());
    let id = "mend-1".parse().unwrap();
    let mut operation = Operation::new(id, request, steps, repository, limits(), 0);
    operation.step(at(0), Event::Booted).unwrap();
    let task = |table_idx: u32, name: &str| NewTask {
        spec: TaskSpec::Mend {
            target: table(name),
            table_idx,
        },
        bytes_total: 0,
    };
    let tasks = vec![task(0, "orders"), task(1, "goods")];
    operation
        .step(at(0), Event::Allocated { step: 0, tasks })
        .unwrap();
    operation
}

fn report(operation: &Operation, shard_idx: u32, status: ReportStatus) -> Event {
    Event::Reported(Report {
        step: operation.current_step,
        shard_idx,
        attempt: operation.tasks[shard_idx as usize].attempt,
        status,
        last_key: None,
        rows: 0,
        bytes: 0,
        output: TaskOutput::None,
        segments_before: 0,
    })
}

fn fatal() -> ReportStatus {
    ReportStatus::Error {
        retriable: false,
        message: "a part is gone".into(),
    }
}

#[test]
fn a_table_that_fails_lets_the_others_finish_before_the_operation_fails() {
    let mut operation = assessing();
    let failed = report(&operation, 0, fatal());
    assert_eq!(operation.step(at(1), failed).unwrap().effects, []);
    assert!(!operation.state.is_terminal());
    assert_eq!(operation.tasks[0].status, TaskStatus::Failed);

    let done = report(&operation, 1, ReportStatus::Success);
    let effects = operation.step(at(2), done).unwrap().effects;
    assert_eq!(effects, [Effect::Finished]);
    assert_eq!(operation.state, State::Failed);
    let error = operation.head.error.unwrap();
    assert_eq!(error, "step assess: shop.orders: a part is gone");
}

#[test]
fn every_table_that_failed_is_named() {
    let mut operation = assessing();
    for shard_idx in [0, 1] {
        let failed = report(&operation, shard_idx, fatal());
        operation.step(at(1), failed).unwrap();
    }
    assert_eq!(operation.state, State::Failed);
    let error = operation.head.error.unwrap();
    assert!(
        error.contains("shop.orders") && error.contains("shop.goods"),
        "{error}"
    );
}

#[test]
fn a_resume_requests_only_the_table_that_failed() {
    let mut operation = assessing();
    for (shard_idx, status) in [(0, fatal()), (1, ReportStatus::Success)] {
        let event = report(&operation, shard_idx, status);
        operation.step(at(1), event).unwrap();
    }
    let effects = operation.step(at(9), RESUME).unwrap().effects;
    assert_eq!(effects, [Effect::Propose { shard_idx: 0 }]);
    let done = report(&operation, 0, ReportStatus::Success);
    let effects = operation.step(at(10), done).unwrap().effects;
    assert_eq!(effects, [Effect::Advance]);
}

#[test]
fn a_crash_forgets_no_failed_table() {
    let mut operation = assessing();
    let failed = report(&operation, 0, fatal());
    operation.step(at(1), failed).unwrap();
    operation.step(at(2), Event::Booted).unwrap();
    assert_eq!(operation.tasks[0].status, TaskStatus::Failed);
    let done = report(&operation, 1, ReportStatus::Success);
    operation.step(at(3), done).unwrap();
    assert_eq!(operation.state, State::Failed);
}

#[test]
fn a_cancel_after_a_failed_table_rolls_back() {
    let mut operation = assessing();
    let failed = report(&operation, 0, fatal());
    operation.step(at(1), failed).unwrap();
    operation.step(at(2), CANCEL).unwrap();
    let stopped = report(&operation, 1, ReportStatus::Stopped);
    let effects = operation.step(at(3), stopped).unwrap().effects;
    assert_eq!(effects, [Effect::Allocate]);
    assert_eq!(operation.step_kind(), StepKind::Rollback);
}
