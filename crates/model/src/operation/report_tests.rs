//! Promises of reports that carry what is new, and of events that cost the same with many tasks.

use super::tests::{at, backup, report, tasks};
use super::*;
use crate::manifest::Segment;
use crate::name::TablePath;

fn segment(at: usize) -> Segment {
    serde_json::from_value(serde_json::json!({
        "object": format!("segment-{at}"),
        "bytes": 1,
        "blake3": "",
        "digest": "1:0000000000000000000000000000000a",
        "first_key": format!("{at:02x}"),
        "last_key": format!("{at:02x}"),
    }))
    .unwrap()
}

/// A backup that copies so many shards of one table, the first of which is at work.
fn copying(shards: u32) -> Operation {
    let mut operation = backup();
    let path = TablePath::table("orders");
    operation.step(at(0), Event::Booted).unwrap();
    let allocated = |step, tasks| Event::Allocated { step, tasks };
    operation.step(at(0), allocated(0, tasks(1))).unwrap();
    let mut cut = report(&operation, 0, ReportStatus::Success);
    if let Event::Reported(cut) = &mut cut {
        let range = crate::key::KeyRange::all();
        let shard = serde_json::json!({
            "range": range, "digest": "1:0000000000000000000000000000000a", "segments": [],
        });
        let draft = serde_json::json!({
            "format_version": 1, "tool_version": "", "collection": "shop",
            "backup_id": operation.request.row_backup().unwrap().backup_id,
            "operation_id": "backup-1", "parent": null, "snapshot_version": 1,
            "tables": [{
                "table": "orders",
                "schema": { "columns": [], "key": [], "version": 1 },
                "rows": { "schema_version": 1, "shards": vec![shard; shards as usize] },
                "indexes": [],
            }],
        });
        cut.output = TaskOutput::Draft(Box::new(serde_json::from_value(draft).unwrap()));
    }
    operation.step(at(0), cut).unwrap();
    operation.step(at(0), Event::Advance).unwrap();
    let copy = |shard| NewTask {
        spec: TaskSpec::Copy {
            path: path.clone(),
            shard,
            range: crate::key::KeyRange::all(),
            digest: None,
        },
        bytes_total: 10,
    };
    let copies = (0..shards).map(copy).collect();
    operation.step(at(0), allocated(1, copies)).unwrap();
    operation
}

/// A report of task 0 that names the segments from one on, and knows of those before.
fn segments(operation: &Operation, which: std::ops::Range<usize>, status: ReportStatus) -> Event {
    Event::Reported(Report {
        step: operation.current_step,
        shard_idx: 0,
        attempt: operation.tasks[0].attempt,
        status,
        last_key: Some(vec![which.end as u8]),
        rows: which.end as u64,
        bytes: which.end as u64,
        segments_before: which.start,
        output: TaskOutput::Segments(which.map(segment).collect()),
    })
}

fn names(segments: &[Segment]) -> Vec<&str> {
    segments.iter().map(|found| found.object.as_str()).collect()
}

#[test]
fn segments_are_kept_once_and_in_order_whether_their_reports_are_lost_late_or_doubled() {
    use ReportStatus::{InProgress, Success};
    let mut operation = copying(2);
    for (which, rows) in [(0..1, 1), (1..2, 2), (1..2, 2), (0..1, 2), (1..3, 3)] {
        let report = segments(&operation, which, InProgress);
        operation.step(at(1), report).unwrap();
        assert_eq!(operation.tasks[0].rows, rows);
    }
    let known = ["segment-0", "segment-1", "segment-2"];
    assert_eq!(names(operation.tasks[0].segments()), known);
    // The report of segment 3 is lost: what builds on it is no progress, but a sign of life.
    let report = segments(&operation, 4..5, InProgress);
    operation.step(at(7), report).unwrap();
    assert_eq!(names(operation.tasks[0].segments()), known);
    assert_eq!(operation.tasks[0].last_key, Some(vec![3]));
    assert_eq!(operation.tasks[0].last_heard_ms, 7);
    // The last one names all of its attempt.
    let report = segments(&operation, 0..6, Success);
    operation.step(at(8), report).unwrap();
    assert_eq!(operation.tasks[0].status, TaskStatus::Done);
    let draft = operation.draft.as_ref().unwrap();
    let sealed = names(&draft.tables[0].rows.shards_here().unwrap()[0].segments);
    let all = (0..6).map(|at| format!("segment-{at}"));
    assert_eq!(sealed, all.collect::<Vec<_>>());
}

#[test]
fn a_task_is_not_done_when_a_segment_of_it_was_never_named() {
    let mut operation = copying(1);
    let report = segments(&operation, 1..2, ReportStatus::Success);
    operation.step(at(1), report).unwrap();
    assert_eq!(operation.tasks[0].status, TaskStatus::Pending);
    assert_eq!(operation.tasks[0].segments(), []);
}

#[test]
fn an_event_of_one_task_touches_no_other_whatever_the_number_of_tasks() {
    let touched = |shards| {
        let mut operation = copying(shards);
        let report = segments(&operation, 0..1, ReportStatus::InProgress);
        let progress = operation.step(at(1), report).unwrap().touched;
        let report = segments(&operation, 0..2, ReportStatus::Success);
        let done = operation.step(at(2), report).unwrap().touched;
        (progress, done)
    };
    let (progress, done) = touched(5000);
    assert_eq!((progress.clone(), done.clone()), touched(4));
    assert_eq!(progress.tasks.into_iter().collect::<Vec<_>>(), [(0, 0)]);
    // The next is requested at once.
    assert_eq!(done.tasks.into_iter().collect::<Vec<_>>(), [(0, 1), (2, 0)]);
    let shard = (TablePath::table("orders"), 0);
    assert_eq!(done.draft, TouchedDraft::Shards(vec![shard]));
}
