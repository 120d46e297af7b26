//! Small backups to do things with.

use mendb_model::manifest::{
    FORMAT_VERSION, Manifest, Parent, Segment, ShardBackup, ShardedData, TableBackup,
};
use mendb_model::name::{BackupKind, TablePath};
use mendb_model::{
    BackupId, Column, ColumnType, Digest, KeyRange, RowBlock, RowBlockBuilder, TableSchema, Value,
    key, row,
};
use mendb_repo::{
    Content, Repository, RepositoryOptions, Result, RetryPolicy, SegmentTarget, SegmentWriter,
    StoredManifest,
};

pub const COLLECTION: &str = "shop";

/// The writer of all segments where nothing else is said, and its operation.
pub const WRITER: &str = "3fa9c1";
pub const OPERATION: &str = "backup-3fa9c1";

/// Retries without waiting, and segments of few rows.
pub fn options() -> RepositoryOptions {
    RepositoryOptions {
        retry: RetryPolicy {
            attempts: 4,
            first_backoff_ms: 1,
            max_backoff_ms: 2,
        },
        segment_bytes: 600,
        ..RepositoryOptions::default()
    }
}

pub fn schema() -> TableSchema {
    let column = |name: &str, column_type| Column {
        name: name.into(),
        column_type,
        not_null: true,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Uint64),
            column("name", ColumnType::Utf8),
        ],
        key: vec!["id".into()],
        indexes: Vec::new(),
    }
}

pub fn full(second: i64) -> BackupId {
    BackupId::new(1_790_000_000 + second, BackupKind::Full).unwrap()
}

pub fn increment(second: i64) -> BackupId {
    BackupId::new(1_790_000_000 + second, BackupKind::Incremental).unwrap()
}

pub fn target(backup_id: &BackupId, attempt: u32) -> SegmentTarget {
    SegmentTarget {
        collection: COLLECTION.into(),
        backup_id: backup_id.clone(),
        path: TablePath::table("goods"),
        shard: 0,
        writer: WRITER.into(),
        attempt,
        first_segment: 0,
    }
}

/// Rows with these ids.
pub fn block(ids: std::ops::Range<u64>) -> RowBlock {
    let mut block = RowBlockBuilder::new();
    for id in ids {
        let key = key::encode(&schema().key_types(), [Value::Uint(id).as_ref()]);
        let name = Value::Text(format!("the name of {id}"));
        block.push(&key, &row::encode(&schema().value_types(), &[name]));
    }
    block.finish()
}

pub fn writer(repository: &Repository, backup_id: &BackupId, attempt: u32) -> SegmentWriter {
    let target = target(backup_id, attempt);
    repository
        .segment_writer(target, &schema(), Content::Rows)
        .unwrap()
}

/// Writes 100 rows into several segments.
pub async fn segments(
    repository: &Repository,
    id: &BackupId,
    attempt: u32,
) -> Result<Vec<Segment>> {
    write(writer(repository, id, attempt)).await
}

/// Writes 100 rows as another writer.
pub async fn segments_of(
    repository: &Repository,
    id: &BackupId,
    writer: &str,
) -> Result<Vec<Segment>> {
    let target = SegmentTarget {
        writer: writer.into(),
        ..target(id, 0)
    };
    write(repository.segment_writer(target, &schema(), Content::Rows)?).await
}

async fn write(mut writer: SegmentWriter) -> Result<Vec<Segment>> {
    let mut segments = writer.push(&block(0..50)).await?;
    segments.extend(writer.push(&block(50..100)).await?);
    segments.extend(writer.finish().await?);
    Ok(segments)
}

pub fn manifest(
    id: &BackupId,
    parent: Option<&StoredManifest>,
    segments: Vec<Segment>,
) -> Manifest {
    Manifest {
        format_version: FORMAT_VERSION,
        tool_version: "0.1.0".into(),
        collection: COLLECTION.into(),
        backup_id: id.clone(),
        label: None,
        operation_id: OPERATION.into(),
        target: None,
        parent: parent.map(|stored| Parent {
            backup_id: stored.manifest.backup_id.clone(),
            manifest_blake3: stored.blake3.clone(),
        }),
        snapshot_version: 7.into(),
        tables: vec![TableBackup {
            table: "goods".into(),
            schema: schema(),
            rows: ShardedData::here(
                1,
                vec![ShardBackup {
                    range: KeyRange::all(),
                    digest: Digest::default(),
                    segments,
                }],
            ),
            indexes: Vec::new(),
            native: None,
            changes_by: None,
            untold: None,
            unfolded: None,
            only: None,
        }],
        part_store: None,
        transactions: None,
        commits: None,
        compacted: None,
    }
}

/// A backup of 100 rows.
pub async fn backup(
    repository: &Repository,
    id: &BackupId,
    parent: Option<&StoredManifest>,
) -> Result<StoredManifest> {
    repository.create_if_absent().await?;
    let segments = segments(repository, id, 0).await?;
    repository
        .put_manifest(&manifest(id, parent, segments), WRITER)
        .await
}

/// The segments of a backup's table.
pub async fn stored_segments(repository: &Repository, manifest: &Manifest) -> Result<Vec<Segment>> {
    let path = TablePath::table("goods");
    let shards = repository.shards(manifest, &path).await?.into_iter();
    Ok(shards.flat_map(|shard| shard.segments).collect())
}

/// Reads all rows of a backup.
pub async fn read(repository: &Repository, manifest: &Manifest) -> Result<Vec<RowBlock>> {
    let (schema, id) = (schema(), &manifest.backup_id);
    let mut blocks = Vec::new();
    for segment in stored_segments(repository, manifest).await? {
        let reader = repository
            .read_segment(COLLECTION, id, &segment, &schema, Content::Rows)
            .await?;
        for block in reader {
            blocks.push(block?);
        }
    }
    Ok(blocks)
}

/// The backups of the collection, all of which can be read.
pub async fn backups(repository: &Repository) -> Vec<StoredManifest> {
    let listed = repository.list(COLLECTION).await.unwrap();
    listed
        .into_iter()
        .map(|(_, stored)| stored.unwrap())
        .collect()
}
