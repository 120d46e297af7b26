//! What is done to shards and tables, each as one or more commits.
//!
//! Writing: [`write`] one batch, [`bulk`] many rows. Bringing rows back: [`restoring`] tables, into which [`load`] loads,
//! and [`mending`] them, for which [`stage`] stages the rows that differ, [`rebuild`] builds whole shards, [`derive`]
//! makes index rows, and [`settle`] ends the mend. Keeping shards in shape: [`rewrite`] splits, merges and packs them,
//! [`split_or_pack`] decides when. Change logs: [`streams`] need them, [`cut`] begins one, [`lapse`] ends one, [`trim`]
//! shortens them.

pub(crate) mod bulk;
pub(crate) mod cut;
pub(crate) mod derive;
mod erase;
pub(crate) mod lapse;
pub(crate) mod load;
pub(crate) mod mending;
pub(crate) mod rebuild;
pub(crate) mod restoring;
pub(crate) mod rewrite;
pub(crate) mod settle;
mod sorted_edits;
pub(crate) mod split_or_pack;
pub(crate) mod stage;
pub(crate) mod streams;
pub(crate) mod tables;
mod trim;
pub(crate) mod write;
