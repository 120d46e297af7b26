//! Part stores: tables of immutable data parts, as ClickHouse's MergeTree family keeps them.
//!
//! The identity of a part is its content, told by its hash; its name is a label that changes with
//! every attach. So what lives and what a backup holds are compared as multisets of
//! (partition, hash).
//!
//! - [`checksums`] reads what a part consists of, [`hash`] computes what identifies it;
//! - [`inner`] names the tables of views;
//! - [`inventory`] is the state of a table at a moment, [`lineage`] tells which live parts are nothing
//!   but merges of parts of a [`witness`];
//! - [`mod@compare`] says what has to be kept, removed and fetched (a [`plan`]), [`mod@decide`] how where
//!   room is short.

pub mod checksums;
pub mod compare;
pub mod content;
pub mod decide;
pub mod hash;
pub mod inner;
pub mod inventory;
pub mod lineage;
mod matching;
pub mod name;
pub mod plan;
mod since;
mod spelling;
pub mod table;
pub mod witness;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod world;

pub use checksums::{ChecksumEntry, Checksums};
pub use compare::{Comparison, compare};
pub use content::{FileChecksum, FilePlace, ObjectRef, PartFile, PartRecord};
pub use decide::{NotEnoughSpace, Space, decide};
pub use hash::{FileHasher, Hash128};
pub use inventory::{Inventory, Mutation, Part, ServerRun};
pub use lineage::{Explained, explain};
pub use name::PartName;
pub use plan::{
    Action, Amount, Fetched, Kept, OnConcurrentInsert, PartitionPlan, Proof, Removed, RestoreOrder,
    SinceBackup, TablePlan, Tally, Wanted,
};
pub use table::{DatabaseBackup, PartList, PartStoreBackup, PartTable, TableDefinition, TableName};
pub use witness::{MergeEvent, MergeTraits, Witness};
