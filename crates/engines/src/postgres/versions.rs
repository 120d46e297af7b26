//! Which rows of a snapshot may have been written since an earlier one, by the transactions that wrote them (`witness`).

use mendb_model::key::KeyRange;
use mendb_model::manifest::ChangeMethod;
use mendb_model::name::TablePath;

use super::error::refused;
use super::exchange::written_since;
use super::read::{range_condition, scan_where};
use super::transaction::is_written_since;
use super::{Postgres, table_of};
use crate::contract::live_rows::BlockSink;
use crate::contract::row_versions::{RowCounts, RowVersions};
use crate::error::Result;

impl RowVersions for Postgres {
    fn found_by(&self, operation: &str, path: &TablePath) -> Result<(ChangeMethod, u64)> {
        let cut = self.cut(operation)?;
        let method = cut.methods.get(&path.table).cloned();
        let method = method.ok_or_else(|| refused(format!("no increment is taken of {path}")))?;
        Ok((method, cut.moment.next))
    }

    fn count(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
    ) -> Result<Option<RowCounts>> {
        let cut = self.cut(operation)?;
        let table = table_of(&cut, path)?;
        let oldest = cut.oldest_since(&path.table)?;
        let condition = range_condition(table, "t.", range, None);
        if !condition.is_exact {
            return Ok(None);
        }
        let mut session = cut.session()?;
        let (rows, written) =
            written_since(&mut session, table, oldest, &condition.where_clause())?;
        cut.check_read(&mut session, table, &path.table)?;
        session.keep();
        Ok(Some(RowCounts { rows, written }))
    }

    fn read_written(
        &self,
        operation: &str,
        path: &TablePath,
        range: &KeyRange,
        sink: BlockSink<'_>,
    ) -> Result<()> {
        let cut = self.cut(operation)?;
        let table = table_of(&cut, path)?;
        let oldest = cut.oldest_since(&path.table)?;
        let condition =
            range_condition(table, "t.", range, None).and(&is_written_since("t.", oldest));
        let mut session = cut.session()?;
        if scan_where(&mut session, table, &condition, (range, None), sink)?.is_continue() {
            cut.check_read(&mut session, table, &path.table)?;
            session.keep();
        }
        Ok(())
    }
}
