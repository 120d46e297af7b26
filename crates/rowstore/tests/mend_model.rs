//! Mends against a map: whatever is live, whatever is wanted, however it is cut and interrupted.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use common::mending::*;
use common::*;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, Value};
use mendb_rowstore::{Database, Options, RowSource, Snapshot, Staged, StreamCut, WriteBatch};
use proptest::prelude::*;

const TABLE: &str = "flights";

/// Rows by id: carrier and seats. The code follows from the id, or is another row's.
type Rows = BTreeMap<i64, (Option<u8>, Option<i8>, i64)>;

fn rows_of(rows: &Rows) -> BTreeMap<Vec<u8>, Vec<u8>> {
    rows.iter()
        .map(|(id, row)| (id_key(*id), value(&flights(), &columns(*id, row))))
        .collect()
}

fn columns(id: i64, (carrier, seats, code): &(Option<u8>, Option<i8>, i64)) -> Vec<Value> {
    let carrier = carrier.map_or(Value::Null, |carrier| text(&format!("c{carrier}")));
    let seats = seats.map_or(Value::Null, |seats| int(seats.into()));
    vec![int(id), carrier, seats, text(&format!("code-{code}"))]
}

/// A state: some ids with their rows; `rotated` moves the unique codes around among the rows.
fn state() -> impl Strategy<Value = Rows> {
    let row = (
        proptest::option::of(0u8..3),
        proptest::option::of(any::<i8>()),
    );
    let rows = proptest::collection::btree_map(0i64..40, row, 0..40);
    (rows, 0usize..3).prop_map(|(rows, rotated)| {
        let ids: Vec<i64> = rows.keys().copied().collect();
        let of = |at: usize| ids[(at + rotated) % ids.len()];
        let rows = rows.into_iter().enumerate();
        rows.map(|(at, (id, (carrier, seats)))| (id, (carrier, seats, of(at))))
            .collect()
    })
}

/// How a mend is carried out.
#[derive(Debug, Clone)]
struct Course {
    splits: Vec<i64>,
    index_split: bool,
    packed: bool,
    /// Rows in each call.
    cuts: Vec<usize>,
    /// After which calls the store is opened anew, and the call before is repeated.
    reopened: Vec<bool>,
    /// After how many shards settling is broken off, and the store opened anew.
    broken: Vec<usize>,
    streams: bool,
    way: usize,
}

