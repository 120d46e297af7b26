//! What a database must be able to do.

pub mod beside_writers;
pub mod bringing;
pub mod catalogue;
pub mod changes;
pub mod live_rows;
pub mod parts;
pub mod replicas;
pub mod row_versions;
pub mod rows;

use crate::agents::Agents;
use crate::error::{EngineError, Remedy, Result, TargetKind};
use live_rows::LiveRows;
use parts::PartStore;
use rows::RowStore;

/// A database that can be backed up and mended: what rows and parts have in common.
///
/// Everything here blocks; callers run it on threads made for that. Every method may be called
/// again after a crash anywhere inside it, with the same arguments, and then ends as if it had been
/// called once.
pub trait Engine: Send + Sync {
    /// What its data is made of, with what can be done to that.
    fn data(&self) -> Data<'_>;

    /// *inspect*: the id of the database: the one that it was first given here, whatever is given later. It
    /// lasts as long as the database does, and a copy of the database has it too.
    ///
    /// # Errors
    /// It cannot be read or kept.
    fn identify(&self, new_id: &str) -> Result<String>;

    /// *inspect*: the tables that operations have locked.
    ///
    /// # Errors
    /// It cannot be told: that is never an empty answer.
    fn locks(&self) -> Result<Vec<Lock>>;

    /// *inspect*: all that it keeps for operations, whether anybody waits for it or not.
    ///
    /// # Errors
    /// It cannot be told.
    fn holds(&self) -> Result<Vec<Hold>>;

    /// Removes what an operation has kept to be taken back by. Nothing kept is no error.
    ///
    /// # Errors
    /// The database cannot be written.
    fn drop_kept(&self, operation: &str) -> Result<()>;

    /// *freeze*: whether the snapshot of the operation exists and can be read.
    ///
    /// # Errors
    /// It cannot be told. What is asked for it may go on to need, so nobody takes that for a no.
    fn is_frozen(&self, operation: &str) -> Result<bool>;

    /// *freeze*: drops the snapshot and the locks of a backup. Nothing frozen is no error.
    ///
    /// # Errors
    /// The database cannot be written.
    fn thaw(&self, operation: &str) -> Result<()>;

    /// Makes live what the operation staged, if it is not yet, and unlocks. Nothing staged is no error.
    ///
    /// # Errors
    /// The database cannot be written.
    fn make_live(&self, operation: &str) -> Result<()>;

    /// *undo*: removes what the operation staged, and unlocks. Nothing staged is no error.
    ///
    /// # Errors
    /// The database cannot be written.
    fn drop_staged(&self, operation: &str) -> Result<()>;
}

/// What a database is made of.
#[derive(Clone, Copy)]
pub enum Data<'a> {
    /// Rows in key order.
    Rows(&'a dyn RowStore),
    /// Immutable parts.
    Parts(&'a dyn PartStore),
    /// Rows in key order that can only be read, beside the process that works on them.
    Look(&'a dyn LiveRows),
    /// Servers of a cluster, each worked on by the agent beside it.
    Shards(&'a Agents),
    /// There is no database: a repository alone is worked on.
    None,
}

impl dyn Engine + '_ {
    /// Its rows.
    ///
    /// # Errors
    /// It holds parts, or can only be read.
    pub fn rows(&self) -> Result<&dyn RowStore> {
        match self.data() {
            Data::Rows(rows) => Ok(rows),
            Data::Parts(_) => Err(EngineError::needs(TargetKind::Rows)),
            Data::Look(_) => Err(only_read()),
            Data::Shards(_) => Err(of_cluster()),
            Data::None => Err(no_target()),
        }
    }

    /// Its rows, to be read.
    ///
    /// # Errors
    /// It holds parts.
    pub fn live_rows(&self) -> Result<&dyn LiveRows> {
        match self.data() {
            Data::Rows(rows) => Ok(rows),
            Data::Look(rows) => Ok(rows),
            Data::Parts(_) => Err(EngineError::needs(TargetKind::Rows)),
            Data::Shards(_) => Err(of_cluster()),
            Data::None => Err(no_target()),
        }
    }

    /// Its parts.
    ///
    /// # Errors
    /// It holds rows.
    pub fn parts(&self) -> Result<&dyn PartStore> {
        match self.data() {
            Data::Parts(parts) => Ok(parts),
            Data::Shards(_) => Err(of_cluster()),
            Data::None => Err(no_target()),
            Data::Rows(_) | Data::Look(_) => Err(EngineError::needs(TargetKind::Parts)),
        }
    }

    /// The agents of its servers.
    ///
    /// # Errors
    /// It is no cluster.
    pub fn agents(&self) -> Result<&Agents> {
        match self.data() {
            Data::Shards(agents) => Ok(agents),
            Data::None => Err(no_target()),
            Data::Rows(_) | Data::Look(_) | Data::Parts(_) => Err(EngineError::new(
                Remedy::Request,
                "this works with a cluster, and the target is one server",
            )),
        }
    }
}

/// That something was asked of a cluster that the agents of its servers do.
fn of_cluster() -> EngineError {
    EngineError::new(
        Remedy::Request,
        "a cluster is worked on by the agents beside its servers: this is asked of one server",
    )
}

/// That something was asked of a target where there is none.
pub(crate) fn no_target() -> EngineError {
    EngineError::new(
        Remedy::Request,
        "this needs a target, and only a repository is worked on here",
    )
}

/// That a target cannot be changed through an engine that only looks at it.
pub(crate) fn only_read() -> EngineError {
    EngineError::new(
        Remedy::Request,
        "this changes the target, which was opened to be read only",
    )
}

/// A table that an operation has locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The table.
    pub table: String,
    /// The operation.
    pub operation: String,
    /// For what.
    pub kind: LockKind,
}

/// What a database keeps of a table for an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// The table.
    pub table: String,
    /// The operation.
    pub operation: String,
    /// For what.
    pub kind: HoldKind,
}

/// What is kept for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldKind {
    /// What a backup reads.
    Backup,
    /// A table that is not whole yet.
    Restore,
    /// What a mend brings, or keeps others from.
    Mend,
    /// The state before a mend. Nobody waits for it.
    Kept,
}

impl From<Lock> for Hold {
    fn from(lock: Lock) -> Self {
        Self {
            table: lock.table,
            operation: lock.operation,
            kind: match lock.kind {
                LockKind::Backup => HoldKind::Backup,
                LockKind::Restore => HoldKind::Restore,
                LockKind::Mend => HoldKind::Mend,
            },
        }
    }
}

/// What a table is locked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockKind {
    /// It is being backed up: reads and writes go on.
    Backup,
    /// It is being restored: nothing but the restore may touch it.
    Restore,
    /// It is being mended where it is: reads go on, writes wait.
    Mend,
}
