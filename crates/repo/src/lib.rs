//! The repository: where backups live, on any object store.
//!
//! ```text
//! mendb.json                                                    what the directory is
//! collections/<collection>/<backup>/manifest.json               makes the backup exist
//! collections/<collection>/<backup>/<table>/<shard>-<writer>-<attempt>.<n>.parquet
//! collections/<collection>/<backup>/<table>/<index>/<shard>-<writer>-<attempt>.<n>.parquet
//! collections/<collection>/<backup>/<table>/<shard>-<writer>-<hash>.shards.json.zst   lists of many shards
//! collections/<collection>/<backup>/<database>/<table>/….json.zst   documents: what was live, and part lists
//! files/<aa>/<blake3>                                           large files of parts
//! files/bundles/<aa>/<blake3>                                   small files of parts, many in one object
//! lease.json                                                    who removes things
//! garbage/…, damaged/…                                          files of parts that no backup may rely on
//! ```
//!
//! **Consistency.** Objects are written whole and never changed, but for a manifest that
//! [`Repository::compact`] puts in the place of one of the same restore point. The manifest is written last, with
//! create-if-absent, after every object it names was seen with its size and its parent was found
//! with its hash: a backup either exists with all it needs or does not exist. Removal goes the other
//! way round, manifest first. Targets that share a repository may write one backup at the same time:
//! each writes objects of its own, the first manifest makes the backup, and the others take back
//! nothing but what is theirs ([`Repository::withdraw`]). Files of parts are named by what is in them
//! and shared by all backups: `part` says how they come and go.
//!
//! **Sharing.** Several processes work on one repository. Backups and restores need nobody's leave. Who
//! deletes, folds or collects garbage holds the [`Lease`], which is fenced: `lease` says how. No backup is sealed
//! on what is being removed: `leaving` and `candidates` say why. Documents are replaced only as they were
//! read (`replace`); a store that ignores that condition is told, and nothing is removed there.
//!
//! **Trust.** Nothing that is read is believed before it was checked: segments, documents and files of
//! parts by size and BLAKE3, row groups that are read without the rest of their segment by a BLAKE3 of
//! their own, manifests and `mendb.json` by the seal they end with, and a parent by the hash its child carries.
//!
//! **Crashes.** Segments and documents without a manifest are leftovers: [`Repository::withdraw`] removes
//! those of an operation that is rolled back, [`Repository::discard`] those that no operation knows any
//! more, and [`Repository::sweep`] those of lost attempts beside a finished backup. Files of parts that
//! no backup refers to go with [`Repository::collect_garbage`], which follows each deletion, after a time of
//! grace.
//! In a local directory every object and its directory entry are on disk before a write returns.
//!
//! **Retries.** Each request has a time limit, and is repeated with growing pauses while its failure
//! can pass ([`RetryPolicy`]). What was damaged on the way heals by reading again; what stays damaged
//! is an error that names the object. An error that is returned was not worth repeating any more.
//!
//! **Runtime.** Futures are `Send` and need a Tokio runtime with time and I/O enabled, from whichever
//! thread they are polled. Encoding and decoding segments is CPU work that runs where it is called:
//! call [`SegmentWriter::push`], [`SegmentReader`]'s `next`, [`ChainReader::next`],
//! [`ChainLookup::look_up`], [`Repository::compact`] and [`PartWriter::add`] from blocking threads.
//! Large files are read, hashed and written on threads of the runtime that may block.
//!
//! **Chains.** A full backup and its increments are read as one sorted thing ([`Repository::read_chain`],
//! [`Repository::look_up_chain`]) by row groups: what is asked for decides what is fetched. `chain` says how.
//!
//! **Logs.** [`log`] is a log on an object store that one process at a time appends to, fenced by conditional writes: the
//! journal of servers that take over from each other. It needs no repository, and may lie in the place of one.
//!
//! Start at [`Repository`]; [`arrow`] turns rows into Arrow batches and back.

pub mod arrow;
mod candidates;
mod chain;
pub mod clickhouse_backup;
mod concurrent;
mod conditions;
mod dependants;
mod directory;
mod documents;
mod error;
pub mod foreign;
mod garbage;
mod holder;
mod ids;
mod known_candidates;
mod layout;
mod lease;
mod leaving;
mod location;
pub mod log;
mod manifests;
mod objects;
mod options;
mod part;
mod publish;
mod random;
mod remembered;
mod remove;
mod replace;
mod repository;
mod seal;
mod segment;
mod shards;
mod stored_manifest;
mod throttle;

pub use arrow::Content;
pub use chain::{
    ChainLookup, ChainReader, Compaction, IncrementProof, ReadCounts, ReadEstimate, ShardBalances,
    WrongRange,
};
pub use dependants::Dependants;
pub use documents::{DocumentKind, DocumentName};
pub use error::{Error, Result};
pub use garbage::Collected;
pub use lease::Lease;
pub use options::{RepositoryOptions, RetryPolicy};
pub use part::{Fetched, FileOnDisk, KnownFiles, PartWriter, Uploaded, Verified};
pub use repository::{Header, REPOSITORY_FORMAT, Repository};
pub use segment::reader::SegmentReader;
pub use segment::writer::{SegmentTarget, SegmentWriter};
pub use stored_manifest::StoredManifest;
