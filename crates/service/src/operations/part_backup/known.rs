//! What an earlier backup in the repository has of a table: read once for all chunks of the table.

use std::sync::{Arc, Mutex, PoisonError};

use mendb_model::name::OperationId;
use mendb_model::part::TableName;
use mendb_repo::KnownFiles;

use crate::task_error::TaskResult;

type Key = (OperationId, TableName);
type Known = (Key, Arc<KnownFiles>);

/// The known files of the table that was asked for last. Only one is kept: chunks of one table follow
/// each other, and a large table's takes memory.
#[derive(Debug, Default)]
pub(super) struct KnownFilesCache(Mutex<Option<Known>>);

impl KnownFilesCache {
    /// What is known, read with `read` unless it was asked for last. Other callers wait meanwhile.
    pub(super) fn get_or_read(
        &self,
        key: Key,
        read: impl FnOnce() -> TaskResult<KnownFiles>,
    ) -> TaskResult<Arc<KnownFiles>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((kept_key, known)) = kept.as_ref()
            && *kept_key == key
        {
            return Ok(Arc::clone(known));
        }
        *kept = None;
        let known = Arc::new(read()?);
        *kept = Some((key, Arc::clone(&known)));
        Ok(known)
    }
}
