//! A row store after power losses and kills: what was acknowledged is there, and of what was under way all or
//! nothing.
//!
//! `MENDB_CRASH_STATES=5000 cargo test -p mendb-rowstore --test power_loss` checks so many states of each kind.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{erase, flight, flights, id_key, int, paths, replace, text};
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Change, Digest, RowBlock, RowBlockBuilder, row};
use mendb_recorder::{How, Recorder, Recording, State};
use mendb_rowstore::{
    Applied, Database, Error, NewTable, Options, PathState, RowSource, Snapshot, Staged, StreamCut,
};

/// The directory in which a recorded process writes; only that one has it.
const PLACE: &str = "MENDB_TEST_RECORDED_ROWS";
const PLACE_BESIDE: &str = "MENDB_TEST_RECORDED_SPLITS";
/// Writes: each of them is one acknowledgement, and shows in one commit.
const STEPS: usize = 26;
/// The states that are checked of each kind, of those that a longer run has.
const STATES: usize = 100;
const SOURCE: RowSource = RowSource { step: 0, index: 0 };
const MEND: &str = "mend-1";
const RESTORE: &str = "restore-1";
/// Splits at these keys, and merges there, of a table that is written meanwhile.
const CUTS: [(bool, i64); 8] = [
    (true, 100),
    (true, 170),
    (false, 100),
    (true, 40),
    (false, 170),
    (true, 130),
    (false, 40),
    (false, 130),
];
/// More writes than there are beside those.
const MOST_ROUNDS: usize = 200;

fn open(place: &Path) -> Result<Database, Error> {
    // Small enough that a shard packs and splits itself.
    let options = Options {
        split_bytes: 96 << 10,
        compact_bytes: 24 << 10,
        trim_bytes: 0,
        ..Options::default()
    };
    Database::open(&place.join("rows"), options)
}

fn rows(ids: Range<i64>, seats: i64) -> Vec<Vec<mendb_model::Value>> {
    ids.map(|id| flight(id, &"carrier".repeat(20), seats))
        .collect()
}

/// Encoded rows of a table of flights, or changes that make them so.
fn block(ids: Range<i64>, encode: impl Fn(Vec<u8>) -> Vec<u8>) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for id in ids {
        let types = flights().value_types();
        let values = [text("SN"), int(id), text(&format!("code {id}"))];
        block.push(&id_key(id), &encode(row::encode(&types, &values)));
    }
    block.finish()
}

fn bulk(database: &Database, ids: Range<i64>, seats: i64) {
    let table = database.open_table("flights").unwrap();
    let mut bulk = database.bulk(&table);
    for row in rows(ids, seats) {
        bulk.replace(&row).unwrap();
    }
    bulk.commit(&mut |_| ()).unwrap();
}

/// Stages changes in whatever shards have their keys.
fn stage_all(database: &Database, operation: &str, changes: &RowBlock) {
    let path = TablePath::table("flights");
    for shard in database.shards(&path).unwrap() {
        let mut of_shard = RowBlockBuilder::new();
        for (key, change) in changes.iter().filter(|(key, _)| shard.range.contains(key)) {
            of_shard.push(key, change);
        }
        let of_shard = of_shard.finish();
        let staged = database.stage_mend(shard.id, operation, SOURCE, &of_shard);
        assert!(matches!(staged.unwrap(), Staged::Done(_)));
    }
}

fn load(database: &Database, ids: Range<i64>) {
    let shard = database.shards(&TablePath::table("restored")).unwrap()[0].id;
    let loaded = database.load(shard, RESTORE, SOURCE, &block(ids, |row| row));
    assert!(matches!(loaded.unwrap(), Applied::Done { .. }));
}

