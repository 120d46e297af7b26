//! The embedded row store as of one commit, as an engine that changes nothing.
//!
//! *Consistency*: everything that is read of it is of one commit, whatever others write meanwhile.
//! *Crash*: it holds nothing that outlives its process.

use mendb_rowstore::Snapshot;

use super::live::LiveSnapshot;
use super::locks;
use crate::contract::{Data, Engine, Hold, Lock, only_read};
use crate::error::Result;

/// A row store to look at, which another process may have open, and write to.
pub struct RowLook(LiveSnapshot);

impl RowLook {
    /// Looks at a commit.
    pub fn new(snapshot: Snapshot) -> Self {
        Self(LiveSnapshot(snapshot))
    }

    fn snapshot(&self) -> &Snapshot {
        &self.0.0
    }
}

impl Engine for RowLook {
    fn data(&self) -> Data<'_> {
        Data::Look(&self.0)
    }

    /// Of a store that has none, the new one serves as long as it is looked at: no backup was made of it.
    fn identify(&self, new_id: &str) -> Result<String> {
        Ok(self.snapshot().id().unwrap_or(new_id).to_owned())
    }

    fn locks(&self) -> Result<Vec<Lock>> {
        Ok(locks(self.snapshot().locks()))
    }

    fn holds(&self) -> Result<Vec<Hold>> {
        Ok(self.locks()?.into_iter().map(Hold::from).collect())
    }

    fn drop_kept(&self, _operation: &str) -> Result<()> {
        Err(only_read())
    }

    fn is_frozen(&self, _operation: &str) -> Result<bool> {
        Ok(false)
    }

    fn thaw(&self, _operation: &str) -> Result<()> {
        Err(only_read())
    }

    fn make_live(&self, _operation: &str) -> Result<()> {
        Err(only_read())
    }

    fn drop_staged(&self, _operation: &str) -> Result<()> {
        Err(only_read())
    }
}
