//! `mendb table drop`

use clap::Args;

use crate::context::Context;
use crate::failure::{Failure, Verdict};

/// Remove a table, its rows and its indexes.
#[derive(Debug, Args)]
pub struct DropArgs {
    /// The tables
    #[arg(required = true)]
    tables: Vec<String>,
}

/// Runs the command. Every table is looked for before the first is dropped.
pub fn run(args: &DropArgs, context: &Context) -> Result<Verdict, Failure> {
    let database = context.open_rows()?;
    for table in &args.tables {
        database.describe(table)?;
    }
    for table in &args.tables {
        database.drop_table(table)?;
    }
    let report = serde_json::json!({ "dropped": args.tables });
    context.output.report(&report, |_| {
        let lines = args.tables.iter();
        lines
            .map(|table| format!("dropped table {table}\n"))
            .collect()
    })?;
    Ok(Verdict::Done)
}
