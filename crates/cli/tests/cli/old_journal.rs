//! A journal that an older version wrote, of layout 5, in `fixtures/journal-5` with its target and its repository:
//! a mend of `flights` that was killed in its last step, with what it did to each range, and a backup of `trains`
//! that was killed while it copied, with the segments of two shards, and then paused. Written by mendb at commit
//! 26707d6, which ended both as is tested here. Their deadlines, a day after they began, were moved to the year 2100
//! afterwards.

use serde_json::Value;

use crate::mendb::Mendb;

const MEND: &str = "mend-20261129152702-492485";
const BACKUP: &str = "backup-20261129151407-cf323e";

/// What the digests of table and index were when the wanted backup was taken.
const MENDED: [&str; 2] = [
    "40:ac3f6a6c3126ccd51033b05b95052945",
    "40:9ea221df4bf118fd6663a556df5066a2",
];
const BACKED_UP: [&str; 2] = [
    "41:3d225594ed117bd02a25f1d0bd6e28b8",
    "41:6a64ee36c0018d80debf4a30a287c4e6",
];

fn world() -> Mendb {
    let mendb = Mendb::new()
        .with("MENDB_TARGET", "mendb:target")
        .with("MENDB_REPOSITORY", "repository");
    mendb.bring("journal-5/target", "target");
    mendb.bring("journal-5/repository", "repository");
    // It was empty, and git does not keep such.
    std::fs::create_dir_all(mendb.path().join("target/rows/shards")).unwrap();
    mendb
}

fn has_digests(mendb: &Mendb, table: &str, expected: [&str; 2]) {
    let digests = mendb.ok(&format!("table digest {table}"));
    assert!(
        expected.iter().all(|digest| digests.contains(digest)),
        "{digests}"
    );
}

#[test]
fn operations_in_a_journal_of_the_layout_before_are_listed_as_they_were() {
    let mendb = world();
    let listed = mendb.json("operation list");
    let told = |of: &Value| {
        let text = |name: &str| of[name].as_str().unwrap().to_owned();
        let number = |name: &str| of[name].as_u64().unwrap();
        let numbers = [
            number("shards_done"),
            number("shards_total"),
            number("rows_done"),
        ];
        (text("operation_id"), text("state"), text("step"), numbers)
    };
    let listed: Vec<_> = listed.as_array().unwrap().iter().map(told).collect();
    let expected = [
        (
            "backup-20261129151407-dac88d",
            "done",
            "release",
            [1, 1, 80],
        ),
        (
            "backup-20261129151407-6ea788",
            "done",
            "release",
            [1, 1, 80],
        ),
        (BACKUP, "proposing", "copy", [2, 8, 20]),
        (MEND, "waiting", "finish", [0, 1, 15]),
    ];
    let expected = expected.map(|(id, state, step, numbers)| {
        (id.to_owned(), state.to_owned(), step.to_owned(), numbers)
    });
    assert_eq!(listed, expected);
    let shown = mendb.json(&format!("operation show {BACKUP}"));
    assert_eq!(shown["paused"], true);
    let statuses = shown["shards"].as_array().unwrap().iter();
    let done = statuses.filter(|shard| shard["status"] == "done").count();
    assert_eq!(done, 3, "the cut and two shards");
}

#[test]
fn a_mend_under_way_in_a_journal_of_the_layout_before_goes_on_to_its_end() {
    let mendb = world();
    let report = mendb.json(&format!("operation watch {MEND}"));
    assert_eq!(report["state"], "done");
    let rows =
        |of: &Value| ["read", "upserted", "erased"].map(|name| of["rows"][name].as_u64().unwrap());
    let ranges = report["ranges"].as_array().unwrap();
    let ranges: Vec<_> = ranges.iter().map(rows).collect();
    assert_eq!(ranges, [[2, 2, 0], [0, 0, 0], [1, 1, 0], [1, 0, 1]]);
    assert_eq!(report["total"]["read"], 4);
    has_digests(&mendb, "flights", MENDED);
    mendb.ok("verify c_flights");
    // It is an estimate for the next, and can be taken back.
    mendb.ok(&format!("undo {MEND}"));
    mendb.ok("operation list");
}

#[test]
fn a_paused_backup_in_a_journal_of_the_layout_before_goes_on_to_its_end() {
    let mendb = world();
    mendb.ok(&format!("operation resume {BACKUP}"));
    let listed = mendb.json("list c_trains");
    let labels = listed.as_array().unwrap().iter();
    let labels: Vec<&str> = labels
        .map(|backup| backup["label"].as_str().unwrap())
        .collect();
    assert_eq!(labels, ["one", "two"]);
    mendb.ok("verify c_trains");
    mendb.ok("table drop trains");
    mendb.ok("restore c_trains");
    has_digests(&mendb, "trains", BACKED_UP);
}

#[test]
fn increments_of_changes_that_a_store_of_the_format_before_logged_are_proved_and_sealed() {
    let mendb = world();
    // The older mendb staged what this publishes, and did not say what that replaced.
    mendb.ok(&format!("operation watch {MEND}"));
    mendb.ok("backup c_flights --incremental --label raised");
    mendb.ok("backup c_flights --incremental --label after");
    let proof = mendb.json("verify c_flights --fold");
    let backups = proof["backups"].as_array().unwrap();
    assert_eq!(backups.len(), 4, "{proof}");
    for backup in backups {
        assert!(backup.get("unproved").is_none(), "{backup}");
    }
    mendb.ok("table drop flights");
    mendb.ok("restore c_flights --to raised");
    has_digests(&mendb, "flights", MENDED);
}
