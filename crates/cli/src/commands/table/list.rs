//! `mendb table list`

use mendb_rowstore::PathState;
use serde::Serialize;

use super::postgres;
use crate::context::Context;
use crate::failure::{Failure, Verdict};
use crate::human;
use crate::output::Field;
use crate::target::Target;

#[derive(Serialize)]
struct Listed {
    table: String,
    #[serde(flatten)]
    state: PathState,
    rows: u64,
    bytes: u64,
    shards: usize,
    indexes: Vec<String>,
}

/// Runs the command.
pub fn run(context: &Context) -> Result<Verdict, Failure> {
    if let Target::Postgres(address) = context.target()? {
        return postgres::list(&address, context);
    }
    let snapshot = context.look_at_rows()?;
    let mut tables = Vec::new();
    for name in snapshot.tables() {
        let description = snapshot.describe(&name)?;
        let shards = &description.rows.shards;
        tables.push(Listed {
            table: name,
            state: description.state,
            rows: shards.iter().map(|shard| shard.digest.rows).sum(),
            bytes: shards.iter().map(|shard| shard.bytes).sum(),
            shards: shards.len(),
            indexes: description
                .schema
                .indexes
                .into_iter()
                .map(|index| index.name)
                .collect(),
        });
    }
    context.output.records(
        &tables,
        &[
            Field::left("table", |t: &Listed| t.table.clone()),
            Field::right("rows", |t| human::count(t.rows)),
            Field::right("size", |t| human::bytes(t.bytes)),
            Field::right("shards", |t| t.shards.to_string()),
            Field::left("state", |t| super::describe::state_text(&t.state)),
            Field::left("indexes", |t| t.indexes.join(", ")),
        ],
    )?;
    Ok(Verdict::Done)
}
