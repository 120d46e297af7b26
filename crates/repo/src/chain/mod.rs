//! A chain of backups of a row store, read as one sorted thing.
//!
//! A chain is one full backup and the increments after it, or increments alone. Each of its backups
//! holds the rows or changes of a table in key order, in segments of row groups: a [`level`]. What the
//! table held at the end of the chain is, for each key, the newest change of it over the older ones.
//!
//! | to have | use |
//! |---|---|
//! | the rows of a range of keys, in key order | [`ChainReader`] |
//! | the rows of some keys | [`ChainLookup`] |
//! | a choice between the two | the `estimate` of each |
//! | a shorter chain | [`Repository::compact`](crate::Repository::compact) |
//! | the proof of an increment | [`Repository::prove_increment`](crate::Repository::prove_increment) |
//!
//! **Same result.** Both give what loading the full backup and applying increment after increment
//! gives. Each level is decoded by the schema of its own backup; columns are only ever added at the end
//! of a table, so that a row of an older schema is the same row in a newer one.
//!
//! **Memory.** Of each level at most one row group is decoded, and a few MiB are fetched ahead, however
//! long the chain and large the table.
//!
//! **Trust.** What is fetched is checked by its BLAKE3 as everywhere. Keys must ascend and lie where the
//! manifest says, or the segment is damaged: a merge of what is not sorted would lose rows in silence.
//!
//! **Runtime.** Waiting for a block fetches and decodes it: poll from a thread that may block, as with
//! segments. What is fetched ahead travels on tasks of the runtime.

mod compaction;
mod gallop;
mod level;
mod lookup;
mod proof;
mod reader;
mod stream;

pub use compaction::Compaction;
pub use level::{ReadCounts, ReadEstimate};
pub use lookup::ChainLookup;
pub use proof::{IncrementProof, ShardBalances, WrongRange};
pub use reader::ChainReader;