fn course() -> impl Strategy<Value = Course> {
    (
        proptest::collection::vec(0i64..40, 0..3),
        any::<bool>(),
        any::<bool>(),
        proptest::collection::vec(1usize..12, 1..8),
        proptest::collection::vec(proptest::bool::weighted(0.15), 8),
        proptest::collection::vec(1usize..4, 0..2),
        any::<bool>(),
        0..ways().len(),
    )
        .prop_map(
            |(splits, index_split, packed, cuts, reopened, broken, streams, way)| Course {
                splits,
                index_split,
                packed,
                cuts,
                reopened,
                broken,
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
        let path = TablePath::table(TABLE);
        let table = database.open_table(TABLE).unwrap();
        let mut batch = WriteBatch::new();
        for (id, row) in live {
            batch.replace(&table, columns(*id, row)).unwrap();
        }
        database.write(batch).unwrap();
        for at in &course.splits {
            database.split(&path, &id_key(*at)).unwrap();
        }
        if course.index_split {
            let at = mendb_model::key::encode(&[ColumnType::Utf8], [text("c1").as_ref()]);
            let path = TablePath::index(TABLE, "by_carrier");
            database.split(&path, &at).unwrap();
        }
        if course.packed {
            for path in paths(&flights(), TABLE) {
                database.compact(&path).unwrap();
            }
        }
        if course.streams {
            let tables = [TABLE.to_owned()];
            let cut = database.cut("backup-1", &tables, "s", StreamCut::Attach);
            cut.unwrap();
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

    /// Stages all that is wanted, in the cuts of the course.
    fn stage(&mut self, source: u32, wanted: &Wanted, course: &Course) {
        let mut calls = 0;
        for shard in self.database().shards(&TablePath::table(TABLE)).unwrap() {
            let of_shard: Vec<_> = wanted
                .iter()
                .filter(|(key, _)| shard.range.contains(key))
                .collect();
            let mut left = of_shard.as_slice();
            while !left.is_empty() {
                let cut = course.cuts[calls % course.cuts.len()].min(left.len());
                let (now, later) = left.split_at(cut);
                let changes = changes_of(now.iter().copied());
                let source = RowSource {
                    step: 0,
                    index: source,
                };
                let call = |database: &Database| {
                    let staged = database.stage_mend(shard.id, OPERATION, source, &changes);
                    let Staged::Done(staged) = staged.unwrap() else {
                        panic!("shards stay while a table is being mended");
                    };
                    staged.upserted + staged.erased + staged.kept
                };
                assert_eq!(call(self.database()), cut as u64);
                if course.reopened[calls % course.reopened.len()] {
                    self.reopen();
                    assert_eq!(call(self.database()), 0, "a repeated call is known");
                }
                left = later;
                calls += 1;
            }
        }
    }

    /// Settles to the end.
    fn settle(&mut self, course: &Course) {
        for shards in &course.broken {
            let mut left = *shards;
            let outcome = self.database().settle_mend(OPERATION, &mut |_| {
                left = left.saturating_sub(1);
                if left == 0 {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            // Whether it was broken off depends on how many shards there are.
            let _ = outcome.unwrap();
            self.reopen();
        }
        settle(self.database(), OPERATION);
    }
}

/// All rows of the table and its indexes.
fn everything(snapshot: &Snapshot) -> Everything {
    let paths = paths(&flights(), TABLE).into_iter();
    paths
        .map(|path| {
            let rows = encoded(snapshot, &path);
            (path, rows)
        })
        .collect()
}

fn reads(snapshot: &Snapshot, expected: &Rows) {
    check(snapshot, TABLE);
    let rows = encoded(snapshot, &TablePath::table(TABLE));
    assert_eq!(rows, rows_of(expected));
}

/// What a mend from `live` to `target` is told: every key that differs, and some that do not.
fn wanted_for(live: &Rows, target: &Rows) -> Wanted {
    let all = rows_of(target);
    let keys = live.keys().chain(target.keys()).map(|id| id_key(*id));
    keys.map(|key| {
        let row = all.get(&key).cloned();
        (key, row)
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_mend_reaches_what_is_wanted_in_one_step_and_can_be_mended_back(
        live in state(), detour in state(), target in state(), course in course(),
    ) {
        let mut world = World::new(&live, &course);
        let tables = [TABLE.to_owned()];
        let before = everything(&world.database().snapshot().unwrap());
        let since = world.database().version();

        world.database().begin_mend(OPERATION, &tables).unwrap();
        world.stage(0, &wanted_for(&live, &detour), &course);
        world.database().abort_mend(OPERATION).unwrap();
        reads(&world.database().snapshot().unwrap(), &live);

        for (from, to) in [(&live, &target), (&target, &live)] {
            world.database().begin_mend(OPERATION, &tables).unwrap();
            // What one source staged, another takes back or changes again.
            world.stage(0, &wanted_for(from, &detour), &course);
            let mut wanted = wanted_for(from, to);
            wanted.extend(wanted_for(&detour, to));
            world.stage(1, &wanted, &course);
            reads(&world.database().snapshot().unwrap(), from);
            reads(&world.database().mend_snapshot(OPERATION).unwrap(), to);
            world.database().publish_mend(OPERATION).unwrap();
            reads(&world.database().snapshot().unwrap(), to);
            world.settle(&course);
            let settled = world.database().snapshot().unwrap();
            reads(&settled, to);
            if course.streams {
                for (path, before) in &before {
                    let changes = changes(&settled, path, since);
                    let types = types(&flights(), path);
                    let reached = applied(before.clone(), &changes, &types);
                    assert_eq!(reached, encoded(&settled, path), "changes of {path}");
                }
            }
        }
    }
}
