//! What is done with the rows that chosen transactions wrote: they go back to what they were before, unless others wrote
//! them again. A live row that is another than that of the newest backup was written again since.

use std::ops::ControlFlow;

use mendb_engines::LookedDigests;
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::name::TablePath;
use mendb_model::operation::{Rewind, RowMendRequest};
use mendb_model::{ChangeKind, Replaced, RowBlock, RowBlockBuilder, Version};
use mendb_repo::ChainLookup;

use super::scope::{Chooser, NewerRow, RewrittenRow};
use super::units::{Units, Why};
use super::wanted_chain;
use super::written_keys::WrittenKeys;
use crate::attempt::Attempt;
use crate::task_error::{TaskError, TaskResult};

/// What is to be done with some keys.
pub(super) struct Differences {
    /// Changes that lead from the live rows to the wanted ones.
    pub(super) changes: RowBlock,
    /// Of each of them the digests of the live row and of the wanted one.
    pub(super) exchanged: Vec<LookedDigests>,
    /// Keys whose live row was looked at.
    pub(super) read: u64,
    /// Those that are as they are wanted.
    pub(super) kept: u64,
    /// Rows that stay, as others wrote them since.
    pub(super) rewritten: Vec<RewrittenRow>,
    /// Rows that stay, as they are newer than a moment that was named.
    pub(super) newer: Vec<NewerRow>,
}

/// Finds what is to be done with the keys of a range that chosen transactions wrote.
pub(super) fn differences(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    rewind: &Rewind,
    (path, range, units): (&TablePath, &KeyRange, &Units),
    each: &mut dyn FnMut(Differences) -> TaskResult<()>,
) -> TaskResult<()> {
    let mut chooser = Chooser::new(attempt, request, path, range)?;
    let mut written = WrittenKeys::new(attempt, request, rewind, (path, range), units.keys())?;
    let key_types = written.key_types().to_vec();
    let shown = |key: &[u8]| describe_range(&KeyRange::only(key), &key_types);
    let engine = attempt.tools.engine.rows()?;
    while let Some(found) = written.next()? {
        attempt.check_stopped()?;
        let keys: Vec<&[u8]> = found.iter().map(|row| row.key.as_slice()).collect();
        let live = engine.rows_of(path, &keys)?;
        let mut changes = RowBlockBuilder::new();
        let mut some = Differences {
            changes: changes.finish(),
            exchanged: Vec::new(),
            read: keys.len() as u64,
            kept: 0,
            rewritten: Vec::new(),
            newer: Vec::new(),
        };
        for (row, live) in found.iter().zip(live) {
            if row.wanted == live {
                some.kept += 1;
                continue;
            }
            let again = row.again(live.as_deref());
            let again = again.filter(|_| !rewind.include_rewritten);
            let stays = units.stays(&row.key);
            if again.is_some() || stays.is_some() {
                // One that others wrote alone, of the unit of one that was chosen, is no news.
                if row.is_chosen {
                    let of_unit = stays.filter(|stays| again.is_none() || stays.key != row.key);
                    some.rewritten.push(RewrittenRow {
                        table: path.table.clone(),
                        key: shown(&row.key),
                        by: match (again, stays.map(|stays| stays.why)) {
                            (Some(Some(by)), _) | (_, Some(Why::Again(Some(by)))) => Some(by),
                            _ => None,
                        },
                        with: of_unit.map(|stays| shown(&stays.key)),
                        beside: stays.is_some_and(|stays| stays.why == Why::Beside),
                    });
                }
                continue;
            }
            let mut exchanged = LookedDigests::default();
            if let Some(live) = &live {
                exchanged.found.add(&row.key, live);
            }
            if let Some(wanted) = &row.wanted {
                exchanged.wanted.add(&row.key, wanted);
            }
            let change = row.change();
            some.exchanged.push(exchanged);
            changes.push_with(&row.key, |out| change.encode_into(out));
        }
        some.changes = changes.finish();
        if let Some(chooser) = chooser.as_mut().filter(|_| !some.changes.is_empty()) {
            let chosen = chooser.choose(&some.changes.view())?;
            let mut are_chosen = chosen.are_chosen.into_iter();
            some.exchanged
                .retain(|_| are_chosen.next().unwrap_or(false));
            some.changes = chosen.changes;
            some.newer = chosen.newer;
        }
        each(some)?;
    }
    Ok(())
}

/// What the newest backup has of keys that a publish replaced, which the state before is an increment on.
pub(super) struct ReplacedRows<'a, 'b> {
    attempt: &'a Attempt<'b>,
    newest: ChainLookup,
}

impl<'a, 'b> ReplacedRows<'a, 'b> {
    /// Of keys of a range, which come in their order.
    pub(super) fn new(
        attempt: &'a Attempt<'b>,
        request: &RowMendRequest,
        path: &TablePath,
        range: &KeyRange,
    ) -> TaskResult<Self> {
        let chain = wanted_chain(attempt, request)?;
        let newest = attempt.tools.repository.look_up_chain(&chain, path, range);
        Ok(Self {
            attempt,
            newest: attempt.wait(newest)?,
        })
    }

    /// The changes to the rows before the publish, as those of an increment on the newest backup, and the digests of what
    /// they leave (`found`) and take the place of there (`wanted`).
    pub(super) fn on_newest(
        &mut self,
        replaced: &RowBlock<&[u8]>,
    ) -> TaskResult<(RowBlock, LookedDigests)> {
        let keys: Vec<&[u8]> = replaced.iter().map(|(key, _)| key).collect();
        let rows = self.attempt.wait(self.newest.look_up(&keys))?;
        let (mut block, mut digests) = (RowBlockBuilder::new(), LookedDigests::default());
        for ((key, change), newest) in replaced.iter().zip(rows) {
            let change = ChangeRef::decode(change)
                .map_err(|error| TaskError::Proof(format!("what was replaced: {error}")))?;
            if change.kind != ChangeKind::Erase {
                digests.found.add(key, change.row);
            }
            if let Some(newest) = &newest {
                digests.wanted.add(key, newest);
            }
            let change = ChangeRef {
                replaced: Replaced::of(key, newest.as_deref()),
                ..change
            };
            block.push_with(key, |out| change.encode_into(out));
        }
        Ok((block.finish(), digests))
    }
}

/// The digests of what a publish replaced in a range, as [`ReplacedRows::on_newest`] has them.
pub(super) fn replaced_digests(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    path: &TablePath,
    range: &KeyRange,
) -> TaskResult<LookedDigests> {
    let mut replaced = ReplacedRows::new(attempt, request, path, range)?;
    let mut sum = LookedDigests::default();
    let mut outcome = Ok(());
    let engine = attempt.tools.engine.rows()?;
    let operation = attempt.operation();
    engine.read_changes(
        operation,
        path,
        range,
        Version::default(),
        None,
        &mut |block| match replaced.on_newest(block) {
            Ok((_, digests)) => {
                sum.found.merge(digests.found);
                sum.wanted.merge(digests.wanted);
                ControlFlow::Continue(())
            }
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    outcome?;
    Ok(sum)
}
