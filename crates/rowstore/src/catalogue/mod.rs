//! The catalogue: which tables there are, in which state, at which versions, in which shards.
//!
//! # Consistency
//! A catalogue never changes; a commit that changes it makes another. A snapshot holds the one of its
//! version, so a table, its indexes and their implementation tables are always seen at versions that
//! belong together.

pub(crate) mod index_rows;
pub(crate) mod layout;
pub(crate) mod mends;
mod path_state;
mod read;
pub(crate) mod record;
mod shard;
mod stream_record;
pub(crate) mod streams;
mod table_entry;
mod tables;
pub(crate) mod versions;

pub(crate) use path_state::Access;
pub use path_state::PathState;
pub(crate) use read::read;
pub(crate) use shard::{Shard, retire, route, within};
pub(crate) use stream_record::StreamRecord;
pub use table_entry::Born;
pub(crate) use table_entry::TableEntry;
pub(crate) use tables::Catalogue;
