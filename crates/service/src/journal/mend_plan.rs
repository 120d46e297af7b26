//! Record `mend_plan`: what a mend is to do to one table, and what it has done. The mend writes it before its first
//! change of the table. It stays until the operation is forgotten.

use mendb_model::name::OperationId;
use mendb_model::part::{TableName, TablePlan, Tally};
use rusqlite::{OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::to_json;
use super::{Journal, int};
use crate::error::Result;

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS mend_plan (
    operation_id TEXT NOT NULL,
    table_idx    INTEGER NOT NULL,
    target       TEXT NOT NULL,               -- database.table
    plan         TEXT NOT NULL,               -- JSON
    done         TEXT NOT NULL,               -- JSON: the sums of what was done
    late_parts   INTEGER NOT NULL,            -- parts that came after planning
    changed      INTEGER NOT NULL,            -- 1: the table is not what it was before the mend
    incomplete   INTEGER NOT NULL,            -- 1: nor (yet) what the backup holds
    PRIMARY KEY (operation_id, table_idx)
) STRICT, WITHOUT ROWID;";

/// The plan of a table, and what was done of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendPlan {
    /// The plan.
    pub plan: TablePlan,
    /// The sums of what was done.
    pub done: Tally,
    /// Parts that came after planning and were found before a commit.
    pub late_parts: u64,
    /// Whether the table is not what it was before.
    pub changed: bool,
    /// Whether it was changed and is not, or not yet, as the backup.
    pub incomplete: bool,
}

/// What has become of a table under mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MendState {
    /// It is what it was before, also when it was brought back to that.
    Untouched,
    /// It is being changed.
    Changing,
    /// It is as the backup.
    Mended,
}

impl Journal {
    /// Writes the plan of a table, or another in its place: what was done of it stays recorded.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn put_mend_plan(&self, id: &OperationId, table_idx: u32, plan: &TablePlan) -> Result<()> {
        self.write("write a mend plan", |tx| {
            tx.execute(
                "INSERT INTO mend_plan (operation_id, table_idx, target, plan, done, late_parts, changed, incomplete)
                 VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, 0)
                 ON CONFLICT (operation_id, table_idx) DO UPDATE SET plan = excluded.plan",
                params![
                    id.as_str(),
                    table_idx,
                    plan.target.to_string(),
                    to_json(plan)?,
                    to_json(&Tally::default())?
                ],
            )
        })?;
        Ok(())
    }

    /// Writes what was done to a table, all together.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn set_mend_done(&self, id: &OperationId, table_idx: u32, done: &Tally) -> Result<()> {
        self.write("write what a mend has done", |tx| {
            tx.execute(
                "UPDATE mend_plan SET done = ?3 WHERE operation_id = ?1 AND table_idx = ?2",
                params![id.as_str(), table_idx, to_json(done)?],
            )
        })?;
        Ok(())
    }

    /// Says how many parts came after planning.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn set_mend_late(&self, id: &OperationId, table_idx: u32, late_parts: u64) -> Result<()> {
        self.write("write what a mend has met", |tx| {
            tx.execute(
                "UPDATE mend_plan SET late_parts = ?3 WHERE operation_id = ?1 AND table_idx = ?2",
                params![id.as_str(), table_idx, int(late_parts)],
            )
        })?;
        Ok(())
    }

    /// Says what has become of a table: said before the first change, and again when the last is proved.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn set_mend_state(&self, id: &OperationId, table_idx: u32, state: MendState) -> Result<()> {
        let (changed, incomplete) = match state {
            MendState::Untouched => (false, false),
            MendState::Changing => (true, true),
            MendState::Mended => (true, false),
        };
        self.write("write where a mend stands", |tx| {
            tx.execute(
                "UPDATE mend_plan SET changed = ?3, incomplete = ?4 WHERE operation_id = ?1 AND table_idx = ?2",
                params![id.as_str(), table_idx, changed, incomplete],
            )
        })?;
        Ok(())
    }

    /// The plan of a table.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn mend_plan(&self, id: &OperationId, table_idx: u32) -> Result<Option<MendPlan>> {
        let found = self.read("read a mend plan", |connection| {
            connection
                .query_row(
                    "SELECT plan, done, late_parts, changed, incomplete FROM mend_plan
                     WHERE operation_id = ?1 AND table_idx = ?2",
                    params![id.as_str(), table_idx],
                    columns,
                )
                .optional()
        })?;
        found.map(|row| self.decode(id, row)).transpose()
    }

    /// The plan of a table by its name on the target, and its place in the operation.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn mend_plan_of(
        &self,
        id: &OperationId,
        target: &TableName,
    ) -> Result<Option<(u32, MendPlan)>> {
        let places: Vec<u32> = self.read("look for a mend plan", |connection| {
            connection
                .prepare("SELECT table_idx FROM mend_plan WHERE operation_id = ?1 AND target = ?2")?
                .query_map(params![id.as_str(), target.to_string()], |row| row.get(0))?
                .collect()
        })?;
        // Names that are printed alike may be those of two tables.
        for table_idx in places {
            let record = self.mend_plan(id, table_idx)?;
            if let Some(record) = record.filter(|record| record.plan.target == *target) {
                return Ok(Some((table_idx, record)));
            }
        }
        Ok(None)
    }

    /// The plans of an operation, in the order of its tables.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn mend_plans(&self, id: &OperationId) -> Result<Vec<MendPlan>> {
        let rows: Vec<_> = self.read("read mend plans", |connection| {
            connection
                .prepare(
                    "SELECT plan, done, late_parts, changed, incomplete FROM mend_plan
                     WHERE operation_id = ?1 ORDER BY table_idx",
                )?
                .query_map([id.as_str()], columns)?
                .collect()
        })?;
        rows.into_iter().map(|row| self.decode(id, row)).collect()
    }

    fn decode(&self, id: &OperationId, row: Columns) -> Result<MendPlan> {
        let (plan, done, late_parts, changed, incomplete) = row;
        let bad = |error| self.unreadable(format!("mend plan of {id}: {error}"));
        Ok(MendPlan {
            plan: serde_json::from_str(&plan).map_err(bad)?,
            done: serde_json::from_str(&done).map_err(bad)?,
            late_parts: late_parts.unsigned_abs(),
            changed,
            incomplete,
        })
    }
}

type Columns = (String, String, i64, bool, bool);

fn columns(row: &rusqlite::Row<'_>) -> rusqlite::Result<Columns> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
    ))
}
