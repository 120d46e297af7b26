//! The store against a map, with rows so large that runs lie in files and have many blocks: batches, bulk
//! writes, mends, streams, splits and kills in any order.
//!
//! `MENDB_RUN_CASES=5000 cargo test -p mendb-rowstore --test run_model` tries so many orders.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use common::mending::{OPERATION, Wanted, changes_of, value};
use common::*;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, IndexSchema, TableSchema, Value};
use mendb_rowstore::{Database, Direction, Error, Options, RowSource, Snapshot, Staged, StreamCut};
use proptest::prelude::*;

const TABLE: &str = "notes";
const IDS: i64 = 24;
/// Codes that several rows may want.
const SHARED_CODES: u8 = 6;
const STREAMS: [&str; 2] = ["s", "t"];

/// Notes: key `id`, an index, a unique index, and a column that makes rows large.
fn notes() -> TableSchema {
    let index = |name: &str, column: &str, unique| IndexSchema {
        name: name.to_owned(),
        columns: vec![column.to_owned()],
        cover: if unique {
            vec![]
        } else {
            vec!["text".to_owned()]
        },
        unique,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Int64, true),
            column("kind", ColumnType::Utf8, false),
            column("code", ColumnType::Utf8, false),
            column("text", ColumnType::Utf8, false),
        ],
        key: vec!["id".to_owned()],
        indexes: vec![
            index("by_kind", "kind", false),
            index("by_code", "code", true),
        ],
    }
}

/// kind, code, bytes of the text and what it is of. The rest of a row is nothing.
type Row = (Option<u8>, Option<u8>, Option<(u8, u8)>);
type Model = BTreeMap<i64, Row>;

fn text_of((size, of): (u8, u8)) -> Value {
    let bytes = [1, 300, 6_000, 17_000, 40_000, 70_000][usize::from(size)];
    let letters = [b'a' + of, b'A' + size];
    text(
        std::str::from_utf8(&letters)
            .unwrap()
            .repeat(bytes / 2 + 1)
            .as_str(),
    )
}

/// The code of a row, which is most often of its own.
fn code_of(id: i64, (_, code, _): &Row) -> Option<i64> {
    code.map(|code| {
        if code < SHARED_CODES {
            code.into()
        } else {
            100 + id
        }
    })
}

fn columns(id: i64, row: &Row) -> [Value; 3] {
    let (kind, _, note) = row;
    let name = |of: &str, at: Option<i64>| at.map_or(Value::Null, |at| text(&format!("{of}{at}")));
    [
        name("k", kind.map(i64::from)),
        name("c", code_of(id, row)),
        note.map_or(Value::Null, text_of),
    ]
}

fn all_columns(id: i64, row: &Row) -> Vec<Value> {
    let [kind, code, note] = columns(id, row);
    vec![int(id), kind, code, note]
}

#[derive(Debug, Clone)]
enum Change {
    Replace(Row),
    /// Which columns are given.
    Upsert(Row, [bool; 3]),
    Erase,
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<(i64, Change)>, bool),
    Begin,
    /// From a source of its own; whether twice.
    Stage(Vec<(i64, Option<Row>)>, bool),
    Look,
    Publish,
    Settle(Option<usize>),
    Abort,
    Split(usize, i64),
    Merge(usize, usize),
    Compact(usize),
    Reopen,
    Kill,
    Remember,
    Forget(usize),
    Cut(usize),
    Rotate(usize),
    Release(usize),
    Detach(usize),
    Probe(i64, i64),
}

fn row() -> impl Strategy<Value = Row> {
    (
        proptest::option::of(0..3_u8),
        proptest::option::weighted(0.8, 0..60_u8),
        proptest::option::weighted(0.9, (0..6_u8, 0..20_u8)),
    )
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => row().prop_map(Change::Replace),
        2 => (row(), any::<[bool; 3]>()).prop_map(|(row, given)| Change::Upsert(row, given)),
        2 => Just(Change::Erase),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let write = proptest::collection::vec((0..IDS, change()), 1..20);
    let staged = proptest::collection::vec((0..IDS, proptest::option::weighted(0.7, row())), 1..20);
    prop_oneof![
        8 => (write, proptest::bool::weighted(0.7)).prop_map(|(puts, bulk)| Step::Write(puts, bulk)),
        4 => Just(Step::Begin),
        9 => (staged, proptest::bool::weighted(0.2)).prop_map(|(rows, twice)| Step::Stage(rows, twice)),
        2 => Just(Step::Look),
        3 => Just(Step::Publish),
        3 => proptest::option::weighted(0.3, 0..3_usize).prop_map(Step::Settle),
        2 => Just(Step::Abort),
        2 => (0..3_usize, 0..IDS).prop_map(|(path, at)| Step::Split(path, at)),
        2 => (0..3_usize, 0..4_usize).prop_map(|(path, at)| Step::Merge(path, at)),
        2 => (0..3_usize).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
        2 => Just(Step::Kill),
        2 => Just(Step::Remember),
        1 => (0..8_usize).prop_map(Step::Forget),
        2 => (0..2_usize).prop_map(Step::Cut),
        1 => (0..2_usize).prop_map(Step::Rotate),
        1 => (0..2_usize).prop_map(Step::Release),
        1 => (0..2_usize).prop_map(Step::Detach),
        3 => (0..IDS, 0..=IDS).prop_map(|(from, to)| Step::Probe(from, to)),
    ]
}