/// One of the writes.
fn write(place: &Path, database: Database, number: usize) -> Database {
    let tables = ["flights".to_owned()];
    let path = TablePath::table("flights");
    let put = |rows| {
        let table = database.open_table("flights").unwrap();
        replace(&database, &table, rows);
    };
    match number {
        0 => database
            .create_table("flights", flights(), vec![id_key(200)])
            .unwrap(),
        1 => put(rows(0..300, 1)),
        2 => paths(&flights(), "flights").iter().for_each(|path| {
            database.compact(path).unwrap();
        }),
        3 => drop(
            database
                .cut("backup-1", &tables, "s", StreamCut::Attach)
                .unwrap(),
        ),
        4 => database.unlock("backup-1").unwrap(),
        5 => put(rows(250..330, 2)),
        6 => {
            let table = database.open_table("flights").unwrap();
            erase(&database, &table, 7);
        }
        7 => drop(database.begin_mend(MEND, &tables).unwrap()),
        8 => {
            let shard = database.shards(&path).unwrap()[0].id;
            let changes = block(10..60, |row| Change::reset(row, 1).encode());
            let staged = database.stage_mend(shard, MEND, SOURCE, &changes).unwrap();
            assert!(matches!(staged, Staged::Done(_)));
        }
        9 => drop(database.publish_mend(MEND).unwrap()),
        10 => {
            let settled = database.settle_mend(MEND, &mut |_| ControlFlow::Continue(()));
            assert!(settled.unwrap().is_continue());
        }
        11 => database.split(&path, &id_key(100)).unwrap(),
        12 => database.release_stream("s", u64::MAX - 1).unwrap(),
        13 => {
            let table = NewTable {
                name: "restored".to_owned(),
                schema: flights(),
                versions: database.describe("flights").unwrap().versions,
                splits: BTreeMap::new(),
            };
            database.create_restoring(RESTORE, vec![table]).unwrap();
        }
        14 => load(&database, 0..400),
        15 => load(&database, 0..900),
        16 => database.finish_restore(RESTORE).unwrap(),
        17 => database.merge(&path, &id_key(100)).unwrap(),
        18 => bulk(&database, 0..2_500, 3),
        19 => bulk(&database, 40..50, 4),
        20 => drop(database.begin_mend("mend-2", &tables).unwrap()),
        21 => {
            let changes = block(2_000..16_000, |row| Change::reset(row, 1).encode());
            stage_all(&database, "mend-2", &changes);
        }
        22 => database.abort_mend("mend-2").unwrap(),
        // Over what was given up, and not as much.
        23 => bulk(&database, 2_400..4_600, 5),
        24 => database.drop_table("flights").unwrap(),
        _ => {
            drop(database);
            return open(place).unwrap();
        }
    }
    database
}

/// What there is to read: each table or index with its rows and changes, and how far a mend is.
type Content = BTreeMap<String, (Digest, Digest)>;

fn read(snapshot: &Snapshot, suffix: &str, content: &mut Content) -> Result<(), String> {
    let said = |error: Error| mendb_model::describe_error(&error);
    for table in snapshot.tables() {
        let described = snapshot.describe(&table).map_err(said)?;
        // What a mend has changed is logged as it is settled, and what no stream needs may be gone.
        let is_settling = matches!(
            described.state,
            PathState::Mending {
                published_at: Some(_),
                ..
            }
        );
        let needed = described.streams.iter().map(|stream| stream.needed_after);
        let needed_after = needed.min().filter(|_| !is_settling).unwrap_or(u64::MAX);
        for path in paths(&described.schema, &table) {
            let shards = snapshot.shards(&path).map_err(said)?;
            let kept: Digest = shards.iter().map(|shard| shard.digest).sum();
            let rows = snapshot
                .read_digest(&path, &KeyRange::all())
                .map_err(said)?;
            if kept != rows {
                return Err(format!("{path} has {rows}, kept is {kept}"));
            }
            let mut changes = Digest::default();
            for block in snapshot
                .changes(&path, &KeyRange::all(), needed_after, None)
                .map_err(said)?
            {
                for (key, change) in block.map_err(said)?.iter() {
                    changes.add(key, change);
                }
            }
            content.insert(format!("{path}{suffix}"), (rows, changes));
        }
    }
    Ok(())
}

fn content(database: &Database) -> Result<Content, String> {
    let said = |error: Error| mendb_model::describe_error(&error);
    let mut content = Content::new();
    read(&database.snapshot().map_err(said)?, "", &mut content)?;
    if database.describe_mend(MEND).is_some() {
        read(
            &database.mend_snapshot(MEND).map_err(said)?,
            " mended",
            &mut content,
        )?;
    }
    for (table, state) in database.locks() {
        content.insert(format!("{table} {state:?}"), Default::default());
    }
    Ok(content)
}

/// Runs only in the recorded process.
#[test]
fn the_recorded_process_writes_a_row_store() {
    let Some(place) = std::env::var_os(PLACE) else {
        return;
    };
    let place = Path::new(&place);
    let mut database = open(place).unwrap();
    println!("\ncreated");
    for number in 0..STEPS {
        database = write(place, database, number);
        println!("\nwritten {number}");
    }
}

