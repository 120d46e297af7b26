//! The rows that some keys should have, by the chain up to the wanted backup.

use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::MendedRows;
use mendb_model::{Change, RowBlockBuilder};
use mendb_repo::ChainLookup;

use super::{Fetched, Put};
use crate::attempt::Attempt;
use crate::task_error::TaskResult;

/// What keys looked up together hold is in memory: about this many bytes, going by those before.
const BYTES_AT_ONCE: usize = 8 << 20;
/// The most keys that are looked up together …
const MOST_KEYS: usize = 64 * 1024;
/// … and how many are as long as the size of rows is not known.
const FIRST_KEYS: usize = 64;
/// The next keys are at most so many times as many: they may have larger rows.
const GROWTH: usize = 8;

/// Looks up keys of a range of one table, ascending over all calls.
pub(super) struct WantedRows<'a, 'b> {
    attempt: &'a Attempt<'b>,
    lookup: ChainLookup,
    fetched: Fetched,
    keys_at_once: usize,
}

impl<'a, 'b> WantedRows<'a, 'b> {
    pub(super) fn new(
        attempt: &'a Attempt<'b>,
        chain: &[Arc<Manifest>],
        path: &TablePath,
        range: &KeyRange,
    ) -> TaskResult<Self> {
        let repository = &attempt.tools.repository;
        Ok(Self {
            attempt,
            lookup: attempt.wait(repository.look_up_chain(chain, path, range))?,
            fetched: Fetched::default(),
            keys_at_once: FIRST_KEYS,
        })
    }

    /// Hands over what keys are wanted to hold, and tells after each part of them what was counted and the
    /// last of its keys.
    pub(super) fn put_all(
        &mut self,
        keys: &[&[u8]],
        put: Put<'_>,
        done: &mut dyn FnMut(MendedRows, &[u8]) -> TaskResult<()>,
    ) -> TaskResult<()> {
        let mut left = keys;
        while !left.is_empty() {
            self.attempt.check_stopped()?;
            let (now, later) = left.split_at(self.keys_at_once.min(left.len()));
            left = later;
            let counted = self.put(now, put)?;
            if let Some(last) = now.last() {
                done(counted, last)?;
            }
        }
        Ok(())
    }

    /// Hands over what some keys are wanted to hold, and counts.
    pub(super) fn put(&mut self, keys: &[&[u8]], put: Put<'_>) -> TaskResult<MendedRows> {
        let rows = self.rows(keys)?;
        let mut changes = RowBlockBuilder::new();
        for (key, row) in keys.iter().zip(rows) {
            let change = row.map_or_else(|| Change::erase(0), |row| Change::reset(row, 0));
            changes.push_with(key, |out| change.encode_into(out));
        }
        let staged = put(&changes.finish().view())?;
        Ok(MendedRows {
            read: keys.len() as u64,
            upserted: staged.upserted,
            erased: staged.erased,
            kept: staged.kept,
            written_bytes: staged.bytes,
            ..self.fetched()
        })
    }

    /// What some keys are wanted to hold.
    pub(super) fn rows(&mut self, keys: &[&[u8]]) -> TaskResult<Vec<Option<Vec<u8>>>> {
        let rows = self.attempt.wait(self.lookup.look_up(keys))?;
        let bytes = |row: &Option<Vec<u8>>| row.as_ref().map_or(0, Vec::len);
        let bytes =
            rows.iter().map(bytes).sum::<usize>() + keys.iter().map(|key| key.len()).sum::<usize>();
        let row_bytes = (bytes / keys.len().max(1)).max(1);
        self.keys_at_once = (BYTES_AT_ONCE / row_bytes)
            .min(self.keys_at_once * GROWTH)
            .clamp(1, MOST_KEYS);
        Ok(rows)
    }

    /// So many keys are looked up together next.
    pub(super) fn keys_at_once(&self) -> usize {
        self.keys_at_once
    }

    /// What was fetched since this was asked last.
    pub(super) fn fetched(&mut self) -> MendedRows {
        self.fetched.since(self.lookup.counts())
    }
}
