//! What an event changed of an operation.

use std::collections::{BTreeMap, BTreeSet};

use super::Effect;
use crate::name::TablePath;

/// What an event brought about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is to be done, after what was touched is written down.
    pub effects: Vec<Effect>,
    /// What is to be written down.
    pub touched: Touched,
}

/// The records of an operation that an event changed: its caller writes these and no other, whatever the number
/// of shards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Whether where it stands has changed, or anything else here: not when only time has passed.
    pub standing: bool,
    /// Whether its request has.
    pub request: bool,
    /// Steps of the plan, by their places.
    pub steps: BTreeSet<u32>,
    /// The step that it left for another, or to begin it again: what its tasks brought about is in the
    /// operation, and their counts stay in the journal.
    pub left: Option<u32>,
    /// Whether the tasks of the step have become known: all of them are new.
    pub allocated: bool,
    /// Tasks of the step by their places, with the number of their segments that were known before.
    pub tasks: BTreeMap<u32, usize>,
    /// What of the draft.
    pub draft: TouchedDraft,
    /// Ranges that a mend has done, from this one on.
    pub mended_from: Option<usize>,
}

/// What of a draft was changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum TouchedDraft {
    /// Nothing.
    #[default]
    Nothing,
    /// Some shards, named by their sharded table and their place in it.
    Shards(Vec<(TablePath, u32)>),
    /// All of it: it is another one, or none any more.
    All,
}

impl Touched {
    /// Notes that the shard of a draft has got its segments.
    pub(super) fn shard(&mut self, path: TablePath, shard: u32) {
        match &mut self.draft {
            TouchedDraft::Nothing => self.draft = TouchedDraft::Shards(vec![(path, shard)]),
            TouchedDraft::Shards(shards) => shards.push((path, shard)),
            TouchedDraft::All => {}
        }
    }
}
