//! `mendb table create`

use clap::Args;
use mendb_model::Column;

use super::definition::{DefinitionArgs, parse_column};
use super::text_args::TextArgs;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Create an empty table.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The name of the table
    table: String,
    /// A column: NAME:TYPE or NAME:TYPE:not_null. Types: Bool, Int8 to Int64, Uint8 to Uint64, Float,
    /// Double, Utf8, String, Json, Date, Datetime, Timestamp, Decimal(p,s), Uuid
    #[arg(
        long,
        value_name = "NAME:TYPE",
        value_parser = parse_column,
        required_unless_present = "schema",
        conflicts_with = "schema"
    )]
    column: Vec<Column>,
    #[command(flatten)]
    definition: DefinitionArgs,
    #[command(flatten)]
    text: TextArgs,
}

/// Runs the command.
pub fn run(args: &CreateArgs, context: &Context) -> Result<Verdict, Failure> {
    let schema = match args.definition.schema_file()? {
        Some(file) => file.schema,
        None => args.definition.schema_with(args.column.clone())?,
    };
    if let Some(flag) = args.text.given()
        && args.definition.split_at.is_empty()
    {
        return Err(Failure::misuse(format!("{flag} is for --split-at")));
    }
    let splits = args.definition.splits(&schema, &args.text.rules())?;
    let shards = splits.len() + 1;
    let report = serde_json::json!({ "table": args.table, "schema": schema, "shards": shards });
    context
        .open_rows()?
        .create_table(&args.table, schema, splits)?;
    context.output.report(&report, |_| {
        let unit = if shards == 1 { "shard" } else { "shards" };
        format!("created table {} with {shards} {unit}\n", args.table)
    })?;
    Ok(Verdict::Done)
}
