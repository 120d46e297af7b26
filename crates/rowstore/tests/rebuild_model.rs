//! Mends that rebuild shards, against mends that stage their rows one by one: whatever is live, whatever is wanted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::mending::*;
use common::*;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, Value};
use mendb_rowstore::{Database, Options, Snapshot, StreamCut, WriteBatch};
use proptest::prelude::*;

const TABLE: &str = "flights";

/// Carrier and seats by id.
type Rows = BTreeMap<i64, (Option<u8>, i8)>;

fn state() -> impl Strategy<Value = Rows> {
    let row = (proptest::option::of(0u8..3), any::<i8>());
    proptest::collection::btree_map(0i64..40, row, 0..40)
}

fn columns(id: i64, (carrier, seats): (Option<u8>, i8)) -> Vec<Value> {
    let carrier = carrier.map_or(Value::Null, |carrier| text(&format!("c{carrier}")));
    vec![
        int(id),
        carrier,
        int(seats.into()),
        text(&format!("code-{id}")),
    ]
}

/// How a mend is carried out.
#[derive(Debug, Clone)]
struct Course {
    splits: Vec<i64>,
    index_split: bool,
    packed: bool,
    /// Which shards of the table are rebuilt, by their places; the others are staged.
    rebuilt: Vec<bool>,
    /// Which indexes are rebuilt; the others follow from the rows.
    indexes: [bool; 2],
    /// Rows in each call.
    cut: usize,
    reopens: bool,
    streams: bool,
    way: usize,
}

fn course() -> impl Strategy<Value = Course> {
    (
        proptest::collection::vec(0i64..40, 0..3),
        any::<bool>(),
        any::<bool>(),
        proptest::collection::vec(any::<bool>(), 4),
        any::<[bool; 2]>(),
        1usize..15,
        any::<bool>(),
        proptest::bool::weighted(0.8),
        0..ways().len(),
    )
        .prop_map(
            |(splits, index_split, packed, rebuilt, indexes, cut, reopens, streams, way)| Course {
                splits,
                index_split,
                packed,
                rebuilt,
                indexes,
                cut,
                reopens,
                streams,
                way,
            },
        )
}

struct World {
    dir: tempfile::TempDir,
    options: Options,
    database: Option<Database>,
}

impl World {
    fn new(live: &Rows, course: &Course) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ways()[course.way].clone();
        let database = Database::open(dir.path(), options.clone()).unwrap();
        database.create_table(TABLE, flights(), vec![]).unwrap();
        write(&database, live);
        for at in &course.splits {
            database
                .split(&TablePath::table(TABLE), &id_key(*at))
                .unwrap();
        }
        if course.index_split {
            let at = mendb_model::key::encode(&[ColumnType::Utf8], [text("c1").as_ref()]);
            database
                .split(&TablePath::index(TABLE, "by_carrier"), &at)
                .unwrap();
        }
        if course.packed {
            for path in paths(&flights(), TABLE) {
                database.compact(&path).unwrap();
            }
        }
        if course.streams {
            cut(&database, "backup-1", StreamCut::Attach);
            database.unlock("backup-1").unwrap();
        }
        Self {
            dir,
            options,
            database: Some(database),
        }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn reopen(&mut self) {
        self.database = None;
        let database = Database::open(self.dir.path(), self.options.clone());
        self.database = Some(database.unwrap());
    }

    fn everything(&self) -> Everything {
        everything(&self.database().snapshot().unwrap())
    }

    /// Rebuilds what the course says, and stages the rest, all of it twice over.
    fn mend(&mut self, from: &Everything, to: &Everything, course: &Course) {
        let table = TablePath::table(TABLE);
        let mut rebuilt: Vec<TablePath> = vec![table.clone()];
        let indexes = paths(&flights(), TABLE)
            .into_iter()
            .skip(1)
            .zip(course.indexes);
        rebuilt.extend(
            indexes
                .filter(|(_, is_rebuilt)| *is_rebuilt)
                .map(|(path, _)| path),
        );
        for _ in 0..2 {
            for path in &rebuilt {
                let shards = self.database().shards(path).unwrap();
                for (at, shard) in shards.iter().enumerate() {
                    if path.index.is_some() || course.rebuilt[at % course.rebuilt.len()] {
                        rebuild_shard(self.database(), OPERATION, shard, &to[path], course.cut);
                    } else {
                        let mut wanted = Wanted::new();
                        let keys = from[&table].keys().chain(to[&table].keys());
                        for key in keys.filter(|key| shard.range.contains(key)) {
                            wanted.insert(key.clone(), to[&table].get(key).cloned());
                        }
                        stage(self.database(), OPERATION, TABLE, at as u32, &wanted);
                    }
                    if course.reopens {
                        self.reopen();
                    }
                }
            }
        }
    }
}

