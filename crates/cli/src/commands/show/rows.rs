//! A backup of a row store.

use mendb_model::manifest::{Manifest, ShardedData};
use mendb_model::name::TablePath;
use mendb_model::{BackupId, Digest};
use mendb_repo::{Repository, StoredManifest};
use mendb_service::journal::proof::Proof;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};
use crate::proven::{self, Proven};

/// One sharded table of a backup.
#[derive(Serialize)]
struct DataRecord {
    table: TablePath,
    shards: u64,
    objects: u64,
    /// Rows, or changes of an increment.
    rows: u64,
    bytes: u64,
    schema_version: u64,
    /// Of all rows at the snapshot.
    digest: Digest,
}

impl DataRecord {
    fn new((table, data): (TablePath, &ShardedData)) -> Self {
        let totals = data.totals();
        Self {
            table,
            shards: totals.count,
            objects: totals.segments,
            rows: totals.rows,
            bytes: totals.bytes,
            schema_version: data.schema_version,
            digest: totals.digest,
        }
    }
}

#[derive(Serialize)]
struct BackupDetails {
    #[serde(flatten)]
    manifest: Manifest,
    manifest_blake3: String,
    data: Vec<DataRecord>,
    /// The last drill that proved that it can be restored.
    proven: Option<Proof>,
}

/// Shows a backup.
pub fn show(
    context: &Context,
    repository: &Repository,
    runtime: &Handle,
    stored: StoredManifest,
) -> Result<Verdict, Failure> {
    let proven = Proven::read(context, repository, runtime);
    let manifest = &stored.manifest;
    let details = BackupDetails {
        proven: proven
            .of(&manifest.collection, &manifest.backup_id)
            .cloned(),
        data: stored
            .manifest
            .stored_tables()
            .map(DataRecord::new)
            .collect(),
        manifest: stored.manifest,
        manifest_blake3: stored.blake3,
    };
    context.output.record(&details, describe)?;
    Ok(Verdict::Done)
}

fn describe(details: &BackupDetails) -> String {
    let manifest = &details.manifest;
    let mut text = format!(
        "backup      {}{}\ncollection  {}\nversion     {}\nmanifest    {}\n",
        manifest.backup_id,
        manifest
            .label
            .as_deref()
            .map(|label| format!(" ({label})"))
            .unwrap_or_default(),
        manifest.collection,
        manifest.snapshot_version,
        details.manifest_blake3,
    );
    if let Some(target) = &manifest.target {
        text += &format!("target      {target}\n");
    }
    if let Some(parent) = &manifest.parent {
        text += &format!("parent      {}\n", parent.backup_id);
    }
    if let Some(compacted) = &manifest.compacted
        && !compacted.folded.is_empty()
    {
        let folded: Vec<_> = compacted.folded.iter().map(BackupId::as_str).collect();
        text += &format!("folded from {}\n", folded.join(", "));
    }
    text += &proven::describe(details.proven.as_ref());
    for table in &manifest.tables {
        if let Some(method) = &table.changes_by {
            text += &format!("changes of  {} were found by {method}\n", table.table);
        }
        if let Some(why) = &table.untold {
            text += &format!(
                "            the change stream did not tell those of {}: {why}\n",
                table.table
            );
        }
    }
    text += "\n";
    text + &table(
        &details.data,
        &[
            Field::left("table", |r: &DataRecord| r.table.to_string()),
            Field::right("shards", |r| r.shards.to_string()),
            Field::right("objects", |r| r.objects.to_string()),
            Field::right("rows", |r| human::count(r.rows)),
            Field::right("bytes", |r| human::bytes(r.bytes)),
            Field::left("rows and digest at the snapshot", |r| r.digest.to_string()),
        ],
    )
}
