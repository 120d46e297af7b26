//! Part stores: tables of immutable data parts, as ClickHouse's MergeTree family keeps them.
//!
//! The identity of a part is its content, told by its hash; its name is a label that changes with
//! every attach. So what lives and what a backup holds are compared as multisets of
//! (partition, hash).
//!
//! - [`checksums`] reads what a part consists of, [`hash`] computes what identifies it;
//! - [`inner`] names the tables of views;
//! - [`inventory`] is the state of a table at a moment, [`lineage`] tells which live parts are nothing
//!   but merges of parts of a [`witness`], [`ledger`] which of them somebody brought meanwhile;
//! - [`mod@compare`] says what has to be kept, removed and fetched (a [`plan`]), [`mod@decide`] how where
//!   room is short.
//! - [`statement`] reads the words of SQL, the only place that does; [`definition`] takes the statement that
//!   creates a table apart, [`mod@difference`] grades how two
//!   differ, [`secret`] keeps the credentials in them from being shown.

pub mod aspect;
pub mod checksums;
pub mod cluster;
pub mod compare;
pub mod content;
pub mod decide;
pub mod definition;
pub mod difference;
pub mod hash;
pub mod inner;
pub mod inventory;
pub mod ledger;
pub mod lineage;
mod matching;
pub mod name;
pub mod partition;
pub mod plan;
mod replica;
pub mod secret;
pub mod selection;
mod since;
mod spelling;
pub mod statement;
pub mod still;
pub mod table;
mod table_name;
pub mod unfinished;
pub mod witness;

#[cfg(test)]
mod histories;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod world;

pub use aspect::Aspect;
pub use checksums::{ChecksumEntry, Checksums};
pub use cluster::ShardContents;
pub use compare::{Comparison, compare};
pub use content::{FileChecksum, FilePlace, ObjectRef, PartFile, PartRecord};
pub use decide::{NotEnoughSpace, Space, decide};
pub use definition::Definition;
pub use difference::{Difference, Grade, Redefining, redefining};
pub use hash::{FileHasher, Hash128};
pub use inventory::{FILES_PARTITION, Inventory, Mutation, Part, ServerRun};
pub use ledger::{Ledger, LeftPart, LeftPartition, Provenance};
pub use lineage::{Explained, explain};
pub use name::PartName;
pub use partition::{Partition, PartitionPatterns};
pub use plan::{
    Action, Amount, CamePart, DamagedPart, Fetched, Kept, OnConcurrentInsert, PartitionMethod,
    PartitionPlan, Proof, Removed, SinceBackup, TablePlan, Tally, Wanted,
};
pub use secret::Secret;
pub use selection::{Exclusion, Selection, Selector, Unmatched};
pub use still::changed_since;
pub use table::{
    DatabaseBackup, MissingTable, PartList, PartStoreBackup, PartTable, RowPolicies,
    ShardOfCluster, TableDefinition, has_files, has_parts,
};
pub use table_name::{TableName, quote};
pub use unfinished::{Unfinished, unfinished};
pub use witness::{MergeTraits, PartEvent, PartEventKind, PartLog, Witness};
