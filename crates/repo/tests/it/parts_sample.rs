//! Small parts to do things with.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mendb_model::BackupId;
use mendb_model::manifest::Manifest;
use mendb_model::part::{
    Hash128, Inventory, Part, PartFile, PartList, PartRecord, PartStoreBackup, PartTable,
    ServerRun, TableDefinition, TableName,
};
use mendb_repo::{
    DocumentKind, DocumentName, FileOnDisk, KnownFiles, Repository, RepositoryOptions, Result,
    StoredManifest, Uploaded,
};

use crate::sample::{self, COLLECTION, OPERATION, WRITER};

/// Smaller files are bundled.
pub const LARGE: usize = 256 << 10;

/// As [`sample::options`], and nothing is too young to be garbage.
pub fn options() -> RepositoryOptions {
    RepositoryOptions {
        garbage_grace_ms: 0,
        ..sample::options()
    }
}

pub fn table() -> TableName {
    TableName::new("shop", "visits.v2")
}

/// A part in a directory of its own.
pub struct SamplePart {
    pub name: String,
    directory: tempfile::TempDir,
}

impl SamplePart {
    /// A part of these files, named and filled.
    pub fn new(name: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let part = Self {
            name: name.to_owned(),
            directory: tempfile::tempdir().unwrap(),
        };
        for (name, bytes) in files {
            part.write(name, bytes);
        }
        part
    }

    /// A wide part: two large columns, small files, an empty one, a projection, and files that no
    /// `checksums.txt` lists. What is in them follows from `seed`.
    pub fn wide(name: &str, seed: u64) -> Self {
        let files = [
            ("checksums.txt", filled(seed, 700)),
            ("columns.txt", b"two columns".to_vec()),
            ("empty.bin", Vec::new()),
            ("p.proj/data.bin", filled(seed + 1, 3000)),
            ("price.bin", filled(seed + 2, LARGE + 17)),
            ("price.cmrk2", filled(seed + 3, 900)),
            ("visits.bin", filled(seed + 4, 3 * LARGE)),
            ("visits.cmrk2", filled(seed + 5, 1100)),
        ];
        Self::new(name, &files)
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path().join(name)).unwrap()
    }

    /// Its files, in the order of their names.
    pub fn files(&self) -> Vec<FileOnDisk> {
        let mut files: Vec<FileOnDisk> = paths_below(self.path())
            .into_iter()
            .map(|name| {
                let bytes = self.read(&name);
                let listed = !matches!(&*name, "checksums.txt" | "columns.txt");
                FileOnDisk {
                    bytes: bytes.len() as u64,
                    checksum: listed.then(|| checksum(&bytes)),
                    name,
                }
            })
            .collect();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    pub fn part(&self) -> Part {
        let files = self.files();
        let hash = checksum(&self.read("checksums.txt"));
        let bytes = files.iter().map(|file| file.bytes).sum();
        Part::new(&self.name, 10, bytes, hash, "default").unwrap()
    }
}

/// Bytes that follow from a seed and do not repeat.
pub fn filled(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Stands for the checksums of a server: the repository takes them as they are.
fn checksum(bytes: &[u8]) -> Hash128 {
    let hash = blake3::hash(bytes);
    Hash128(*hash.as_bytes().first_chunk().unwrap())
}

/// The files below a directory, relative to it, ascending.
pub fn paths_below(directory: &Path) -> Vec<String> {
    fn walk(directory: &Path, prefix: &str, found: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(directory) else {
            return;
        };
        for entry in entries {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), found),
                false => found.push(name),
            }
        }
    }
    let mut found = Vec::new();
    walk(directory, "", &mut found);
    found.sort();
    found
}

/// Stores parts of which some files are known.
pub async fn store_knowing(
    repository: &Repository,
    parts: &[&SamplePart],
    known: &[PartRecord],
) -> Result<(Vec<PartRecord>, Uploaded)> {
    let known = Arc::new(KnownFiles::new(known.iter().cloned()));
    let mut writer = repository.part_writer(known);
    for part in parts {
        writer.add(part.part(), part.path(), part.files()).await?;
    }
    writer.finish().await
}

/// Stores parts of which nothing is known.
pub async fn store(
    repository: &Repository,
    parts: &[&SamplePart],
) -> Result<(Vec<PartRecord>, Uploaded)> {
    store_knowing(repository, parts, &[]).await
}

/// Fetches the files of a part into an empty directory.
pub async fn fetch(
    repository: &Repository,
    record: &PartRecord,
    into: &Path,
) -> Result<mendb_repo::Fetched> {
    let files: Vec<(&PartFile, PathBuf)> = record
        .files
        .iter()
        .map(|file| (file, into.join(&file.name)))
        .collect();
    for (_, path) in &files {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
    }
    repository.fetch_part_files(&files).await
}

