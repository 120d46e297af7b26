//! What keeps the users of a cluster from inserting for a moment: their own, since no server of it can.

use std::time::Duration;

use crate::error::Result;

/// Stops inserts into all tables of a cluster, and starts them again.
pub trait Inserts: Send + Sync {
    /// Stops them. When it returns, every insert that was answered is in its tables, and none goes on.
    ///
    /// # Errors
    /// Whether they are stopped is not known.
    fn stop(&self) -> Result<()>;

    /// Starts them again. That they go on is no error.
    ///
    /// # Errors
    /// They may be stopped still.
    fn start(&self) -> Result<()>;

    /// How long they may be stopped.
    fn limit(&self) -> Duration;
}
