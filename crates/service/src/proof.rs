//! Proofs outside of operations: that a backup can be read, and that tables are what a backup holds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use mendb_engines::{IndexCheck, LockKind};
use mendb_model::key::to_hex;
use mendb_model::manifest::{Manifest, Segment, ShardBackup, ShardedData};
use mendb_model::name::{BackupId, BackupKind, TablePath};
use mendb_model::{Digest, describe_error};
use mendb_repo::{Content, IncrementProof, ShardBalances, StoredManifest};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::check_whole;

/// Who waits for a slow read is asked so often whether it is still wanted.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Hears how much more is done, which may be nothing, and ends the work by breaking.
pub type TellDone<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// What was read to prove that a backup is whole, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupProof {
    /// The backup.
    pub backup_id: BackupId,
    /// Objects that are as the manifest says, which itself is not counted.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows or changes in them, those of indexes counted too.
    pub rows: u64,
    /// What is wrong, each time with the name of the object or shard; nothing when it is whole.
    pub damage: Vec<String>,
    /// Why it was not proved that an increment leads to the rows of its snapshot; `None` when it was, or when
    /// something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproved: Option<String>,
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
    /// Whether its indexes find its rows, where the target can check that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub indexes: Option<IndexCheck>,
}

impl TableComparison {
    /// Whether the live rows are those of the backup, and nothing is wrong with their indexes.
    pub fn is_equal(&self) -> bool {
        self.has_same_rows() && self.index_damage().is_empty()
    }

    /// Whether the live rows are those of the backup.
    pub fn has_same_rows(&self) -> bool {
        self.found == Some(self.expected)
    }

    /// What is wrong with its indexes.
    pub fn index_damage(&self) -> &[String] {
        self.indexes
            .as_ref()
            .map_or(&[], |indexes| indexes.damage.as_slice())
    }
}

