//! Part stores: tables of immutable data parts, as ClickHouse's MergeTree family keeps them.
//!
//! The identity of a part is its content, told by its hash; its name is a label that changes with
//! every attach. So what lives and what a backup holds are compared as multisets of
//! (partition, hash): [`inventory`] is one such state, [`lineage`] tells which live parts are
//! nothing but merges of known ones, and [`plan`] what has to be kept, removed and fetched.

pub mod checksums;
pub mod compare;
pub mod content;
pub mod decide;
pub mod hash;
pub mod inventory;
pub mod lineage;
pub mod name;
pub mod plan;
pub mod recheck;
mod since;
pub mod table;

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
pub use lineage::{Explained, MergeEvent, MergeTraits, Witness, explain};
pub use name::PartName;
pub use plan::{
    Action, Amount, Fetched, Kept, OnConcurrentInsert, PartitionPlan, Proof, Removed, RestoreOrder,
    SinceBackup, TablePlan, Tally, Wanted,
};
pub use recheck::{Recheck, recheck};
pub use table::{DatabaseBackup, PartList, PartStoreBackup, PartTable, TableDefinition, TableName};
