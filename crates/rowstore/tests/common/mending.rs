//! Staging what tables are to become.

use mendb_model::{RowBlock, RowBlockBuilder, row};
use mendb_rowstore::{RowSource, ShardRoute, Staged, StagedCounts, StreamCut};

use super::*;

/// Wanted rows by key: encoded values, `None` where there is to be none.
pub type Wanted = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// The value of a row given as all its columns.
pub fn value(schema: &TableSchema, columns: &[Value]) -> Vec<u8> {
    row::encode(&schema.value_types(), &columns[1..])
}

/// Flights as they are wanted.
pub fn wanted(rows: impl IntoIterator<Item = Vec<Value>>) -> Wanted {
    let row = |row: Vec<Value>| match row[0] {
        Value::Int(id) => (id_key(id), Some(value(&flights(), &row))),
        ref other => panic!("{other:?}"),
    };
    rows.into_iter().map(row).collect()
}

/// Flights that are to go.
pub fn gone(ids: impl IntoIterator<Item = i64>) -> Wanted {
    ids.into_iter().map(|id| (id_key(id), None)).collect()
}

pub fn changes_of<'a>(
    wanted: impl IntoIterator<Item = (&'a Vec<u8>, &'a Option<Vec<u8>>)>,
) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for (key, row) in wanted {
        let change = match row {
            Some(row) => Change::reset(row.clone(), 1),
            None => Change::erase(1),
        };
        block.push(key, &change.encode());
    }
    block.finish()
}

/// Stages wanted rows with the shards that own them; what became of them together.
pub fn stage(
    database: &Database,
    operation: &str,
    table: &str,
    source: u32,
    wanted: &Wanted,
) -> StagedCounts {
    let source = RowSource {
        step: 0,
        index: source,
    };
    let mut total = StagedCounts::default();
    for shard in database.shards(&TablePath::table(table)).unwrap() {
        let of_shard = wanted.iter().filter(|(key, _)| shard.range.contains(key));
        let changes = changes_of(of_shard);
        if changes.is_empty() {
            continue;
        }
        match database
            .stage_mend(shard.id, operation, source, &changes)
            .unwrap()
        {
            Staged::Done(staged) => {
                total.upserted += staged.upserted;
                total.erased += staged.erased;
                total.kept += staged.kept;
                total.bytes += staged.bytes;
            }
            Staged::Gone => panic!("shards stay while a table is being mended"),
        }
    }
    total
}

/// Rows in the shards that own their keys, and those with what becomes of them, `cut` at a time.
pub fn rebuild_shard(
    database: &Database,
    operation: &str,
    shard: &ShardRoute,
    rows: &BTreeMap<Vec<u8>, Vec<u8>>,
    cut: usize,
) -> StagedCounts {
    let of_shard: Vec<_> = rows
        .iter()
        .filter(|(key, _)| shard.range.contains(key))
        .collect();
    let mut calls: Vec<_> = of_shard.chunks(cut.max(1)).collect();
    if calls.is_empty() {
        calls.push(&[]);
    }
    let mut total = StagedCounts::default();
    for (at, rows) in calls.iter().enumerate() {
        let mut block = RowBlockBuilder::new();
        for (key, row) in *rows {
            block.push(key, row);
        }
        let is_last = at + 1 == calls.len();
        let rebuilt = database.rebuild_mend(shard.id, operation, &[], &block.finish(), is_last);
        let Staged::Done(staged) = rebuilt.unwrap() else {
            panic!("shards stay while a table is being mended");
        };
        total.upserted += staged.upserted;
        total.erased += staged.erased;
        total.kept += staged.kept;
        total.bytes += staged.bytes;
    }
    total
}

/// Rebuilds all shards of both tables and of their indexes.
pub fn rebuild_both(database: &Database, all: &Everything) {
    for (path, rows) in all {
        for shard in database.shards(path).unwrap() {
            rebuild_shard(database, OPERATION, &shard, rows, 100);
        }
    }
}

