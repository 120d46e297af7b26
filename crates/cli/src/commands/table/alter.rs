//! `mendb table alter`

use clap::Args;
use mendb_model::Column;

use super::definition::parse_column;
use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Add columns to a table.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// The table
    table: String,
    /// A column to add; it is NULL in the rows that are there
    #[arg(long, value_name = "NAME:TYPE", value_parser = parse_column, required = true)]
    add_column: Vec<Column>,
}

/// Runs the command. Each column is a schema change of its own: those before one that is refused stay.
pub fn run(args: &AlterArgs, context: &Context) -> Result<Verdict, Failure> {
    let database = context.open_rows()?;
    for column in &args.add_column {
        database.add_column(&args.table, column.clone())?;
    }
    let version = database.describe(&args.table)?.versions.table;
    let report = serde_json::json!({
        "table": args.table,
        "added": args.add_column,
        "schema_version": version,
    });
    context.output.report(&report, |_| {
        let names: Vec<&str> = args
            .add_column
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        let names = names.join(", ");
        format!(
            "added {names} to table {}, now at schema version {version}\n",
            args.table
        )
    })?;
    Ok(Verdict::Done)
}