/// Checks that a part comes back as it is.
pub async fn expect_back(repository: &Repository, record: &PartRecord, part: &SamplePart) {
    let into = tempfile::tempdir().unwrap();
    let fetched = fetch(repository, record, into.path()).await.unwrap();
    assert_eq!(fetched.bytes, record.bytes());
    let names = paths_below(into.path());
    assert_eq!(names, paths_below(part.path()));
    for name in names {
        let back = fs::read(into.path().join(&name)).unwrap();
        assert!(back == part.read(&name), "{name}");
    }
}

pub fn document(kind: DocumentKind, writer: &str, attempt: u32) -> DocumentName {
    DocumentName {
        table: table(),
        kind,
        writer: writer.to_owned(),
        attempt,
    }
}

pub fn inventory(parts: Vec<Part>) -> Inventory {
    Inventory {
        taken_at_ms: 1,
        incarnation: "one".into(),
        run: run(),
        parts,
        mutations: Vec::new(),
        patches: Vec::new(),
        partitions: std::collections::BTreeMap::new(),
        is_replicated: false,
    }
}

fn run() -> ServerRun {
    ServerRun {
        host: "here".into(),
        started_at_s: 1,
    }
}

/// Stores parts and their documents, in lists of one part each, without a manifest.
pub async fn draft(
    repository: &Repository,
    id: &BackupId,
    parts: &[&SamplePart],
    known: &[PartRecord],
) -> Result<(Manifest, Vec<PartRecord>)> {
    repository.create_if_absent().await?;
    let (records, _) = store_knowing(repository, parts, known).await?;
    let mut lists = Vec::new();
    for (chunk, record) in (0..).zip(&records) {
        let name = document(DocumentKind::Parts { chunk }, WRITER, 0);
        let list = std::slice::from_ref(record);
        let at = repository
            .put_document(COLLECTION, id, &name, &list)
            .await?;
        lists.push(PartList {
            at,
            parts: 1,
            rows: record.part.rows,
            data_bytes: record.bytes(),
            new_bytes: 0,
        });
    }
    let current = inventory(records.iter().map(|record| record.part.clone()).collect());
    let name = document(DocumentKind::CurrentParts, WRITER, 0);
    let current = repository.put_document(COLLECTION, id, &name, &current);
    Ok((manifest(id, Some(current.await?), lists), records))
}

fn manifest(
    id: &BackupId,
    current_parts: Option<mendb_model::part::ObjectRef>,
    lists: Vec<PartList>,
) -> Manifest {
    let definition = TableDefinition {
        name: table(),
        engine: "MergeTree".into(),
        create_query: String::new(),
        whole_query: None,
        partition_key: String::new(),
        sorting_key: "id".into(),
        primary_key: "id".into(),
        columns: Vec::new(),
        storage_policy: String::new(),
        has_ttl: false,
        row_policies: None,
    };
    Manifest {
        operation_id: OPERATION.into(),
        tables: Vec::new(),
        compacted: None,
        transactions: None,
        commits: None,
        part_store: Some(PartStoreBackup {
            tables: vec![PartTable {
                definition,
                current_parts,
                partitions: None,
                mutations: Vec::new(),
                lists,
            }],
            ..PartStoreBackup::new("26.9".into(), Some(run()))
        }),
        ..sample::manifest(id, None, Vec::new())
    }
}

/// A backup of parts.
pub async fn backup(
    repository: &Repository,
    id: &BackupId,
    parts: &[&SamplePart],
    known: &[PartRecord],
) -> Result<(StoredManifest, Vec<PartRecord>)> {
    let (manifest, records) = draft(repository, id, parts, known).await?;
    Ok((repository.put_manifest(&manifest, WRITER).await?, records))
}

/// The objects that hold files of parts.
pub fn objects_of(records: &[PartRecord]) -> HashSet<String> {
    use mendb_model::part::FilePlace;
    let files = records.iter().flat_map(|record| &record.files);
    let object = |file: &PartFile| {
        let (root, blake3, generation) = match &file.place {
            FilePlace::File { generation } => ("files", &file.blake3, generation),
            FilePlace::Bundle {
                bundle, generation, ..
            } => ("files/bundles", bundle, generation),
        };
        let first = format!("{root}/{}/{blake3}", &blake3[..2]);
        match generation {
            0 => first,
            _ => format!("{first}.{generation}"),
        }
    };
    files.map(object).collect()
}
