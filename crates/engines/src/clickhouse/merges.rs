//! Merges and mutations of a table, stopped for as long as a mend needs its parts to stay what they are.
//!
//! *Crash*: that they are stopped is on disk before the server is asked ([`super::markers`]), so they are
//! started again also by a later process. A server that restarts has forgotten it: [`super::exchange`]
//! asks again. The server does not tell whether somebody else stopped them before: a mend starts them.

use std::collections::HashSet;

use mendb_model::part::TableName;

use super::ClickHouse;
use super::client::literal;
use super::disks::is_table;
use super::markers::{Marker, Markers};
use crate::error::{EngineError, Remedy, Result};

/// The server does not understand a statement: it is older than that.
pub(super) const SYNTAX_ERROR: u32 = 62;

impl ClickHouse {
    pub(super) fn markers(&self) -> Markers {
        Markers::new(&self.state_directory)
    }

    /// Stops merges and mutations of a table; those that run are cancelled.
    pub(super) fn stop_merges(&self, operation: &str, name: &TableName) -> Result<()> {
        let told = self.told_name(name)?;
        self.markers().set(operation, name, Marker::Merges)?;
        self.send_stop(&told)
    }

    pub(super) fn send_stop(&self, told: &TableName) -> Result<()> {
        let sql = format!("SYSTEM STOP MERGES {}", told.sql());
        let stopped = self.client.execute(&sql);
        stopped.map_err(|error| error.during(format_args!("stop merges of {told}")))
    }

    /// Starts merges and mutations of a table; one that is not there any more has none.
    pub(super) fn start_merges(&self, operation: &str, name: &TableName) -> Result<()> {
        let told = self.told_name(name)?;
        let sql = format!("SYSTEM START MERGES {}", told.sql());
        match self.client.execute(&sql) {
            Err(error) if !error.is_missing_table() => {
                return Err(error.during(format_args!("start merges of {name} again")));
            }
            _ => {}
        }
        self.markers().unset(operation, name, Marker::Merges)
    }

    /// Starts merges that are still marked as stopped, except those of operations that go on.
    pub(super) fn start_marked_merges(&self, go_on: &HashSet<String>) -> Result<()> {
        let found = self.markers().find(None)?;
        let stopped = found.iter().filter(|found| found.marker == Marker::Merges);
        for stopped in stopped.filter(|stopped| !go_on.contains(&stopped.operation)) {
            self.start_merges(&stopped.operation, &stopped.table)?;
        }
        Ok(())
    }

    /// Ends mutations; parts that they went through stay as they are.
    pub(super) fn kill_mutations(&self, name: &TableName, mutation_ids: &[String]) -> Result<()> {
        if mutation_ids.is_empty() {
            return Ok(());
        }
        let told = self.told_name(name)?;
        let ids: Vec<String> = mutation_ids.iter().map(|id| literal(id)).collect();
        let sql = format!(
            "KILL MUTATION WHERE {} AND mutation_id IN ({})",
            is_table(&told, "table"),
            ids.join(", ")
        );
        match self.client.execute(&sql) {
            Ok(()) => Ok(()),
            // Servers of before 19.3 cannot.
            Err(error) if error.code() == Some(SYNTAX_ERROR) => {
                self.check_done(&told, mutation_ids)
            }
            Err(error) => Err(error.during(format_args!("end mutations of {name}"))),
        }
    }

    fn check_done(&self, told: &TableName, mutation_ids: &[String]) -> Result<()> {
        let pending = self.pending_mutations(told)?;
        let unfinished = pending
            .iter()
            .find(|m| mutation_ids.contains(&m.mutation_id));
        unfinished.map_or(Ok(()), |mutation| {
            let message = format!(
                "mutation {} of {told} ({}) is not finished and would change parts that are kept, and \
                 this server cannot end it: mend again when it is done",
                mutation.mutation_id, mutation.command
            );
            Err(EngineError::new(Remedy::Request, message))
        })
    }
}
