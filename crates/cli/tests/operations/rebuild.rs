//! Shards of which much differs are rebuilt by mends through the program: every persisted step, cancelled, undone.

use serde_json::Value;

use crate::crash::at_every_point;
use crate::program::Place;

const MEND: [&str; 5] = ["restore", "c", "--in-place", "--to", "good"];
/// The second of two shards begins here.
const SPLIT: u64 = 1_300;
const ROWS: u64 = 2_600;

fn lines(ids: impl Iterator<Item = u64>, round: u64) -> String {
    let line = |id| {
        format!(
            "{{\"id\":{id},\"n\":{},\"text\":\"round {round}\"}}\n",
            (id + round) % 7
        )
    };
    ids.map(line).collect()
}

/// Rows of a table with an index.
fn shown(place: &Place) -> [String; 2] {
    let export = |more: &[&str]| {
        let export = ["table", "export", "t", "--format", "jsonl"];
        place.ok(&[&export, more].concat())
    };
    [export(&[]), export(&["--index", "by_n"])]
}

/// A table in two shards with a full backup, `good`, and an increment; then most rows of the first shard are damaged,
/// and few of the second.
fn damaged() -> (Place, [String; 2], [String; 2]) {
    let place = Place::new();
    let file = place.write("t.jsonl", &lines(0..ROWS, 0));
    let split = SPLIT.to_string();
    place.ok(&[
        "table",
        "import",
        "t",
        &file,
        "--create",
        "--key",
        "id",
        "--split-at",
        &split,
        "--index",
        "by_n=n",
    ]);
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "good"]);
    let good = shown(&place);
    place.import("t", "upsert", &lines((0..ROWS).step_by(300), 1));
    place.ok(&["backup", "c", "--incremental"]);
    place.import("t", "upsert", &lines(100..SPLIT + 10, 2));
    place.import("t", "erase", &lines(300..320, 2));
    place.import("t", "upsert", &lines(ROWS..ROWS + 15, 2));
    let damaged = shown(&place);
    (place, good, damaged)
}

/// The methods of the ranges of a plan or a report, by their tables.
fn methods(ranges: &Value, table: impl Fn(&Value) -> String) -> Vec<(String, String)> {
    let ranges = ranges.as_array().unwrap().iter();
    let methods = ranges.map(|range| {
        let road = range["road"]["road"].as_str().unwrap().to_owned();
        (table(range), road)
    });
    methods.collect()
}

fn rebuilt_first(index: &str) -> Vec<(String, String)> {
    let method = |table: &str, method: &str| (table.to_owned(), method.to_owned());
    vec![
        method("t", "rebuild"),
        method("t", "rows"),
        method(index, "rebuild"),
    ]
}

/// The chain goes on: it takes another increment, which is proved, and restores to its points.
fn chain_goes_on(place: &Place, good: &[String; 2]) {
    place.import("t", "upsert", &lines((5..ROWS).step_by(100), 3));
    place.ok(&["backup", "c", "--incremental"]);
    place.ok(&["verify", "c", "--live"]);
    let now = shown(place);
    place.ok(&["table", "drop", "t"]);
    place.ok(&["restore", "c"]);
    assert_eq!(shown(place), now);
    place.ok(&["table", "drop", "t"]);
    place.ok(&["restore", "c", "--to", "good"]);
    assert_eq!(&shown(place), good);
}

#[test]
fn a_plan_and_the_report_tell_which_road_each_shard_takes_and_why() {
    let (place, good, damaged) = damaged();
    let plan = place.json(&[&MEND[..], &["--dry-run"]].concat());
    let of_plan = |range: &Value| range["table"].as_str().unwrap().to_owned();
    assert_eq!(
        methods(&plan["shards"], of_plan),
        rebuilt_first("t/by_n"),
        "{plan:#}"
    );
    let why = &plan["shards"][0]["road"];
    assert_eq!((&why["keys"], &why["of"]), (&1205.into(), &SPLIT.into()));
    let text = place.ok(&[&MEND[..], &["--dry-run"]].concat());
    assert!(
        text.contains("rebuild: 1,205 of 1,300 keys differ or may"),
        "{text}"
    );
    assert!(
        text.contains("rows: 29 of 1,315 keys differ or may"),
        "{text}"
    );

    let report = place.json(&MEND);
    let of_report = |range: &Value| range["path"].as_str().unwrap().to_owned();
    assert_eq!(
        methods(&report["ranges"], of_report),
        rebuilt_first("t/by_n"),
        "{report:#}"
    );
    assert_eq!(report["tables"][0]["rebuilt"], 2);
    for count in ["read", "upserted", "erased", "kept", "written_bytes"] {
        assert_eq!(
            report["total"][count], plan["total"][count],
            "{count}: {report:#}"
        );
    }
    assert_eq!(shown(&place), good);
    place.ok(&["verify", "t"]);

    // It is taken back by the same methods, and that is taken back too.
    let operation = report["operation_id"].as_str().unwrap();
    let undone = place.json(&["undo", operation]);
    assert_eq!(undone["tables"][0]["rebuilt"], 2, "{undone:#}");
    assert_eq!(shown(&place), damaged);
    let operation = undone["operation_id"].as_str().unwrap();
    place.ok(&["undo", operation]);
    assert_eq!(shown(&place), good);
    chain_goes_on(&place, &good);
}

