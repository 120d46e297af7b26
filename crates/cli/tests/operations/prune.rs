//! Backups that rules keep, and work on a repository as operations: planned, paused, given up, gone on with.

use serde_json::Value;

use crate::compact::{check_points, compact, five_backups, label};
use crate::crash::at_every_point;
use crate::program::Place;

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record[field].as_str().unwrap()
}

/// The fate of each backup, by label.
fn fates(record: &Value) -> Vec<(&str, &str)> {
    let backups = record["backups"].as_array().unwrap().iter();
    backups
        .map(|backup| (text(backup, "label"), text(backup, "fate")))
        .collect()
}

const LAST_TWO: [&str; 4] = ["prune", "shop", "--keep-last", "2"];

#[test]
fn what_rules_keep_restores_as_before_and_the_rest_is_folded_or_gone() {
    let (place, states) = five_backups();
    let listed = place.json(&["list", "shop"]);
    let planned = place.json(&[&LAST_TWO[..], &["--dry-run"]].concat());
    let expected = [
        ("b0", "folded"),
        ("b1", "folded"),
        ("b2", "folded"),
        ("b3", "stays"),
        ("b4", "stays"),
    ];
    assert_eq!(fates(&planned), expected);
    assert_eq!(planned["operation_id"], Value::Null);
    assert_eq!(
        place.json(&["list", "shop"]),
        listed,
        "a dry run changes nothing"
    );

    let done = place.json(&LAST_TWO);
    assert_eq!(fates(&done), expected);
    let operation = done["operation_id"].as_str().unwrap();
    let shown = place.ok(&["operation", "show", operation]);
    assert!(
        shown.contains("kind       prune of collection shop"),
        "{shown}"
    );
    check_points(&place, &states, &["b3", "b4"]);
    let again = place.json(&LAST_TWO);
    assert_eq!(again["operation_id"], Value::Null, "nothing is left to do");
}

#[test]
fn labels_are_kept_and_what_stands_on_nothing_kept_is_removed() {
    let (place, states) = five_backups();
    place.ok(&["backup", "shop", "--label", "b5"]);
    let mut states = states;
    states.push(place.shop());
    let rules = ["prune", "shop", "--keep-label", "b1,b2,release-*"];
    let done = place.json(&rules);
    let expected = [
        ("b0", "folded"),
        ("b1", "stays"),
        ("b2", "stays"),
        ("b3", "removed"),
        ("b4", "removed"),
        ("b5", "stays"),
    ];
    assert_eq!(fates(&done), expected);
    check_points(&place, &states, &["b1", "b2", "b5"]);
}

#[test]
fn without_folding_what_others_stand_on_stays() {
    let (place, states) = five_backups();
    let done = place.json(&[
        "prune",
        "shop",
        "--keep-label",
        "b1",
        "--keep-last",
        "1",
        "--no-fold",
    ]);
    assert!(
        fates(&done).iter().all(|(_, fate)| *fate == "stays"),
        "{done}"
    );
    check_points(&place, &states, &["b0", "b1", "b2", "b3", "b4"]);
}

#[test]
fn a_prune_without_rules_or_of_nothing_is_refused() {
    let place = Place::new();
    place.fill_shop();
    place.fails(2, &["prune", "shop"]);
    place.fails(2, &["prune", "shop", "--keep-within", "soon"]);
    place.ok(&["backup", "shop"]);
    let said = place.fails(1, &["prune", "stall", "--keep-last", "1"]);
    assert!(said.contains("has no backup"), "{said}");
    let said = place.fails(2, &["prune", "shop", "--keep-last", "0"]);
    assert!(said.contains("which backups to keep"), "{said}");
}

