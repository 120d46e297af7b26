//! The contract between mendb's service and a database, and its adapters.
//!
//! [`Engine`] is what a database must be able to do to be backed up and restored; [`row`] is the
//! embedded row store. Engines know nothing of repositories: the worker of the service carries
//! rows from one side to the other, in bounded memory.

mod contract;
mod error;
pub mod row;

pub use contract::{
    BlockSink, Engine, FreezeRequest, Frozen, LiveStream, LiveTable, Lock, LockKind, Source,
    StagedTable,
};
pub use error::{EngineError, Remedy, Result};
