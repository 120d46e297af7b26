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
//! `schemeshard` is the catalogue: tables, indexes, their states, versions and streams. `datashard` is a
//! shard: its rows, change log and cursors. `transaction` is the only way to change either, `view` the
//! only way to read them. Beneath them all, `kernel` is the storage engine.
//!
//! # Consistency
//! A write is one batch of the engine, whatever it touches. A snapshot is one commit: rows, indexes,
//! schema versions and digests belong together. Commits are numbered by a version that counts up by one.
//!
//! # Mending
//! Many rows of several tables become what an operation wants in one step for readers, however many they
//! are. [`Database::begin_mend`] keeps writers out, [`Database::stage_mend`] lays what differs beside the
//! rows, [`Database::mend_snapshot`] reads it before anybody else does, [`Database::publish_mend`] is the
//! one commit that shows it, and [`Database::settle_mend`] moves it to where rows belong, into the change
//! streams too, and lets the writers in again.
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
mod bulk;
mod database;
mod datashard;
mod error;
mod holders;
mod index;
mod kernel;
mod open;
mod schemeshard;
mod snapshot;
mod table;
mod transaction;
mod view;
mod write;

pub use batch::{MAX_ROW_BYTES, WriteBatch};
pub use bulk::{BulkWrite, Refused, Written};
pub use database::{Database, Options, ShardRoute};
pub use datashard::ShardId;
pub use datashard::cursor::Source;
pub use datashard::load::Applied;
pub use datashard::pack::BlockBytes;
pub use datashard::stage::{Staged, StagedRows};
pub use error::{Error, Result};
pub use holders::{Holder, HolderSink};
pub use kernel::Direction;
pub use schemeshard::cut::StreamCut;
pub use schemeshard::lapse::HeldBack;
pub use schemeshard::mending::MendDescription;
pub use schemeshard::restoring::NewTable;
pub use schemeshard::streams::StreamDescription;
pub use schemeshard::versions::{IndexVersions, Versions};
pub use schemeshard::{Born, PathState};
pub use snapshot::{ShardSnapshot, ShardedDescription, Snapshot, TableDescription};
pub use table::Table;
