//! Rows that are to take the place of live ones, on their way to where they are staged.

use mendb_engines::LookedDigests;
use mendb_model::key::KeyRange;
use mendb_model::name::TablePath;
use mendb_model::operation::{MendedRows, RowMendRequest};
use mendb_model::{Change, ChangeKind, Digest, RowBlockBuilder, StagedCounts};

use super::scope::Chooser;
use super::{Progress, Put};
use crate::attempt::Attempt;
use crate::task_error::TaskResult;

/// Differences are staged in blocks of about this many bytes.
const BLOCK_BYTES: usize = 4 << 20;

/// What differs in a range, in the order of the keys.
pub(super) struct Exchanges<'a, 'b, 'c, 'd> {
    attempt: &'a Attempt<'b>,
    changes: RowBlockBuilder,
    /// Where not all keys that differ are mended.
    chooser: Option<Chooser<'a, 'b>>,
    /// Of each change the digests of the live row and of the wanted one.
    pairs: Vec<LookedDigests>,
    /// The sums of those that are made.
    made: LookedDigests,
    put: Put<'a>,
    progress: &'a mut Progress<'c, 'd>,
}

impl<'a, 'b, 'c, 'd> Exchanges<'a, 'b, 'c, 'd> {
    pub(super) fn new(
        attempt: &'a Attempt<'b>,
        request: &RowMendRequest,
        (path, range): (&'a TablePath, &KeyRange),
        put: Put<'a>,
        progress: &'a mut Progress<'c, 'd>,
    ) -> TaskResult<Self> {
        Ok(Self {
            attempt,
            changes: RowBlockBuilder::new(),
            chooser: Chooser::new(attempt, request, path, range)?,
            pairs: Vec::new(),
            made: LookedDigests::default(),
            put,
            progress,
        })
    }

    /// Adds a key whose live row is another than the wanted one.
    pub(super) fn add(&mut self, key: &[u8], live: Option<&[u8]>, wanted: Option<&[u8]>) {
        let mut pair = LookedDigests::default();
        if let Some(live) = live {
            pair.found.add(key, live);
        }
        let change = match wanted {
            Some(wanted) => Change::reset(wanted.to_vec(), 0),
            None => Change::erase(0),
        };
        if change.kind != ChangeKind::Erase {
            pair.wanted.add(key, &change.row);
        }
        self.pairs.push(pair);
        self.changes.push_with(key, |out| change.encode_into(out));
    }

    /// Whether so much was added that it is to be staged.
    pub(super) fn is_full(&self) -> bool {
        self.changes.size_bytes() >= BLOCK_BYTES
    }

    /// Stages what was added, and tells what was done since the last time.
    pub(super) fn stage(&mut self, mut done: MendedRows) -> TaskResult<()> {
        let mut changes = self.changes.finish();
        let mut pairs = std::mem::take(&mut self.pairs);
        if let Some(chooser) = &mut self.chooser
            && !changes.is_empty()
        {
            let chosen = chooser.choose(&changes.view())?;
            let mut are_chosen = chosen.are_chosen.into_iter();
            pairs.retain(|_| are_chosen.next().unwrap_or(false));
            done.newer += chosen.newer.len() as u64;
            done.rewritten += chosen.rewritten.len() as u64;
            changes = chosen.changes;
        }
        for pair in pairs {
            self.made.found.merge(pair.found);
            self.made.wanted.merge(pair.wanted);
        }
        let staged = match changes.is_empty() {
            true => StagedCounts::default(),
            false => (self.put)(&changes.view())?,
        };
        done += MendedRows {
            upserted: staged.upserted,
            erased: staged.erased,
            written_bytes: staged.bytes,
            ..MendedRows::default()
        };
        self.progress.looked_at(done);
        self.attempt.in_progress(self.progress.counts)
    }

    /// Stages what is left. Gives the digests of the live rows, which are told, and of what takes their place.
    pub(super) fn finish(mut self, found: Digest, done: MendedRows) -> TaskResult<LookedDigests> {
        self.stage(done)?;
        let mut wanted = found;
        wanted.subtract(self.made.found);
        wanted.merge(self.made.wanted);
        Ok(LookedDigests { found, wanted })
    }
}
