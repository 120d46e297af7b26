//! `mendb table split`, `merge` and `compact`

use clap::Args;
use mendb_model::key_text;
use mendb_model::name::TablePath;
use serde::Serialize;

use super::definition::parse_key;
use super::text_args::TextArgs;
use super::{paths_of, schema_of, table_path};
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// A boundary between shards.
#[derive(Debug, Args)]
pub struct BoundaryArgs {
    /// The table, or TABLE/INDEX for an index
    #[arg(value_parser = table_path)]
    table: TablePath,
    /// The first key of the right shard, one value per key column or fewer: 1234,"a,b",NULL
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    at: String,
    #[command(flatten)]
    text: TextArgs,
}

/// Pack the rows of a table and its indexes closely.
#[derive(Debug, Args)]
pub struct CompactArgs {
    /// The table
    table: String,
}

#[derive(Serialize)]
struct Report<'a> {
    table: &'a TablePath,
    at: String,
    shards: usize,
}

/// Runs `mendb table split`.
pub fn split(args: &BoundaryArgs, context: &Context) -> Result<Verdict, Failure> {
    change(args, context, "split", mendb_rowstore::Database::split)
}

/// Runs `mendb table merge`.
pub fn merge(args: &BoundaryArgs, context: &Context) -> Result<Verdict, Failure> {
    change(args, context, "merged", mendb_rowstore::Database::merge)
}

fn change(
    args: &BoundaryArgs,
    context: &Context,
    done: &str,
    change: impl FnOnce(&mendb_rowstore::Database, &TablePath, &[u8]) -> mendb_rowstore::Result<()>,
) -> Result<Verdict, Failure> {
    let database = context.open_rows()?;
    let table = database.describe(&args.table.table)?;
    let schema = schema_of(&args.table, &table.schema)?;
    let at = parse_key(&args.at, &schema, &args.text.rules())?;
    change(&database, &args.table, &at)?;
    let report = Report {
        table: &args.table,
        at: key_text::display(&at, &schema.key_types()),
        shards: database.shards(&args.table)?.len(),
    };
    context.output.report(&report, |report| {
        let unit = if report.shards == 1 {
            "shard"
        } else {
            "shards"
        };
        format!(
            "{done} {} at {}, now {} {unit}\n",
            report.table, report.at, report.shards
        )
    })?;
    Ok(Verdict::Done)
}

/// Runs `mendb table compact`.
pub fn compact(args: &CompactArgs, context: &Context) -> Result<Verdict, Failure> {
    let database = context.open_rows()?;
    let schema = database.describe(&args.table)?.schema;
    let paths = paths_of(&args.table, &schema);
    for path in &paths {
        database.compact(path)?;
    }
    context
        .output
        .report(&serde_json::json!({ "compacted": paths }), |_| {
            format!("compacted table {}\n", args.table)
        })?;
    Ok(Verdict::Done)
}
