//! Records what a process writes, and rebuilds what a power loss or a kill could have left of it.
//!
//! [`Recorder::record`] runs a command and notes, in order, what all its threads and children do below one
//! directory: what they open, write, cut, sync, rename, link, remove, and what they tell on stdout and stderr
//! ([`Mark`]). [`Recording::check`] then makes directories that a crash could have left, at any point, and has
//! each opened and held against what the process had told until then. A test tool: nothing of it is shipped.
//!
//! # How it is recorded
//!
//! By strace. A library that is preloaded misses direct system calls. A FUSE file system would see writes through
//! shared maps too, but it has to be a whole file system, with the kernel's protocol, locks and caches, before
//! anything is recorded, and what it gets are the kernel's writes of pages, not what the process wrote and in
//! which order. Under strace the process works on the real file system, and the order is exact: a call counts
//! from where it ended, a sync covers only what had ended before it began, and a mark counts from where its write
//! began.
//!
//! strace does not show writes through shared maps. So a file that is mapped shared and writable fails the
//! recording, unless [`Recorder::allow_mapped`] allows it: SQLite's `-shm`, an index that is made anew
//! when its database is opened after a crash. Nothing that is written to such a file is in a state. Copies within the kernel, io_uring, symbolic links, `O_SYNC` and holes fail it
//! too. And at the end what was recorded must lead to what is on disk, byte for byte
//! ([`Error::Incomplete`]): what was written unseen is an error, never a gap.
//!
//! # What a power loss leaves
//!
//! - What was synced: the data and the length of a file by fsync or fdatasync of it, names by fsync of the directory
//!   that they are in. [`Promise`] chooses whether more may be relied on. `sync_file_range` promises nothing.
//! - Of the rest any part: each change there or not; writes torn at 512 bytes or 4 KiB; lengths as of the last
//!   sync, as of all writes, or between. A sector holds what the cache had when it was written, so that a
//!   later write to it brings the earlier ones with it. Where a file has its length and not its data, there are
//!   zeros.
//! - A rename within a directory happens or does not. Between two directories each half is synced by its own.
//!
//! A kill leaves all that was done, and of the call that it interrupts some pages.
//!
//! At each point, losses of every kind are tried: nothing, everything, all after a change, all but one, only one,
//! one torn, the data or length of one file. Where all subsets of the changes under way are few enough, they
//! are all tried, else some by a seed.

mod call;
mod descriptor;
mod dice;
mod disk;
mod error;
mod loss;
mod recorder;
mod states;
mod survival;
mod told;
mod trace;
mod translate;
mod tree;
mod watched;

pub use disk::Promise;
pub use error::{Error, Result};
pub use recorder::{Recorder, Recording};
pub use states::{Failure, How, Report, State};
pub use trace::{Mark, Stream, Trace};
