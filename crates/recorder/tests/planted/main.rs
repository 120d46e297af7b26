//! The recorder finds the faults of programs that have one, and accuses none that has not.
#![expect(
    clippy::unwrap_used,
    reason = "a failed test is how these helpers report"
)]

mod recording;

use std::path::Path;
use std::process::Command;

use mendb_recorder::{How, Promise, Recorder, Recording, Report, State};

/// Records one of the planted programs.
fn record(program: &str, fault: &str) -> Recording {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mendb-planted"));
    command.args([program, fault]).arg(directory.path());
    let recorder = Recorder::new(directory.path()).unwrap();
    let recording = recorder.record(&command).unwrap();
    assert!(recording.status.success(), "{}", recording.stderr);
    recording
}

fn power_loss(program: &str, fault: &str, check: fn(&State<'_>) -> Result<(), String>) -> Report {
    let report = record(program, fault).check(&How::power_loss().count(2000), check);
    report.unwrap()
}

#[track_caller]
fn holds(program: &str, check: fn(&State<'_>) -> Result<(), String>) {
    let recording = record(program, "none");
    for how in [
        How::power_loss().count(2000),
        How::power_loss().promise(Promise::Journaled).count(500),
        How::kill().count(500),
    ] {
        let report = recording.check(&how, check).unwrap();
        assert!(report.states > 3, "{report}");
        report.assert();
    }
}

#[track_caller]
fn is_found(program: &str, fault: &str, check: fn(&State<'_>) -> Result<(), String>) -> Report {
    let report = power_loss(program, fault, check);
    assert!(
        !report.failures.is_empty(),
        "{fault} in {program}: {report}"
    );
    report
}

fn content(state: &State<'_>, name: &str) -> Option<Vec<u8>> {
    std::fs::read(state.directory().join(name)).ok()
}

fn ensure(holds: bool, message: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(message.to_owned())
    }
}

fn acknowledged_records_are_there(state: &State<'_>) -> Result<(), String> {
    for told in state.told() {
        let number = told.strip_prefix("acknowledged ").unwrap();
        let record = content(state, &format!("record-{number}"));
        let wanted = format!("record {number}").into_bytes();
        ensure(record == Some(wanted), &format!("record {number} is lost"))?;
    }
    Ok(())
}

#[test]
fn a_missing_sync_before_the_acknowledgement_is_found() {
    holds("records", acknowledged_records_are_there);
    let report = is_found("records", "no-sync", acknowledged_records_are_there);
    let told = report.to_string();
    assert!(
        told.contains("record 0 is lost") && told.contains("lost write("),
        "{told}"
    );
}

#[test]
fn a_missing_sync_of_the_directory_is_found_where_posix_is_all_that_is_promised() {
    is_found(
        "records",
        "no-directory-sync",
        acknowledged_records_are_there,
    );
    // ext4 brings the name of a new file with its first sync.
    let how = How::power_loss().promise(Promise::Journaled);
    let report = record("records", "no-directory-sync").check(&how, acknowledged_records_are_there);
    report.unwrap().assert();
}

/// How many parts of the log are whole: the first that is not ends it.
fn whole_parts(log: &[u8]) -> usize {
    let parts = log
        .chunks(6000)
        .take_while(|part| part.last() == Some(&0xee));
    parts.count()
}

fn acknowledged_parts_are_there(state: &State<'_>) -> Result<(), String> {
    let log = content(state, "log").unwrap_or_default();
    ensure(
        whole_parts(&log) >= state.told().count(),
        "an acknowledged part is lost",
    )
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    holds("log", acknowledged_parts_are_there);
    is_found("log", "early", acknowledged_parts_are_there);
}

#[test]
fn a_torn_write_that_is_taken_for_whole_is_found() {
    // Who takes a part for whole by its first byte.
    let naive = |state: &State<'_>| {
        let log = content(state, "log").unwrap_or_default();
        let parts = log.chunks_exact(6000).filter(|part| part[0] != 0);
        ensure(
            parts
                .into_iter()
                .all(|part| part[1..].iter().all(|byte| *byte == part[0])),
            "half a part is taken for whole",
        )
    };
    let report = is_found("log", "no-end", naive);
    assert!(report.to_string().contains("torn at"), "{report}");
    // A kill stops a write at a page too.
    let how = How::kill().count(100);
    let naive_of_kills = |state: &State<'_>| {
        let log = content(state, "log").unwrap_or_default();
        ensure(log.len().is_multiple_of(6000), "half a part is there")
    };
    let report = record("log", "none").check(&how, naive_of_kills).unwrap();
    assert!(!report.failures.is_empty(), "{report}");
}

fn settings_are_old_or_new(state: &State<'_>) -> Result<(), String> {
    let there = content(state, "settings");
    let is_new = there.as_deref() == Some(&[b'n'; 5000]);
    let is_old = there.as_deref() == Some(b"old settings");
    match state.told().count() {
        0 => Ok(()),
        1 => ensure(is_old || is_new, "the settings are neither old nor new"),
        _ => ensure(is_new, "the new settings are lost"),
    }
}

#[test]
fn a_rename_before_the_sync_is_found() {
    holds("settings", settings_are_old_or_new);
    let report = is_found("settings", "rename-first", settings_are_old_or_new);
    assert!(
        report.to_string().contains("neither old nor new"),
        "{report}"
    );
}

fn manifest_names_what_is_there(state: &State<'_>) -> Result<(), String> {
    let Some(manifest) = content(state, "manifest") else {
        return ensure(
            !state.succeeded() && state.told().count() == 0,
            "the backup is lost",
        );
    };
    // A manifest that is cut off is none, and told so by its seal.
    if manifest != b"3 segments" {
        return ensure(!state.succeeded(), "the manifest is damaged");
    }
    for number in 0..3u8 {
        let segment = content(state, &format!("segment-{number}"));
        let wanted = vec![b'a' + number; 1500];
        ensure(
            segment == Some(wanted),
            &format!("segment {number} is missing"),
        )?;
    }
    Ok(())
}

#[test]
fn a_manifest_before_its_segments_is_found() {
    holds("backup", manifest_names_what_is_there);
    is_found("backup", "manifest-first", manifest_names_what_is_there);
    // Here the order is enough: it shows in kills too.
    let recording = record("backup", "manifest-first");
    let report = recording.check(&How::kill(), manifest_names_what_is_there);
    assert!(!report.unwrap().failures.is_empty());
}

#[test]
fn a_run_is_the_same_each_time() {
    let recording = record("settings", "rename-first");
    let run = |seed| {
        let how = How::power_loss().count(60).seed(seed);
        let report = recording.check(&how, settings_are_old_or_new).unwrap();
        report.to_string()
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3), run(4));
}

#[test]
fn what_a_crash_left_can_be_recorded_again() {
    let first = record("settings", "none");
    let mut again = 0;
    let report = first.check(&How::power_loss().count(3).seed(9), |state: &State<'_>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mendb-planted"));
        command.args(["settings", "none"]).arg(state.directory());
        let recording = Recorder::new(state.directory())
            .unwrap()
            .record(&command)
            .unwrap();
        let how = How::power_loss().count(40);
        let report = recording.check(&how, settings_are_old_or_new).unwrap();
        again += report.states;
        ensure(report.failures.is_empty(), &report.to_string())
    });
    report.unwrap().assert();
    assert!(again > 20, "{again}");
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}
