//! `mendb table`: tables of the row store; those of a PostgreSQL database are listed, described and exported.

mod alter;
mod create;
mod definition;
mod describe;
pub mod digest;
mod drop;
mod export;
mod import;
mod import_report;
mod list;
mod load;
mod mode;
mod postgres;
mod read_args;
mod sample;
mod shards;
mod text_args;

use clap::Subcommand;
pub use definition::parse_key_range;
use mendb_model::name::TablePath;
pub use text_args::TextArgs;

use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};

/// Create, fill, read and look into tables.
#[derive(Debug, Subcommand)]
pub enum TableCommand {
    Create(create::CreateArgs),
    Import(import::ImportArgs),
    Export(export::ExportArgs),
    /// List the tables
    List,
    /// Show the columns, key, indexes, versions and shards of a table
    Describe(describe::DescribeArgs),
    /// Split a shard in two
    Split(shards::BoundaryArgs),
    /// Merge two shards, removing the boundary between them
    Merge(shards::BoundaryArgs),
    /// Pack the rows of a table and its indexes closely
    Compact(shards::CompactArgs),
    /// Add columns to a table
    Alter(alter::AlterArgs),
    Digest(digest::DigestArgs),
    /// Remove a table, its rows and its indexes
    Drop(drop::DropArgs),
}

impl TableCommand {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<Verdict, Failure> {
        match self {
            Self::Create(args) => create::run(args, context),
            Self::Import(args) => import::run(args, context),
            Self::Export(args) => export::run(args, context),
            Self::List => list::run(context),
            Self::Describe(args) => describe::run(args, context),
            Self::Split(args) => shards::split(args, context),
            Self::Merge(args) => shards::merge(args, context),
            Self::Compact(args) => shards::compact(args, context),
            Self::Alter(args) => alter::run(args, context),
            Self::Digest(args) => digest::run(args, context),
            Self::Drop(args) => drop::run(args, context),
        }
    }
}

/// Reads `T` or `T/index` off the command line.
fn table_path(text: &str) -> Result<TablePath, String> {
    TablePath::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// A table and its index implementation tables.
fn paths_of(table: &str, schema: &mendb_model::TableSchema) -> Vec<TablePath> {
    let indexes = schema.indexes.iter();
    std::iter::once(TablePath::table(table))
        .chain(indexes.map(|index| TablePath::index(table, &index.name)))
        .collect()
}

/// The schema of what a path names: the table's, or that of an index's implementation table.
fn schema_of(
    path: &TablePath,
    table: &mendb_model::TableSchema,
) -> Result<mendb_model::TableSchema, Failure> {
    let Some(name) = &path.index else {
        return Ok(table.clone());
    };
    let index = table.index(name).ok_or_else(|| {
        let names: Vec<&str> = table
            .indexes
            .iter()
            .map(|index| index.name.as_str())
            .collect();
        let failure = Failure::new(
            FailureKind::FixInput,
            format!("table {} has no index {name}", path.table),
        );
        if names.is_empty() {
            failure
        } else {
            failure.hint(format!("its indexes are {}", names.join(", ")))
        }
    })?;
    Ok(table.implementation(index))
}
