//! What changed on the target since a mend of its live tables was planned.

use std::ops::ControlFlow;

use mendb_engines::LiveStream;
use mendb_model::Version;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::name::TablePath;
use mendb_model::value::ColumnType;
use serde::Serialize;

use super::digests::live_digest;
use super::order::{Ordered, RowMendOrder, RowMendPreview, planned, take_along};
use super::preview;
use crate::error::Result;
use crate::front::Front;

/// Keys of a table that are not what they were when a mend was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// The table.
    pub table: String,
    /// The keys.
    pub range: KeyRange,
    /// The same, as people write keys.
    pub keys: String,
}

impl Drift {
    fn new(table: &str, range: &KeyRange, types: &[ColumnType]) -> Self {
        Self {
            table: table.to_owned(),
            range: range.clone(),
            keys: describe_range(range, types),
        }
    }
}

impl Front {
    /// Where the target is not any more what it was when a mend was planned: each such range of a table,
    /// with the keys in it that changed since, as far as a change stream tells; and where nothing else
    /// drifted, the rows that came into its way since.
    ///
    /// # Errors
    /// The target cannot be read.
    pub fn drift_of(&self, order: &RowMendOrder, plan: &RowMendPreview) -> Result<Vec<Drift>> {
        let drifted = self.drifted_ranges(plan)?;
        if !drifted.is_empty() {
            return Ok(drifted);
        }
        let order = planned(order, plan);
        let Ordered { mut request, .. } = self.ordered(&order, "before-mend", None)?;
        take_along(&mut request, plan);
        let conflicts = preview::find_conflicts(self, &mut request, false)?;
        let drifted = conflicts.rows.into_iter().map(|conflict| Drift {
            table: conflict.table,
            range: conflict.holder_key,
            keys: conflict.holder,
        });
        Ok(drifted.collect())
    }

    fn drifted_ranges(&self, plan: &RowMendPreview) -> Result<Vec<Drift>> {
        let engine = self.tools.engine.rows()?;
        let mut drifted = Vec::new();
        for planned in &plan.shards {
            let path = TablePath::table(&planned.table);
            let live = engine.inspect(&planned.table)?;
            let found = match live {
                None => None,
                Some(_) => Some(live_digest(engine, &path, &planned.range)?.0),
            };
            if found == planned.digest {
                continue;
            }
            let mut range = planned.range.clone();
            if let Some(live) = &live {
                // A stream that was released since does not know all of them.
                let knows = |stream: &LiveStream| stream.since_version <= plan.version;
                if live.keeps_changes && live.streams.iter().any(knows) {
                    range = self.changed_since(&path, range, plan.version)?;
                }
                let types = live.schema.key_types();
                drifted.push(Drift::new(&planned.table, &range, &types));
            } else {
                drifted.push(Drift::new(&planned.table, &range, &[]));
            }
        }
        Ok(drifted)
    }

    /// From the first to the last key of a range that changed since a commit, or the range where no
    /// stream lists them.
    fn changed_since(
        &self,
        path: &TablePath,
        range: KeyRange,
        version: Version,
    ) -> Result<KeyRange> {
        let mut changed: Option<KeyRange> = None;
        let engine = self.tools.engine.rows()?;
        engine.changes_since(path, &range, version, &mut |block| {
            if let Some(last) = block.len().checked_sub(1) {
                let changed = changed.get_or_insert_with(|| KeyRange {
                    start: block.key(0).to_vec(),
                    end: None,
                });
                // The least key behind the last.
                changed.end = Some([block.key(last), &[0]].concat());
            }
            ControlFlow::Continue(())
        })?;
        Ok(changed.unwrap_or(range))
    }
}
