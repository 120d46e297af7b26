//! A target of rows after power losses and kills of the real program: an import, a restore and a mend happen or do
//! not, happen from their acknowledgement on, and are gone on with.
//!
//! `MENDB_CRASH_STATES=1000 cargo test -p mendb --test operations target_power_loss` checks so many states of each.

use std::path::Path;
use std::process::Command;

use mendb_recorder::{How, Recorder, State};
use serde_json::Value;

use crate::program::{Place, copy_directory};

/// The states that are checked of each command, unless a longer run is asked for.
const STATES: usize = 12;
/// Of those that are left when nothing is synced: the check ends at the first few that are broken.
const UNSYNCED_STATES: usize = 40;

/// A table with an index, in two shards.
fn place() -> Place {
    let place = Place::new();
    let file = place.write("t.jsonl", &lines(0..400, 0));
    place.ok(&[
        "table",
        "import",
        "t",
        &file,
        "--create",
        "--key",
        "id",
        "--split-at",
        "150",
        "--index",
        "by_n=n",
    ]);
    place
}

fn lines(ids: impl Iterator<Item = u64>, round: u64) -> String {
    let line = |id| {
        format!(
            "{{\"id\":{id},\"n\":{},\"text\":\"round {round}\"}}\n",
            id % 7
        )
    };
    ids.map(line).collect()
}

/// Target and repository as a crash has left them, or as they are recorded.
struct Left<'a> {
    place: &'a Place,
    directory: &'a Path,
}

impl Left<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let target = self.directory.join("target");
        let repository = format!("file://{}", self.directory.join("repository").display());
        self.place.command_at(&target, &repository, arguments)
    }

    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command(arguments).output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(format!(
                "{arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            )),
        }
    }

    fn json(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = self.run(&[arguments, &["--output", "json"]].concat())?;
        Ok(serde_json::from_str(&text).unwrap())
    }

    /// All rows that readers see.
    fn shown(&self) -> Result<String, String> {
        let tables = self.json(&["table", "list"])?;
        if tables.as_array().unwrap().is_empty() || tables[0]["state"] == "restoring" {
            return Ok(String::new());
        }
        self.run(&["verify", "t"])?;
        self.run(&["table", "export", "t", "--format", "jsonl"])
    }

    /// Has operations that are under way come to their ends. Returns whether there were some.
    fn finish(&self) -> Result<bool, String> {
        let operations = self.json(&["operation", "list"])?;
        let mut found = false;
        for operation in operations.as_array().unwrap() {
            if operation["state"] != "done" {
                found = true;
                self.run(&[
                    "operation",
                    "watch",
                    operation["operation_id"].as_str().unwrap(),
                ])?;
            }
        }
        Ok(found)
    }
}

/// Records a command, and checks what crashes leave of the target: the rows before it or after it.
fn check(place: &Place, arguments: &[&str]) {
    let recorded = tempfile::tempdir().unwrap();
    copy_directory(&place.path("target"), &recorded.path().join("target"));
    if place.path("repository").exists() {
        let repository = recorded.path().join("repository");
        copy_directory(&place.path("repository"), &repository);
    }
    let left = Left {
        place,
        directory: recorded.path(),
    };
    let before = left.shown().unwrap();
    // The index of the WAL is made anew by the process that opens the store or the journal first.
    let recorder = Recorder::new(recorded.path()).unwrap().allow_mapped("-shm");
    let recording = recorder.record(&left.command(arguments)).unwrap();
    assert!(recording.status.success(), "{}", recording.stderr);
    let after = left.shown().unwrap();
    assert_ne!(before, after);

    let check = |state: &State<'_>| {
        let left = Left {
            place,
            directory: state.directory(),
        };
        let shown = left.shown()?;
        if shown != after && (shown != before || state.succeeded()) {
            return Err(format!(
                "{} rows are shown, acknowledged: {}",
                shown.lines().count(),
                state.succeeded()
            ));
        }
        if left.finish()? && left.shown()? != after {
            return Err("what was gone on with has other rows".to_owned());
        }
        Ok(())
    };
    for how in [
        How::power_loss().usual_count(STATES),
        How::kill().usual_count(STATES),
    ] {
        let report = recording.check(&how, check).unwrap();
        println!("{arguments:?}, {how:?}: {report}");
        report.assert();
        assert!(report.states > 5, "{report}");
    }
    let unsynced = recording.without_syncs();
    let report = unsynced.check(&How::power_loss().count(UNSYNCED_STATES), check);
    let report = report.unwrap();
    assert!(
        !report.failures.is_empty(),
        "the check finds nothing: {report}"
    );
}

#[test]
fn power_losses_and_kills_of_an_import_leave_all_of_it_or_nothing() {
    let place = place();
    let file = place.write("more.jsonl", &lines(300..700, 1));
    check(&place, &["table", "import", "t", &file]);
}

#[test]
fn power_losses_and_kills_of_a_first_import_leave_a_whole_table_or_one_without_rows_or_none() {
    let place = place();
    place.ok(&["table", "drop", "t"]);
    let file = place.write("first.jsonl", &lines(0..700, 1));
    let import = [
        "table", "import", "t", &file, "--create", "--key", "id", "--index", "by_n=n",
    ];
    check(&place, &import);
}

#[test]
fn power_losses_and_kills_of_a_restore_leave_what_goes_on_to_the_same_rows() {
    let place = place();
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c"]);
    place.import("t", "upsert", &lines(390..500, 1));
    place.ok(&["backup", "c", "--incremental"]);
    place.ok(&["table", "drop", "t"]);
    check(&place, &["restore", "c"]);
}

#[test]
fn power_losses_and_kills_of_a_mend_that_rebuilds_leave_what_goes_on_to_the_same_rows() {
    let place = place();
    place.import("t", "upsert", &lines(400..3_000, 0));
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "good"]);
    place.import("t", "upsert", &lines(0..3_100, 1));
    check(&place, &["restore", "c", "--in-place", "--to", "good"]);
}

#[test]
fn power_losses_and_kills_of_a_mend_leave_what_goes_on_to_the_same_rows() {
    let place = place();
    place.ok(&["collection", "create", "c", "--table", "t"]);
    place.ok(&["backup", "c", "--label", "good"]);
    place.import("t", "upsert", &lines((0..500).step_by(9), 1));
    check(&place, &["restore", "c", "--in-place", "--to", "good"]);
}
