//! What a mend of live tables did, at its end.

use std::time::Duration;

use mendb_model::name::BackupId;
use mendb_model::operation::{MendedRows, MendedShard, Operation, RowMendRequest};
use serde::Serialize;

use super::mend_preview::sentence;
use crate::human;
use crate::operations::record::{OperationRecord, elapsed};
use crate::output::{Field, table};

/// The report of a mend.
#[derive(Debug, Serialize)]
pub struct RowMendReport {
    #[serde(flatten)]
    pub operation: OperationRecord,
    /// The backup that was taken first: mending to it takes the mend back.
    pub before: BackupId,
    pub tables: Vec<TableReport>,
    /// Each key range that was looked at.
    pub ranges: Vec<MendedShard>,
    pub total: MendedRows,
    /// What the plan said that it carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned: Option<MendedRows>,
    /// Writers were refused for at most so long, or waited.
    pub writers_waited_ms: u64,
    #[serde(skip)]
    beside_writers: bool,
}

/// A table in the report.
#[derive(Debug, Serialize)]
pub struct TableReport {
    pub table: String,
    pub created: bool,
    /// Rows beside a range that were mended too, because they held what came back with it.
    pub taken_along: u64,
    /// Its ranges.
    pub ranges: u64,
    /// Those of which nothing was read or written.
    pub untouched: u64,
    /// Those, with those of its indexes, that were rebuilt as a whole: `ranges` of the report says why.
    pub rebuilt: u64,
    pub rows: MendedRows,
}

impl RowMendReport {
    /// The report of an operation, beside the plan that it carried out.
    pub fn new(operation: &Operation, request: &RowMendRequest) -> Self {
        let mut total = MendedRows::default();
        for shard in &operation.mended {
            total += shard.rows;
        }
        let tables = request.tables.iter().map(|mended| {
            let of_table = || {
                let shards = operation.mended.iter();
                shards.filter(|shard| shard.path.table == mended.table)
            };
            let mut rows = MendedRows::default();
            for shard in of_table() {
                rows += shard.rows;
            }
            let is_rebuilt = |shard: &&MendedShard| shard.method.is_some_and(|it| it.is_rebuild());
            let untouched = of_table().filter(|shard| shard.rows == MendedRows::default());
            TableReport {
                table: mended.table.clone(),
                created: mended.create,
                taken_along: mended.also.len() as u64,
                ranges: of_table().count() as u64,
                untouched: untouched.count() as u64,
                rebuilt: of_table().filter(is_rebuilt).count() as u64,
                rows,
            }
        });
        Self {
            operation: OperationRecord::new(operation),
            before: request.before.backup_id.clone(),
            tables: tables.collect(),
            ranges: operation.mended.clone(),
            total,
            planned: request.planned,
            writers_waited_ms: match request.beside_writers {
                true => operation.mended_rows.writers_waited_ms,
                false => u64::try_from(elapsed(operation).as_millis()).unwrap_or(u64::MAX),
            },
            beside_writers: request.beside_writers,
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        let mut text = table(&self.tables, &fields());
        text += &format!("\ndone: {}\n", sentence(&self.total));
        if let Some(planned) = &self.planned {
            text += &format!("plan: {}\n", sentence(planned));
        }
        text += &self.operation.sentence();
        text += &format!(
            "writers {} {}; mendb undo {} takes it back{} to {}\n",
            match self.beside_writers {
                true => "waited",
                false => "were refused for at most",
            },
            human::duration(Duration::from_millis(self.writers_waited_ms)),
            self.operation.operation_id,
            match self.beside_writers {
                true => ", but for rows that are written again,",
                false => ", and what is written since,",
            },
            self.before
        );
        text
    }
}

fn fields() -> [Field<TableReport>; 9] {
    [
        Field::left("table", |t: &TableReport| t.table.clone()),
        Field::right("ranges", |t| human::count(t.ranges)),
        Field::right("untouched", |t| human::count(t.untouched)),
        Field::right("rebuilt", |t| human::count(t.rebuilt)),
        Field::right("read", |t| human::count(t.rows.read)),
        Field::right("upserted", |t| human::count(t.rows.upserted)),
        Field::right("erased", |t| human::count(t.rows.erased)),
        Field::right("kept", |t| human::count(t.rows.kept)),
        Field::right("fetched", |t| human::bytes(t.rows.fetched_bytes)),
    ]
}
