//! One shard: a key range of a table, its rows, its change log, its cursors.
//!
//! Rows lie in three places. The **base** holds packed [`RowBlock`](mendb_model::RowBlock)s keyed by
//! their last key; it is written in bulk only. **Runs** ([`run`]) hold rows and tombstones over it, packed in the
//! same way: what was written in bulk since, by an import or a mend. The **delta** holds single ones, that
//! clients wrote. A read merges the three; compaction rewrites them into a new base.
//!
//! # Life
//! A shard never changes its range. Splits, merges and compaction put new shards with new ids in the
//! place of old ones in one commit; what the old ones have is garbage from then on, and their files
//! go when the last snapshot drops them.

pub(crate) mod block_writer;
pub(crate) mod blocks;
pub(crate) mod budget;
pub(crate) mod cursor;
pub(crate) mod entry;
pub(crate) mod holders;
pub(crate) mod index_edits;
pub(crate) mod log;
pub(crate) mod overlay;
pub(crate) mod pack;
pub(crate) mod point;
pub(crate) mod rebuilt;
pub(crate) mod removed_runs;
pub(crate) mod rows;
pub(crate) mod run;
pub(crate) mod shard_edits;
pub(crate) mod single;
pub(crate) mod stats;
pub(crate) mod stored;
pub(crate) mod stored_rows;
pub(crate) mod successor;
pub(crate) mod view;
