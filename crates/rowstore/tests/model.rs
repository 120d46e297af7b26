//! The store against a map: whatever happens in whatever order, rows, indexes, digests and changes agree.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use mendb_model::Value;
use mendb_model::name::TablePath;
use mendb_rowstore::{Database, Options, Snapshot, StreamCut, Versions};
use proptest::prelude::*;

/// The table of the test, as columns without the key.
type Model = BTreeMap<i64, Vec<Value>>;

#[derive(Debug, Clone)]
enum Step {
    /// Each inner list is one batch of (id, columns given; none erases); whether it is written in bulk.
    Write(Vec<(i64, Option<Cells>)>, bool),
    Split(Option<usize>, i64),
    Merge(Option<usize>, usize),
    Compact(Option<usize>),
    Reopen,
    Remember,
    Cut,
}

/// carrier, seats: given or not; and whether all columns are replaced.
type Cells = (bool, Option<Option<u8>>, Option<Option<i8>>);

fn step() -> impl Strategy<Value = Step> {
    let cells = any::<Cells>().prop_map(|(all, a, b)| (all, a.map(|a| a.map(|a| a % 4)), b));
    let write = (-20i64..20, proptest::option::weighted(0.8, cells));
    let path = proptest::option::of(0usize..2);
    prop_oneof![
        6 => (proptest::collection::vec(write, 1..12), proptest::bool::weighted(0.3))
            .prop_map(|(changes, in_bulk)| Step::Write(changes, in_bulk)),
        1 => (path.clone(), -20i64..20).prop_map(|(path, at)| Step::Split(path, at)),
        1 => (path.clone(), 0usize..4).prop_map(|(path, at)| Step::Merge(path, at)),
        1 => path.prop_map(Step::Compact),
        1 => Just(Step::Reopen),
        2 => Just(Step::Remember),
        1 => Just(Step::Cut),
    ]
}

struct World {
    dir: tempfile::TempDir,
    database: Option<Database>,
    model: Model,
    remembered: Vec<(Snapshot, Model)>,
    stream_since: Option<u64>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = open(dir.path());
        database.create_table("flights", flights(), vec![]).unwrap();
        Self {
            dir,
            database: Some(database),
            model: Model::new(),
            remembered: Vec::new(),
            stream_since: None,
        }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn path(&self, index: Option<usize>) -> TablePath {
        match index {
            None => TablePath::table("flights"),
            Some(at) => TablePath::index("flights", &flights().indexes[at].name),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Write(changes, in_bulk) => self.write(changes, in_bulk),
            Step::Split(index, at) => {
                let key = match index {
                    None => id_key(at),
                    Some(_) => mendb_model::key::encode(
                        &[mendb_model::ColumnType::Utf8],
                        [text(&format!("c{}", at.rem_euclid(4))).as_ref()],
                    ),
                };
                self.database().split(&self.path(index), &key).unwrap();
            }
            Step::Merge(index, at) => {
                let path = self.path(index);
                let shards = self.database().shards(&path).unwrap();
                if let Some(right) = shards.get(at + 1) {
                    self.database().merge(&path, &right.range.start).unwrap();
                }
            }
            Step::Compact(index) => self.database().compact(&self.path(index)).unwrap(),
            Step::Reopen => {
                self.remembered.clear();
                self.database = None;
                self.database = Some(open(self.dir.path()));
            }
            Step::Remember => {
                let snapshot = self.database().snapshot().unwrap();
                self.remembered.push((snapshot, self.model.clone()));
            }
            Step::Cut => {
                let tables = ["flights".to_owned()];
                let cut = self
                    .database()
                    .cut("backup-1", &tables, "s", StreamCut::Attach);
                let cut = cut.unwrap();
                self.stream_since.get_or_insert(cut.version());
                self.remembered.push((cut, self.model.clone()));
                self.database().unlock("backup-1").unwrap();
            }
        }
    }

