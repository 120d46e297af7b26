//! Random chains of backups, and what they hold by the book: one change after another, in a map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use mendb_model::change::partial_row;
use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, Parent, ShardBackup, ShardedData};
use mendb_model::name::TablePath;
use mendb_model::{
    BackupId, Change, Column, ColumnType, Digest, Replaced, RowBlockBuilder, TableSchema, Value,
    key,
};
use mendb_repo::{Content, Repository, RepositoryOptions, SegmentTarget, StoredManifest};
use object_store::path::Path;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use crate::faulty_store::{FaultyStore, Moment, Request};
use crate::rows::Rows;
use crate::sample::{self, full, increment};

/// Keys are drawn from so many.
pub const KEYS: u32 = 60;

/// Columns beside the key: later backups may have one more.
const COLUMNS: [(&str, ColumnType); 3] = [
    ("price", ColumnType::Int64),
    ("note", ColumnType::Utf8),
    ("added", ColumnType::Bool),
];

/// What happens to a key: an erase, or a kind and the given columns.
#[derive(Debug, Clone)]
pub enum Edit {
    Erase,
    Reset(Vec<Option<Value>>),
    Upsert(Vec<Option<Value>>),
}

/// One backup of a chain.
#[derive(Debug, Clone)]
pub struct Backup {
    pub edits: BTreeMap<u32, Edit>,
    /// Where its shards begin.
    pub splits: Vec<u32>,
    /// Whether its manifest lists row groups, as those of older versions do not.
    pub groups: bool,
}

/// A chain: the edits of its full backup make rows.
#[derive(Debug, Clone)]
pub struct World {
    pub backups: Vec<Backup>,
    /// From this backup on, tables have one column more.
    pub grown_at: usize,
    /// Whether changes are resets and erases that say what they replaced, as a target writes them; those of an
    /// older mendb are not.
    pub is_told: bool,
    pub segment_bytes: u64,
    pub group_rows: usize,
    /// Whether manifests name lists of their shards.
    pub listed: bool,
}

fn values() -> impl Strategy<Value = Vec<Option<Value>>> {
    let number = prop_oneof![Just(Value::Null), (0i64..9).prop_map(Value::Int)];
    let text = prop_oneof![Just(Value::Null), "[a-z]{0,12}".prop_map(Value::Text)];
    let flag = any::<bool>().prop_map(Value::Bool);
    (option::of(number), option::of(text), option::of(flag)).prop_map(|(a, b, c)| vec![a, b, c])
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        1 => Just(Edit::Erase),
        1 => values().prop_map(Edit::Reset),
        3 => values().prop_map(Edit::Upsert),
    ]
}

fn backup(most: usize) -> impl Strategy<Value = Backup> {
    (
        btree_map(0..KEYS, edit(), 0..most),
        vec(0..KEYS, 0..4),
        prop::bool::weighted(0.8),
    )
        .prop_map(|(edits, splits, groups)| Backup {
            edits,
            splits,
            groups,
        })
}

pub fn world() -> impl Strategy<Value = World> {
    (
        backup(60),
        vec(backup(30), 0..5),
        0usize..8,
        any::<bool>(),
        1u64..600,
        1usize..12,
        any::<bool>(),
    )
        .prop_map(
            |(first, increments, grown_at, is_told, segment_bytes, group_rows, listed)| World {
                backups: std::iter::once(first).chain(increments).collect(),
                grown_at,
                is_told,
                segment_bytes,
                group_rows,
                listed,
            },
        )
}

pub fn path() -> TablePath {
    TablePath::table("goods")
}

pub fn key_of(id: u32) -> Vec<u8> {
    key::encode(&[ColumnType::Uint32], [Value::Uint(id.into()).as_ref()])
}

