//! `mendb list`: the backups of a repository.

use clap::Args;
use mendb_model::part::{MissingTable, PartTable};
use mendb_model::{TargetMark, Version, describe_error};
use mendb_repo::clickhouse_backup::ImportedBackups;
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::Field;
use crate::proven::Proven;

/// List the backups of the repository.
#[derive(Debug, Args)]
pub struct ListCommand {
    /// Only those of this collection
    collection: Option<String>,
    /// List the backups that clickhouse-backup made instead: clickhouse-backup+file:///directory,
    /// clickhouse-backup+s3://bucket/prefix
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "collection",
        help_heading = "ClickHouse"
    )]
    from: Option<String>,
}

/// A backup in the list.
#[derive(Serialize)]
struct BackupRecord {
    collection: String,
    backup_id: String,
    kind: &'static str,
    label: Option<String>,
    parent: Option<String>,
    tables: Vec<String>,
    rows: u64,
    /// Of its data, those that other backups share included.
    bytes: u64,
    /// That it added to the repository.
    new_bytes: u64,
    snapshot_version: Option<Version>,
    /// The target that it was taken of; null where it does not say.
    target: Option<TargetMark>,
    /// Whether it has every table that was asked for.
    complete: bool,
    /// Tables that it lacks, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<MissingTable>,
    /// Why the manifest cannot be read, if so.
    damage: Option<String>,
    /// When a drill last proved that it can be restored.
    proven_restorable_at: Option<String>,
    /// When a drill last proved that of any backup of the collection.
    last_proven_restorable_at: Option<String>,
}

impl BackupRecord {
    /// What is wrong with it, or what it lacks.
    fn note(&self) -> String {
        match (&self.damage, self.missing.len()) {
            (Some(damage), _) => damage.clone(),
            (None, 0) => String::new(),
            (None, 1) => format!("incomplete: lacks {}", self.missing[0].name),
            (None, several) => format!("incomplete: lacks {several} tables"),
        }
    }
}