fn write(database: &Database, rows: &Rows) {
    let table = database.open_table(TABLE).unwrap();
    let mut batch = WriteBatch::new();
    for (id, row) in rows {
        batch.replace(&table, columns(*id, *row)).unwrap();
    }
    database.write(batch).unwrap();
}

fn cut(database: &Database, operation: &str, how: StreamCut) -> u64 {
    let cut = database.cut(operation, &[TABLE.to_owned()], "s", how);
    cut.unwrap().version()
}

/// All rows of the table and its indexes.
fn everything(snapshot: &Snapshot) -> Everything {
    check(snapshot, TABLE);
    let paths = paths(&flights(), TABLE).into_iter();
    let with_rows = paths.map(|path| {
        let rows = encoded(snapshot, &path);
        (path, rows)
    });
    with_rows.collect()
}

/// What is there of some rows, of the table and its indexes.
fn everything_of(rows: &Rows) -> Everything {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path(), small()).unwrap();
    database.create_table(TABLE, flights(), vec![]).unwrap();
    write(&database, rows);
    everything(&database.snapshot().unwrap())
}

/// The changes after a version lead from some rows to those that are there, and say what they replaced.
fn changes_lead_on(world: &World, before: &Everything, since: u64) {
    let now = world.database().snapshot().unwrap();
    for (path, before) in before {
        let changes = changes(&now, path, since);
        let reached = applied(before.clone(), &changes, &types(&flights(), path));
        assert_eq!(reached, encoded(&now, path), "changes of {path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_rebuilt_shard_is_what_a_staged_one_is_for_readers_streams_and_the_next_mend(
        live in state(), target in state(), course in course(),
    ) {
        let mut world = World::new(&live, &course);
        let tables = [TABLE.to_owned()];
        let (before, after) = (everything_of(&live), everything_of(&target));

        // Given up in the middle, it leaves nothing.
        world.database().begin_mend(OPERATION, &tables).unwrap();
        let first = world.database().shards(&TablePath::table(TABLE)).unwrap().remove(0);
        let half = target.keys().take(target.len() / 2).map(|id| id_key(*id));
        let table = &after[&TablePath::table(TABLE)];
        let half = half.map(|key| (key.clone(), table[&key].clone())).collect();
        rebuild_shard(world.database(), OPERATION, &first, &half, course.cut);
        world.database().abort_mend(OPERATION).unwrap();
        prop_assert_eq!(&world.everything(), &before);

        for (from, to) in [(&before, &after), (&after, &before)] {
            world.database().begin_mend(OPERATION, &tables).unwrap();
            // A stream that is cut here needs nothing of before.
            let own_cut = course.streams.then(|| cut(world.database(), OPERATION, StreamCut::Rotate));
            world.mend(from, to, &course);
            prop_assert_eq!(&world.everything(), from);
            let staged = world.database().mend_snapshot(OPERATION).unwrap();
            prop_assert_eq!(&everything(&staged), to);
            drop(staged);
            world.database().publish_mend(OPERATION).unwrap();
            prop_assert_eq!(&world.everything(), to);
            if let Some(own_cut) = own_cut {
                world.database().release_stream("s", own_cut).unwrap();
                changes_lead_on(&world, from, own_cut);
            }
            settle(world.database(), OPERATION);
            prop_assert_eq!(&world.everything(), to);
            if course.reopens {
                world.reopen();
            }
            if let Some(own_cut) = own_cut {
                changes_lead_on(&world, from, own_cut);
            }
        }
        // Clients write over it, and it is packed: all the same.
        let table = world.database().open_table(TABLE).unwrap();
        replace(world.database(), &table, vec![columns(3, (None, 7))]);
        let now = world.everything();
        for path in paths(&flights(), TABLE) {
            world.database().compact(&path).unwrap();
        }
        prop_assert_eq!(&world.everything(), &now);
    }

    #[test]
    fn a_stream_that_was_not_cut_with_the_mend_has_all_its_changes(
        live in state(), damaged in state(), target in state(), course in course(),
    ) {
        let course = Course { streams: true, ..course };
        let mut world = World::new(&live, &course);
        let before = world.everything();
        let since = world.database().version();
        write(world.database(), &damaged);
        let from = world.everything();
        world.database().begin_mend(OPERATION, &[TABLE.to_owned()]).unwrap();
        world.mend(&from, &everything_of(&target), &course);
        world.database().publish_mend(OPERATION).unwrap();
        changes_lead_on(&world, &before, since);
        settle(world.database(), OPERATION);
        world.reopen();
        changes_lead_on(&world, &before, since);
    }
}