    fn write(&mut self, changes: Vec<(i64, Option<Cells>)>, in_bulk: bool) {
        let table = self.database().open_table("flights").unwrap();
        let mut puts = Vec::new();
        for (id, cells) in changes {
            let Some((all, carrier, seats)) = cells else {
                puts.push(Put::Erase(vec![int(id)]));
                self.model.remove(&id);
                continue;
            };
            let carrier = carrier.map(|c| c.map_or(Value::Null, |c| text(&format!("c{c}"))));
            let seats = seats.map(|s| s.map_or(Value::Null, |s| int(s.into())));
            // A code that no other row has, so that the unique index never refuses.
            let code = seats.as_ref().map(|_| text(&format!("code-{id}")));
            let given = [carrier, seats, code];
            if all {
                let row: Vec<Value> = given.into_iter().map(Option::unwrap_or_default).collect();
                puts.push(Put::Replace([vec![int(id)], row.clone()].concat()));
                self.model.insert(id, row);
            } else {
                let row = self.model.entry(id).or_insert_with(|| vec![Value::Null; 3]);
                let mut columns = vec![(0, int(id))];
                for (at, value) in given.into_iter().enumerate() {
                    if let Some(value) = value {
                        columns.push((at + 1, value.clone()));
                        row[at] = value;
                    }
                }
                puts.push(Put::Upsert(columns));
            }
        }
        put(self.database(), &table, puts, in_bulk).unwrap();
    }

    fn check(&self) {
        agrees(&self.database().snapshot().unwrap(), &self.model);
        for (snapshot, model) in &self.remembered {
            agrees(snapshot, model);
        }
        // The log carries each remembered snapshot of the stream's time to every later one.
        let Some(since) = self.stream_since else {
            return;
        };
        let now = self.database().snapshot().unwrap();
        let later = self
            .remembered
            .iter()
            .map(|(snapshot, _)| snapshot)
            .chain([&now]);
        let of_stream: Vec<_> = later.filter(|s| s.version() >= since).collect();
        for (at, from) in of_stream.iter().enumerate() {
            for to in &of_stream[at..] {
                for path in paths(&flights(), "flights") {
                    let changes = changes(to, &path, from.version());
                    let types = types(&flights(), &path);
                    let reached = applied(encoded(from, &path), &changes, &types);
                    assert_eq!(reached, encoded(to, &path), "changes of {path}");
                }
            }
        }
    }
}

fn agrees(snapshot: &Snapshot, model: &Model) {
    let table = snapshot.open_table("flights").unwrap();
    let expected: Vec<Vec<Value>> = model
        .iter()
        .map(|(id, row)| [vec![int(*id)], row.clone()].concat())
        .collect();
    assert_eq!(rows(snapshot, &table), expected);
    for id in [-20, 0, 7] {
        let expected = model
            .get(&id)
            .map(|row| [vec![int(id)], row.clone()].concat());
        assert_eq!(snapshot.get(&table, &[int(id)]).unwrap(), expected);
    }
    check(snapshot, "flights");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn rows_indexes_digests_and_changes_agree_whatever_happens(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.check();
    }
}

/// Splits and packing that nobody asked for, with rows enough for many blocks.
#[test]
fn shards_that_grow_split_and_pack_themselves() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        split_bytes: 256 << 10,
        compact_bytes: 32 << 10,
        ..small()
    };
    let database = Database::open(dir.path(), options).unwrap();
    database.create_table("flights", flights(), vec![]).unwrap();
    let table = database.open_table("flights").unwrap();
    let mut id = 1i64;
    let before = database.snapshot().unwrap();
    for _ in 0..60 {
        let mut batch = Vec::new();
        for _ in 0..200 {
            id = (id * 48_271) % 2_147_483_647;
            batch.push(vec![
                int(id),
                text(&format!("carrier {}", id % 100)),
                int(1),
                Value::Null,
            ]);
        }
        replace(&database, &table, batch);
    }
    let snapshot = database.snapshot().unwrap();
    check(&snapshot, "flights");
    assert_eq!(
        snapshot.describe("flights").unwrap().rows.digest().rows,
        12_000
    );
    for path in paths(&flights(), "flights").into_iter().take(2) {
        assert!(
            database.shards(&path).unwrap().len() > 1,
            "{path} split itself"
        );
    }
    assert!(rows(&before, &table).is_empty());
    assert_eq!(
        snapshot.describe("flights").unwrap().versions,
        Versions::clone(table.versions())
    );
    drop((before, snapshot, database));
    check(&open(dir.path()).snapshot().unwrap(), "flights");
}
