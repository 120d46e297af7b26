//! A backup of a part store.

use mendb_model::manifest::Manifest;
use mendb_model::part::{self, PartStoreBackup};
use mendb_repo::{Repository, StoredManifest};
use mendb_service::journal::proof::Proof;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::parts::backup_report::{ShardRecord, describe_lack, describe_moment};
use crate::parts::part_record::PartRecord;
use crate::parts::table_record::{TableRecord, Totals};
use crate::proven::{self, Proven};

/// A backup of the repository.
#[derive(Serialize)]
struct BackupDetails<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    manifest_blake3: &'a str,
    #[serde(flatten)]
    contents: Contents,
    /// The last drill that proved that it can be restored.
    proven: Option<Proof>,
}

/// What a backup holds.
#[derive(Serialize)]
struct Contents {
    totals: Totals,
    data: Vec<TableRecord>,
    /// Of the backup of a cluster its shards, and the milliseconds from the first freeze to the last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    shards: Vec<ShardRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skew_ms: Option<u64>,
    /// Whether all of it is proved to be of one moment.
    exact: bool,
    /// Only where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<PartRecord>>,
}

impl Contents {
    fn new(store: &PartStoreBackup, parts: Option<Vec<PartRecord>>) -> Self {
        let data = TableRecord::all(store);
        Self {
            totals: Totals::of(&data),
            data,
            shards: ShardRecord::all(store),
            skew_ms: ShardRecord::skew_ms(store),
            exact: store.exact,
            parts,
        }
    }

    fn describe(&self, store: &PartStoreBackup) -> String {
        let server = match store.shards.is_empty() {
            true => format!("server      ClickHouse {}\n", store.server_version),
            false => String::new(),
        };
        let mut text = format!(
            "{server}in all      {}\n\n{}{}{}",
            self.totals.describe(),
            ShardRecord::describe(&self.shards, self.skew_ms),
            describe_moment(self.exact),
            TableRecord::describe(&self.data)
        );
        for table in &store.tables {
            if table.definition.statement().is_none() {
                text += &format!(
                    "\n{} was backed up without its credentials: a restore will not create it\n",
                    table.name()
                );
            }
            for mutation in &table.mutations {
                text += &format!(
                    "\nmutation {} of {} was not finished, {} parts to do: {}\n",
                    mutation.mutation_id,
                    table.name(),
                    mutation.parts_to_do,
                    mutation.command
                );
            }
        }
        text += &describe_lack(store);
        if let Some(parts) = &self.parts {
            text.push('\n');
            text += &PartRecord::describe(parts);
        }
        text
    }
}

/// Shows a backup of the repository. Of its part lists one is in memory at a time.
pub fn show(
    context: &Context,
    repository: &Repository,
    runtime: &Handle,
    stored: &StoredManifest,
    store: &PartStoreBackup,
    with_parts: bool,
) -> Result<Verdict, Failure> {
    let mut manifest = stored.manifest.clone();
    if let Some(store) = &mut manifest.part_store {
        // They are for the server that they belong to.
        store.drop_secrets();
    }
    let manifest = &manifest;
    let parts = if with_parts {
        Some(read_parts(repository, runtime, manifest, store)?)
    } else {
        None
    };
    let details = BackupDetails {
        manifest,
        manifest_blake3: &stored.blake3,
        contents: Contents::new(store, parts),
        proven: Proven::read(context, repository, runtime)
            .of(&manifest.collection, &manifest.backup_id)
            .cloned(),
    };
    context.output.record(&details, |details| {
        let label = manifest.label.as_deref();
        format!(
            "backup      {}{}\ncollection  {}\nmanifest    {}\n{}{}tables      {}\n{}",
            manifest.backup_id,
            label.map(|label| format!(" ({label})")).unwrap_or_default(),
            manifest.collection,
            details.manifest_blake3,
            manifest
                .target
                .as_ref()
                .map(|target| format!("target      {target}\n"))
                .unwrap_or_default(),
            proven::describe(details.proven.as_ref()),
            store.patterns,
            details.contents.describe(store),
        )
    })?;
    Ok(Verdict::Done)
}

fn read_parts(
    repository: &Repository,
    runtime: &Handle,
    manifest: &Manifest,
    store: &PartStoreBackup,
) -> Result<Vec<PartRecord>, Failure> {
    let mut parts = Vec::new();
    for table in &store.tables {
        for list in &table.lists {
            let read = repository.document_at(&manifest.collection, &manifest.backup_id, &list.at);
            let records: Vec<part::PartRecord> = runtime.block_on(read)?;
            let records = records.into_iter();
            parts.extend(records.map(|record| PartRecord::new(table.name(), record.part)));
        }
    }
    Ok(parts)
}
