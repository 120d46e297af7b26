//! SQLite files whose every commit is in a log: who takes over has what was acknowledged, and nothing else.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mendb_repo::RepositoryOptions;
use mendb_repo::log::{Log, LogPlace};
use mendb_service::Error;
use mendb_service::journal::Journal;
use mendb_service::journal::collection::Collection;
use mendb_service::replica::image::Image;
use mendb_service::replica::{Replica, ReplicaFile};
use proptest::prelude::*;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A process that leads, or did.
struct Process {
    replica: Arc<Replica>,
    directory: TempDir,
}

fn runtime() -> Arc<Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    Arc::new(runtime.unwrap())
}

fn log(url: &str) -> Log {
    let options = RepositoryOptions {
        // Nobody is found out by time here.
        lease_ms: 60 * 60 * 1000,
        ..RepositoryOptions::default()
    };
    let place = LogPlace::open(url, options).unwrap();
    let id = runtime().block_on(place.create()).unwrap();
    place.log(id)
}

/// A place in memory that no other test has.
fn place() -> String {
    format!("memory:{}", mendb_service::env::random_id())
}

impl Process {
    /// Takes the lead, whoever has it.
    fn leads(url: &str, runtime: &Arc<Runtime>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let turn = runtime.block_on(log(url).turn_now()).unwrap();
        let replica = Replica::lead(&log(url), turn, runtime, directory.path(), None);
        Self {
            replica: replica.unwrap().unwrap(),
            directory,
        }
    }

    fn open(&self, name: &str) -> (Connection, ReplicaFile) {
        let path = self.replica.directory().join(name);
        self.replica.open(&path).unwrap()
    }

    fn journal(&self) -> Journal {
        Journal::open_replicated(&self.replica, self.replica.directory()).unwrap()
    }
}

/// All that a database holds, by its tables, and how it is defined.
fn content(connection: &Connection) -> BTreeMap<String, Vec<String>> {
    let rows = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| {
            let value = |at| format!("{:?}", row.get_ref(at).unwrap());
            Ok((0..columns).map(value).collect::<Vec<_>>().join("|"))
        };
        statement
            .query_map([], row)
            .unwrap()
            .map(Result::unwrap)
            .collect()
    };
    let names = rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name");
    let mut all: BTreeMap<String, Vec<String>> = names
        .iter()
        .map(|name| {
            let name = name.trim_start_matches("Text(").trim_end_matches(')');
            let bytes: Vec<u8> = serde_json::from_str(name).unwrap();
            let name = String::from_utf8(bytes).unwrap();
            let content = rows(&format!("SELECT * FROM {name} ORDER BY 1, 2"));
            (name, content)
        })
        .collect();
    all.insert(
        "definitions".to_owned(),
        rows("SELECT type, name, sql FROM sqlite_master ORDER BY 2"),
    );
    all.insert("version".to_owned(), rows("PRAGMA user_version"));
    all.insert("check".to_owned(), rows("PRAGMA integrity_check"));
    all
}

/// What who takes over would have of a file.
fn rebuilt(url: &str, runtime: &Runtime, name: &str) -> BTreeMap<String, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let mut image = Image::new(directory.path().join("image"));
    runtime.block_on(image.read(&log(url))).unwrap();
    let files = directory.path().join("files");
    image.copy_to(&files).unwrap();
    content(&Connection::open(files.join(name)).unwrap())
}

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS keyed (key TEXT, part INTEGER, text TEXT, PRIMARY KEY (key, part)) STRICT, WITHOUT ROWID;";

/// What is done in one transaction.
#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Put(u8, usize),
    Delete(u8),
    DeleteLast,
    Index(bool),
    Clear,
    Version(i32),
    Vacuum,
}

impl Step {
    fn run(&self, connection: &Connection) -> rusqlite::Result<()> {
        let text = |length: &usize| "x".repeat(*length);
        match self {
            Self::Append(length) => {
                connection.execute("INSERT INTO numbered (text) VALUES (?1)", [text(length)])
            }
            Self::Put(key, length) => connection.execute(
                "INSERT OR REPLACE INTO keyed VALUES (?1, 0, ?2)",
                (key.to_string(), text(length)),
            ),
            Self::Delete(key) => {
                connection.execute("DELETE FROM keyed WHERE key = ?1", [key.to_string()])
            }
            Self::DeleteLast => connection.execute(
                "DELETE FROM numbered WHERE id = (SELECT max(id) FROM numbered)",
                [],
            ),
            Self::Index(true) => {
                connection.execute("CREATE INDEX IF NOT EXISTS by_text ON keyed (text)", [])
            }
            Self::Index(false) => connection.execute("DROP INDEX IF EXISTS by_text", []),
            Self::Clear => connection.execute("DELETE FROM keyed", []),
            Self::Version(number) => {
                connection.pragma_update(None, "user_version", number)?;
                Ok(0)
            }
            Self::Vacuum => {
                connection.execute_batch("PRAGMA incremental_vacuum")?;
                Ok(0)
            }
        }
        .map(drop)
    }
}

