//! Reading a store that another process has open.

use std::path::Path;
use std::sync::Arc;

use crate::error::Result;
use crate::kernel::Options;
use crate::kernel::fault::{DATABASE, Faults};
use crate::kernel::pool::Pool;
use crate::kernel::reader::Reader;
use crate::kernel::root::Root;
use crate::kernel::shard_files::ShardFiles;
use crate::kernel::store::{acknowledged, check, read_root};

/// A commit of a store that this process has not opened. What it reads stays until both are dropped.
pub(crate) struct Look {
    pub(crate) reader: Arc<Reader>,
    pub(crate) files: Arc<ShardFiles>,
    pub(crate) root: Root,
}

/// Reads the last commit of a store that another process may have open, and write to. `None` where there is
/// no store.
pub(crate) fn look(dir: &Path) -> Result<Option<Look>> {
    let faults = Faults::new(dir);
    let acknowledged = acknowledged(&faults)?;
    if !dir.join(DATABASE).exists() {
        return Ok(None);
    }
    // From here on nobody removes a file, and the commit that is read is a later one.
    let files = ShardFiles::hold(&faults)?;
    let pool = Arc::new(Pool::new(&faults, Options::default().cache_bytes));
    let connection = pool.take()?;
    let begun = connection.execute_batch("BEGIN");
    begun.map_err(|error| faults.engine(error))?;
    let root = read_root(&faults, &connection)?;
    let reader = Reader::pinned(connection, faults.clone(), pool);
    match root {
        Some(root) => {
            check(&faults, &root, acknowledged)?;
            Ok(Some(Look {
                reader: Arc::new(reader),
                files: Arc::new(files),
                root,
            }))
        }
        // Its first process has not come to its first commit.
        None if acknowledged.is_none() => Ok(None),
        None => Err(faults.damaged(DATABASE, "its root record is gone".to_owned())),
    }
}
