//! Stores whose files were damaged: an error, or the same content. Never other rows without a word.
//!
//! Each damage flips a bit, zeroes a page, cuts a file or removes one. `MENDB_DAMAGES` is how many, for each
//! of the two stores.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::{Put, copy_directory, flight, flights, open, paths, put, replace, small};
use mendb_model::Digest;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Error, StreamCut};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const PAGE_BYTES: u64 = 4096;

/// What a store holds: the digest of each table and index, and of what happened to it.
type Content = BTreeMap<TablePath, (Digest, Digest)>;

/// Opens a store and reads all of it, proving what is kept of it.
fn read(dir: &Path) -> Result<Content, String> {
    let read = || -> Result<Result<Content, String>, Error> {
        let database = Database::open(dir, small())?;
        let snapshot = database.snapshot()?;
        let mut content = Content::new();
        for table in snapshot.tables() {
            let schema = snapshot.describe(&table)?.schema;
            for path in paths(&schema, &table) {
                let mut kept = Digest::default();
                for shard in snapshot.shards(&path)? {
                    kept.merge(shard.digest);
                }
                let rows = snapshot.read_digest(&path, &KeyRange::all())?;
                if kept != rows {
                    return Ok(Err(format!("{path}: the kept digest differs")));
                }
                let mut changes = Digest::default();
                for block in snapshot.changes(&path, &KeyRange::all(), 0, None)? {
                    for (key, change) in block?.iter() {
                        changes.add(key, change);
                    }
                }
                content.insert(path, (rows, changes));
            }
        }
        Ok(Ok(content))
    };
    read().map_err(|error| error.to_string())?
}

/// A store with packed rows, rows over them one by one and in runs, an index and a change log.
fn make(dir: &Path) -> Database {
    let database = open(dir);
    let split_at = vec![common::id_key(700)];
    database
        .create_table("flights", flights(), split_at)
        .unwrap();
    let table = database.open_table("flights").unwrap();
    replace(
        &database,
        &table,
        (0..4_000).map(|id| flight(id, "LH", id)).collect(),
    );
    for path in paths(&flights(), "flights") {
        database.compact(&path).unwrap();
    }
    let tables = ["flights".to_owned()];
    database
        .cut("backup", &tables, "s", StreamCut::Attach)
        .unwrap();
    database.unlock("backup").unwrap();
    let table = database.open_table("flights").unwrap();
    for version in 0..40 {
        let rows = (0..30).map(|row| flight(version * 37 + row, "SN", version));
        replace(&database, &table, rows.collect());
    }
    // A run in records, and one in the file of its shard.
    for rows in [10, 3_000] {
        let puts = (0..rows).map(|row| Put::Replace(flight(row, "BA", 7)));
        put(&database, &table, puts.collect(), true).unwrap();
    }
    database
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            files.extend(self::files(&entry.path()));
        } else if entry.metadata().unwrap().len() > 0 {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

#[derive(Debug, Clone)]
enum Damage {
    Bit,
    Page,
    Cut,
    Gone,
}

fn damage(file: &Path, kind: &Damage, at: f64) {
    if matches!(kind, Damage::Gone) {
        std::fs::remove_file(file).unwrap();
        return;
    }
    let mut bytes = std::fs::read(file).unwrap();
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "any place will do"
    )]
    let place = (bytes.len() as f64 * at) as usize;
    match kind {
        Damage::Bit => bytes[place] ^= 1 << (place % 8),
        Damage::Page => {
            let start = place - place % PAGE_BYTES as usize;
            let end = bytes.len().min(start + PAGE_BYTES as usize);
            bytes[start..end].fill(0);
        }
        Damage::Cut => bytes.truncate(place),
        Damage::Gone => {}
    }
    std::fs::write(file, bytes).unwrap();
}

fn damages() -> u32 {
    let count = std::env::var("MENDB_DAMAGES");
    count.map_or(60, |count| count.parse().unwrap())
}

/// Damages copies of a store, which holds `content`.
fn never_silent(store: &Path, content: &Content) {
    let files = files(store);
    let kinds = prop_oneof![
        4 => Just(Damage::Bit),
        4 => Just(Damage::Page),
        2 => Just(Damage::Cut),
        1 => Just(Damage::Gone),
    ];
    let mut runner = TestRunner::new(Config::with_cases(damages()));
    let any = (prop::sample::select(files), kinds, 0.0..1.0);
    let outcome = runner.run(&any, |(file, kind, at)| {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(store, copy.path());
        damage(
            &copy.path().join(file.strip_prefix(store).unwrap()),
            &kind,
            at,
        );
        if let Ok(read) = read(copy.path()) {
            prop_assert_eq!(&read, content);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn a_damaged_store_that_was_closed_is_told_or_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    drop(make(dir.path()));
    let content = read(dir.path()).unwrap();
    assert_eq!(content.len(), 3);
    never_silent(dir.path(), &content);
}

#[test]
fn a_damaged_store_whose_process_was_killed_is_told_or_reads_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let database = make(dir.path());
    // Durable: acknowledged once on disk.
    database.identify("made").unwrap();
    let killed = tempfile::tempdir().unwrap();
    copy_directory(dir.path(), killed.path());
    // What SQLite rebuilds when nobody has the store open.
    std::fs::remove_file(killed.path().join("store.db-shm")).unwrap();
    drop(database);
    let content = read(dir.path()).unwrap();
    never_silent(killed.path(), &content);
}

#[test]
fn what_is_said_of_a_damage_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    drop(make(dir.path()));
    let said = |file: &str, kind: &Damage| {
        let copy = tempfile::tempdir().unwrap();
        copy_directory(dir.path(), copy.path());
        damage(&copy.path().join(file), kind, 0.5);
        let said = read(copy.path()).unwrap_err();
        said.replace(&copy.path().display().to_string(), "DIR")
    };
    let of =
        |file: &str| format!("DIR/{file} of the row store is damaged; restore it from a backup");
    assert_eq!(said("store.db", &Damage::Gone), of("store.db"));
    let base = files(&dir.path().join("shards")).remove(0);
    let base = base.strip_prefix(dir.path()).unwrap().display().to_string();
    for kind in [Damage::Gone, Damage::Cut, Damage::Page] {
        assert_eq!(said(&base, &kind), of(&base), "{kind:?}");
    }
    assert_eq!(said("mark", &Damage::Bit), of("mark"));
}