struct World {
    dir: tempfile::TempDir,
    options: Options,
    database: Option<Database>,
    model: Model,
    /// The table as a mend will make it, and whether it has.
    staged: Option<(Model, bool)>,
    /// Distinct for each call, as cursors only go on.
    sources: u32,
    remembered: Vec<(Snapshot, Model)>,
    /// Snapshots of what was staged.
    looked: Vec<(Snapshot, Model)>,
    /// From which version on each stream needs changes.
    streams: [Option<u64>; 2],
}

impl World {
    fn new(options: Options) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(dir.path(), options.clone()).unwrap();
        database.create_table(TABLE, notes(), vec![]).unwrap();
        Self {
            dir,
            options,
            database: Some(database),
            model: Model::new(),
            staged: None,
            sources: 0,
            remembered: Vec::new(),
            looked: Vec::new(),
            streams: [None; 2],
        }
    }

    fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    fn path(at: usize) -> TablePath {
        paths(&notes(), TABLE)[at].clone()
    }

    /// Whether the result is what it is while the table is open, or is being mended.
    fn reshaped(&self, result: Result<(), Error>) {
        match (result, &self.staged) {
            (Ok(()), None) => {}
            (Ok(()) | Err(Error::BeingMended { .. }), Some(_)) => {}
            (Err(error), _) => panic!("{error:?}"),
        }
    }

    fn run(&mut self, step: Step) {
        let tables = [TABLE.to_owned()];
        match step {
            Step::Write(changes, in_bulk) => self.write(&changes, in_bulk),
            Step::Begin => {
                self.database().begin_mend(OPERATION, &tables).unwrap();
                if self.staged.is_none() {
                    self.staged = Some((self.model.clone(), false));
                }
            }
            Step::Stage(rows, twice) => self.stage(rows, twice),
            Step::Look => {
                if let Some((staged, false)) = &self.staged {
                    let looked = self
                        .database
                        .as_ref()
                        .unwrap()
                        .mend_snapshot(OPERATION)
                        .unwrap();
                    agrees(&looked, staged);
                    self.looked.push((looked, staged.clone()));
                }
            }
            Step::Publish => {
                if let Some((staged, published)) = &mut self.staged {
                    self.database
                        .as_ref()
                        .unwrap()
                        .publish_mend(OPERATION)
                        .unwrap();
                    *published = true;
                    self.model = staged.clone();
                }
            }
            Step::Settle(broken) => {
                if !matches!(self.staged, Some((_, true))) {
                    return;
                }
                let mut left = broken;
                let settled = self
                    .database()
                    .settle_mend(OPERATION, &mut |_| match &mut left {
                        Some(0) => ControlFlow::Break(()),
                        Some(left) => {
                            *left -= 1;
                            ControlFlow::Continue(())
                        }
                        None => ControlFlow::Continue(()),
                    });
                if settled.unwrap().is_continue() {
                    self.staged = None;
                }
            }
            Step::Abort => match &self.staged {
                Some((_, true)) => {
                    let refused = self.database().abort_mend(OPERATION).unwrap_err();
                    assert!(matches!(refused, Error::MendPublished { .. }));
                }
                _ => {
                    self.database().abort_mend(OPERATION).unwrap();
                    self.staged = None;
                }
            },
            Step::Split(path, at) => {
                let name = |of: &str, at: i64| {
                    let name = text(&format!("{of}{at}"));
                    mendb_model::key::encode(&[ColumnType::Utf8], [name.as_ref()])
                };
                let key = match path {
                    0 => id_key(at),
                    1 => name("k", at % 3),
                    _ => name("c", if at % 2 == 0 { at / 4 } else { 100 + at }),
                };
                self.reshaped(self.database().split(&Self::path(path), &key));
            }
            Step::Merge(path, at) => {
                let path = Self::path(path);
                let shards = self.database().shards(&path).unwrap();
                if let Some(right) = shards.get(at + 1) {
                    self.reshaped(self.database().merge(&path, &right.range.start));
                }
            }
            Step::Compact(path) => self.reshaped(self.database().compact(&Self::path(path))),
            Step::Reopen => {
                self.remembered.clear();
                self.looked.clear();
                self.database = None;
                let database = Database::open(self.dir.path(), self.options.clone());
                self.database = Some(database.unwrap());
            }
            Step::Kill => {
                self.remembered.clear();
                self.looked.clear();
                let dir = tempfile::tempdir().unwrap();
                copy_directory(self.dir.path(), dir.path());
                self.database = None;
                self.dir = dir;
                let database = Database::open(self.dir.path(), self.options.clone());
                self.database = Some(database.unwrap());
            }
            Step::Remember => {
                let snapshot = self.database().snapshot().unwrap();
                self.remembered.push((snapshot, self.model.clone()));
                let elsewhere = Snapshot::open(self.dir.path()).unwrap().unwrap();
                self.remembered.push((elsewhere, self.model.clone()));
            }
            Step::Forget(at) => {
                self.looked.truncate(at);
                if at < self.remembered.len() {
                    self.remembered.remove(at);
                }
            }
            Step::Cut(at) => self.cut(at, StreamCut::Attach),
            Step::Rotate(at) => {
                if self.streams[at].is_some() {
                    self.cut(at, StreamCut::Rotate);
                }
            }
            Step::Release(at) => {
                if self.streams[at].is_some() {
                    let version = self.database().version();
                    self.database()
                        .release_stream(STREAMS[at], version)
                        .unwrap();
                    self.streams[at] = Some(version);
                }
            }
            Step::Detach(at) => {
                self.database().detach_stream(STREAMS[at]).unwrap();
                self.streams[at] = None;
            }
            Step::Probe(from, to) => self.probe(from, to),
        }
    }

    fn cut(&mut self, at: usize, how: StreamCut) {
        let tables = [TABLE.to_owned()];
        let operation = match self.staged {
            Some((_, false)) => OPERATION,
            _ => "backup",
        };
        let cut = self.database().cut(operation, &tables, STREAMS[at], how);
        match (cut, &self.staged) {
            (Ok(cut), None | Some((_, false))) => {
                if self.streams[at].is_none() {
                    self.streams[at] = Some(cut.version());
                }
                self.remembered.push((cut, self.model.clone()));
                self.database().unlock("backup").unwrap();
            }
            (Err(Error::BeingMended { .. }), Some((_, true))) => {}
            (cut, _) => panic!("{:?}", cut.map(|cut| cut.version())),
        }
    }

    fn write(&mut self, changes: &[(i64, Change)], in_bulk: bool) {
        let mut after = self.model.clone();
        let mut puts = Vec::new();
        for (id, change) in changes {
            match change {
                Change::Erase => {
                    after.remove(id);
                    puts.push(Put::Erase(vec![int(*id)]));
                }
                Change::Replace(row) => {
                    after.insert(*id, *row);
                    puts.push(Put::Replace(all_columns(*id, row)));
                }
                Change::Upsert(row, given) => {
                    let there = after.entry(*id).or_insert((None, None, None));
                    let values = columns(*id, row);
                    let mut put = vec![(0, int(*id))];
                    for (at, value) in values.into_iter().enumerate() {
                        if given[at] {
                            put.push((at + 1, value));
                        }
                    }
                    if given[0] {
                        there.0 = row.0;
                    }
                    if given[1] {
                        there.1 = row.1;
                    }
                    if given[2] {
                        there.2 = row.2;
                    }
                    puts.push(Put::Upsert(put));
                }
            }
        }
        let table = self.database().open_table(TABLE).unwrap();
        match put(self.database(), &table, puts, in_bulk) {
            Ok(_) => {
                assert!(self.staged.is_none(), "nobody writes what is being mended");
                assert!(is_unique(&after), "a unique index has one row a key");
                self.model = after;
            }
            Err(Error::BeingMended { .. }) if self.staged.is_some() => {}
            Err(Error::Unique { .. }) => assert!(!is_unique(&after)),
            Err(error) => panic!("{error:?}"),
        }
    }

    fn stage(&mut self, rows: Vec<(i64, Option<Row>)>, twice: bool) {
        let Some((staged, false)) = &self.staged else {
            return;
        };
        let mut after = staged.clone();
        let mut wanted = Wanted::new();
        for (id, row) in rows {
            let mut with = after.clone();
            match row {
                Some(row) => with.insert(id, row),
                None => with.remove(&id),
            };
            // A mend brings a state that was there: it is unique.
            if !is_unique(&with) {
                continue;
            }
            after = with;
            let value = row.map(|row| value(&notes(), &all_columns(id, &row)));
            wanted.insert(id_key(id), value);
        }
        self.sources += 1;
        let source = RowSource {
            step: 0,
            index: self.sources,
        };
        for _ in 0..=u8::from(twice) {
            for shard in self.database().shards(&TablePath::table(TABLE)).unwrap() {
                let of_shard = wanted.iter().filter(|(key, _)| shard.range.contains(key));
                let changes = changes_of(of_shard);
                let staged = self
                    .database()
                    .stage_mend(shard.id, OPERATION, source, &changes);
                assert!(matches!(staged.unwrap(), Staged::Done(_)));
            }
        }
        self.staged = Some((after, false));
    }

    /// Reads ranges, with bounds at and beside keys.
    fn probe(&self, from: i64, to: i64) {
        let snapshot = self.database().snapshot().unwrap();
        let table = snapshot.open_table(TABLE).unwrap();
        for beside in [false, true] {
            let mut start = id_key(from);
            if beside {
                start.push(0);
            }
            let range = KeyRange {
                start,
                end: Some(id_key(to)),
            };
            let within = |id: &i64| range.contains(&id_key(*id));
            let ids: Vec<i64> = self.model.keys().copied().filter(within).collect();
            for direction in [Direction::Ascending, Direction::Descending] {
                let scan = snapshot.scan(&table, range.clone(), direction).unwrap();
                let mut read: Vec<i64> = scan
                    .map(|row| match row.unwrap()[0] {
                        Value::Int(id) => id,
                        _ => panic!("an id is a number"),
                    })
                    .collect();
                if direction == Direction::Descending {
                    read.reverse();
                }
                assert_eq!(read, ids);
            }
            let path = TablePath::table(TABLE);
            let after = id_key((from + to) / 2);
            let blocks = snapshot.blocks(&path, &range, Some(&after)).unwrap();
            let mut keys = Vec::new();
            for block in blocks {
                keys.extend(block.unwrap().iter().map(|(key, _)| key.to_vec()));
            }
            let behind = ids.iter().map(|id| id_key(*id)).filter(|key| *key > after);
            assert_eq!(keys, behind.collect::<Vec<_>>());
        }
        let ids = (0..IDS).chain([from, to]);
        let keys: Vec<_> = ids.clone().map(id_key).collect();
        let read = snapshot.rows_of(&TablePath::table(TABLE), keys).unwrap();
        for (id, row) in ids.zip(read) {
            let expected = self.model.get(&id);
            let expected = expected.map(|row| value(&notes(), &all_columns(id, row)));
            assert!(row.unwrap() == expected, "row {id}");
        }
    }

    fn check(&self) {
        let now = self.database().snapshot().unwrap();
        agrees(&now, &self.model);
        for (snapshot, model) in self.remembered.iter().chain(&self.looked) {
            agrees(snapshot, model);
        }
        let Some(since) = self.streams.iter().flatten().min() else {
            return;
        };
        let later = self.remembered.iter().map(|(snapshot, _)| snapshot);
        let later: Vec<_> = later
            .chain([&now])
            .filter(|s| s.version() >= *since)
            .collect();
        for from in &later {
            for to in &later {
                if from.version() > to.version() {
                    continue;
                }
                for path in paths(&notes(), TABLE) {
                    let changes = changes(to, &path, from.version());
                    let types = types(&notes(), &path);
                    let reached = applied(encoded(from, &path), &changes, &types);
                    assert!(reached == encoded(to, &path), "changes of {path}");
                }
            }
        }
        now.held_back(TABLE).unwrap();
    }
}

