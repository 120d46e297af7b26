//! Chains that are made shorter: every restore point that stays is what it was, and the chain goes on.

use serde_json::Value;

use crate::crash::at_every_point;
use crate::program::Place;

/// Every row of the shop at a backup.
pub type State = [String; 3];

/// A shop with a full backup b0 and increments b1 to b4, and what it held at each. What is live is b4.
pub fn five_backups() -> (Place, Vec<State>) {
    let place = Place::new();
    place.fill_shop();
    place.ok(&["backup", "shop", "--label", "b0"]);
    let mut states = vec![place.shop()];
    for round in 1..=4 {
        place.edit_shop(round);
        place.ok(&["backup", "shop", "--incremental", "--label", &label(round)]);
        states.push(place.shop());
    }
    (place, states)
}

pub fn label(backup: i64) -> String {
    format!("b{backup}")
}

fn labels(points: &Value) -> Vec<&str> {
    let points = points.as_array().unwrap().iter();
    points
        .map(|point| point["label"].as_str().unwrap())
        .collect()
}

pub fn compact<'a>(flags: &[&'a str]) -> Vec<&'a str> {
    [&["chain", "compact", "shop"], flags].concat()
}

/// That these backups, and no others, are there, are whole, and restore to what they were.
pub fn check_points(place: &Place, states: &[State], kept: &[&str]) {
    assert_eq!(labels(&place.json(&["list", "shop"])), kept);
    place.ok(&["verify", "shop"]);
    for (at, label) in kept.iter().enumerate() {
        let backup: usize = label[1..].parse().unwrap();
        place.drop_shop();
        let strategy = ["sequential", "merged"][at % 2];
        place.ok(&["restore", "shop", "--to", label, "--strategy", strategy]);
        assert_eq!(place.shop(), states[backup], "{label}, {strategy}");
    }
}

/// The operation of the newest mend.
fn newest_mend(place: &Place) -> String {
    let operations = place.json(&["operation", "list"]);
    let operations = operations.as_array().unwrap().iter();
    let mends = operations.filter(|operation| operation["kind"] == "mend");
    let ids = mends.map(|mend| mend["operation_id"].as_str().unwrap().to_owned());
    ids.max().unwrap()
}

