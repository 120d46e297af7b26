//! The journal is lost while an operation is open: what the target holds for it is shown and released.

use crate::mendb::Mendb;

/// A table of `rows` rows with a backup labelled `one`, all of whose rows have changed since.
fn world() -> Mendb {
    let mendb = Mendb::new();
    let rows = |value: &str| -> String {
        let row = |id: u32| format!("{{\"id\":{id},\"v\":\"{value}{id}\"}}\n");
        (0..2000).map(row).collect()
    };
    mendb.write("a.jsonl", &rows("a"));
    mendb.write("b.jsonl", &rows("b"));
    mendb.ok("table import t a.jsonl --create --key id --shards 2 --quiet");
    mendb.ok("collection create c --table t");
    mendb.ok("backup c --label one");
    mendb.ok("table import t b.jsonl --quiet");
    mendb
}

/// Ends a command as a power cut would at its n-th persisted step; whether it came that far.
fn crash(mendb: &Mendb, line: &str, at: u32) -> bool {
    let mut command = mendb.command(line);
    let child = command
        .env("MENDB_CRASH_AT", at.to_string())
        .spawn()
        .unwrap();
    !child.wait_with_output().unwrap().status.success()
}

fn lose_journal(mendb: &Mendb, how: &str) {
    let journal = mendb.path().join("mendb-data/target/journal.sqlite");
    for end in ["", "-wal", "-shm"] {
        let file = journal.with_file_name(format!("journal.sqlite{end}"));
        match how {
            "emptied" if end.is_empty() => std::fs::write(&file, "").unwrap(),
            _ => drop(std::fs::remove_file(&file)),
        }
    }
}

fn orphans(mendb: &Mendb) -> Vec<serde_json::Value> {
    let listed = mendb.json("operation list");
    let listed = listed.as_array().unwrap().iter();
    let orphaned = listed.filter(|operation| operation["state"] == "orphaned");
    orphaned.cloned().collect()
}

/// Loses the journal at many steps of a command, takes the way out each time, and returns how often there
/// was something to take.
fn each_step(line: &str, kind: &str, prepare: &[&str], check: impl Fn(&Mendb)) -> u32 {
    let mut taken = 0;
    for (at, how) in (1..200)
        .step_by(3)
        .zip(["removed", "emptied"].into_iter().cycle())
    {
        let mendb = world();
        for line in prepare {
            mendb.ok(line);
        }
        if !crash(&mendb, line, at) {
            break;
        }
        lose_journal(&mendb, how);
        for orphan in orphans(&mendb) {
            let id = orphan["operation_id"].as_str().unwrap();
            assert_eq!(orphan["kind"], kind, "{orphan}");
            assert_eq!(orphan["held_tables"], serde_json::json!(["t"]));
            for command in ["watch", "cancel", "resume", "show"] {
                let said = mendb.fails(1, &format!("operation {command} {id}"));
                assert!(
                    said.contains(&format!("mendb operation abandon {id}")),
                    "{said}"
                );
            }
            mendb.ok(&format!("operation abandon {id}"));
            taken += 1;
        }
        assert_eq!(orphans(&mendb), [] as [serde_json::Value; 0]);
        check(&mendb);
    }
    taken
}

#[test]
fn a_mend_that_no_journal_knows_is_shown_and_abandoned_wherever_it_was() {
    let taken = each_step("restore c --in-place --to one", "mend", &[], |mendb| {
        mendb.ok("table import t b.jsonl --quiet");
        mendb.ok("verify t");
        mendb.ok("collection create c --table t");
        mendb.ok("backup c");
        mendb.ok("table drop t");
    });
    assert!(taken > 2, "{taken}");
}

#[test]
fn a_restore_that_no_journal_knows_is_shown_and_abandoned_wherever_it_was() {
    let taken = each_step(
        "restore c --to one",
        "restore",
        &["table drop t"],
        |mendb| {
            if !mendb.ok("table list").contains("2,000") {
                mendb.ok("restore c --to one");
            }
            mendb.ok("verify t");
        },
    );
    assert!(taken > 1, "{taken}");
}

#[test]
fn a_backup_that_no_journal_knows_is_shown_and_abandoned_wherever_it_was() {
    let taken = each_step("backup c", "backup", &[], |mendb| {
        mendb.ok("collection create c --table t");
        mendb.ok("backup c");
        mendb.ok("table import t a.jsonl --quiet");
        mendb.ok("backup c --incremental");
        mendb.ok("verify c --live");
    });
    assert!(taken > 1, "{taken}");
}

#[test]
fn who_is_refused_by_an_operation_that_no_journal_knows_is_told_the_way_out() {
    for at in 1..200 {
        let mendb = world();
        assert!(crash(&mendb, "restore c --in-place --to one", at));
        lose_journal(&mendb, "removed");
        let Some(orphan) = orphans(&mendb).pop() else {
            continue;
        };
        let id = orphan["operation_id"].as_str().unwrap();
        let said = mendb.fails(1, "table drop t");
        assert!(
            said.contains(&format!("mendb operation abandon {id}")),
            "{said}"
        );
        let listed = mendb.ok("operation list");
        assert!(
            listed.contains("orphaned") && listed.contains(id),
            "{listed}"
        );
        mendb.fails(1, "operation abandon mend-1");
        return;
    }
    panic!("the mend locked nothing");
}

#[test]
fn a_journal_that_is_none_any_more_is_said_with_the_way_out() {
    let mendb = world();
    lose_journal(&mendb, "removed");
    let journal = mendb.path().join("mendb-data/target/journal.sqlite");
    std::fs::write(
        &journal,
        "not a database, but long enough to be looked at".repeat(100),
    )
    .unwrap();
    let said = mendb.fails(1, "operation list");
    assert!(said.contains("move it away"), "{said}");
    std::fs::remove_file(&journal).unwrap();
    mendb.ok("operation list");
}

#[test]
fn who_lists_operations_again_and_again_stands_in_nobodys_way() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let mendb = world();
    let is_over = AtomicBool::new(false);
    let lists = std::thread::scope(|scope| {
        let lister = scope.spawn(|| {
            let mut lists = 0;
            while !is_over.load(Ordering::Relaxed) {
                mendb.ok("operation list --output json");
                lists += 1;
            }
            lists
        });
        let imports: Vec<_> = (0..20)
            .map(|_| mendb.run("table import t a.jsonl --quiet"))
            .collect();
        is_over.store(true, Ordering::Relaxed);
        for import in imports {
            assert_eq!(import.code, 0, "{}", import.stderr);
        }
        lister.join().unwrap()
    });
    assert!(lists > 2, "it listed {lists} times");
}