/// Whatever step the process dies at, what stays can be restored to at once, and the same command, or the
/// operation, comes to its end.
#[test]
fn a_prune_can_be_stopped_anywhere() {
    let (place, states) = five_backups();
    let rules = ["prune", "shop", "--keep-label", "b1,b3"];
    // b4 is the newest, so it stays; b2 is folded into b3, b0 into b1.
    let kept = ["b1", "b3", "b4"];
    let points = at_every_point(&place, &rules, |place, point| {
        let stopped = place.copy();
        stopped.ok(&["verify", "shop"]);
        stopped.drop_shop();
        let to = ["b1", "b3", "b4"][(point % 3) as usize];
        stopped.ok(&["restore", "shop", "--to", to]);
        let backup: usize = to[1..].parse().unwrap();
        assert_eq!(stopped.shop(), states[backup], "stopped at step {point}");
        match place.unfinished().as_slice() {
            [operation] if point % 2 == 0 => {
                place.ok(&["operation", "watch", operation]);
            }
            _ => {}
        }
        place.ok(&rules);
        assert_eq!(place.unfinished(), [""; 0], "stopped at step {point}");
        check_points(place, &states, &kept);
    });
    assert!(points > 16, "only {points} persisted steps");
}

#[test]
fn a_deletion_can_be_stopped_anywhere() {
    let (place, states) = five_backups();
    let arguments = ["delete", "b2", "--cascade"];
    at_every_point(&place, &arguments, |place, point| {
        match place.unfinished().as_slice() {
            [operation] => {
                place.ok(&["operation", "watch", operation]);
            }
            _ => {
                place.run(&arguments);
            }
        }
        assert_eq!(place.unfinished(), [""; 0], "stopped at step {point}");
        check_points(place, &states, &["b0", "b1"]);
    });
}

/// Stops a command at a persisted step; the operation that it leaves.
fn stop_at(place: &Place, point: &str, arguments: &[&str]) -> String {
    let mut command = place.command(arguments);
    let stopped = command.env("MENDB_CRASH_AT", point).output().unwrap();
    assert_eq!(stopped.status.code(), None, "{stopped:?}");
    place.unfinished().remove(0)
}

#[test]
fn work_on_a_repository_is_paused_resumed_and_given_up_from_any_directory() {
    let (place, states) = five_backups();
    let operation = stop_at(&place, "9", &compact(&[]));
    let said = place.ok(&["operation", "pause", &operation]);
    assert!(said.contains("compact of shop: paused"), "{said}");
    let said = place.fails(1, &["operation", "watch", &operation]);
    assert!(said.contains("is paused"), "{said}");
    // Another order that needs the same backups is told who has them.
    let said = place.fails(1, &["delete", "b4"]);
    assert!(said.contains(&operation), "{said}");
    // A target has nothing to do with it.
    let elsewhere = place.path("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let list = |target: &std::path::Path| {
        let repository = format!("file://{}", place.path("repository").display());
        let mut command = place.command_at(target, &repository, &["operation", "list"]);
        command.env("XDG_STATE_HOME", place.path("state"));
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(list(&elsewhere.join("target")).contains(&operation));
    place.ok(&["operation", "resume", &operation]);
    check_points(&place, &states, &["b0", "b4"]);

    let (place, states) = five_backups();
    let segments = place.objects();
    let operation = stop_at(&place, "14", &compact(&[]));
    assert!(place.objects() > segments, "something was folded by then");
    let said = place.ok(&["operation", "cancel", &operation]);
    assert!(said.contains("compact of shop: cancelled"), "{said}");
    assert_eq!(place.objects(), segments, "nothing of it is left");
    place.ok(&["operation", "forget", &operation]);
    place.fails(1, &["operation", "show", &operation]);
    let all: Vec<String> = (0..5).map(label).collect();
    check_points(
        &place,
        &states,
        &all.iter().map(String::as_str).collect::<Vec<_>>(),
    );
}

#[test]
fn a_dry_run_of_a_deletion_says_what_would_go() {
    let (place, states) = five_backups();
    let planned = place.json(&["delete", "b3", "--cascade", "--dry-run"]);
    assert_eq!(planned["deleted"].as_array().unwrap().len(), 2);
    assert_eq!(planned["dry_run"], true);
    place.fails(1, &["delete", "b3", "--dry-run"]);
    check_points(&place, &states, &["b0", "b1", "b2", "b3", "b4"]);
}
