//! Memory does not grow with files nor with chains: in a process of its own, as what is measured is that of the process.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_model::manifest::{
    FORMAT_VERSION, Manifest, Segment, ShardBackup, ShardedData, TableBackup,
};
use mendb_model::name::{BackupKind, TablePath};
use mendb_model::part::{Hash128, Part, PartFile};
use mendb_model::{
    BackupId, Change, Column, ColumnType, Digest, KeyRange, RowBlockBuilder, TableSchema, Value,
    key, row,
};
use mendb_repo::{Content, FileOnDisk, Repository, RepositoryOptions, SegmentTarget};

const FILE_BYTES: u64 = 200 << 20;
/// Far below one file.
const ALLOWED_BYTES: u64 = 64 << 20;

/// The most memory that the process has had.
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// A file of holes with a few bytes that make it different from others.
fn sparse(path: &Path, mark: &[u8]) -> FileOnDisk {
    let mut file = File::create(path).unwrap();
    file.write_all(mark).unwrap();
    file.set_len(FILE_BYTES).unwrap();
    FileOnDisk {
        name: path.file_name().unwrap().to_str().unwrap().to_owned(),
        bytes: FILE_BYTES,
        checksum: Some(Hash128([mark[0]; 16])),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storing_proving_and_fetching_large_files_takes_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let url = root.path().join("repository");
    let part = root.path().join("part");
    fs::create_dir(&part).unwrap();
    let files = [b"a", b"b"].map(|mark| sparse(&part.join(str::from_utf8(mark).unwrap()), mark));
    let options = RepositoryOptions::default();
    let repository = Repository::open(url.to_str().unwrap(), options)
        .await
        .unwrap();
    repository.create_if_absent().await.unwrap();
    let before = peak_bytes();

    let mut writer = repository.part_writer(Arc::default());
    let described = Part::new("all_1_1_0", 1, 2 * FILE_BYTES, Hash128([0; 16]), "default").unwrap();
    writer.add(described, &part, files.to_vec()).await.unwrap();
    let (records, uploaded) = writer.finish().await.unwrap();
    assert_eq!(uploaded.bytes, 2 * FILE_BYTES);
    assert!(
        repository
            .verify_files(&records)
            .await
            .unwrap()
            .damaged
            .is_empty()
    );
    let into = root.path().join("back");
    fs::create_dir(&into).unwrap();
    let wanted = records[0]
        .files
        .iter()
        .map(|file| (file, into.join(&file.name)));
    let wanted: Vec<(&PartFile, PathBuf)> = wanted.collect();
    repository.fetch_part_files(&wanted).await.unwrap();

    let grown = peak_bytes() - before;
    assert!(grown < ALLOWED_BYTES, "{grown} bytes");
}

/// Rows of the full backup, of some 270 bytes that do not compress well.
const ROWS: u64 = 500_000;
const INCREMENTS: u64 = 4;

fn table() -> TableSchema {
    let column = |name: &str, column_type| Column {
        name: name.to_owned(),
        column_type,
        not_null: true,
    };
    TableSchema {
        columns: vec![
            column("id", ColumnType::Uint64),
            column("text", ColumnType::Utf8),
        ],
        key: vec!["id".to_owned()],
        indexes: Vec::new(),
    }
}

/// Writes the rows, or resets, with these ids and drafts the manifest.
async fn write(
    repository: &Repository,
    backup: u64,
    ids: impl Iterator<Item = u64>,
) -> Arc<Manifest> {
    let (kind, content) = match backup {
        0 => (BackupKind::Full, Content::Rows),
        _ => (BackupKind::Incremental, Content::Changes),
    };
    let backup_id = BackupId::new(1_790_000_000 + backup.cast_signed(), kind).unwrap();
    let target = SegmentTarget {
        collection: "shop".to_owned(),
        backup_id: backup_id.clone(),
        path: TablePath::table("goods"),
        shard: 0,
        writer: "3fa9c1".to_owned(),
        attempt: 0,
        first_segment: 0,
    };
    let mut writer = repository
        .segment_writer(target, &table(), content)
        .unwrap();
    let mut segments: Vec<Segment> = Vec::new();
    let mut block = RowBlockBuilder::new();
    for id in ids {
        let key = key::encode(&table().key_types(), [Value::Uint(id).as_ref()]);
        let hash = blake3::hash(&(id ^ (backup << 60)).to_le_bytes()).to_hex();
        let row = row::encode(&table().value_types(), &[Value::Text(hash.repeat(4))]);
        match content {
            Content::Rows => block.push(&key, &row),
            Content::Changes => block.push(&key, &Change::reset(row, backup).encode()),
        }
        if block.size_bytes() > 1 << 20 {
            segments.extend(writer.push(&block.finish()).await.unwrap());
        }
    }
    segments.extend(writer.push(&block.finish()).await.unwrap());
    segments.extend(writer.finish().await.unwrap());
    Arc::new(Manifest {
        format_version: FORMAT_VERSION,
        tool_version: "0.1.0".to_owned(),
        collection: "shop".to_owned(),
        backup_id,
        label: None,
        operation_id: "backup-3fa9c1".to_owned(),
        target: None,
        parent: None,
        snapshot_version: backup.into(),
        tables: vec![TableBackup {
            table: "goods".to_owned(),
            schema: table(),
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
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn merging_a_long_chain_takes_little_memory() {
    let root = tempfile::tempdir().unwrap();
    let options = RepositoryOptions::default();
    let url = root.path().join("repository");
    let repository = Repository::open(url.to_str().unwrap(), options)
        .await
        .unwrap();
    let mut chain = vec![write(&repository, 0, 0..ROWS).await];
    for increment in 1..=INCREMENTS {
        let ids = (0..ROWS).filter(|id| id % 7 == increment);
        chain.push(write(&repository, increment, ids).await);
    }
    // From here on the peak is counted anew.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak_bytes();
    let path = TablePath::table("goods");
    let all = KeyRange::all();
    let reader = repository.read_chain(&chain, &path, &all, None);
    let mut reader = reader.await.unwrap();
    let (mut rows, mut bytes) = (0, 0);
    while let Some(block) = reader.next().await.unwrap() {
        rows += block.len() as u64;
        bytes += block.as_bytes().len() as u64;
    }
    assert_eq!(rows, ROWS);
    assert!(bytes > 2 * ALLOWED_BYTES, "{bytes} bytes were read");
    let grown = peak_bytes() - before;
    println!("{bytes} bytes were read in {grown} bytes of memory");
    assert!(grown < ALLOWED_BYTES, "{grown} bytes");
}
