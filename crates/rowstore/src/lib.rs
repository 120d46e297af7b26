//! An embedded, sharded row store: tables in key order with global indexes, atomic writes across tables
//! and shards, snapshots that never wait, and change streams.
//!
//! ```
//! use mendb_model::{Column, ColumnType, KeyRange, TableSchema, Value};
//! use mendb_rowstore::{Database, Direction, Options, WriteBatch};
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let column = |name: &str, column_type| Column {
//!     name: name.to_owned(),
//!     column_type,
//!     not_null: true,
//! };
//! let database = Database::open(directory, Options::default())?;
//! database.create_table(
//!     "cities",
//!     TableSchema {
//!         columns: vec![column("name", ColumnType::Utf8), column("people", ColumnType::Uint64)],
//!         key: vec!["name".to_owned()],
//!         indexes: vec![],
//!     },
//!     vec![],
//! )?;
//!
//! let cities = database.open_table("cities")?;
//! let mut batch = WriteBatch::new();
//! batch.replace(&cities, vec![Value::Text("Zürich".into()), Value::Uint(443_037)])?;
//! batch.replace(&cities, vec![Value::Text("Bern".into()), Value::Uint(146_348)])?;
//! database.write(batch)?;
//!
//! let snapshot = database.snapshot()?;
//! for row in snapshot.scan(&cities, KeyRange::all(), Direction::Ascending)? {
//!     println!("{:?}", row?);
//! }
//! # assert_eq!(snapshot.scan(&cities, KeyRange::all(), Direction::Ascending)?.count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The rooms
//! Each imports only those before it: `kernel`, the storage engine; `catalogue`, the tables, indexes, shards,
//! states, versions and streams of a commit; `shard`, which reads one and writes its blocks; `commit`, the
//! only way to change anything; `jobs`, what is done to tables and shards. [`Database`] and [`Snapshot`] are
//! what users see of them.
//!
//! # Consistency
//! A write is one batch of the engine, whatever it touches. A snapshot is one commit: rows, indexes,
//! schema versions and digests belong together. Commits are numbered by a version that counts up by one.
//!
//! # Mending
//! Many rows of several tables become what an operation wants in one step for readers, however many they
//! are. [`Database::begin_mend`] keeps writers out, [`Database::stage_mend`] lays what differs beside the
//! rows, [`Database::mend_snapshot`] reads it before anybody else does, [`Database::publish_mend`] is the
//! one commit that shows it, to change streams too, and [`Database::settle_mend`] lets the writers in again.
//!
//! # Crash
//! A write that was acknowledged is there after a crash (with [`Options::durable`]); one that was not is
//! there as a whole or not at all. Half-done splits, merges, packing and trims are cleaned up by
//! [`Database::open`]. Restores and mends stay as far as they came, for their operation to go on with.
//!
//! # Errors
//! Bytes from disk that do not decode, or are not those that were written, are [`Error::Damaged`], never a
//! panic. A write that fails has changed nothing; only when the disk fails to keep what it took, the store
//! stops with [`Error::Stopped`] until it is opened again, and reading goes on.

mod batch;
mod catalogue;
mod commit;
mod database;
mod error;
mod jobs;
mod kernel;
mod shard;
mod snapshot;
mod table;

pub use batch::{MAX_ROW_BYTES, WriteBatch};
pub use catalogue::mends::MendDescription;
pub use catalogue::streams::StreamDescription;
pub use catalogue::versions::{IndexVersions, Versions};
pub use catalogue::{Born, PathState};
pub use database::{Database, ShardRoute};
pub use error::{Error, Result};
pub use jobs::bulk::{BulkWrite, Refused, Written};
pub use jobs::cut::StreamCut;
pub use jobs::lapse::HeldBack;
pub use jobs::load::Applied;
pub use jobs::restoring::NewTable;
pub use jobs::stage::Staged;
pub use kernel::{Direction, Options, ShardId};
pub use mendb_model::{RowSource, StagedCounts};
pub use shard::holders::{Holder, HolderSink};
pub use shard::pack::BlockBytes;
pub use snapshot::{ShardSnapshot, ShardedDescription, Snapshot, TableDescription, TableHead};
pub use table::Table;
