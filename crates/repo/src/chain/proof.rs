//! Proving that an increment leads from its parent to the rows of its own snapshot.
//!
//! The digests of both are in the manifests, of snapshots that nobody can read any more. The changes between
//! them say what they left and what they replaced ([`Balance`]). So the increment alone is read: the
//! objects as they are stored, not what was in memory when they were written. Nothing is read of the backups
//! before it, which were proved when they were made.
//!
//! Increments of before mendb noted what a change replaces do not tell. They are proved by folding their whole
//! chain, which reads all of it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use mendb_model::balance::{self, Imbalance};
use mendb_model::key::{KeyRange, to_hex};
use mendb_model::manifest::{Manifest, Segment};
use mendb_model::name::{BackupKind, TablePath};
use mendb_model::{Balance, Digest, TableSchema};
use tokio::task::JoinSet;

use crate::arrow::Content;
use crate::error::{Error, Result};
use crate::repository::Repository;

/// Segments that are read at once, each on a thread of its own when it is decoded.
const SEGMENTS_AT_ONCE: usize = 4;

/// What was found of an increment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IncrementProof {
    /// Where its changes lead to other rows than those of its snapshot.
    pub wrong: Vec<WrongRange>,
    /// Whether of some keys nothing can be said: their changes do not tell what they replaced.
    pub is_unknown: bool,
}

/// Keys whose changes lead to other rows than those of the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongRange {
    /// The table or index.
    pub path: TablePath,
    /// Which keys, and how many rows.
    pub at: Imbalance,
}

impl fmt::Display for WrongRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imbalance {
            range,
            rows,
            expected_rows,
        } = &self.at;
        write!(f, "the changes of {}", self.path)?;
        match (range.start.is_empty(), &range.end) {
            (true, None) => {}
            (true, Some(end)) => write!(f, ", keys below {},", to_hex(end))?,
            (false, None) => write!(f, ", keys from {},", to_hex(&range.start))?,
            (false, Some(end)) => {
                write!(
                    f,
                    ", keys from {} to {},",
                    to_hex(&range.start),
                    to_hex(end)
                )?;
            }
        }
        if rows == expected_rows {
            write!(
                f,
                " do not lead to the {rows} rows of its snapshot but to others"
            )
        } else {
            // It wraps: more may have gone than there were.
            let rows = rows.cast_signed();
            write!(
                f,
                " lead to {rows} rows, and its snapshot had {expected_rows}"
            )
        }
    }
}

/// What the changes of each shard of an increment add up to; `None` where they do not tell.
#[derive(Debug, Clone)]
pub struct ShardBalances(BTreeMap<TablePath, Vec<Option<Balance>>>);

impl ShardBalances {
    /// Nothing counted yet.
    pub fn new(increment: &Manifest) -> Self {
        let tables = increment.sharded_tables();
        let zeros = tables.map(|(path, data)| {
            let count = usize::try_from(data.totals().count).unwrap_or(usize::MAX);
            (path, vec![Some(Balance::default()); count])
        });
        Self(zeros.collect())
    }

    /// Counts in what the changes of a segment of a shard add up to.
    pub fn add(&mut self, path: &TablePath, shard: usize, changes: Option<Balance>) {
        let shards = self.0.get_mut(path);
        let Some(sum) = shards.and_then(|shards| shards.get_mut(shard)) else {
            return;
        };
        *sum = sum.zip(changes).map(|(mut sum, changes)| {
            sum.merge(changes);
            sum
        });
    }

    /// Whether they lead from the parent to the increment.
    ///
    /// # Errors
    /// As [`Repository::shards`].
    pub async fn compare(
        &self,
        repository: &Repository,
        parent: &Manifest,
        increment: &Manifest,
    ) -> Result<IncrementProof> {
        let mut proof = IncrementProof::default();
        for table in &increment.tables {
            // Rows of another schema are other bytes, of which the digests of the parent say nothing.
            let before = parent.table(&table.table);
            let before = before.filter(|before| before.schema == table.schema);
            for (path, _) in table.sharded_tables() {
                let before = before.and_then(|_| parent.sharded_table(&path));
                let (Some(_), Some(changes)) = (before, self.0.get(&path)) else {
                    proof.is_unknown = true;
                    continue;
                };
                let before = repository.shards(parent, &path).await?;
                let after = repository.shards(increment, &path).await?;
                let found = balance::compare(&before, &after, changes);
                proof.is_unknown |= found.is_unknown;
                let wrong = found.wrong.into_iter();
                proof.wrong.extend(wrong.map(|at| WrongRange {
                    path: path.clone(),
                    at,
                }));
            }
        }
        Ok(proof)
    }
}

