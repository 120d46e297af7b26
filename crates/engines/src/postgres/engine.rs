//! What a database is to all operations: its id, what they hold of it, and what becomes of that.

use super::error::refused;
use super::publish::Locked;
use super::session::lock;
use super::{Postgres, restore, state};
use crate::contract::beside_writers::WantedTable;
use crate::contract::rows::RowStore;
use crate::contract::{Data, Engine, Hold, Lock, LockKind, only_read};
use crate::error::Result;

impl Engine for Postgres {
    fn data(&self) -> Data<'_> {
        match self.epoch {
            Some(_) => Data::Rows(self),
            None => Data::Look(&self.now),
        }
    }

    /// Of a database that has none, the new one serves those who look as long as they do.
    fn identify(&self, new_id: &str) -> Result<String> {
        match self.epoch {
            Some(_) if !self.is_standby => {
                self.server.with(|client| state::identify(client, new_id))
            }
            _ => Ok(self
                .server
                .with(state::id)?
                .unwrap_or_else(|| new_id.to_owned())),
        }
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        Ok(state::locks(
            self.server.with(|client| state::held(client, None))?,
        ))
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        self.server.with(state::holds)
    }

    fn drop_kept(&self, _operation: &str) -> Result<()> {
        // The state before a mend is a backup.
        Ok(())
    }

    fn is_frozen(&self, operation: &str) -> Result<bool> {
        let cut = lock(&self.cuts).get(operation).cloned();
        if let Some(cut) = cut {
            return Ok(cut.is_alive());
        }
        // What a publish replaced is read as a backup is.
        self.is_published(operation)
    }

    fn thaw(&self, operation: &str) -> Result<()> {
        lock(&self.cuts).remove(operation);
        Ok(())
    }

    fn make_live(&self, operation: &str) -> Result<()> {
        if !self.held(operation, LockKind::Mend)?.is_empty() && !self.is_published(operation)? {
            return Err(refused(format!(
                "operation {operation} has not published what it staged"
            )));
        }
        self.change("finish an operation", |client| {
            restore::finish(client, operation)
        })
    }

    fn drop_staged(&self, operation: &str) -> Result<()> {
        if !self.is_published(operation)? {
            return self.change("give an operation up", |client| {
                state::let_go(client, operation)
            });
        }
        let epoch = self.epoch.ok_or_else(only_read)?;
        let tables = self.held(operation, LockKind::Mend)?.into_iter();
        let tables = tables.map(|table| WantedTable {
            table,
            shards: Vec::new(),
        });
        Locked::take(
            &self.server,
            epoch,
            operation,
            &tables.collect::<Vec<_>>(),
            None,
        )?
        .revert()
    }
}