impl Front {
    /// Reads every object of a backup: size, BLAKE3, decoding, key order and range, and the digest; of
    /// a full backup also whether the objects of each shard are all of its rows, of an increment whether its
    /// changes lead from those of the parent, where that is given, to its own. What is wrong with one
    /// object does not keep the others from being read. `progress` is told the bytes of each, and ends the reading by
    /// breaking: then there is no proof.
    ///
    /// # Errors
    /// The repository does not answer, so that nothing can be said. Damage is no error.
    pub fn prove_backup(
        &self,
        stored: &StoredManifest,
        parent: Option<&StoredManifest>,
        progress: TellDone<'_>,
    ) -> Result<Option<BackupProof>> {
        let manifest = &stored.manifest;
        let mut proof = BackupProof::new(manifest.backup_id.clone());
        let content = match manifest.kind() {
            BackupKind::Full => Content::Rows,
            BackupKind::Incremental => Content::Changes,
        };
        let mut balances = ShardBalances::new(manifest);
        for (path, data) in manifest.stored_tables() {
            let Some(schema) = manifest.schema_of(&path) else {
                let missing = format!("the schema of the manifest has no index for {path}");
                proof.damage.push(missing);
                continue;
            };
            let shards = self.tools.repository.shards(manifest, &path);
            let Some(shards) = self.wait_for(shards, progress) else {
                return Ok(None);
            };
            let shards = match shards {
                Ok(shards) => shards,
                Err(error) if error.is_damage() => {
                    proof.damage.push(describe_error(&error));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            proof.count_lists(data);
            for (number, shard) in shards.iter().enumerate() {
                for segment in &shard.segments {
                    let repository = &self.tools.repository;
                    let range = &shard.range;
                    let (collection, id) = (&manifest.collection, &manifest.backup_id);
                    let read =
                        repository.prove_segment(collection, id, segment, range, &schema, content);
                    let Some(read) = self.wait_for(read, progress) else {
                        return Ok(None);
                    };
                    let found = match read {
                        Ok(changes) => {
                            balances.add(&path, number, changes);
                            None
                        }
                        Err(error) if error.is_damage() => Some(describe_error(&error)),
                        Err(error) => return Err(error.into()),
                    };
                    proof.count(segment, found);
                    if progress(segment.bytes).is_break() {
                        return Ok(None);
                    }
                }
                proof.damage.extend(disorder(manifest.kind(), &path, shard));
            }
        }
        if manifest.kind() == BackupKind::Incremental && proof.damage.is_empty() {
            match parent {
                Some(parent) => {
                    let repository = &self.tools.repository;
                    let found = balances.compare(repository, &parent.manifest, manifest);
                    let Some(found) = self.wait_for(found, progress) else {
                        return Ok(None);
                    };
                    proof.balance(&found?);
                }
                None => proof.unproved = Some("the backup it stands on was not read".to_owned()),
            }
        }
        Ok(Some(proof))
    }

    /// Proves a backup whose changes do not tell what they replaced, by folding its chain, which reads all of it:
    /// `chain` is that from the full backup on. `progress` ends it by breaking: then nothing is proved.
    ///
    /// # Errors
    /// The repository does not answer. Damage is no error.
    pub fn prove_by_folding(
        &self,
        proof: &mut BackupProof,
        chain: &[&StoredManifest],
        progress: TellDone<'_>,
    ) -> Result<ControlFlow<()>> {
        let chain = chain.iter().map(|stored| Arc::new(stored.manifest.clone()));
        let chain: Vec<_> = chain.collect();
        let fold = self.tools.repository.prove_by_folding(&chain);
        match self.wait_for(fold, progress) {
            None => return Ok(ControlFlow::Break(())),
            Some(Ok(wrong)) => {
                proof.unproved = None;
                proof.damage.extend(wrong.iter().map(ToString::to_string));
            }
            Some(Err(error)) if error.is_damage() => proof.damage.push(describe_error(&error)),
            Some(Err(error)) => return Err(error.into()),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Waits for a read, however slow it is; nothing where `progress` ends it meanwhile by breaking.
    fn wait_for<T>(&self, read: impl Future<Output = T>, progress: TellDone<'_>) -> Option<T> {
        self.runtime().block_on(async {
            let mut read = pin!(read);
            loop {
                match tokio::time::timeout(ASK_EVERY, read.as_mut()).await {
                    Ok(done) => return Some(done),
                    Err(_) if progress(0).is_break() => return None,
                    Err(_) => {}
                }
            }
        })
    }

    /// Compares live tables, all as of one commit, with a backup by reading every row of both table and
    /// indexes. `rename` gives the live names of tables that are called otherwise. `progress` is told the rows
    /// read, and ends the reading by breaking: then there is no comparison.
    ///
    /// # Errors
    /// The target cannot be read, or is restoring a table.
    pub fn compare(
        &self,
        manifest: &Manifest,
        rename: &BTreeMap<String, String>,
        progress: TellDone<'_>,
    ) -> Result<Option<Vec<TableComparison>>> {
        check_whole(
            manifest,
            manifest.tables.iter().map(|table| table.table.as_str()),
        )?;
        let live_rows = self.tools.engine.live_rows()?.snapshot()?;
        let mut comparisons = Vec::new();
        for (source, data) in manifest.sharded_tables() {
            let shards = self.tools.repository.shards(manifest, &source);
            let shards = self.runtime().block_on(shards)?;
            let table = rename.get(&source.table).unwrap_or(&source.table).clone();
            let path = TablePath {
                table,
                index: source.index,
            };
            let found = match live_rows.inspect(&path.table)? {
                None => None,
                Some(live) if live.locked == Some(LockKind::Restore) => {
                    return Err(Error::being_restored(&path.table, ""));
                }
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
                    for shard in &shards {
                        found.merge(live_rows.digest(&path, &shard.range)?);
                        if progress(shard.digest.rows).is_break() {
                            return Ok(None);
                        }
                    }
                    Some(found)
                }
            };
            let is_table = found.is_some() && path.index.is_none();
            comparisons.push(TableComparison {
                indexes: match is_table {
                    true => live_rows.check_indexes(&path.table)?,
                    false => None,
                },
                table: path,
                expected: data.digest(),
                found,
            });
        }
        Ok(Some(comparisons))
    }
}

impl BackupProof {
    /// Counts the documents in that list the shards of a table.
    fn count_lists(&mut self, data: &ShardedData) {
        self.objects += data.lists().len() as u64;
        self.bytes += data.lists().iter().map(|list| list.at.bytes).sum::<u64>();
    }

    /// Of a backup of which nothing was read yet.
    pub fn new(backup_id: BackupId) -> Self {
        Self {
            backup_id,
            objects: 0,
            bytes: 0,
            rows: 0,
            damage: Vec::new(),
            unproved: None,
        }
    }

    /// Takes in what the changes of an increment lead to.
    fn balance(&mut self, found: &IncrementProof) {
        self.damage
            .extend(found.wrong.iter().map(ToString::to_string));
        if found.is_unknown && found.wrong.is_empty() {
            let reason = "some of its changes do not say what they replaced, as those that an older mendb wrote";
            self.unproved = Some(reason.to_owned());
        }
    }

    /// Counts an object in, or what is wrong with it.
    fn count(&mut self, segment: &Segment, damage: Option<String>) {
        if damage.is_some() {
            self.damage.extend(damage);
            return;
        }
        self.objects += 1;
        self.bytes += segment.bytes;
        self.rows += segment.digest.rows;
    }
}

/// Whether the objects of a shard, each as the manifest says, do not make the shard.
fn disorder(kind: BackupKind, path: &TablePath, shard: &ShardBackup) -> Option<String> {
    let which = || {
        format!(
            "the shard of {path} from key {}",
            to_hex(&shard.range.start)
        )
    };
    let mut pairs = shard.segments.iter().zip(shard.segments.iter().skip(1));
    if let Some((before, after)) = pairs.find(|(a, b)| a.last_key >= b.first_key) {
        return Some(format!(
            "{} has {} and {} in the wrong order",
            which(),
            before.object,
            after.object
        ));
    }
    let sum: Digest = shard.segments.iter().map(|segment| segment.digest).sum();
    if kind == BackupKind::Full && sum != shard.digest {
        return Some(format!(
            "{} has the digest {sum} instead of {}",
            which(),
            shard.digest
        ));
    }
    None
}
