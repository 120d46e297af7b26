//! A repository in a directory after power losses and kills of the real program: each backup is whole or
//! absent, and whole from its acknowledgement on.
//!
//! `MENDB_CRASH_STATES=2000 cargo test -p mendb --test operations power_loss` checks so many states of each.

use mendb_recorder::{How, Recorder, State};

use crate::program::Place;

/// The states of power losses that are checked of each command, unless a longer run is asked for.
const STATES: usize = 40;
/// After so many states, one more backup goes into what the crash has left.
const NEXT_EVERY: usize = 16;

/// A place whose repository is in a directory of its own, and a shop in it.
fn shop() -> Place {
    let place = Place::new();
    std::fs::create_dir(place.path("recorded")).unwrap();
    let place = with_repository_in(place, "recorded");
    place.fill_shop();
    place
}

fn with_repository_in(place: Place, directory: &str) -> Place {
    let url = format!("file://{}/repository", place.path(directory).display());
    place.with_repository(url, [])
}

/// Records a command of the program, and checks what crashes leave of the repository. `promised` are the
/// labels that are whole after the command, or before it; true for those after.
fn check(place: &Place, arguments: &[&str], promised: impl Fn(&[String], bool) -> bool) {
    let recorder = Recorder::new(&place.path("recorded")).unwrap();
    // The next backup begins where this one did.
    let before = place.copy();
    let recording = recorder.record(&place.command(arguments)).unwrap();
    assert!(recording.status.success(), "{}", recording.stderr);
    let mut seen = 0;
    let mut check = |state: &State<'_>| {
        seen += 1;
        let labels = whole_backups(place, state)?;
        if !promised(&labels, state.succeeded()) {
            return Err(format!(
                "whole backups: {labels:?}, acknowledged: {}",
                state.succeeded()
            ));
        }
        if seen % NEXT_EVERY == 0 {
            next_backup(&before, state)?;
        }
        Ok(())
    };
    for how in [
        How::power_loss().usual_count(STATES),
        How::kill().usual_count(STATES / 2),
    ] {
        let report = recording.check(&how, &mut check).unwrap();
        println!("{arguments:?}, {how:?}: {report}");
        report.assert();
        assert!(report.states > 5, "{report}");
    }
    let unsynced = recording.without_syncs();
    let report = unsynced.check(&How::power_loss().count(STATES), &mut check);
    let report = report.unwrap();
    assert!(
        !report.failures.is_empty(),
        "the check finds nothing: {report}"
    );
}

/// The labels of the backups in a state, each of which is whole.
fn whole_backups(place: &Place, state: &State<'_>) -> Result<Vec<String>, String> {
    let url = format!("file://{}/repository", state.directory().display());
    let run = |arguments: &[&str]| place.command_in(&url, arguments).output().unwrap();
    let list = run(&["list", "shop", "--output", "json"]);
    if !list.status.success() {
        return Err(String::from_utf8_lossy(&list.stderr).into_owned());
    }
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let labels = list.as_array().unwrap().iter();
    let labels: Vec<String> = labels
        .map(|backup| backup["label"].as_str().unwrap_or("unreadable").to_owned())
        .collect();
    if !labels.is_empty() {
        let verified = run(&["verify", "shop"]);
        if !verified.status.success() {
            let said = [verified.stdout, verified.stderr].concat();
            return Err(format!("{labels:?}: {}", String::from_utf8_lossy(&said)));
        }
    }
    Ok(labels)
}

/// Another backup goes into the repository, whatever the crash has left there.
fn next_backup(before: &Place, state: &State<'_>) -> Result<(), String> {
    let next = before.copy();
    let url = format!("file://{}/repository", state.directory().display());
    let arguments = ["backup", "shop", "--label", "next", "--new-repository"];
    let output = next.command_in(&url, &arguments).output().unwrap();
    if !output.status.success() {
        return Err(format!(
            "the next backup: {}",
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let labels = whole_backups(&next, state)?;
    if !labels.iter().any(|label| label == "next") {
        return Err(format!("the next backup is not among {labels:?}"));
    }
    Ok(())
}

#[test]
fn power_losses_and_kills_leave_each_backup_whole_or_absent() {
    let place = shop();
    check(
        &place,
        &["backup", "shop", "--label", "full"],
        |labels, done| labels == ["full"] || (labels.is_empty() && !done),
    );
    place.edit_shop(1);
    let incremental = ["backup", "shop", "--incremental", "--label", "increment"];
    check(&place, &incremental, |labels, done| {
        labels == ["full", "increment"] || (labels == ["full"] && !done)
    });
}

#[test]
fn power_losses_and_kills_of_a_removal_leave_the_backup_whole_or_absent() {
    let place = shop();
    place.ok(&["backup", "shop", "--label", "first"]);
    place.ok(&["backup", "shop", "--label", "second"]);
    check(&place, &["delete", "first"], |labels, done| {
        labels == ["second"] || (labels == ["first", "second"] && !done)
    });
}

#[test]
fn power_losses_and_kills_of_a_compaction_leave_what_stays_whole() {
    let place = shop();
    place.ok(&["backup", "shop", "--label", "full"]);
    for (round, label) in [(1, "one"), (2, "two"), (3, "three")] {
        place.edit_shop(round);
        place.ok(&["backup", "shop", "--incremental", "--label", label]);
    }
    check(&place, &["chain", "compact", "shop"], |labels, done| {
        let stays = labels.first().is_some_and(|first| first == "full")
            && labels.last().is_some_and(|last| last == "three");
        stays && (!done || labels.len() == 2)
    });
}