/// Records a test of this binary in a directory that it learns by the variable.
fn record(test: &str, variable: &str) -> Recording {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(variable, place.path());
    // The index of the WAL is made anew by the process that opens the store first.
    let recorder = Recorder::new(place.path()).unwrap().allow_mapped("-shm");
    let recording = recorder.record(&command).unwrap();
    assert!(recording.status.success(), "{}", recording.stderr);
    recording
}

/// What is read after each number of writes.
fn contents() -> Vec<Content> {
    let place = tempfile::tempdir().unwrap();
    let mut database = open(place.path()).unwrap();
    let mut contents = vec![content(&database).unwrap()];
    for number in 0..STEPS {
        database = write(place.path(), database, number);
        contents.push(content(&database).unwrap());
    }
    contents
}

fn check(state: &State<'_>, contents: &[Content]) -> Result<(), String> {
    let written = state
        .told()
        .filter(|line| line.starts_with("written "))
        .count();
    let opened = open(state.directory());
    let database = opened.map_err(|error| mendb_model::describe_error(&error))?;
    let content = content(&database)?;
    // What is under way may have happened.
    let allowed = &contents[written..contents.len().min(written + 2)];
    if !allowed.contains(&content) {
        let found = contents.iter().position(|other| *other == content);
        return Err(format!(
            "{written} writes were acknowledged, {found:?} are there: {content:?}"
        ));
    }
    go_on(&database)
}

/// Whatever is there takes bulk writes into each of its files, and reads right after them.
fn go_on(database: &Database) -> Result<(), String> {
    let said = |error: Error| mendb_model::describe_error(&error);
    let Ok(described) = database.describe("flights") else {
        return Ok(());
    };
    if let PathState::Mending { operation, .. } = &described.state
        && database.abort_mend(operation).is_err()
    {
        let settled = database.settle_mend(operation, &mut |_| ControlFlow::Continue(()));
        let _ = settled.map_err(said)?;
    }
    let table = database.open_table("flights").map_err(said)?;
    let mut bulk = database.bulk(&table);
    for row in rows(0..4_600, 9) {
        bulk.replace(&row).map_err(said)?;
    }
    let written = bulk.commit(&mut |_| ());
    written.map_err(|refused| said(refused.error))?;
    read(&database.snapshot().map_err(said)?, "", &mut Content::new())
}

#[test]
fn a_row_store_keeps_every_acknowledged_write_through_power_losses_and_kills() {
    let contents = contents();
    let recording = record("the_recorded_process_writes_a_row_store", PLACE);
    check_all(&recording, |state| check(state, &contents));
}

