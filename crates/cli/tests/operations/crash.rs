//! A process that stops at every single persisted step, and the one that comes after it.

use crate::program::Place;

/// No operation of these tests has so many persisted steps: the enumeration must end by itself.
const MOST_POINTS: u64 = 400;

/// Runs a command in copies of a place, stopping it at its first persisted step, its second, and so
/// on until it is no longer stopped. `check` sees each copy after the stop.
pub fn at_every_point(place: &Place, arguments: &[&str], check: impl Fn(&Place, u64)) -> u64 {
    for point in 1..MOST_POINTS {
        let copy = place.copy();
        let mut command = copy.command(arguments);
        let output = command
            .env("MENDB_CRASH_AT", point.to_string())
            .output()
            .unwrap();
        if output.status.success() {
            check(&copy, point);
            return point - 1;
        }
        assert_eq!(
            output.status.code(),
            None,
            "it was stopped, it did not fail: {output:?}"
        );
        check(&copy, point);
    }
    panic!("mendb {arguments:?} has more than {MOST_POINTS} persisted steps");
}

/// Lets the next process finish what the one before began, or begin it if nothing was persisted.
fn finish(place: &Place, arguments: &[&str]) {
    match place.unfinished().as_slice() {
        [] if place
            .json(&["operation", "list"])
            .as_array()
            .unwrap()
            .iter()
            .all(|o| o["kind"] != kind(arguments)) =>
        {
            place.ok(arguments);
        }
        [] => {}
        [operation] => {
            place.ok(&["operation", "watch", operation]);
        }
        more => panic!("one operation at most: {more:?}"),
    }
}

fn kind(arguments: &[&str]) -> &'static str {
    match arguments {
        ["restore", ..] => "restore",
        [.., "--incremental"] => "incremental_backup",
        _ => "full_backup",
    }
}

/// The newest backup is whole and holds what is live, which a restore beside it proves.
fn newest_backup_is_good(place: &Place, point: u64) {
    place.ok(&["verify", "shop", "--live"]);
    let rename = "orders=orders2,customers=customers2";
    place.ok(&["restore", "shop", "--rename", rename]);
    place.ok(&["verify", "shop", "--live", "--rename", rename]);
    let copy = place.ok(&["table", "export", "orders2", "--format", "jsonl"]);
    assert_eq!(
        copy,
        place.ok(&["table", "export", "orders", "--format", "jsonl"]),
        "stopped at step {point}"
    );
}

#[test]
fn a_full_backup_stopped_at_any_step_is_finished_by_the_next_process() {
    let place = Place::new();
    place.fill_shop();
    let points = at_every_point(&place, &["backup", "shop"], |place, point| {
        finish(place, &["backup", "shop"]);
        assert_eq!(
            place.json(&["list", "shop"]).as_array().unwrap().len(),
            1,
            "stopped at step {point}"
        );
        newest_backup_is_good(place, point);
        place.edit_shop(1);
        place.ok(&["backup", "shop", "--incremental"]);
        place.ok(&["verify", "shop", "--live"]);
    });
    assert!(points > 20, "only {points} persisted steps");
}

#[test]
fn an_increment_stopped_at_any_step_is_finished_by_the_next_process() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    place.edit_shop(1);
    let points = at_every_point(
        &place,
        &["backup", "shop", "--incremental"],
        |place, point| {
            finish(place, &["backup", "shop", "--incremental"]);
            assert_eq!(
                place.json(&["list", "shop"]).as_array().unwrap().len(),
                2,
                "stopped at step {point}"
            );
            newest_backup_is_good(place, point);
        },
    );
    assert!(points > 20, "only {points} persisted steps");
}

#[test]
fn a_restore_stopped_at_any_step_is_finished_by_the_next_process() {
    restore_at_every_point(&["restore", "shop"], 30);
}

#[test]
fn a_merged_restore_stopped_at_any_step_is_finished_by_the_next_process() {
    restore_at_every_point(&["restore", "shop", "--strategy", "merged"], 25);
}

/// Stops the restore of a chain, which has more than so many persisted steps.
fn restore_at_every_point(arguments: &[&str], more_than: u64) {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    place.edit_shop(1);
    place.ok(&["backup", "shop", "--incremental"]);
    let before = place.shop();
    place.drop_shop();
    let points = at_every_point(&place, arguments, |place, point| {
        finish(place, arguments);
        place.ok(&["verify", "shop", "--live"]);
        assert_eq!(place.shop(), before, "stopped at step {point}");
    });
    assert!(points > more_than, "only {points} persisted steps");
}

#[test]
fn a_cancel_stopped_at_any_step_still_leaves_no_table() {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop"]);
    place.drop_shop();
    // Stopped in the middle of the load.
    let stopped = place
        .command(&["restore", "shop"])
        .env("MENDB_CRASH_AT", "16")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), None);
    let operation = place.unfinished().remove(0);
    let points = at_every_point(
        &place,
        &["operation", "cancel", &operation],
        |place, point| {
            // The command was persisted before the first of these steps: nobody has to repeat it.
            place.run(&["operation", "watch", &operation]);
            let tables = place.json(&["table", "list"]);
            assert_eq!(
                tables.as_array().unwrap().len(),
                0,
                "stopped at step {point}: {tables}"
            );
        },
    );
    assert!(points > 5, "only {points} persisted steps");
}
