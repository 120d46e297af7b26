//! The contract between mendb's service and a database, and its adapters.
//!
//! [`Engine`] is what every database must be able to do to be backed up and mended, with [`RowStore`]
//! for those of rows and [`PartStore`] for those of parts; [`row`] is the embedded row store,
//! [`clickhouse`] a ClickHouse server, [`postgres`] a PostgreSQL database, [`agents`] the servers of a cluster, [`NoTarget`] what there is where a repository alone is worked on. Engines know nothing of repositories: the worker of the service
//! carries rows and files from one side to the other, in bounded memory.

pub mod agents;
pub mod clickhouse;
mod contract;
mod error;
mod no_target;
pub mod postgres;
pub mod row;

pub use contract::beside_writers::{
    BesideWriters, KeyScope, Look, LookedDigests, Publishing, RowsSince, WantedTable,
};
pub use contract::bringing::{
    Bringing, Brought, DamagedFile, PartFrom, PartToBring, StagedPart, Supplier,
};
pub use contract::catalogue::{Catalogue, ListedTable, Listing};
pub use contract::changes::{Born, ChangesLost, HeldBack, LiveStream};
pub use contract::live_rows::{
    BlockSink, Conflict, ConflictSink, IndexCheck, LiveRows, LiveShard, LiveTable,
};
pub use contract::parts::{
    Disk, Exchange, FoundFile, Freeze, FreezeTable, FrozenPart, FrozenTable, LivePartDamage,
    Moment, Origin, PartContent, PartStore, PartToProve, RefusedPart, RefusedTable, ServerInfo,
};
pub use contract::replicas::{Agreement, LostPlace, Replica, Replication};
pub use contract::row_versions::{RowCounts, RowVersions};
pub use contract::rows::{
    FreezeRequest, Frozen, HiddenTable, RebuildRequest, RowSource, RowStore, StagedCounts,
};
pub use contract::{Data, Engine, Hold, HoldKind, Lock, LockKind};
pub use error::{EngineError, Remedy, Result, TargetKind};
pub use no_target::NoTarget;
