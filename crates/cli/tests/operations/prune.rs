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
    place.fails(2, &["prune", "shop", "--keep-label", ""]);
    place.fails(2, &["prune", "shop", "--keep-label", "a,"]);
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

/// What was ordered and cut off is no part of another order.
#[test]
fn an_order_that_was_cut_off_is_carried_out_by_the_same_order_alone() {
    let (place, states) = five_backups();
    let strict = ["prune", "shop", "--keep-last", "1"];
    let left = stop_at(&place, "3", &strict);
    let all: Vec<String> = (0..5).map(label).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    for milder in [
        &["prune", "shop", "--keep-last", "9"][..],
        &["chain", "compact", "shop", "--to", "b1"],
        &["repository", "tidy"],
    ] {
        place.ok(milder);
        assert_eq!(place.unfinished(), [left.as_str()], "{milder:?}");
    }
    // One that needs the same backups is told who has them.
    for other in [
        &["prune", "shop", "--keep-last", "2"][..],
        &["delete", "b4"],
        &["chain", "compact", "shop"],
    ] {
        let said = place.fails(1, other);
        assert!(said.contains(&left), "{said}");
    }
    let dry = place.run(&["prune", "shop", "--keep-last", "3", "--dry-run"]);
    assert!(
        String::from_utf8_lossy(&dry.stderr).contains(&left),
        "{dry:?}"
    );
    check_points(&place, &states, &all);
    place.ok(&strict);
    check_points(&place, &states, &["b4"]);
}

#[test]
fn what_was_to_stay_and_is_gone_by_then_keeps_all_others() {
    let (place, _) = five_backups();
    place.ok(&["backup", "shop", "--label", "b5"]);
    let operation = stop_at(&place, "3", &["prune", "shop", "--keep-last", "1"]);
    let elsewhere = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        command.env("XDG_STATE_HOME", place.path("another-machine"));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    elsewhere(&["delete", "b5"]);
    let said = place.fails(1, &["operation", "watch", &operation]);
    assert!(said.contains("which was to stay, is gone"), "{said}");
    assert_eq!(place.json(&["list", "shop"]).as_array().unwrap().len(), 5);
    place.ok(&["operation", "cancel", &operation]);
}

#[test]
fn nothing_goes_while_a_backup_has_lost_its_manifest_that_others_stand_on() {
    let (place, _) = five_backups();
    let listed = place.json(&["list", "shop"]);
    let id = listed[2]["backup_id"].as_str().unwrap();
    let manifest = place.path(&format!("repository/collections/shop/{id}/manifest.json"));
    let kept = place.path("kept.json");
    std::fs::rename(&manifest, &kept).unwrap();
    for flags in [&[][..], &["--no-fold"], &["--dry-run"]] {
        let order = ["prune", "shop", "--keep-last", "1"];
        let said = place.fails(1, &[&order[..], flags].concat());
        assert!(said.contains("has no manifest"), "{said}");
    }
    std::fs::rename(&kept, &manifest).unwrap();
    place.ok(&["verify", "shop"]);
    assert_eq!(place.json(&["list", "shop"]), listed);
}

/// At whatever step a deletion was killed, giving it up keeps what was whole by then.
#[test]
fn a_deletion_that_is_given_up_removes_no_more() {
    let (place, _) = five_backups();
    let arguments = ["delete", "b0", "--cascade"];
    at_every_point(&place, &arguments, |place, point| {
        let before = place.json(&["list", "shop"]);
        if let [operation] = place.unfinished().as_slice() {
            place.run(&["operation", "cancel", operation]);
        }
        assert_eq!(
            place.json(&["list", "shop"]),
            before,
            "stopped at step {point}"
        );
        place.ok(&["repository", "tidy"]);
        let left = place.json(&["list", "shop"]);
        assert_eq!(left, before, "stopped at step {point}, and tidied up since");
        if !left.as_array().unwrap().is_empty() {
            place.ok(&["verify", "shop"]);
        }
    });
}

#[test]
fn work_on_a_repository_that_is_gone_can_be_abandoned_and_a_bad_journal_bothers_no_other() {
    let (place, _) = five_backups();
    let operation = stop_at(&place, "4", &["prune", "shop", "--keep-last", "1"]);
    let away = place.path("away");
    std::fs::rename(place.path("repository"), &away).unwrap();
    place.fails(1, &["operation", "cancel", &operation]);
    place.ok(&["operation", "abandon", &operation]);
    assert_eq!(place.unfinished(), [""; 0]);
    std::fs::rename(&away, place.path("repository")).unwrap();

    let other = place.path("state/mendb/repositories/other");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("journal.sqlite"), "garbage").unwrap();
    let listed = place.run(&["operation", "list"]);
    assert!(listed.status.success(), "{listed:?}");
    let said = String::from_utf8_lossy(&listed.stderr);
    assert!(said.contains("is not known"), "{said}");
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
fn what_writes_that_were_cut_off_have_left_goes_after_a_day_wherever_it_lies() {
    let (place, states) = five_backups();
    let left = [
        "lease.json#7",
        "mendb.json#8",
        "collections/shop/lost/parent.json#1",
    ];
    let left = left.map(|name| place.path(&format!("repository/{name}")));
    let young = place.path("repository/collections/shop/lost/0000-a-0.0000.parquet#3");
    std::fs::create_dir_all(young.parent().unwrap()).unwrap();
    std::fs::write(&young, "half").unwrap();
    for path in &left {
        std::fs::write(path, "half").unwrap();
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }
    place.ok(&["repository", "tidy"]);
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
    assert!(young.exists(), "somebody may be writing it");
    check_points(&place, &states, &["b0", "b1", "b2", "b3", "b4"]);
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