/// Checks the states that power losses and kills leave, and that the check finds it when nothing is synced.
fn check_all(recording: &Recording, check: impl Fn(&State<'_>) -> Result<(), String>) {
    for how in [
        How::power_loss().usual_count(STATES),
        How::kill().usual_count(STATES),
    ] {
        let report = recording.check(&how, &check).unwrap();
        println!("{how:?}: {report}");
        report.assert();
        assert!(report.states > STATES / 3, "{report}");
    }
    let unsynced = recording.without_syncs();
    let how = How::power_loss().count(STATES);
    let report = unsynced.check(&how, &check).unwrap();
    assert!(
        !report.failures.is_empty(),
        "the check finds nothing: {report}"
    );
}

/// One of the writes beside splits: some rows in one commit.
fn write_round(database: &Database, round: usize) {
    let table = database.open_table("flights").unwrap();
    let first = (round * 37 % 150) as i64;
    replace(database, &table, rows(first..first + 60, round as i64));
}

fn create_beside(database: &Database) {
    database.create_table("flights", flights(), vec![]).unwrap();
    let table = database.open_table("flights").unwrap();
    replace(database, &table, rows(0..200, 0));
}

/// Runs only in the recorded process.
#[test]
fn the_recorded_process_splits_and_merges_beside_a_writer() {
    let Some(place) = std::env::var_os(PLACE_BESIDE) else {
        return;
    };
    let database = open(Path::new(&place)).unwrap();
    create_beside(&database);
    println!("\nfilled");
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..MOST_ROUNDS {
                write_round(&database, round);
                println!("\nwritten {round}");
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let path = TablePath::table("flights");
        for (splits, id) in CUTS {
            match splits {
                true => database.split(&path, &id_key(id)).unwrap(),
                false => database.merge(&path, &id_key(id)).unwrap(),
            }
            println!("\ncut {id}");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// The digest of the rows of each table and index, and where the shards of the table meet.
fn beside(database: &Database) -> Result<(Vec<Digest>, Vec<Vec<u8>>), String> {
    let rows = content(database)?.into_values().map(|(rows, _)| rows);
    let shards = database.shards(&TablePath::table("flights"));
    let shards = shards.map_err(|error| mendb_model::describe_error(&error))?;
    let meet = shards.into_iter().filter_map(|shard| shard.range.end);
    Ok((rows.collect(), meet.collect()))
}

#[test]
fn splits_and_merges_beside_a_writer_keep_every_acknowledged_write_through_power_losses_and_kills()
{
    let recording = record(
        "the_recorded_process_splits_and_merges_beside_a_writer",
        PLACE_BESIDE,
    );
    let writes = recording.stdout.matches("written ").count();
    println!("{writes} writes beside {} splits and merges", CUTS.len());
    assert!(writes > 1, "{}", recording.stdout);
    let place = tempfile::tempdir().unwrap();
    let database = common::open(place.path());
    create_beside(&database);
    let mut rows = vec![beside(&database).unwrap().0];
    for round in 1..MOST_ROUNDS {
        write_round(&database, round);
        rows.push(beside(&database).unwrap().0);
    }
    let mut meet = vec![Vec::new()];
    for (splits, id) in CUTS {
        let mut next: Vec<Vec<u8>> = meet.last().cloned().unwrap_or_default();
        match splits {
            true => next.push(id_key(id)),
            false => next.retain(|key| *key != id_key(id)),
        }
        next.sort();
        meet.push(next);
    }
    check_all(&recording, |state| {
        let told = |what: &str| state.told().filter(|line| line.starts_with(what)).count();
        let opened = open(state.directory());
        let database = opened.map_err(|error| mendb_model::describe_error(&error))?;
        if told("filled") == 0 {
            content(&database)?;
            return Ok(());
        }
        let (found_rows, found_meet) = beside(&database)?;
        let (written, cut) = (told("written "), told("cut "));
        // One of each may be under way.
        let has_rows = rows[written..]
            .iter()
            .take(2)
            .any(|rows| *rows == found_rows);
        let has_meet = meet[cut..].iter().take(2).any(|meet| *meet == found_meet);
        match has_rows && has_meet {
            true => Ok(()),
            false => Err(format!(
                "{written} writes and {cut} cuts were acknowledged; there are the rows of {:?}, and shards that meet \
                 at {found_meet:?}",
                rows.iter().position(|rows| *rows == found_rows)
            )),
        }
    });
}

#[test]
fn erased_rows_stay_erased_however_often_the_process_dies() {
    let mut place = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let database = open(place.path()).unwrap();
        if round == 0 {
            database.create_table("flights", flights(), vec![]).unwrap();
        }
        let table = database.open_table("flights").unwrap();
        replace(&database, &table, rows(0..2_900, round));
        let tables = ["flights".to_owned()];
        database.begin_mend(MEND, &tables).unwrap();
        for shard in database.shards(&TablePath::table("flights")).unwrap() {
            let mut erased = RowBlockBuilder::new();
            for key in (0..2_900)
                .map(id_key)
                .filter(|key| shard.range.contains(key))
            {
                erased.push(&key, &Change::erase(1).encode());
            }
            let staged = database.stage_mend(shard.id, MEND, SOURCE, &erased.finish());
            assert!(matches!(staged.unwrap(), Staged::Done(_)));
        }
        database.publish_mend(MEND).unwrap();
        let settled = database.settle_mend(MEND, &mut |_| ControlFlow::Continue(()));
        assert!(settled.unwrap().is_continue());
        // As a kill leaves it.
        let killed = tempfile::tempdir().unwrap();
        common::copy_directory(place.path(), killed.path());
        drop((table, database));
        place = killed;
        let database = open(place.path()).unwrap();
        common::check(&database.snapshot().unwrap(), "flights");
        let digest = database.describe("flights").unwrap().rows.digest();
        assert_eq!(digest, Digest::default(), "round {round}");
    }
}
