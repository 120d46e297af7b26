//! The journal after power losses and kills: what was acknowledged is there, and of what was under way all
//! or nothing.
//!
//! `MENDB_CRASH_STATES=5000 cargo test -p mendb-service --test all journal_crash` checks so many states.

use std::path::Path;
use std::process::Command;

use mendb_model::name::{BackupId, BackupKind, OperationId};
use mendb_model::operation::{
    BackupRequest, Context, Event, Limits, NewTask, Operation, Request, TaskSpec, plan,
};
use mendb_recorder::{How, Promise, Recorder, Recording, State};
use mendb_service::journal::Journal;
use mendb_service::journal::batch::Taken;
use mendb_service::journal::collection::Collection;
use mendb_service::journal::command::Command as UserCommand;

/// The directory in which the recorded process writes; only that one has it.
const PLACE: &str = "MENDB_TEST_RECORDED_JOURNAL";
/// Writes: each of them is one acknowledgement.
const STEPS: usize = 15;
/// The states that each test checks, of those that a longer run has.
const STATES: usize = 120;

fn open(place: &Path) -> Journal {
    Journal::open(&place.join("target/journal")).unwrap()
}

fn backup(at: usize) -> Operation {
    let request = Request::Backup(BackupRequest {
        collection: "shop".into(),
        backup_id: BackupId::new(at as i64, BackupKind::Full).unwrap(),
        label: None,
        tables: (0..100).map(|table| format!("table-{table}")).collect(),
        parent: None,
        stream: "shop/1".into(),
        since_version: None,
        old_streams: Vec::new(),
        keeps_changes: false,
        found: None,
    });
    let steps = plan(&request, &[]).unwrap();
    let repository = ("id".to_owned(), "memory:".to_owned());
    Operation::new(id(at), request, steps, repository, Limits::default(), 0)
}

fn id(at: usize) -> OperationId {
    format!("backup-{at}").parse().unwrap()
}

/// Takes an event through the machine and into the journal.
fn step(journal: &Journal, at: usize, event: &Event, command: Option<i64>) {
    let context = Context {
        now_ms: 7,
        jitter: 0.0,
    };
    let mut operation = journal.operation(&id(at)).unwrap();
    let taken = journal.batch(|batch| batch.take(&mut operation, context, event.clone(), command));
    assert!(matches!(taken.unwrap(), Taken::Happened { .. }));
}

/// One of the writes. Every fifth closes the journal and opens it again.
fn write(place: &Path, journal: Journal, number: usize) -> Journal {
    let round = number / 5;
    match number % 5 {
        0 => {
            let collection = Collection {
                collection: format!("collection-{round}"),
                tables: vec![format!("table-{round}"); 200],
                created_at_ms: 1,
            };
            assert!(journal.insert_collection(&collection).unwrap());
        }
        1 => journal.insert_operation(&backup(round)).unwrap(),
        2 => {
            let task = NewTask {
                spec: TaskSpec::Whole,
                bytes_total: 1,
            };
            let tasks = vec![task; 30];
            step(&journal, round, &Event::Allocated { step: 0, tasks }, None);
        }
        3 => {
            let command = journal.insert_command(&id(round), UserCommand::Pause);
            command.unwrap();
        }
        _ => {
            let commands = journal.commands().unwrap();
            step(&journal, round, &Event::Pause, Some(commands[0].0));
            drop(journal);
            return open(place);
        }
    }
    journal
}

/// All that a journal says, but its identity.
fn content(journal: &Journal) -> String {
    let operations = journal.operations().unwrap();
    let events = operations.iter().map(|operation| {
        let id = &operation.operation_id;
        let progress = journal.shard_progress(id).unwrap();
        let whole = journal.operation(id).unwrap();
        (journal.operation_events(id).unwrap(), progress, whole)
    });
    let events: Vec<_> = events.collect();
    let commands = journal.commands().unwrap();
    let collections = journal.collections().unwrap();
    let repositories = journal.used_repositories().unwrap();
    format!("{operations:?}{events:?}{commands:?}{collections:?}{repositories:?}")
}

/// Runs only in the recorded process.
#[test]
fn the_recorded_process_writes_a_journal() {
    let Some(place) = std::env::var_os(PLACE) else {
        return;
    };
    let place = Path::new(&place);
    let mut journal = open(place);
    println!("\ncreated {}", journal.id().unwrap());
    for number in 0..STEPS {
        journal = write(place, journal, number);
        println!("\nwritten {number}");
    }
}

fn record() -> Recording {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "journal_crash::the_recorded_process_writes_a_journal",
        ])
        .arg("--nocapture")
        .env(PLACE, place.path());
    // The index of the WAL is made anew by the process that opens the journal first.
    let recorder = Recorder::new(place.path()).unwrap().allow_mapped("-shm");
    let recording = recorder.record(&command).unwrap();
    assert!(recording.status.success(), "{}", recording.stdout);
    recording
}

/// What the journal says after each number of writes.
fn contents() -> Vec<String> {
    let place = tempfile::tempdir().unwrap();
    let mut journal = open(place.path());
    let mut contents = vec![content(&journal)];
    for number in 0..STEPS {
        journal = write(place.path(), journal, number);
        contents.push(content(&journal));
    }
    contents
}

fn check(state: &State<'_>, contents: &[String]) -> Result<(), String> {
    let created = state.told().find_map(|line| line.strip_prefix("created "));
    let written = state
        .told()
        .filter(|line| line.starts_with("written "))
        .count();
    let place = state.directory().join("target/journal");
    if created.is_some() && !Journal::exists(&place) {
        return Err(format!(
            "the journal is lost, with {written} acknowledged writes"
        ));
    }
    let journal = Journal::open(&place).map_err(|error| mendb_model::describe_error(&error))?;
    if let Some(created) = created
        && journal.id().unwrap() != created
    {
        return Err("the journal is another one".to_owned());
    }
    let content = content(&journal);
    // What is under way may have happened.
    let allowed = &contents[written..contents.len().min(written + 2)];
    if !allowed.contains(&content) {
        let found = contents.iter().position(|other| *other == content);
        return Err(format!(
            "{written} writes were acknowledged, {found:?} are there"
        ));
    }
    Ok(())
}

#[test]
fn a_journal_keeps_every_acknowledged_write_through_power_losses_and_kills() {
    let contents = contents();
    let recording = record();
    for how in [
        How::power_loss().usual_count(STATES),
        How::power_loss()
            .promise(Promise::Journaled)
            .usual_count(STATES / 2),
        How::kill().usual_count(STATES / 2),
    ] {
        let report = recording
            .check(&how, |state| check(state, &contents))
            .unwrap();
        println!("{how:?}: {report}");
        report.assert();
        assert!(report.states > STATES / 3, "{report}");
    }
    let unsynced = recording.without_syncs();
    let how = How::power_loss().count(STATES);
    let report = unsynced.check(&how, |state| check(state, &contents));
    assert!(
        !report.unwrap().failures.is_empty(),
        "the check finds nothing"
    );
}
