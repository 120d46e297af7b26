//! Restores against a map, with rows so large that what is loaded and applied lies in files: in any order, cut,
//! repeated and killed.
//!
//! `MENDB_RESTORE_CASES=5000 cargo test -p mendb-rowstore --test restore_model` tries so many orders.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use common::*;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{Change, ColumnType, RowBlock, RowBlockBuilder, TableSchema, row};
use mendb_rowstore::{Applied, Database, NewTable, Options, PathState, RowSource};
use proptest::prelude::*;

const OPERATION: &str = "restore-1";
const TABLE: &str = "notes";
const IDS: i64 = 40;

type Model = BTreeMap<i64, (usize, u8)>;

#[derive(Debug, Clone)]
enum Step {
    /// Rows from an id on; how long each is.
    Load(i64, Vec<usize>),
    /// What becomes of rows.
    Apply(BTreeMap<i64, Option<usize>>),
    Split(i64),
    Merge(usize),
    Compact,
    Kill,
}

fn bytes() -> impl Strategy<Value = usize> {
    prop_oneof![0..500_usize, 5_000..20_000_usize, 50_000..90_000_usize]
}

fn step() -> impl Strategy<Value = Step> {
    let changes = proptest::collection::btree_map(0..IDS, proptest::option::of(bytes()), 1..20);
    prop_oneof![
        4 => (0..IDS, proptest::collection::vec(bytes(), 1..20))
            .prop_map(|(from, rows)| Step::Load(from, rows)),
        4 => changes.prop_map(Step::Apply),
        2 => (1..IDS).prop_map(Step::Split),
        1 => (0..4_usize).prop_map(Step::Merge),
        1 => Just(Step::Compact),
        1 => Just(Step::Kill),
    ]
}

fn schema() -> TableSchema {
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64, true),
            column("text", ColumnType::Utf8, false),
        ],
        key: vec!["id".to_owned()],
        indexes: vec![],
    }
}

fn row_of((bytes, of): (usize, u8)) -> Vec<u8> {
    let letter = char::from(b'a' + of % 26).to_string();
    row::encode(&[ColumnType::Utf8], &[text(&letter.repeat(bytes))])
}

struct World {
    dir: tempfile::TempDir,
    options: Options,
    database: Option<Database>,
    model: Model,
    sources: u32,
}

impl World {
    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    /// Sends values to the shards that own them, twice, from a source of its own.
    fn send(&mut self, values: &BTreeMap<i64, Vec<u8>>, are_changes: bool) {
        self.sources += 1;
        let source = RowSource {
            step: 0,
            index: self.sources,
        };
        for is_again in [false, true] {
            for shard in self.database().shards(&TablePath::table(TABLE)).unwrap() {
                let of_shard = block(values, &shard.range);
                let sent = match are_changes {
                    true => self
                        .database()
                        .apply(shard.id, OPERATION, source, &of_shard),
                    false => self.database().load(shard.id, OPERATION, source, &of_shard),
                };
                match sent.unwrap() {
                    Applied::Done { rows } => assert!(!is_again || rows == 0),
                    // It has split itself meanwhile; what was sent is there.
                    Applied::Gone => panic!("only a call itself splits a shard"),
                }
            }
        }
    }

    fn run(&mut self, step: Step) {
        let path = TablePath::table(TABLE);
        match step {
            Step::Load(from, rows) => {
                let of = self.sources as u8;
                let rows: Model = (from..IDS)
                    .zip(rows)
                    .map(|(id, bytes)| (id, (bytes, of)))
                    .collect();
                let values = rows.iter().map(|(id, row)| (*id, row_of(*row)));
                self.send(&values.collect(), false);
                self.model.extend(rows);
            }
            Step::Apply(changes) => {
                let of = self.sources as u8;
                let mut values = BTreeMap::new();
                for (id, bytes) in changes {
                    let change = match bytes {
                        Some(bytes) => {
                            self.model.insert(id, (bytes, of));
                            Change::reset(row_of((bytes, of)), 1)
                        }
                        None => {
                            self.model.remove(&id);
                            Change::erase(1)
                        }
                    };
                    values.insert(id, change.encode());
                }
                self.send(&values, true);
            }
            Step::Split(at) => self.database().split(&path, &id_key(at)).unwrap(),
            Step::Merge(at) => {
                let shards = self.database().shards(&path).unwrap();
                if let Some(right) = shards.get(at + 1) {
                    self.database().merge(&path, &right.range.start).unwrap();
                }
            }
            Step::Compact => self.database().compact(&path).unwrap(),
            Step::Kill => {
                let dir = tempfile::tempdir().unwrap();
                copy_directory(self.dir.path(), dir.path());
                self.database = None;
                self.dir = dir;
                let database = Database::open(self.dir.path(), self.options.clone());
                self.database = Some(database.unwrap());
            }
        }
    }

    fn check(&self) {
        let path = TablePath::table(TABLE);
        let snapshot = self.database().snapshot().unwrap();
        let expected = self
            .model
            .iter()
            .map(|(id, row)| (id_key(*id), row_of(*row)));
        assert!(encoded(&snapshot, &path) == expected.collect());
        for shard in snapshot.shards(&path).unwrap() {
            let read = snapshot.read_digest(&path, &shard.range).unwrap();
            assert_eq!(read, shard.digest);
        }
    }
}

fn block(values: &BTreeMap<i64, Vec<u8>>, range: &KeyRange) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for (id, value) in values {
        if range.contains(&id_key(*id)) {
            block.push(&id_key(*id), value);
        }
    }
    block.finish()
}

fn cases() -> u32 {
    let cases = std::env::var("MENDB_RESTORE_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(24)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn large_rows_are_restored_as_a_map_says_whatever_happens(
        compact_bytes in proptest::sample::select(vec![0, 200 << 10, u64::MAX]),
        split_bytes in proptest::sample::select(vec![64 << 10, u64::MAX]),
        steps in proptest::collection::vec(step(), 1..24),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { compact_bytes, split_bytes, ..small() };
        let database = Database::open(dir.path(), options.clone()).unwrap();
        database.create_table("other", schema(), vec![]).unwrap();
        let table = NewTable {
            name: TABLE.to_owned(),
            schema: schema(),
            versions: database.describe("other").unwrap().versions,
            splits: BTreeMap::new(),
        };
        database.create_restoring(OPERATION, vec![table]).unwrap();
        let mut world = World {
            dir,
            options,
            database: Some(database),
            model: Model::new(),
            sources: 0,
        };
        for step in steps {
            world.run(step);
            world.check();
        }
        world.database().finish_restore(OPERATION).unwrap();
        assert_eq!(world.database().describe(TABLE).unwrap().state, PathState::Ready);
        world.check();
        check(&world.database().snapshot().unwrap(), TABLE);
    }
}