impl World {
    pub fn schema(&self, backup: usize) -> TableSchema {
        let columns = if backup < self.grown_at { 2 } else { 3 };
        let column = |(name, column_type): &(&str, ColumnType)| Column {
            name: (*name).to_owned(),
            column_type: *column_type,
            not_null: false,
        };
        TableSchema {
            columns: [("id", ColumnType::Uint32)]
                .iter()
                .chain(&COLUMNS[..columns])
                .map(column)
                .collect(),
            key: vec!["id".to_owned()],
            indexes: Vec::new(),
        }
    }

    /// The changes of a backup, by key.
    pub fn changes(&self, backup: usize) -> BTreeMap<Vec<u8>, Change> {
        let types = self.schema(backup).value_types();
        let version = backup as u64;
        let edits = self.backups[backup].edits.iter();
        let change = |edit: &Edit| match edit {
            Edit::Erase => Change::erase(version),
            Edit::Reset(values) => {
                Change::reset(partial_row(&types, &values[..types.len()]).1, version)
            }
            Edit::Upsert(values) => {
                let (set, row) = partial_row(&types, &values[..types.len()]);
                Change::upsert(set, row, version)
            }
        };
        let changes = edits.map(|(id, edit)| (key_of(*id), change(edit)));
        if !self.is_told || backup == 0 {
            return changes.collect();
        }
        let before = self.rows(backup);
        let told = |(key, change): (Vec<u8>, Change)| {
            let row = before.get(&key).map(Vec::as_slice);
            let told = match change.apply(row, &types).unwrap() {
                Some(after) => Change::reset(after, version),
                None => Change::erase(version),
            };
            let replaced = Replaced::of(&key, row);
            (key, Change { replaced, ..told })
        };
        changes.map(told).collect()
    }

    /// The rows after the first `backups`, each applied after the one before.
    pub fn rows(&self, backups: usize) -> Rows {
        let types = self.schema(backups - 1).value_types();
        let mut rows = Rows::new();
        for backup in 0..backups {
            for (key, change) in self.changes(backup) {
                match change
                    .apply(rows.get(&key).map(Vec::as_slice), &types)
                    .unwrap()
                {
                    Some(row) => rows.insert(key, row),
                    None => rows.remove(&key),
                };
            }
        }
        rows
    }

    /// The changes of the backups from `first` up to `end`, joined.
    pub fn folded(&self, first: usize, end: usize) -> Rows {
        let types = self.schema(end - 1).value_types();
        let mut folded: BTreeMap<Vec<u8>, Change> = BTreeMap::new();
        for backup in first..end {
            for (key, change) in self.changes(backup) {
                let joined = match folded.remove(&key) {
                    Some(before) => before.then(change, &types).unwrap(),
                    None => change,
                };
                folded.insert(key, joined);
            }
        }
        folded
            .into_iter()
            .map(|(key, change)| (key, change.encode()))
            .collect()
    }

    /// The manifests of all backups, whose segments are written: drafts without parents, unless they are to
    /// name lists.
    pub async fn write(&self, repository: &Repository) -> Vec<Arc<Manifest>> {
        if self.listed {
            let stored = self.put(repository).await.into_iter();
            return stored.map(|stored| Arc::new(stored.manifest)).collect();
        }
        let mut manifests = Vec::new();
        for backup in 0..self.backups.len() {
            manifests.push(Arc::new(self.write_backup(repository, backup).await));
        }
        manifests
    }

    /// Writes all backups, each on the one before.
    pub async fn put(&self, repository: &Repository) -> Vec<StoredManifest> {
        repository.create_if_absent().await.unwrap();
        let mut chain: Vec<StoredManifest> = Vec::new();
        for backup in 0..self.backups.len() {
            let mut manifest = self.write_backup(repository, backup).await;
            manifest.label = Some(format!("day {backup}"));
            manifest.parent = chain.last().map(|parent| Parent {
                backup_id: parent.manifest.backup_id.clone(),
                manifest_blake3: parent.blake3.clone(),
            });
            chain.push(
                repository
                    .put_manifest(&manifest, sample::WRITER)
                    .await
                    .unwrap(),
            );
        }
        chain
    }

