//! Proofs outside of operations: that a backup can be read, and that tables are what a backup holds.

use std::collections::BTreeMap;

use mendb_model::Digest;
use mendb_model::change::ChangeRef;
use mendb_model::manifest::{Manifest, Segment, ShardBackup};
use mendb_model::name::{BackupId, BackupKind, TablePath};
use mendb_model::schema::TableSchema;
use mendb_repo::{Content, StoredManifest};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::service::Service;

/// What was read to prove that a backup is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupProof {
    /// The backup.
    pub backup_id: BackupId,
    /// Objects read, the manifest not counted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows or changes in them, those of indexes counted too.
    pub rows: u64,
}

/// A sharded table on the target beside what a backup says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableComparison {
    /// The sharded table on the target.
    pub table: TablePath,
    /// The digest in the backup.
    pub expected: Digest,
    /// The digest of the live rows, by reading each; `None` when the table does not exist.
    pub found: Option<Digest>,
}

impl TableComparison {
    /// Whether the live rows are those of the backup.
    pub fn is_equal(&self) -> bool {
        self.found == Some(self.expected)
    }
}

impl Service {
    /// Reads every object of a backup: size, BLAKE3, decoding, row counts, key order and range; of a
    /// full backup also the digest of each shard. `progress` is told the bytes of each object read.
    ///
    /// # Errors
    /// The first object that is missing or not as the manifest says, by its name.
    pub fn prove_backup(
        &self,
        stored: &StoredManifest,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BackupProof> {
        let manifest = &stored.manifest;
        let mut proof = BackupProof {
            backup_id: manifest.backup_id.clone(),
            objects: 0,
            bytes: 0,
            rows: 0,
        };
        for table in &manifest.tables {
            for (path, data) in table.sharded_tables() {
                let schema = table.schema_of(path.index.as_deref()).ok_or_else(|| {
                    broken(manifest, &format!("its schema has no index for {path}"))
                })?;
                for shard in &data.shards {
                    self.prove_shard(manifest, &path, shard, &schema, &mut proof, progress)?;
                }
            }
        }
        Ok(proof)
    }

    fn prove_shard(
        &self,
        manifest: &Manifest,
        path: &TablePath,
        shard: &ShardBackup,
        schema: &TableSchema,
        proof: &mut BackupProof,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let content = match manifest.kind() {
            BackupKind::Full => Content::Rows,
            BackupKind::Incremental => Content::Changes,
        };
        let mut digest = Digest::default();
        let mut last_key: Option<Vec<u8>> = None;
        for segment in &shard.segments {
            let reader = self.runtime().block_on(self.tools.repository.read_segment(
                &manifest.collection,
                &manifest.backup_id,
                segment,
                schema,
                content,
            ))?;
            let mut rows = 0;
            for block in reader {
                for (key, value) in block?.iter() {
                    if last_key.as_deref() >= Some(key) || !shard.range.contains(key) {
                        return Err(misplaced(manifest, segment));
                    }
                    if content == Content::Changes {
                        ChangeRef::decode(value)
                            .map_err(|error| broken(manifest, &error.to_string()))?;
                    }
                    last_key = Some(key.to_vec());
                    digest.add(key, value);
                    rows += 1;
                }
            }
            if rows != segment.rows {
                let detail = format!(
                    "{} holds {rows} rows instead of {}",
                    segment.object, segment.rows
                );
                return Err(broken(manifest, &detail));
            }
            proof.objects += 1;
            proof.bytes += segment.bytes;
            proof.rows += rows;
            progress(segment.bytes);
        }
        if content == Content::Rows && digest != shard.digest {
            let detail = format!(
                "shard {} of {path} has digest {digest} instead of {}",
                hex(shard),
                shard.digest
            );
            return Err(broken(manifest, &detail));
        }
        Ok(())
    }

    /// Compares live tables with a backup by reading every row of both table and indexes. `rename`
    /// gives the live names of tables that are called otherwise. `progress` is told the rows read.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn compare(
        &self,
        manifest: &Manifest,
        rename: &BTreeMap<String, String>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<TableComparison>> {
        let mut comparisons = Vec::new();
        for (source, data) in manifest.sharded_tables() {
            let table = rename.get(&source.table).unwrap_or(&source.table).clone();
            let path = TablePath {
                table,
                index: source.index,
            };
            let found = match self.tools.engine.inspect(&path.table)? {
                None => None,
                Some(live)
                    if path
                        .index
                        .as_deref()
                        .is_some_and(|name| live.schema.index(name).is_none()) =>
                {
                    None
                }
                Some(_) => {
                    let mut found = Digest::default();
                    for shard in &data.shards {
                        found.merge(self.tools.engine.digest(&path, &shard.range)?);
                        progress(shard.digest.rows);
                    }
                    Some(found)
                }
            };
            comparisons.push(TableComparison {
                table: path,
                expected: data.digest(),
                found,
            });
        }
        Ok(comparisons)
    }
}

fn hex(shard: &ShardBackup) -> String {
    mendb_model::key::to_hex(&shard.range.start)
}

fn misplaced(manifest: &Manifest, segment: &Segment) -> Error {
    broken(
        manifest,
        &format!(
            "{} holds keys out of order or outside its shard",
            segment.object
        ),
    )
}

fn broken(manifest: &Manifest, detail: &str) -> Error {
    Error::Refused {
        message: format!(
            "backup {} of collection {} is damaged: {detail}",
            manifest.backup_id, manifest.collection
        ),
        hint: Some("restore to a backup before it, and take a new full backup".to_owned()),
    }
}
