//! The order to undo a mend of live tables of a row store.

use mendb_model::name::OperationId;
use mendb_model::operation::{Request, RowTableMend, State, WrittenSince};

use super::order::{Conflicting, RowMendOrder, RowMendPreview};
use crate::error::{Error, Result};
use crate::front::Front;
use crate::ways_on::ways_on;

impl Front {
    /// Makes an operation that brings the tables of a mend of rows back to what they were before it. Tables
    /// that it created stay. Where writers went on beside it, the rows that it wrote go back, but for those that others wrote
    /// again since, unless these are included.
    ///
    /// # Errors
    /// There is no such mend, it is not over, or it only created tables; otherwise as
    /// [`Self::request_row_mend`].
    pub fn request_row_undo(
        &self,
        id: &OperationId,
        conflicting: Conflicting,
        include_rewritten: bool,
    ) -> Result<OperationId> {
        let order = self.undo_order(id, conflicting, include_rewritten)?;
        self.create_row_mend(&order, Some(id.clone()), None)
    }

    /// What undoing a mend of rows would do. Nothing is changed.
    ///
    /// # Errors
    /// As [`Self::request_row_undo`], but rows that stand in the way are in the plan.
    pub fn plan_row_undo(
        &self,
        id: &OperationId,
        conflicting: Conflicting,
        include_rewritten: bool,
    ) -> Result<RowMendPreview> {
        self.plan_row_mend(&self.undo_order(id, conflicting, include_rewritten)?)
    }

    fn undo_order(
        &self,
        id: &OperationId,
        conflicting: Conflicting,
        include_rewritten: bool,
    ) -> Result<RowMendOrder> {
        let operation = self.journal.operation_head(id)?;
        let Request::MendRows(mended) = &operation.request else {
            return Err(Error::refused(
                format!(
                    "operation {id} is {}, and only mends can be undone",
                    operation.request.a_kind()
                ),
                "mendb operation list shows the mends there are",
            ));
        };
        if operation.state != State::Done {
            return Err(Error::refused(
                format!(
                    "operation {id} is {}: there is nothing to be undone",
                    operation.state.name()
                ),
                ways_on(&operation),
            ));
        }
        self.check_is_before_of(&operation, mended)?;
        let live = || mended.tables.iter().filter(|table| !table.create);
        let names: Vec<&str> = live().map(|table| table.table.as_str()).collect();
        if names.is_empty() {
            return Err(Error::refused(
                format!("operation {id} only created tables: there is no state before"),
                "mendb table drop removes them",
            ));
        }
        if include_rewritten && !mended.beside_writers {
            return Err(Error::refused(
                "--include-rewritten is for PostgreSQL, and this target is a row store",
                "leave it out: the undo of a row store takes back what was written since, too",
            ));
        }
        let since = |table: &RowTableMend| match &table.scope.rewind {
            _ if include_rewritten => None,
            Some(rewind) if rewind.keys_changed => Some(WrittenSince::Refuse),
            _ => Some(WrittenSince::Stay),
        };
        Ok(RowMendOrder {
            collection: mended.before.collection.clone(),
            to: Some(mended.before.backup_id.to_string()),
            tables: Some(names.join(",")),
            if_exists: false,
            // Of a mend of some keys, only these go back.
            ranges: live()
                .filter_map(|table| Some((table.table.clone(), table.range.clone()?)))
                .collect(),
            also: live()
                .map(|table| (table.table.clone(), table.also.clone()))
                .collect(),
            accept_schema: false,
            conflicting,
            max_write_wait_ms: None,
            condition: None,
            keep_newer_than_us: None,
            changed_by: None,
            include_rewritten: false,
            check_kept: false,
            // Of a mend of chosen keys, only these go back; so it is where it is known which it wrote.
            changed_only: live()
                .filter(|table| mended.beside_writers || !table.scope.is_all())
                .map(|table| (table.table.clone(), since(table)))
                .collect(),
        })
    }
}