/// What a process does.
#[derive(Debug, Clone)]
enum Deed {
    /// Some steps in one transaction of one of two files; or all of them taken back.
    Write {
        second: bool,
        steps: Vec<Step>,
        is_kept: bool,
    },
    /// Each step by itself, sent together.
    Alone(Vec<Step>),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let length =
        prop_oneof![8 => 0..200_usize, 3 => 200..20_000_usize, 1 => 1_000_000..3_000_000_usize];
    let step = prop_oneof![
        3 => length.clone().prop_map(Step::Append),
        4 => (0..12_u8, length).prop_map(|(key, length)| Step::Put(key, length)),
        2 => (0..12_u8).prop_map(Step::Delete),
        1 => Just(Step::DeleteLast),
        1 => any::<bool>().prop_map(Step::Index),
        1 => Just(Step::Clear),
        1 => (0..9).prop_map(Step::Version),
        1 => Just(Step::Vacuum),
    ];
    let steps = prop::collection::vec(step, 0..5);
    let write = (any::<bool>(), steps.clone(), prop::bool::weighted(0.8)).prop_map(
        |(second, steps, is_kept)| Deed::Write {
            second,
            steps,
            is_kept,
        },
    );
    let deed = prop_oneof![5 => write, 1 => steps.prop_map(Deed::Alone)];
    prop::collection::vec(deed, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_committed_is_what_who_takes_over_has(deeds in deeds()) {
        let (url, runtime) = (place(), runtime());
        let process = Process::leads(&url, &runtime);
        let mut files = ["one.sqlite", "more/two.sqlite"].map(|name| process.open(name));
        for (connection, file) in &files {
            connection.execute_batch("PRAGMA cache_size = 20").unwrap();
            connection.execute_batch(TABLES).unwrap();
            file.keep(connection).unwrap();
        }
        for deed in deeds {
            match deed {
                Deed::Write { second, steps, is_kept } => {
                    let (connection, file) = &mut files[usize::from(second)];
                    let tx = connection.transaction().unwrap();
                    for step in &steps {
                        step.run(&tx).unwrap();
                    }
                    if is_kept {
                        tx.commit().unwrap();
                    } else {
                        tx.rollback().unwrap();
                    }
                    file.keep(connection).unwrap();
                }
                Deed::Alone(steps) => {
                    let (connection, file) = &files[0];
                    for step in &steps {
                        step.run(connection).unwrap();
                    }
                    file.keep(connection).unwrap();
                }
            }
        }
        for ((connection, _), name) in files.iter().zip(["one.sqlite", "more/two.sqlite"]) {
            let there = rebuilt(&url, &runtime, name);
            prop_assert_eq!(&there["check"], &["Text([111, 107])".to_owned()]);
            prop_assert_eq!(content(connection), there);
        }
    }

    #[test]
    fn of_processes_that_lead_one_after_another_only_the_last_writes(
        turns in prop::collection::vec((0..3_usize, prop::bool::weighted(0.2)), 1..40)
    ) {
        let (url, runtime) = (place(), runtime());
        let mut processes: [Option<(Process, Journal)>; 3] = [const { None }; 3];
        let mut last = None;
        let mut acknowledged = Vec::new();
        for (number, (at, takes_over)) in turns.into_iter().enumerate() {
            if takes_over || processes[at].is_none() {
                let process = Process::leads(&url, &runtime);
                let journal = process.journal();
                processes[at] = Some((process, journal));
                last = Some(at);
            }
            let (_, journal) = processes[at].as_ref().unwrap();
            let name = format!("c{number:03}");
            let collection = Collection {
                collection: name.clone(),
                tables: Vec::new(),
                created_at_ms: 0,
            };
            match journal.insert_collection(&collection) {
                Ok(is_new) => {
                    prop_assert!(is_new && last == Some(at));
                    acknowledged.push(name);
                    let known = journal.collections().unwrap();
                    let known: Vec<_> = known.into_iter().map(|it| it.collection).collect();
                    prop_assert_eq!(&known, &acknowledged);
                }
                Err(error) => {
                    prop_assert!(is_fenced(&error) && last != Some(at), "{error:?}");
                    // What it has is not the journal any more.
                    prop_assert!(is_fenced(&journal.collections().unwrap_err()));
                }
            }
        }
    }
}

fn is_fenced(error: &Error) -> bool {
    matches!(
        error,
        Error::Repository(mendb_repo::Error::NotLeading { .. })
    )
}

#[test]
fn snapshots_keep_the_log_short_and_hold_all_that_went_before() {
    let place = tempfile::tempdir().unwrap();
    let (url, runtime) = (place.path().join("log").display().to_string(), runtime());
    let process = Process::leads(&url, &runtime);
    let (connection, file) = process.open("one.sqlite");
    connection.execute_batch(TABLES).unwrap();
    file.keep(&connection).unwrap();
    for number in 0..1200 {
        Step::Put((number % 7) as u8, number)
            .run(&connection)
            .unwrap();
        file.keep(&connection).unwrap();
    }
    assert_eq!(
        process.replica.sent().entries,
        1202,
        "with the file itself and its tables"
    );
    let there = content(&connection);
    process.replica.release();
    assert!(is_fenced(&file.check().unwrap_err()));
    let entries = std::fs::read_dir(place.path().join("log/log"))
        .unwrap()
        .count();
    assert!(entries < 1202, "{entries}");
    assert_eq!(
        std::fs::read_dir(place.path().join("log/snapshot"))
            .unwrap()
            .count(),
        1
    );
    assert_eq!(rebuilt(&url, &runtime, "one.sqlite"), there);
    let next = Process::leads(&url, &runtime);
    let (connection, _) = next.open("one.sqlite");
    assert_eq!(content(&connection), there);
}

#[test]
fn the_log_stays_short_also_where_nobody_leads_for_long() {
    let place = tempfile::tempdir().unwrap();
    let (url, runtime) = (place.path().join("log").display().to_string(), runtime());
    for round in 0..3 {
        let process = Process::leads(&url, &runtime);
        let (connection, file) = process.open("one.sqlite");
        connection.execute_batch(TABLES).unwrap();
        file.keep(&connection).unwrap();
        for number in 0..200 {
            // What is there already would be no commit.
            Step::Put(number, 3 + round).run(&connection).unwrap();
            file.keep(&connection).unwrap();
        }
        drop(file);
        process.replica.release();
    }
    let snapshots = std::fs::read_dir(place.path().join("log/snapshot")).unwrap();
    assert_eq!(snapshots.count(), 1);
}

#[test]
fn a_file_has_one_connection_and_lies_where_its_owner_alone_may_look() {
    use std::os::unix::fs::PermissionsExt as _;
    let runtime = runtime();
    let process = Process::leads(&place(), &runtime);
    let (connection, file) = process.open("one.sqlite");
    connection.execute_batch(TABLES).unwrap();
    file.keep(&connection).unwrap();
    let path = process.replica.directory().join("one.sqlite");
    assert!(process.replica.open(&path).is_err());
    let other = Connection::open(&path).unwrap();
    other.busy_timeout(std::time::Duration::ZERO).unwrap();
    assert!(
        other.execute_batch("SELECT * FROM keyed").is_err(),
        "it is locked"
    );
    assert!(
        process
            .replica
            .open(Path::new("/tmp/elsewhere.sqlite"))
            .is_err()
    );
    for directory in ["files", "image"] {
        let directory = process.directory.path().join(directory);
        let mode = std::fs::metadata(directory).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
    drop((connection, file));
    process.open("one.sqlite");
}

#[test]
fn a_journal_that_another_process_goes_on_with_has_its_identity_and_all_it_was_told() {
    let (url, runtime) = (place(), runtime());
    let first = Process::leads(&url, &runtime);
    let journal = first.journal();
    let id = journal.id().unwrap();
    let command = journal.insert_command(
        &"backup-1".parse().unwrap(),
        mendb_service::journal::command::Command::Pause,
    );
    let command = command.unwrap();
    let clone = journal.clone();
    assert!(clone.delete_command(command).unwrap());
    let second = Process::leads(&url, &runtime);
    let gone_on = second.journal();
    assert_eq!(gone_on.id().unwrap(), id);
    let next = gone_on.insert_command(
        &"backup-1".parse().unwrap(),
        mendb_service::journal::command::Command::Resume(None),
    );
    assert!(next.unwrap() > command, "a number is given once");
    let refused = journal.insert_command(
        &"backup-1".parse().unwrap(),
        mendb_service::journal::command::Command::Cancel(None),
    );
    assert!(is_fenced(&refused.unwrap_err()));
    assert!(is_fenced(&clone.id().unwrap_err()));
}
