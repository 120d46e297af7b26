//! The replicas of mended tables, which follow what is done to one of them.

use mendb_engines::{Replica, Replication};
use mendb_model::describe_error;
use mendb_model::operation::MendRequest;
use mendb_model::part::TableName;

use super::tables::tables_with_parts;
use crate::attempt::Attempt;
use crate::error::Result;
use crate::front::Front;
use crate::task_error::TaskResult;

impl Front {
    /// The other replicas of each of these tables, beside the one here. A table that is not replicated has none.
    ///
    /// # Errors
    /// The server does not answer, or has lost what coordinates the replicas.
    pub fn replicas(&self, tables: &[TableName]) -> Result<Vec<(TableName, Vec<Replica>)>> {
        let engine = self.tools.engine.parts()?;
        let replicas = (tables.iter()).map(|table| Ok((table.clone(), engine.replicas(table)?)));
        replicas.collect()
    }
}

/// What a plan says of the replicas of a table.
pub(super) fn note(replication: &Replication) -> String {
    let Replication {
        own,
        active,
        inactive,
    } = replication;
    let mut note = format!("it is replica {own}");
    if !active.is_empty() {
        note += &format!(", which {} follow", active.join(", "));
    }
    if !inactive.is_empty() {
        note += &format!("; not active, and to follow later: {}", inactive.join(", "));
    }
    if !(active.is_empty() && inactive.is_empty()) {
        note += "; each fetches from here the parts that are attached, and all parts of a partition that is exchanged";
    }
    note
}

/// Names replicas that do not have what was made of their table here. None of them stops a mend.
pub(super) fn tell(attempt: &Attempt<'_>, request: &MendRequest) -> TaskResult<()> {
    let engine = attempt.tools.engine.parts()?;
    for (idx, table) in tables_with_parts(request) {
        let is_changed = attempt
            .journal
            .mend_plan(idx)?
            .is_some_and(|record| record.changed);
        if !is_changed {
            continue;
        }
        let replicas = match engine.replicas(&table.target) {
            Ok(replicas) => replicas,
            Err(error) => {
                tracing::warn!(
                    table = %table.target,
                    error = describe_error(&error),
                    "is mended, and whether its replicas follow cannot be told: mendb verify --live --replicas asks again"
                );
                continue;
            }
        };
        for replica in replicas.iter().filter(|replica| !replica.is_same()) {
            tracing::warn!(
                table = %table.target,
                "{replica}: it follows by replication, and mendb verify --live --replicas tells when it has"
            );
        }
    }
    Ok(())
}