/// A segment, and where it belongs.
struct Placed {
    path: TablePath,
    shard: usize,
    schema: Arc<TableSchema>,
    range: KeyRange,
    segment: Segment,
}

impl Repository {
    /// Reads every segment of an increment that may have no manifest yet, and proves that its changes lead from
    /// its parent to the rows of its snapshot.
    ///
    /// # Errors
    /// As [`Self::prove_segment`], of the first segment that is not what the manifest says.
    pub async fn prove_increment(
        &self,
        parent: &Manifest,
        increment: &Manifest,
    ) -> Result<IncrementProof> {
        let mut balances = ShardBalances::new(increment);
        self.prove_segments(increment, |path, shard, changes| {
            balances.add(path, shard, changes);
        })
        .await?;
        balances.compare(self, parent, increment).await
    }

    /// Reads every segment of a backup that may have no manifest yet.
    pub(super) async fn prove_all(&self, manifest: &Manifest) -> Result<()> {
        self.prove_segments(manifest, |_, _, _| ()).await
    }

    async fn prove_segments(
        &self,
        manifest: &Manifest,
        mut each: impl FnMut(&TablePath, usize, Option<Balance>) + Send,
    ) -> Result<()> {
        let content = match manifest.kind() {
            BackupKind::Full => Content::Rows,
            BackupKind::Incremental => Content::Changes,
        };
        let mut all = Vec::new();
        for table in &manifest.tables {
            for (path, _) in table.sharded_tables() {
                let Some(schema) = table.schema_of(path.index.as_deref()).map(Arc::new) else {
                    continue;
                };
                let shards = self.shards(manifest, &path).await?.into_iter();
                for (shard, of) in shards.enumerate() {
                    let mut pairs = of.segments.iter().zip(of.segments.iter().skip(1));
                    if let Some((_, late)) = pairs.find(|(a, b)| a.last_key >= b.first_key) {
                        let detail = format!("{} is not in key order", late.object);
                        return Err(self.damaged_manifest(manifest, detail)?);
                    }
                    all.extend(of.segments.into_iter().map(|segment| Placed {
                        path: path.clone(),
                        shard,
                        schema: schema.clone(),
                        range: of.range.clone(),
                        segment,
                    }));
                }
            }
        }
        let mut left = all.into_iter();
        // Ends what is under way when it is dropped.
        let mut running = JoinSet::new();
        loop {
            while running.len() < SEGMENTS_AT_ONCE
                && let Some(placed) = left.next()
            {
                let Placed {
                    path,
                    shard,
                    schema,
                    range,
                    segment,
                } = placed;
                let (collection, id) = (manifest.collection.clone(), manifest.backup_id.clone());
                let repository = self.clone();
                running.spawn(async move {
                    let changes = repository
                        .prove_segment(&collection, &id, &segment, &range, &schema, content)
                        .await?;
                    Ok::<_, Error>((path, shard, changes))
                });
            }
            let Some(done) = running.join_next().await else {
                break;
            };
            let done = done.unwrap_or_else(|error| Err(self.objects.cut_off(error)));
            let (path, shard, changes) = done?;
            each(&path, shard, changes);
        }
        Ok(())
    }

    /// Folds a chain of backups, oldest first, and compares each shard of the last with what it says of its
    /// rows: the proof for increments that do not tell. Reads the whole chain.
    ///
    /// # Errors
    /// As [`crate::ChainReader::next`].
    ///
    /// # Panics
    /// The chain is empty or does not begin with a full backup.
    pub async fn prove_by_folding(&self, chain: &[Arc<Manifest>]) -> Result<Vec<WrongRange>> {
        let last = chain.last().expect("a chain has a last backup");
        let mut wrong = Vec::new();
        for (path, _) in last.sharded_tables() {
            for shard in self.shards(last, &path).await? {
                let mut reader = self.read_chain(chain, &path, &shard.range, None).await?;
                let mut found = Digest::default();
                while let Some(block) = reader.next().await? {
                    for (key, row) in block.iter() {
                        found.add(key, row);
                    }
                }
                if found != shard.digest {
                    wrong.push(WrongRange {
                        path: path.clone(),
                        at: Imbalance {
                            range: shard.range.clone(),
                            rows: found.rows,
                            expected_rows: shard.digest.rows,
                        },
                    });
                }
            }
        }
        Ok(wrong)
    }
}
