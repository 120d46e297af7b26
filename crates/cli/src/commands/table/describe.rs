//! `mendb table describe`

use std::fmt::Write;

use clap::Args;
use mendb_model::digest::Digest;
use mendb_model::key_text;
use mendb_model::name::TablePath;
use mendb_model::{ColumnType, KeyRange, TableSchema};
use mendb_rowstore::{PathState, ShardSnapshot, StreamDescription, TableDescription, Versions};
use serde::Serialize;

use super::{paths_of, postgres, schema_of};
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::{Field, table};
use crate::target::Target;

/// Show the columns, key, indexes, versions and shards of a table.
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// The table
    table: String,
}

#[derive(Serialize)]
struct Described {
    table: String,
    state: PathState,
    schema: TableSchema,
    versions: Versions,
    streams: Vec<Stream>,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Stream {
    name: String,
    attached_at: u64,
    needed_after: u64,
}

/// A shard of the table or of one of its indexes.
#[derive(Serialize)]
struct Shard {
    path: TablePath,
    /// The first key, as a user would write it; `None` for the first shard.
    from: Option<String>,
    /// The first key after it; `None` for the last shard.
    to: Option<String>,
    range: KeyRange,
    rows: u64,
    bytes: u64,
    digest: Digest,
}

/// Runs the command.
pub fn run(args: &DescribeArgs, context: &Context) -> Result<Verdict, Failure> {
    if let Target::Postgres(address) = context.target()? {
        return postgres::describe(&address, &args.table, context);
    }
    let described = Described::of(context.look_at_rows()?.describe(&args.table)?)?;
    context.output.record(&described, text)?;
    Ok(Verdict::Done)
}

/// `ready`, or which operation holds the table.
pub fn state_text(state: &PathState) -> String {
    match state {
        PathState::Ready => "ready".to_owned(),
        PathState::Backup { operation } => format!("backed up by {operation}"),
        PathState::Restoring { operation } => format!("restored by {operation}"),
        PathState::Mending { operation, .. } => format!("mended by {operation}"),
    }
}

impl Described {
    fn of(description: TableDescription) -> Result<Self, Failure> {
        let mut shards = Vec::new();
        for path in paths_of(&description.name, &description.schema) {
            let types = schema_of(&path, &description.schema)?.key_types();
            let snapshots = match &path.index {
                None => &description.rows.shards,
                Some(index) => &description.indexes[index].shards,
            };
            let of_path = snapshots
                .iter()
                .map(|shard| Shard::of(&path, &types, shard));
            shards.extend(of_path);
        }
        Ok(Self {
            table: description.name,
            state: description.state,
            schema: description.schema,
            versions: description.versions,
            streams: description.streams.into_iter().map(Stream::of).collect(),
            shards,
        })
    }
}

impl Stream {
    fn of(stream: StreamDescription) -> Self {
        Self {
            name: stream.name,
            attached_at: stream.attached_at,
            needed_after: stream.needed_after,
        }
    }
}

impl Shard {
    fn of(path: &TablePath, types: &[ColumnType], shard: &ShardSnapshot) -> Self {
        let show = |bytes: &[u8]| key_text::display(bytes, types);
        let start = &shard.range.start;
        Self {
            path: path.clone(),
            from: (!start.is_empty()).then(|| show(start)),
            to: shard.range.end.as_deref().map(show),
            range: shard.range.clone(),
            rows: shard.digest.rows,
            bytes: shard.bytes,
            digest: shard.digest,
        }
    }
}

fn text(described: &Described) -> String {
    let schema = &described.schema;
    let versions = &described.versions;
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = writeln!(
        out,
        "table {}  {}  schema version {}\n",
        described.table,
        state_text(&described.state),
        versions.table
    );
    let columns: Vec<ColumnLine> = schema
        .columns
        .iter()
        .map(|column| ColumnLine {
            name: column.name.clone(),
            column_type: column.column_type.to_string(),
            not_null: column.not_null,
            key: schema.key.iter().position(|name| *name == column.name),
        })
        .collect();
    out += &table(&columns, &ColumnLine::fields());
    for index in &schema.indexes {
        let unique = if index.unique {
            "unique index"
        } else {
            "index"
        };
        let columns = index.columns.join(", ");
        let _ = write!(out, "\n{unique} {} on {columns}", index.name);
        if !index.cover.is_empty() {
            let _ = write!(out, " covering {}", index.cover.join(", "));
        }
        if let Some(of_index) = versions.indexes.get(&index.name) {
            let (entity, implementation) = (of_index.entity, of_index.implementation);
            let _ = write!(out, "  version {entity}, implementation {implementation}");
        }
        out.push('\n');
    }
    for stream in &described.streams {
        let _ = writeln!(
            out,
            "\nchange stream {} attached at {}, needed after {}",
            stream.name, stream.attached_at, stream.needed_after
        );
    }
    out.push('\n');
    out += &table(
        &described.shards,
        &[
            Field::left("shard of", |shard: &Shard| shard.path.to_string()),
            Field::left("from", |shard| shard.from.clone().unwrap_or_default()),
            Field::left("to", |shard| shard.to.clone().unwrap_or_default()),
            Field::right("rows", |shard| human::count(shard.rows)),
            Field::right("size", |shard| human::bytes(shard.bytes)),
        ],
    );
    out
}

struct ColumnLine {
    name: String,
    column_type: String,
    not_null: bool,
    /// Its place in the key, from 0.
    key: Option<usize>,
}

impl ColumnLine {
    fn fields() -> [Field<Self>; 4] {
        [
            Field::left("column", |line: &Self| line.name.clone()),
            Field::left("type", |line| line.column_type.clone()),
            Field::left("", |line| {
                if line.not_null {
                    "not null".into()
                } else {
                    String::new()
                }
            }),
            Field::left("key", |line| {
                line.key.map_or_else(String::new, |at| (at + 1).to_string())
            }),
        ]
    }
}
