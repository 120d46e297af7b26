//! A backup that clickhouse-backup made.

use mendb_model::part::Mutation;
use mendb_repo::clickhouse_backup::{ImportedBackups, ImportedContents, ImportedTable};
use serde::Serialize;

use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};
use crate::parts::part_record::PartRecord;

#[derive(Serialize)]
struct BackupDetails {
    backup: String,
    url: String,
    server_version: String,
    /// The backup that has parts which this one only names.
    requires: Option<String>,
    /// What it has beside tables, which mendb does not restore.
    not_restored: Vec<String>,
    tables: Vec<TableDetails>,
    /// Only where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<PartRecord>>,
}

#[derive(Serialize)]
struct TableDetails {
    table: String,
    engine: String,
    parts: u64,
    /// Of these, parts that are in other backups.
    required_parts: u64,
    bytes: u64,
    /// It was backed up without data.
    schema_only: bool,
    mutations: Vec<Mutation>,
    create_query: String,
}

impl TableDetails {
    fn new(table: ImportedTable) -> Self {
        Self {
            table: table.definition.name.to_string(),
            engine: table.definition.engine,
            parts: table.parts,
            required_parts: table.required_parts,
            bytes: table.bytes,
            schema_only: table.schema_only,
            mutations: table.mutations,
            create_query: table.definition.create_query,
        }
    }

    /// What sets it apart, in a few words.
    fn note(&self) -> String {
        let schema = self.schema_only.then(|| "without data".to_owned());
        let mutations = match self.mutations.len() {
            0 => None,
            1 => Some("1 mutation was not finished".to_owned()),
            several => Some(format!("{several} mutations were not finished")),
        };
        let notes: Vec<String> = schema.into_iter().chain(mutations).collect();
        notes.join("; ")
    }
}

/// Shows a backup.
pub fn show(
    context: &Context,
    url: &str,
    name: &str,
    with_parts: bool,
) -> Result<Verdict, Failure> {
    let runtime = context.runtime()?;
    let backups = ImportedBackups::open(url, context.repository_options())?;
    let backup = runtime.block_on(backups.backup(name))?;
    let contents: ImportedContents = runtime.block_on(backup.contents())?;
    let mut parts = with_parts.then(Vec::new);
    if let Some(parts) = &mut parts {
        let with_data = |table: &&ImportedTable| table.definition.has_parts() && !table.schema_only;
        for table in contents.tables.iter().filter(with_data) {
            let name = &table.definition.name;
            let found = runtime.block_on(backup.parts(name))?.into_iter();
            parts.extend(found.map(|part| PartRecord::imported(name, part)));
        }
    }
    let details = BackupDetails {
        backup: name.to_owned(),
        url: backups.url().to_owned(),
        server_version: contents.server_version.trim_start_matches('v').to_owned(),
        requires: contents.required_backup,
        not_restored: backup.beside_tables(),
        tables: contents.tables.into_iter().map(TableDetails::new).collect(),
        parts,
    };
    context.output.record(&details, describe)?;
    Ok(Verdict::Done)
}

fn describe(details: &BackupDetails) -> String {
    let mut text = format!(
        "backup    {} of clickhouse-backup\nin        {}\nserver    ClickHouse {}\n",
        details.backup, details.url, details.server_version,
    );
    if let Some(required) = &details.requires {
        text += &format!("requires  {required}\n");
    }
    if !details.not_restored.is_empty() {
        let beside = details.not_restored.join(", ");
        text += &format!("has also  {beside}: mendb does not restore that\n");
    }
    text.push('\n');
    text += &table(
        &details.tables,
        &[
            Field::left("table", |t: &TableDetails| t.table.clone()),
            Field::left("engine", |t| t.engine.clone()),
            Field::right("parts", |t| human::count(t.parts)),
            Field::right("in others", |t| human::count(t.required_parts)),
            Field::right("bytes", |t| human::bytes(t.bytes)),
            Field::left("note", TableDetails::note),
        ],
    );
    if let Some(parts) = &details.parts {
        text.push('\n');
        text += &PartRecord::describe(parts);
    }
    text
}
