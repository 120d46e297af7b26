//! Others that write and merge while a mend is planned and carried out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::damaged::{DATABASE, MEND, backed_up, contents, damage};
use crate::servers::Flavor;
use crate::world::World;

/// Rows of late inserts, told by their note.
const LATE: &str = "SELECT count() FROM shop.sales WHERE note = 'late'";

/// Says that it is over, also when a test fails: else the writer would write forever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `work` while somebody inserts a row at a time into a month, and returns how many were taken.
fn while_inserting(world: &World, day: &str, work: impl FnOnce()) -> u64 {
    let (over, inserted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                let sql = format!("INSERT INTO shop.sales SELECT toDate('{day}'), 1, 1, 'late'");
                world.server.query(&sql);
                inserted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let _over = Over(&over);
        while inserted.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        work();
    });
    inserted.load(Ordering::SeqCst)
}

/// The operation that has failed.
fn failed(world: &World) -> String {
    let operations = world.operations();
    let failed = operations
        .iter()
        .find(|operation| operation["state"] == "failed");
    failed.unwrap()["operation_id"].as_str().unwrap().to_owned()
}

fn late(world: &World) -> u64 {
    world.server.query(LATE).trim().parse().unwrap()
}

/// By default a table into which somebody inserts is left to them, and nothing that was inserted is lost.
fn inserts_stop_the_table(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    damage(&world);
    let inserted = while_inserting(&world, "2024-02-03", || {
        let said = world.fails(1, &MEND);
        assert!(
            said.contains("shop.sales") && said.contains("--on-concurrent-insert"),
            "{said}"
        );
    });
    assert_eq!(late(&world), inserted, "no insert is lost");
    let now = contents(&world);
    for table in ["goods", "stock"] {
        assert_eq!(now[table], whole[table], "the other tables were mended");
    }
    let id = failed(&world);
    world.ok(&["operation", "cancel", &id]);
    assert_eq!(late(&world), inserted, "no insert is lost by the cancel");
    world.ok(&MEND);
    assert_eq!(contents(&world), whole);
}

#[test]
fn a_table_into_which_somebody_inserts_is_stopped_and_loses_nothing_on_26_9() {
    inserts_stop_the_table(Flavor::Current);
}

#[test]
fn a_table_into_which_somebody_inserts_is_stopped_and_loses_nothing_on_18_16() {
    inserts_stop_the_table(Flavor::V18);
}

/// Late inserts are removed where that was asked for, and counted.
fn inserts_are_removed(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    damage(&world);
    let flags = ["--on-concurrent-insert", "remove", "--output", "json"];
    while_inserting(&world, "2024-02-03", || {
        // Somebody inserts faster than a partition is exchanged: it may be given up.
        drop(world.run(&[&MEND[..], &flags].concat()));
    });
    for operation in world.operations() {
        if operation["state"] == "failed" {
            let id = operation["operation_id"].as_str().unwrap();
            world.ok(&["operation", "resume", id]);
        }
    }
    world.ok(&MEND);
    assert_eq!(contents(&world), whole);
    assert_eq!(late(&world), 0);
}

#[test]
fn late_inserts_are_removed_where_that_is_asked_for_on_26_9() {
    inserts_are_removed(Flavor::Current);
}

#[test]
fn late_inserts_are_removed_where_that_is_asked_for_on_18_16() {
    inserts_are_removed(Flavor::V18);
}

/// Merges before, while and after a mend lose nothing, and need nothing.
fn merges_meanwhile(flavor: Flavor) {
    let world = backed_up(flavor);
    let whole = contents(&world);
    world.start_merges();
    for _ in 0..3 {
        damage(&world);
        world.start_merges();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    // Refused while merges are stopped: that is the mend's right.
                    drop(world.server.try_query("OPTIMIZE TABLE shop.goods"));
                    drop(world.server.try_query("OPTIMIZE TABLE shop.sales"));
                }
            });
            let _over = Over(&over);
            let mended = world.run(&MEND);
            assert!(
                mended.status.success(),
                "{}",
                String::from_utf8_lossy(&mended.stderr)
            );
        });
        assert_eq!(contents(&world), whole);
    }
}

#[test]
fn merges_that_run_meanwhile_lose_nothing_on_26_9() {
    merges_meanwhile(Flavor::Current);
}

#[test]
fn merges_that_run_meanwhile_lose_nothing_on_18_16() {
    merges_meanwhile(Flavor::V18);
}

/// Every backup that is taken while somebody inserts restores whole inserts.
fn backups_meanwhile(flavor: Flavor) {
    let world = backed_up(flavor);
    while_inserting(&world, "2024-05-05", || {
        for label in ["one", "two", "three"] {
            world.ok(&["backup", "shop", "--label", label]);
        }
    });
    let mut before = 0;
    for label in ["one", "two", "three"] {
        world.ok(&["restore", label, "--in-place"]);
        let rows = late(&world);
        assert!(rows >= before, "a later backup has what an earlier one has");
        before = rows;
        world.ok(&["restore", label, "--in-place"]);
        assert_eq!(late(&world), rows, "it has whole inserts");
    }
    assert!(!world.parts(DATABASE, "sales").is_empty());
}

#[test]
fn backups_that_are_taken_while_somebody_inserts_are_whole_on_26_9() {
    backups_meanwhile(Flavor::Current);
}

#[test]
fn backups_that_are_taken_while_somebody_inserts_are_whole_on_18_16() {
    backups_meanwhile(Flavor::V18);
}

#[test]
fn an_operation_in_the_way_is_named() {
    let world = backed_up(Flavor::V18);
    damage(&world);
    let mut command = world.command(&MEND);
    command.env("MENDB_CRASH_AT", "14").output().unwrap();
    let said = world.fails(1, &MEND);
    assert!(said.contains("mendb operation"), "{said}");
}