#[test]
fn a_saved_plan_is_carried_out_on_its_roads() {
    let (place, good, _) = damaged();
    let file = place.path("plan.json");
    let file = file.to_str().unwrap();
    place.ok(&[&MEND[..], &["--plan", file]].concat());
    let report = place.json(&["restore", "--plan", file]);
    assert_eq!(report["tables"][0]["rebuilt"], 2, "{report:#}");
    assert_eq!(report["planned"]["upserted"], report["total"]["upserted"]);
    assert_eq!(shown(&place), good);
}

#[test]
fn a_mend_that_rebuilds_stopped_at_any_step_is_finished_by_the_next_process() {
    let (place, good, damaged) = damaged();
    let points = at_every_point(&place, &MEND, |place, point| {
        let now = shown(place);
        assert!(
            now == good || now == damaged,
            "a mixture, stopped at step {point}"
        );
        match place.unfinished().as_slice() {
            [] => {
                place.ok(&MEND);
            }
            [operation] => {
                place.ok(&["operation", "watch", operation]);
            }
            more => panic!("one operation at most: {more:?}"),
        }
        assert_eq!(shown(place), good, "stopped at step {point}");
        place.ok(&["verify", "t"]);
        if point.is_multiple_of(8) {
            chain_goes_on(place, &good);
        }
    });
    assert!(points > 30, "only {points} persisted steps");
}

#[test]
fn a_mend_that_rebuilds_and_stops_anywhere_is_cancelled_without_a_trace() {
    let (place, good, damaged) = damaged();
    let shards = |place: &Place| {
        std::fs::read_dir(place.path("target/rows/shards"))
            .unwrap()
            .count()
    };
    let before = shards(&place);
    at_every_point(&place, &MEND, |place, point| {
        let Some(operation) = place.unfinished().pop() else {
            return;
        };
        let cancelled = place.run(&["operation", "cancel", &operation]);
        if !cancelled.status.success() {
            // Too late: readers may have seen it.
            place.ok(&["operation", "watch", &operation]);
            assert_eq!(shown(place), good, "stopped at step {point}");
            return;
        }
        assert_eq!(shown(place), damaged, "stopped at step {point}");
        assert_eq!(shards(place), before, "stopped at step {point}");
        place.import("t", "upsert", &lines(1..2, 9));
        place.ok(&["backup", "c", "--incremental"]);
        place.ok(&["verify", "c", "--live"]);
    });
}

#[test]
fn where_changes_are_not_known_shards_whose_digests_differ_are_rebuilt() {
    let (place, good, _) = damaged();
    // Another chain: changes since the first are not known any more.
    place.ok(&["backup", "c"]);
    let report = place.json(&MEND);
    assert_eq!(report["tables"][0]["rebuilt"], 3, "{report:#}");
    assert_eq!(shown(&place), good);
    chain_goes_on(&place, &good);
}

#[test]
fn the_state_before_is_a_full_backup_where_most_of_many_rows_have_changed() {
    let place = Place::new();
    let text = "x".repeat(4_000);
    let lines = |round: u64| -> String {
        let line = |id| format!("{{\"id\":{id},\"text\":\"{round} {text}\"}}\n");
        (0..3_000).map(line).collect()
    };
    let file = place.write("t.jsonl", &lines(0));
    place.ok(&[
        "table",
        "import",
        "t",
        &file,
        "--create",
        "--key",
        "id",
        "--index",
        "by_text=id+text",
    ]);
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "good"]);
    let rows = || place.ok(&["table", "export", "t", "--format", "jsonl"]);
    let good = rows();
    place.import("t", "upsert", &lines(1));
    let damaged = rows();
    let plan = place.json(&[&MEND[..], &["--dry-run"]].concat());
    assert_eq!(plan["before"], "full", "{plan:#}");
    let report = place.json(&MEND);
    assert_eq!(report["tables"][0]["rebuilt"], 2, "{report:#}");
    assert_eq!(rows(), good);
    place.ok(&["undo", report["operation_id"].as_str().unwrap()]);
    assert_eq!(rows(), damaged);
    place.ok(&["backup", "c", "--incremental"]);
    place.ok(&["verify", "c", "--live"]);
}