#[test]
fn what_stays_of_a_folded_chain_restores_and_mends_and_takes_increments_and_deletes() {
    let (all, states) = five_backups();
    for (flags, gone, kept) in [
        (&[][..], &["b1", "b2", "b3"][..], &["b0", "b4"][..]),
        (&["--to", "b2"], &["b1"], &["b0", "b2", "b3", "b4"]),
        (
            &["--from", "b2", "--to", "b3"],
            &["b2"],
            &["b0", "b1", "b3", "b4"],
        ),
        (&["--full"], &["b0", "b1", "b2", "b3"], &["b4"]),
        (
            &["--full", "--to", "b2"],
            &["b0", "b1"],
            &["b2", "b3", "b4"],
        ),
    ] {
        let (place, mut states) = (all.copy(), states.clone());
        let listed = place.json(&["list", "shop"]);
        let planned = place.json(&[&compact(flags)[..], &["--dry-run"]].concat());
        assert_eq!(labels(&planned["gone"]), gone, "{flags:?}");
        assert_eq!(labels(&planned["stays"]), kept, "{flags:?}");
        assert_eq!(planned["bytes_after"], Value::Null);
        assert_eq!(
            place.json(&["list", "shop"]),
            listed,
            "a dry run changes nothing"
        );

        let done = place.json(&compact(flags));
        assert_eq!(labels(&done["gone"]), gone, "{flags:?}");
        assert_eq!(done["bytes_before"], planned["bytes_before"]);
        let [before, after] =
            ["bytes_before", "bytes_after"].map(|field| done[field].as_u64().unwrap());
        assert!(after < before, "{flags:?}: {before} bytes, then {after}");
        let last = flags.last().filter(|last| last.starts_with('b'));
        let shown = place.json(&["list", "shop"]);
        let folded = shown.as_array().unwrap().iter();
        let mut folded = folded.filter(|backup| backup["label"] == **last.unwrap_or(&"b4"));
        let full = flags.contains(&"--full");
        let kind = if full { "full" } else { "incremental" };
        assert_eq!(folded.next().unwrap()["kind"], kind, "{flags:?}");
        let shown = place.ok(&["show", last.unwrap_or(&"b4")]);
        assert!(shown.contains("\nfolded from "), "{shown}");
        place.ok(&["verify", "shop", "--live"]);

        // The live tables know nothing of it.
        place.edit_shop(5);
        place.ok(&["backup", "shop", "--incremental", "--label", "b5"]);
        states.push(place.shop());
        place.ok(&["restore", "shop", "--in-place", "--to", kept[0]]);
        let backup: usize = kept[0][1..].parse().unwrap();
        assert_eq!(
            place.shop(),
            states[backup],
            "{flags:?}: mended to {}",
            kept[0]
        );
        place.ok(&["undo", &newest_mend(&place)]);
        assert_eq!(place.shop(), states[5], "{flags:?}: undone");

        // Mends and undos have taken backups of their own, on top of b5.
        let newest = place.json(&["list", "shop"]);
        let newest = newest.as_array().unwrap().iter();
        let of_mends: Vec<_> = newest
            .filter(|backup| backup["label"].as_str().unwrap().starts_with("before-"))
            .map(|backup| backup["backup_id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(of_mends.len(), 2);
        place.ok(&["delete", &of_mends[0], "--cascade"]);
        check_points(&place, &states, &[kept, &["b5"]].concat());
        place.fails(1, &["restore", "shop", "--to", gone[0]]);
    }
}

#[test]
fn a_chain_that_was_folded_is_folded_on() {
    let (place, mut states) = five_backups();
    place.ok(&compact(&["--to", "b2"]));
    place.ok(&compact(&["--from", "b2", "--to", "b3"]));
    place.ok(&compact(&["--full", "--to", "b3"]));
    place.edit_shop(5);
    place.ok(&["backup", "shop", "--incremental", "--label", "b5"]);
    states.push(place.shop());
    let said = place.ok(&compact(&[]));
    assert!(said.contains("b4     gone"), "{said}");
    assert!(said.contains("b3     stays"), "{said}");
    place.ok(&["verify", "shop", "--live"]);
    place.ok(&compact(&["--full"]));
    check_points(&place, &states, &["b5"]);
}

/// Stops a compaction at each of its persisted steps: every restore point that stays can be restored
/// to at once, and the same command comes to its end.
fn stop_everywhere(flags: &[&str], kept: &[&str]) {
    let (place, states) = five_backups();
    let arguments = compact(flags);
    let points = at_every_point(&place, &arguments, |place, point| {
        let stopped = place.copy();
        stopped.ok(&["verify", "shop"]);
        stopped.ok(&["verify", "shop", "--live"]);
        stopped.edit_shop(5);
        stopped.ok(&["backup", "shop", "--incremental", "--label", "b5"]);
        stopped.drop_shop();
        stopped.ok(&["restore", "shop", "--to", kept[0]]);
        let backup: usize = kept[0][1..].parse().unwrap();
        assert_eq!(stopped.shop(), states[backup], "stopped at step {point}");

        place.ok(&arguments);
        check_points(place, &states, kept);
        let segments = place.ok(&["list", "shop"]);
        place.ok(&arguments);
        assert_eq!(
            place.ok(&["list", "shop"]),
            segments,
            "a third time changes nothing"
        );
    });
    assert!(points > 8, "only {points} persisted steps");
}

#[test]
fn folding_increments_can_be_stopped_anywhere() {
    stop_everywhere(&[], &["b0", "b4"]);
}

#[test]
fn folding_into_a_full_backup_can_be_stopped_anywhere() {
    stop_everywhere(&["--full", "--to", "b3"], &["b3", "b4"]);
}

#[test]
fn a_run_that_an_unfinished_operation_needs_is_left_alone() {
    let (place, states) = five_backups();
    place.drop_shop();
    let stopped = place
        .command(&["restore", "shop", "--to", "b2"])
        .env("MENDB_CRASH_AT", "16")
        .output()
        .unwrap();
    assert_eq!(stopped.status.code(), None);
    let operation = place.unfinished().remove(0);
    let before = place.json(&["list", "shop"]);
    for flags in [&[][..], &["--full"], &["--from", "b2", "--to", "b3"]] {
        let said = place.fails(1, &compact(flags));
        assert!(
            said.contains(&format!("is needed by operation {operation}")),
            "{said}"
        );
    }
    assert_eq!(place.json(&["list", "shop"]), before);
    place.ok(&compact(&["--from", "b3", "--to", "b4"]));
    place.ok(&["operation", "watch", &operation]);
    assert_eq!(place.shop(), states[2]);
    place.ok(&compact(&["--full"]));
    check_points(&place, &states, &["b4"]);
}

#[test]
fn what_cannot_be_folded_is_refused_and_nothing_to_fold_is_no_error() {
    let (place, _) = five_backups();
    let said = place.fails(1, &compact(&["--from", "b3", "--to", "b1"]));
    assert!(said.contains("does not stand on"), "{said}");
    let said = place.fails(1, &compact(&["--from", "b2", "--to", "b2"]));
    assert!(said.contains("one backup is no run"), "{said}");
    place.fails(1, &compact(&["--to", "b9"]));
    place.fails(2, &compact(&["--from", "b1", "--full"]));
    place.fails(1, &["chain", "compact", "stall"]);
    let said = place.ok(&compact(&["--to", "b1"]));
    assert!(
        said.starts_with("there is nothing to fold in shop\n"),
        "{said}"
    );
    let nothing = place.json(&compact(&["--to", "b1"]));
    assert_eq!(labels(&nothing["gone"]).len(), 0);
    assert_eq!(labels(&nothing["stays"]), ["b0", "b1", "b2", "b3", "b4"]);
}
