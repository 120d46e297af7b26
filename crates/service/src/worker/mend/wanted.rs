//! What keys are wanted to hold, by the chain up to the wanted backup.

use std::sync::Arc;

use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::MendedRows;
use mendb_model::{Change, RowBlockBuilder};
use mendb_repo::ChainLookup;

use super::{Fetched, Put};
use crate::worker::{Attempt, TaskResult};

/// Looks up keys of one table, ascending over all calls.
pub(super) struct WantedRows<'a, 'b> {
    attempt: &'a Attempt<'b>,
    lookup: ChainLookup,
    fetched: Fetched,
}

impl<'a, 'b> WantedRows<'a, 'b> {
    pub(super) fn new(
        attempt: &'a Attempt<'b>,
        chain: &[Arc<Manifest>],
        path: &TablePath,
    ) -> TaskResult<Self> {
        Ok(Self {
            attempt,
            lookup: attempt.tools.repository.look_up_chain(chain, path)?,
            fetched: Fetched::default(),
        })
    }

    /// Hands over what some keys are wanted to hold, and counts.
    pub(super) fn put(&mut self, keys: &[&[u8]], put: Put<'_>) -> TaskResult<MendedRows> {
        let rows = self.attempt.wait(self.lookup.look_up(keys))?;
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
            ..self.fetched.since(self.lookup.counts())
        })
    }
}