    pub fn id(backup: usize) -> BackupId {
        match backup {
            0 => full(0),
            n => increment(n.try_into().unwrap()),
        }
    }

    pub async fn write_backup(&self, repository: &Repository, backup: usize) -> Manifest {
        let values = match backup {
            0 => self.rows(1),
            _ => self.folded(backup, backup + 1),
        };
        self.write_values(repository, backup, values.into_iter().collect())
            .await
    }

    /// Writes a backup that holds these rows or changes, whatever its manifest says of the snapshot.
    pub async fn write_values(
        &self,
        repository: &Repository,
        backup: usize,
        values: Vec<(Vec<u8>, Vec<u8>)>,
    ) -> Manifest {
        let id = Self::id(backup);
        let schema = self.schema(backup);
        let content = match backup {
            0 => Content::Rows,
            _ => Content::Changes,
        };
        let held = self.rows(backup + 1);
        let splits = self.backups[backup].splits.iter().map(|id| key_of(*id));
        let mut shards = Vec::new();
        for (shard, range) in (0..).zip(KeyRange::split_at(splits.collect())) {
            let target = SegmentTarget {
                shard,
                ..sample::target(&id, 0)
            };
            let mut writer = repository.segment_writer(target, &schema, content).unwrap();
            let mut segments = Vec::new();
            for (key, value) in values.iter().filter(|(key, _)| range.contains(key)) {
                let mut block = RowBlockBuilder::new();
                block.push(key, value);
                segments.extend(writer.push(&block.finish()).await.unwrap());
            }
            segments.extend(writer.finish().await.unwrap());
            if !self.backups[backup].groups {
                segments
                    .iter_mut()
                    .for_each(|segment| segment.groups = None);
            }
            let mut digest = Digest::default();
            for (key, row) in held.iter().filter(|(key, _)| range.contains(key)) {
                digest.add(key, row);
            }
            shards.push(ShardBackup {
                range,
                digest,
                segments,
            });
        }
        let mut manifest = sample::manifest(&id, None, Vec::new());
        manifest.snapshot_version = (backup as u64).into();
        let table = &mut manifest.tables[0];
        table.schema = schema;
        table.rows = ShardedData::here(backup as u64, shards);
        manifest
    }

    pub fn options(&self) -> RepositoryOptions {
        let most = sample::options().manifest_shard_bytes;
        RepositoryOptions {
            manifest_shard_bytes: if self.listed { 0 } else { most },
            segment_bytes: self.segment_bytes,
            group_rows: self.group_rows,
            ..sample::options()
        }
    }
}

/// A repository in memory that tells what is fetched from it.
pub struct Store {
    pub faulty: FaultyStore,
    pub repository: Repository,
    fetched: Arc<Mutex<Vec<String>>>,
}

impl Store {
    pub fn new(options: RepositoryOptions) -> Self {
        Self::over(FaultyStore::default(), options)
    }

    /// The same objects, met by no fault any more.
    pub fn healed(&self) -> Self {
        let mut faulty = FaultyStore::default();
        faulty.below = Arc::clone(&self.faulty.below);
        Self::over(faulty, self.repository.options().clone())
    }

    fn over(faulty: FaultyStore, options: RepositoryOptions) -> Self {
        let store = Arc::new(faulty.clone());
        let repository = Repository::with_store(store, Path::from("p"), "faulty:", options);
        let fetched = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&fetched);
        let watch = move |request, object: &str, moment| {
            if (request, moment) == (Request::Get, Moment::Before) {
                seen.lock().unwrap().push(object.to_owned());
            }
        };
        *faulty.witness.0.lock().unwrap() = Some(Arc::new(watch));
        Self {
            faulty,
            repository,
            fetched,
        }
    }

    /// The objects of the requests since the last call.
    pub fn fetched(&self) -> Vec<String> {
        std::mem::take(&mut self.fetched.lock().unwrap())
    }
}

/// Runs requests to a repository in memory, which wait for nobody.
pub fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(work)
}