impl ListCommand {
    pub fn run(self, context: &Context) -> Result<Verdict, Failure> {
        if let Some(url) = &self.from {
            return list_imported(context, url);
        }
        let runtime = context.runtime()?;
        let repository = context.open_repository(&runtime)?;
        let whose = self.collection.clone();
        let collections = match self.collection {
            Some(collection) => vec![collection],
            None => runtime.block_on(repository.collections())?,
        };
        let proven = Proven::read(context, &repository, runtime.handle());
        let mut records: Vec<BackupRecord> = Vec::new();
        let mut has_lost_one = false;
        for collection in collections {
            for (id, stored) in runtime.block_on(repository.list(&collection))? {
                let mut record = BackupRecord {
                    collection: collection.clone(),
                    backup_id: id.to_string(),
                    // Of one that cannot be read, what its id says.
                    kind: id.kind().name(),
                    label: None,
                    parent: None,
                    tables: Vec::new(),
                    rows: 0,
                    bytes: 0,
                    new_bytes: 0,
                    snapshot_version: None,
                    target: None,
                    complete: true,
                    missing: Vec::new(),
                    damage: None,
                    proven_restorable_at: proven.at(&collection, &id),
                    last_proven_restorable_at: proven.last_of(&collection),
                };
                match stored {
                    Ok(stored) => {
                        let manifest = stored.manifest;
                        record.kind = manifest.kind().name();
                        record.rows = manifest.rows();
                        record.new_bytes = manifest.bytes();
                        record.complete = manifest.is_complete();
                        record.target.clone_from(&manifest.target);
                        match manifest.part_store {
                            Some(store) => {
                                let tables = store.tables.iter();
                                record.bytes = tables.clone().map(PartTable::data_bytes).sum();
                                record.tables = tables.map(|t| t.name().to_string()).collect();
                                record.missing = store.missing;
                            }
                            None => {
                                record.bytes = record.new_bytes;
                                record.snapshot_version = Some(manifest.snapshot_version);
                                let tables = manifest.tables.into_iter();
                                record.tables = tables.map(|table| table.table).collect();
                            }
                        }
                        record.label = manifest.label;
                        record.parent = manifest.parent.map(|parent| parent.backup_id.to_string());
                    }
                    Err(error) => record.damage = Some(describe_error(&error)),
                }
                records.push(record);
            }
            for id in runtime.block_on(repository.unfinished(&collection))? {
                let stands_on_it = |record: &&BackupRecord| {
                    record.collection == collection && record.parent.as_deref() == Some(id.as_str())
                };
                if let Some(child) = records.iter().find(stands_on_it) {
                    let child = &child.backup_id;
                    context.say(&format!(
                        "note: {collection}/{id} has lost its manifest, and {child} stands on it: bring \
                         collections/{collection}/{id}/manifest.json back from a copy of the repository"
                    ));
                    has_lost_one = true;
                    continue;
                }
                context.say(&format!(
                    "note: {collection}/{id} is unfinished: an operation is writing it, or it was left behind; \
                     mendb delete {collection}/{id} removes what was left behind"
                ));
            }
        }
        context.output.records(
            &records,
            &[
                Field::left("collection", |r: &BackupRecord| r.collection.clone()),
                Field::left("backup", |r| r.backup_id.clone()),
                Field::left("label", |r| r.label.clone().unwrap_or_default()),
                Field::right("tables", |r| r.tables.len().to_string()),
                Field::right("rows", |r| human::count(r.rows)),
                Field::right("bytes", |r| human::bytes(r.bytes)),
                Field::right("new", |r| human::bytes(r.new_bytes)),
                Field::left("parent", |r| r.parent.clone().unwrap_or_default()),
                Field::left("target", |r| {
                    r.target
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default()
                }),
                Field::left("proven restorable", |r| {
                    r.proven_restorable_at.clone().unwrap_or_default()
                }),
                Field::left("note", BackupRecord::note),
            ],
        )?;
        if records.is_empty() {
            let whose = whose.map_or(String::new(), |name| format!(" of collection {name}"));
            context.say(&format!(
                "there is no backup{whose} in {}",
                repository.url()
            ));
        }
        let damaged = records.iter().any(|record| record.damage.is_some());
        Ok(if damaged || has_lost_one {
            Verdict::Drift
        } else {
            Verdict::Done
        })
    }
}

/// A backup that clickhouse-backup made, in the list.
#[derive(Serialize)]
struct ImportedRecord {
    backup: String,
    created: String,
    /// That it takes where it is, those of backups that it requires not counted.
    bytes: u64,
    requires: Option<String>,
    /// What it has beside tables, which mendb does not restore.
    not_restored: Vec<String>,
    /// Why it cannot be read, if so.
    damage: Option<String>,
}

fn list_imported(context: &Context, url: &str) -> Result<Verdict, Failure> {
    let runtime = context.runtime()?;
    let backups = ImportedBackups::open(url, context.repository_options())?;
    let listed = runtime.block_on(backups.list())?;
    let records: Vec<_> = listed
        .into_iter()
        .map(|listed| ImportedRecord {
            backup: listed.name,
            created: listed.created,
            bytes: listed.bytes,
            requires: listed.required_backup,
            not_restored: listed.beside_tables,
            damage: listed.broken,
        })
        .collect();
    context.output.records(
        &records,
        &[
            Field::left("backup", |r: &ImportedRecord| r.backup.clone()),
            Field::left("created", |r| r.created.clone()),
            Field::right("bytes", |r| human::bytes(r.bytes)),
            Field::left("requires", |r| r.requires.clone().unwrap_or_default()),
            Field::left("not restored", |r| r.not_restored.join(", ")),
            Field::left("damage", |r| r.damage.clone().unwrap_or_default()),
        ],
    )?;
    if records.is_empty() {
        context.say(&format!(
            "there is no backup of clickhouse-backup in {}",
            backups.url()
        ));
    }
    let damaged = records.iter().any(|record| record.damage.is_some());
    Ok(if damaged {
        Verdict::Drift
    } else {
        Verdict::Done
    })
}