fn is_unique(model: &Model) -> bool {
    let codes = model.iter().filter_map(|(id, row)| code_of(*id, row));
    let mut codes: Vec<i64> = codes.collect();
    codes.sort_unstable();
    codes.is_sorted_by(|one, other| one < other)
}

fn agrees(snapshot: &Snapshot, model: &Model) {
    let table = snapshot.open_table(TABLE).unwrap();
    let expected: Vec<_> = model
        .iter()
        .map(|(id, row)| all_columns(*id, row))
        .collect();
    assert!(
        rows(snapshot, &table) == expected,
        "rows are those of the model"
    );
    check(snapshot, TABLE);
}

fn options() -> impl Strategy<Value = Options> {
    (
        proptest::sample::select(vec![0, 100 << 10, u64::MAX]),
        proptest::sample::select(vec![64 << 10, u64::MAX]),
        proptest::sample::select(vec![0, 200 << 10]),
    )
        .prop_map(|(compact_bytes, split_bytes, trim_bytes)| Options {
            compact_bytes,
            split_bytes,
            trim_bytes,
            ..small()
        })
}

fn cases() -> u32 {
    let cases = std::env::var("MENDB_RUN_CASES").ok();
    cases.and_then(|cases| cases.parse().ok()).unwrap_or(48)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]
    #[test]
    fn large_runs_agree_with_a_map_whatever_happens(
        options in options(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new(options);
        for step in steps {
            world.run(step);
        }
        world.check();
    }
}