/// Settles a mend to its end; how many rows were moved.
pub fn settle(database: &Database, operation: &str) -> u64 {
    let mut moved = 0;
    let outcome = database.settle_mend(operation, &mut |rows| {
        moved += rows;
        std::ops::ControlFlow::Continue(())
    });
    assert!(outcome.unwrap().is_continue());
    moved
}

pub const OPERATION: &str = "mend-1";
pub const TABLES: [&str; 2] = ["arrivals", "departures"];
pub const ROWS: i64 = 600;

pub fn names() -> Vec<String> {
    TABLES.map(str::to_owned).into()
}

/// Leaves runs where they are, however much it is.
pub fn unpacked() -> Options {
    Options {
        compact_bytes: u64::MAX,
        ..small()
    }
}

/// Packs shards that were mended, however little it is of some bytes.
pub fn packed() -> Options {
    Options {
        compact_bytes: 0,
        ..small()
    }
}

/// The ways to end a mend.
pub fn ways() -> [Options; 2] {
    [unpacked(), packed()]
}

/// Two tables of flights in two shards each, partly packed, all with one seat and a change stream.
pub fn with_tables(dir: &Path) -> Database {
    with_tables_in(dir, unpacked())
}

/// The same in a store that is opened so.
pub fn with_tables_in(dir: &Path, options: Options) -> Database {
    let database = Database::open(dir, options).unwrap();
    for name in TABLES {
        database
            .create_table(name, flights(), vec![id_key(ROWS / 2)])
            .unwrap();
        let table = database.open_table(name).unwrap();
        let row = |id| flight(id, "LH", 1);
        replace(&database, &table, (0..ROWS).map(row).collect());
        database.compact(&TablePath::table(name)).unwrap();
        replace(&database, &table, (ROWS..ROWS + 20).map(row).collect());
    }
    database
        .cut("backup-1", &names(), "s", StreamCut::Attach)
        .unwrap();
    database.unlock("backup-1").unwrap();
    database
}

/// Wanted: two seats everywhere, every tenth row gone, some new ones.
pub fn two_seats() -> Wanted {
    let mut all =
        wanted((0..ROWS + 40).map(|id| flight(id, if id % 2 == 0 { "LH" } else { "BA" }, 2)));
    all.extend(gone((0..ROWS).step_by(10)));
    all
}

pub fn rows_of_wanted(wanted: &Wanted) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let rows = wanted.iter();
    rows.filter_map(|(key, row)| Some((key.clone(), row.clone()?)))
        .collect()
}

pub type Everything = BTreeMap<TablePath, BTreeMap<Vec<u8>, Vec<u8>>>;

/// All rows of both tables and their indexes; checks each table on the way.
pub fn everything(snapshot: &Snapshot) -> Everything {
    let mut all = Everything::new();
    for name in TABLES {
        check(snapshot, name);
        for path in paths(&flights(), name) {
            let rows = encoded(snapshot, &path);
            all.insert(path, rows);
        }
    }
    all
}

/// What is there after the mend, worked out by writing it as a client.
pub fn mended() -> Everything {
    let dir = tempfile::tempdir().unwrap();
    let database = with_tables(dir.path());
    for name in TABLES {
        let table = database.open_table(name).unwrap();
        let mut batch = WriteBatch::new();
        for id in 0..ROWS + 40 {
            if id < ROWS && id % 10 == 0 {
                batch.erase(&table, vec![int(id)]).unwrap();
            } else {
                let carrier = if id % 2 == 0 { "LH" } else { "BA" };
                batch.replace(&table, flight(id, carrier, 2)).unwrap();
            }
        }
        database.write(batch).unwrap();
    }
    everything(&database.snapshot().unwrap())
}

pub fn stage_both(database: &Database) {
    for name in TABLES {
        stage(database, OPERATION, name, 0, &two_seats());
    }
}
