//! What differs between two restore points, or between a restore point and now.
//!
//! | of a table | is read |
//! |---|---|
//! | key ranges whose digests agree | nothing |
//! | the others, where what changed between is known ([`candidates`]) | the keys that changed, in increments and change streams; then what both have under them |
//! | the others, where it is not | all rows of both, side by side |
//!
//! **Consistency.** What is live is looked at as of one commit, and nothing is locked. The tables and
//! digests of that commit belong together, and differences have to make the digest of the one state that
//! of the other ([`table`]), so that a diff that ends without an error has missed none.
//!
//! **Memory.** A few blocks of either side, or the rows of some thousand keys.
//!
//! **Crash.** Nothing is written.

mod candidates;
mod key_union;
mod pieces;
mod pulled;
mod report;
mod schema;
mod span;
mod state;
mod table;
mod transactions;

use std::ops::ControlFlow;

use mendb_model::TargetMark;
use mendb_model::name::{TablePath, matches};

pub(crate) use key_union::KeyUnion;
pub(crate) use pulled::Pulled;
pub use report::{DiffMethod, DiffReport, RowDiff, RowsDiffer, TableDiff, row_values};
pub(crate) use span::{gaps, take_another};
pub use transactions::{Transaction, TransactionSink, TransactionsOrder, TransactionsReport};
pub(crate) use transactions::{each_of, untold};

use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::{Purpose, check_whole};
use crate::front::selectors::check_tables;
use crate::task_error::TaskError;
use candidates::Between;
use state::{After, Point, TableState};
use table::Comparison;

/// Takes rows that differ; it ends the diff by breaking.
pub type RowSink<'a> = &'a mut dyn FnMut(&RowDiff<'_>) -> ControlFlow<()>;

/// Counts rows that were read or looked up; it ends the diff by breaking.
pub type TellRead<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// Two states that are to be compared, as a user orders it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiffOrder {
    /// The first: a restore point.
    pub before: RestorePoint,
    /// The second: another, or `None` for the live tables of the first one's collection.
    pub after: Option<RestorePoint>,
    /// Comma-separated patterns of table names; all tables that either has without.
    pub tables: Option<String>,
    /// Whether patterns may fit nothing.
    pub if_exists: bool,
}

/// A backup as a user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePoint {
    /// The collection.
    pub collection: String,
    /// The backup by id or label; the newest without.
    pub backup: Option<String>,
}

impl Front {
    /// Compares two states. Rows that differ go to `sink`, table by table and in key order, as they are
    /// found, and `read` is told how many rows were read for it. Returns `None` when one of them has ended it.
    ///
    /// # Errors
    /// There is no such backup, it is one of a part store, or no table matches. The target or the
    /// repository cannot be read; or what was found cannot be all, so that one of them is damaged.
    pub fn diff(
        &self,
        order: &DiffOrder,
        sink: RowSink<'_>,
        read: TellRead<'_>,
    ) -> Result<Option<DiffReport>> {
        let live = self.tools.engine.live_rows()?;
        let (before, before_of) = self.point(&order.before)?;
        let mut after_of = None;
        let after = match &order.after {
            Some(point) => {
                let (point, of) = self.point(point)?;
                after_of = of;
                After::Point(point)
            }
            None => After::Live {
                rows: live.snapshot()?,
                tables: match self.collection(&order.before.collection) {
                    Ok(collection) => collection.tables,
                    Err(Error::UnknownCollection(_)) => Vec::new(),
                    Err(error) => return Err(error),
                },
            },
        };
        let between = self.between(&before, &after)?;
        let mut report = DiffReport {
            before: before.backup_id().clone(),
            after: match &after {
                After::Point(point) => Some(point.backup_id().clone()),
                After::Live { .. } => None,
            },
            before_of,
            after_of,
            tables: Vec::new(),
        };
        let chosen = chosen_tables(order, &before, &after)?;
        let names = || chosen.iter().map(String::as_str);
        check_whole(before.manifest(), names())?;
        if let After::Point(point) = &after {
            check_whole(point.manifest(), names())?;
        }
        for table in chosen {
            match self.table_diff(&table, (&before, &after), &between, sink, read) {
                Ok(found) => report.tables.extend(found),
                Err(TaskError::Stopped) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(report))
    }

    /// A restore point, and whose it is if it is another target's.
    fn point(&self, point: &RestorePoint) -> Result<(Point, Option<TargetMark>)> {
        let backup = point.backup.as_deref();
        let chosen = self.chosen(&point.collection, backup, Purpose::Compare)?;
        let end = Point::new(chosen.chain).ok_or_else(|| {
            Error::refused(
                format!(
                    "collection {} has no backup in {}",
                    point.collection,
                    self.tools.repository.url()
                ),
                "mendb list shows what there is; --repository names another repository",
            )
        })?;
        if end.manifest().part_store.is_some() {
            return Err(Error::refused(
                format!(
                    "backup {} of {} is one of a ClickHouse server, and rows are compared of row stores only",
                    end.backup_id(),
                    point.collection
                ),
                "mendb restore --in-place --dry-run tells how the server differs from it",
            ));
        }
        Ok((end, chosen.whose.other()))
    }

    /// What differs in a table; `None` of one that neither has.
    fn table_diff(
        &self,
        table: &str,
        (before, after): (&Point, &After<'_>),
        between: &Between,
        sink: RowSink<'_>,
        read: TellRead<'_>,
    ) -> std::result::Result<Option<TableDiff>, TaskError> {
        let first = TableState::in_backup(&self.tools, before.manifest(), table)?;
        let second = after.table(&self.tools, table)?;
        let mut diff = TableDiff {
            table: table.to_owned(),
            rows_before: first.as_ref().map(TableState::rows),
            rows_after: second.as_ref().map(TableState::rows),
            schema: Vec::new(),
            rows: None,
            method: None,
        };
        let (first, second) = match (&first, &second) {
            (None, None) => return Ok(None),
            (Some(first), Some(second)) => (first, second),
            _ => return Ok(Some(diff)),
        };
        diff.schema = schema::differences(&first.schema, &second.schema);
        if !schema::are_comparable(&first.schema, &second.schema) {
            return Ok(Some(diff));
        }
        let method = between.method(table, after)?;
        let comparison = Comparison {
            tools: &self.tools,
            path: TablePath::table(table),
            before: (before, first),
            after: (after, second),
            between,
            method: &method,
        };
        diff.rows = Some(comparison.run(sink, read)?);
        diff.method = Some(method);
        Ok(Some(diff))
    }
}

/// The tables of either that were asked for, those of the first in front.
fn chosen_tables(order: &DiffOrder, before: &Point, after: &After<'_>) -> Result<Vec<String>> {
    let of_before = before.manifest().tables.iter();
    let mut all: Vec<&str> = of_before.map(|table| table.table.as_str()).collect();
    for table in after.tables() {
        if !all.contains(&table) {
            all.push(table);
        }
    }
    let patterns = order.tables.as_deref().unwrap_or("*");
    let names_some = |pattern: &str| all.iter().any(|table| matches(pattern, table));
    check_tables(patterns, order.if_exists, names_some)?;
    let chosen = all.iter().filter(|table| matches(patterns, table));
    let chosen: Vec<String> = chosen.map(|table| (*table).to_owned()).collect();
    if chosen.is_empty() {
        return Err(Error::refused(
            format!("neither has a table that matches {patterns}"),
            format!("their tables are {}", all.join(", ")),
        ));
    }
    Ok(chosen)
}
