//! Files of parts: content-addressed, shared by all backups of a repository.
//!
//! ```text
//! files/<aa>/<blake3>              a file of 256 KiB or more
//! files/bundles/<aa>/<blake3>      smaller files, one after the other, up to about 4 MiB
//! …/<aa>/<blake3>.<generation>     the same content, where the first object may be removed
//! files/incoming/…                 in a local directory: files that are being written
//! ```
//!
//! **Consistency.** The name of an object is the BLAKE3 of its content, so that writing it twice writes
//! the same: an object of the right size is taken for what it is named, and no backup owns it. A backup
//! names its files in part lists ([`crate::DocumentName`]), which its manifest names. What may be removed, as
//! no backup needed it when that was looked at, is named in the repository first (`candidates`), and no
//! backup is sealed that relies on such an object: it stores the content again, under another generation of
//! the name, or copies it there when it is sealed ([`crate::Repository::put_manifest`]). What an earlier
//! backup has lost by the time another builds on it is written again ([`crate::Repository::known_files`]).
//!
//! **What is read.** A file whose size and checksum an earlier backup knows is not read. Others are read
//! once if they are small or the repository is a local directory, and twice (hashed, then sent if the
//! repository lacks them) if not; both times must give the same bytes. That an object still holds what
//! it is named after is proved when it is read ([`crate::Repository::fetch_part_files`],
//! [`crate::Repository::verify_files`]), and what is found damaged then no later backup relies on (`damage`).
//! One that is found in the place of content that was read is read too, and written again where it is
//! another; only of one that would have to come in pieces from elsewhere the size is believed.
//!
//! **Crashes.** Before [`PartWriter::finish`] returns, all it names lasts. What a crash leaves is content
//! that no backup refers to, which [`crate::Repository::collect_garbage`] removes after its time of grace.
//!
//! **Memory.** Large files travel in pieces, [`crate::RepositoryOptions::transfers`] files at once over
//! all that use the repository; besides, a writer holds one unfinished bundle and the names of its files.

mod blob;
mod damage;
mod disk;
mod fetch;
mod file_on_disk;
mod known;
mod needed;
mod presence;
mod ranges;
mod renew;
mod store;
mod verify;
mod writer;

pub(crate) use blob::{Blob, BlobKind};
pub use fetch::Fetched;
pub use file_on_disk::FileOnDisk;
pub use known::KnownFiles;
pub(crate) use needed::NeededFiles;
pub use verify::Verified;
pub use writer::{PartWriter, Uploaded};

/// Smaller files share objects: a request costs more than their bytes.
const BUNDLED_BELOW: u64 = 256 << 10;
/// A bundle that has reached this is closed: large enough for few requests, small enough to be held in
/// memory and to be read whole for a part of it.
const BUNDLE_BYTES: u64 = 4 << 20;
/// The size of the largest bundle.
const MOST_BUNDLE_BYTES: u64 = BUNDLE_BYTES + BUNDLED_BELOW;
/// Large files are sent and fetched in pieces of this size.
const PIECE_BYTES: u64 = 8 << 20;
