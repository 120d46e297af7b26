//! The storage engine, and the only room that knows which one it is.
//!
//! Ordered records lie in one SQLite database in WAL mode, packed blocks of rows in one file a shard
//! beside it. The rooms above see [`Section`]s of ordered records, a [`Batch`] that commits as a
//! whole, a [`Reader`] that is one commit, and [`ShardFiles`]. One process at a time has the [`Store`]; others can
//! [`look`] at a commit of it. What was measured before this engine was
//! chosen: `docs/storage-engine.md`.
//!
//! # Files
//! | file | what it holds |
//! |---|---|
//! | `store.db`, `-wal`, `-shm` | the records, by SQLite |
//! | `shards/<shard>` | packed blocks, one after the other; where each lies is in [`Tree::Blocks`] and [`Tree::Runs`] |
//! | `mark` | the last commit that was acknowledged ([`mark`]) |
//! | `lock` | nothing; the process that has the store open has it locked |
//! | `readers` | nothing; processes that only read have it locked, together |
//!
//! # Damage
//! SQLite does not check its pages. So each record carries a checksum over tree, key and value, each
//! block one in its record, and the mark tells when commits at the end are gone. Records that are gone
//! from the middle are found by the digests that the layer above keeps.
//!
//! # Crash
//! A batch is in the WAL as a whole when [`Store::commit`] returns, and on disk after [`Store::sync`].
//! Blocks are on disk before the records that name them are committed; bytes behind the last named block
//! are of a load that was cut off, and the next one writes over them.

mod batch;
mod cursor;
mod fault;
mod garbage;
mod look;
mod mark;
mod merge;
mod merged;
mod options;
mod pairs;
mod piece;
mod pool;
mod reader;
mod record;
mod root;
mod section;
mod shard_files;
mod shard_id;
mod sorter;
mod spiller;
mod store;
mod turn;

pub(crate) use batch::Batch;
pub use cursor::Direction;
pub(crate) use cursor::{Cursor, Entry};
pub(crate) use look::look;
pub(crate) use merged::{Merged, Sorted};
pub use options::Options;
pub(crate) use reader::Reader;
pub(crate) use root::Root;
pub(crate) use section::{Section, Tree};
pub(crate) use shard_files::{BlockRecord, ShardFiles, ShardWriter};
pub use shard_id::ShardId;
pub(crate) use sorter::Sorter;
pub(crate) use store::Store;
pub(crate) use turn::Turn;

/// Why a lock of the store cannot be poisoned, for `expect`.
pub(crate) const NOT_POISONED: &str = "no thread panics while it holds a lock of the store";
