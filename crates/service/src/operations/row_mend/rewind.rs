//! The rows that chosen transactions wrote, and what they were before.
//!
//! ```text
//! increments from the first chosen one on    each change of a key, as it was made: those before the first chosen one make,
//!                                            over the row of the chain before, the wanted row; others after it wrote again
//! increments without changes one by one      what they left of a key is a change of others
//! the newest backup                          a live row that is another than its was written again since
//! ```
//!
//! *Memory*: some thousand keys with their rows. *Cost*: the changes of the range are read, and of the chain the keys that
//! are found.

use std::ops::ControlFlow;
use std::sync::Arc;

use mendb_engines::LookedDigests;
use mendb_model::change::ChangeRef;
use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{Rewind, RowMendRequest};
use mendb_model::unfolded::split_key;
use mendb_model::value::ColumnType;
use mendb_model::{Change, ChangeKind, Malformed, Replaced, RowBlock, RowBlockBuilder, Version};
use mendb_repo::{ChainLookup, ChainReader};
use serde::{Deserialize, Serialize};

use super::scope::{Chooser, NewerRow};
use super::{no_such_table, wanted_chain};
use crate::attempt::Attempt;
use crate::diff::Pulled;
use crate::operations::row_backup::unfolded::first_place;
use crate::task_error::{TaskError, TaskResult};

/// Keys that are looked up together.
const KEYS_AT_ONCE: usize = 4_096;
/// Or so many bytes of them and of changes.
const BYTES_AT_ONCE: usize = 4 << 20;

/// A row that chosen transactions wrote, and others wrote again since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrittenRow {
    /// The table.
    pub table: String,
    /// The key, as people write it.
    pub key: String,
    /// The last that wrote it, where an increment tells: of what was written since the newest, none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<WrittenBy>,
}

/// A transaction that wrote a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenBy {
    /// Its number.
    pub transaction: u64,
    /// When it committed, in microseconds since 1970.
    pub committed_us: i64,
}

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

/// How a table is mended to take transactions back; `None` where it is not.
pub(super) fn rewind_of<'a>(request: &'a RowMendRequest, table: &str) -> Option<&'a Rewind> {
    let mut tables = request.tables.iter();
    let mended = tables.find(|mended| mended.table == table)?;
    mended.scope.rewind.as_ref()
}

/// Finds what is to be done with the keys of a range that chosen transactions wrote.
pub(super) fn differences(
    attempt: &Attempt<'_>,
    request: &RowMendRequest,
    rewind: &Rewind,
    (path, range): (&TablePath, &KeyRange),
    each: &mut dyn FnMut(Differences) -> TaskResult<()>,
) -> TaskResult<()> {
    let mut chooser = Chooser::new(attempt, request, path, range)?;
    let mut written = WrittenKeys::new(attempt, request, rewind, path, range)?;
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
            let is_again = row.again.is_some() || row.left != live;
            if is_again && !rewind.include_rewritten {
                some.rewritten.push(RewrittenRow {
                    table: path.table.clone(),
                    key: describe_range(&KeyRange::only(&row.key), &written.key_types),
                    by: match row.left == live {
                        true => row.again.and_then(Again::by),
                        false => None,
                    },
                });
                continue;
            }
            let mut exchanged = LookedDigests::default();
            if let Some(live) = &live {
                exchanged.found.add(&row.key, live);
            }
            let change = match &row.wanted {
                Some(wanted) => {
                    exchanged.wanted.add(&row.key, wanted);
                    Change::reset(wanted.clone(), 0)
                }
                None => Change::erase(0),
            };
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

/// Who wrote a row again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    By(WrittenBy),
    /// One of those whose changes an increment holds together.
    Somebody,
}

impl Again {
    fn by(self) -> Option<WrittenBy> {
        match self {
            Self::By(by) => Some(by),
            Self::Somebody => None,
        }
    }
}

/// A key that chosen transactions wrote.
struct WrittenKey {
    key: Vec<u8>,
    /// What was there before.
    wanted: Option<Vec<u8>>,
    /// What is there in the newest backup.
    left: Option<Vec<u8>>,
    again: Option<Again>,
}

/// What came to a key so far, in its order.
#[derive(Default)]
struct Course {
    /// The changes before the first chosen one, as one; `None` for no change.
    before: Option<Change>,
    /// Whether they leave a row of which not all values were told.
    is_untold: bool,
    is_chosen: bool,
    again: Option<Again>,
}

impl Course {
    /// Takes the next change; `by` is `None` of one that is several of others together.
    fn take(
        &mut self,
        change: Change,
        by: Option<WrittenBy>,
        is_chosen: bool,
        types: &[ColumnType],
    ) -> Result<(), Malformed> {
        if is_chosen {
            self.is_chosen = true;
        } else if self.is_chosen {
            self.again = Some(by.map_or(Again::Somebody, Again::By));
        } else {
            let is_gone = |before: &Change| before.kind == ChangeKind::Erase;
            self.is_untold = match change.kind {
                ChangeKind::Reset | ChangeKind::Erase => false,
                // It came from another key with values that it had there.
                ChangeKind::Upsert => self.is_untold || self.before.as_ref().is_some_and(is_gone),
            };
            self.before = Some(match self.before.take() {
                None => change,
                Some(before) => before.then(change, types)?,
            });
        }
        Ok(())
    }

    /// What was there before the first chosen change, over what the chain before has.
    fn before(&self, base: Option<&[u8]>, types: &[ColumnType]) -> Result<Before, Malformed> {
        Ok(match &self.before {
            None => Before::Row(base.map(<[u8]>::to_vec)),
            Some(before) if before.kind == ChangeKind::Upsert && base.is_none() => Before::Untold,
            Some(_) if self.is_untold => Before::Untold,
            Some(before) => Before::Row(before.apply(base, types)?),
        })
    }
}

/// What was under a key before.
enum Before {
    /// This row, or none.
    Row(Option<Vec<u8>>),
    /// A row of which not all values were told.
    Untold,
}

/// Gives the keys of a range that chosen transactions wrote, in their order.
struct WrittenKeys<'a, 'b> {
    attempt: &'a Attempt<'b>,
    rewind: &'a Rewind,
    path: &'a TablePath,
    range: &'a KeyRange,
    /// Each change by itself.
    changes: Pulled<'a, ChainReader>,
    /// Of increments that do not keep them so: all changes of a key as one, and where it is among the others.
    folded: Vec<(u64, Pulled<'a, ChainReader>)>,
    /// The chain before, and all of it.
    base: ChainLookup,
    newest: ChainLookup,
    types: Arc<[ColumnType]>,
    key_types: Vec<ColumnType>,
    /// The change that comes next.
    next: Option<(Vec<u8>, Vec<u8>)>,
}

impl<'a, 'b> WrittenKeys<'a, 'b> {
    fn new(
        attempt: &'a Attempt<'b>,
        request: &RowMendRequest,
        rewind: &'a Rewind,
        path: &'a TablePath,
        range: &'a KeyRange,
    ) -> TaskResult<Self> {
        let chain = wanted_chain(attempt, request)?;
        let repository = &attempt.tools.repository;
        let from = chain
            .iter()
            .position(|backup| backup.backup_id == rewind.from);
        let from = from.filter(|from| *from > 0).ok_or_else(|| {
            TaskError::Proof(format!("backup {} is not in the chain", rewind.from))
        })?;
        let last = &chain[chain.len() - 1];
        let schema = last.table(&path.table).map(|table| &table.schema);
        let schema = schema.ok_or_else(|| no_such_table(last, &path.table))?;
        let unfolded = TablePath::unfolded(&path.table);
        let keeps = |manifest: &&Arc<Manifest>| manifest.sharded_table(&unfolded).is_some();
        let keeping: Vec<_> = chain[from..].iter().filter(keeps).cloned().collect();
        let pulled = |reader: ChainReader| {
            Pulled::new(reader, move |reader: &mut ChainReader| {
                attempt.wait(reader.next())
            })
        };
        let changes = repository.read_chain(&keeping, &unfolded, range, None);
        let changes = pulled(attempt.wait(changes)?);
        let mut folded = Vec::new();
        for manifest in chain[from..].iter().filter(|manifest| !keeps(manifest)) {
            let one = std::slice::from_ref(manifest);
            let reader = repository.read_chain(one, path, range, None);
            let place = first_place(&manifest.backup_id);
            folded.push((place, pulled(attempt.wait(reader)?)));
        }
        let base = repository.look_up_chain(&chain[..from], path, range);
        let newest = repository.look_up_chain(&chain, path, range);
        let mut keys = Self {
            attempt,
            rewind,
            path,
            range,
            changes,
            folded,
            base: attempt.wait(base)?,
            newest: attempt.wait(newest)?,
            types: schema.value_types().into(),
            key_types: schema.key_types(),
            next: None,
        };
        keys.advance()?;
        Ok(keys)
    }

    fn advance(&mut self) -> TaskResult<()> {
        let next = self.changes.next_before(None)?;
        self.next = next.map(|(key, change)| (key.to_vec(), change.to_vec()));
        Ok(())
    }

    /// The next of them; `None` behind the last.
    fn next(&mut self) -> TaskResult<Option<Vec<WrittenKey>>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < KEYS_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some((key, course)) = self.next_key()? else {
                break;
            };
            if course.is_chosen && self.range.contains(&key) {
                bytes += key.len() + course.before.as_ref().map_or(0, |change| change.row.len());
                found.push((key, course));
            }
            self.attempt.check_stopped()?;
        }
        if found.is_empty() {
            return Ok(None);
        }
        let keys: Vec<&[u8]> = found.iter().map(|(key, _)| key.as_slice()).collect();
        let base = self.attempt.wait(self.base.look_up(&keys))?;
        let left = self.attempt.wait(self.newest.look_up(&keys))?;
        let mut written = Vec::with_capacity(found.len());
        for (((key, course), base), left) in found.into_iter().zip(base).zip(left) {
            let before = course.before(base.as_deref(), &self.types);
            let wanted = match before.map_err(|error| self.garbled(&error))? {
                Before::Row(row) => row,
                Before::Untold => return Err(self.untold(&key)),
            };
            written.push(WrittenKey {
                key,
                wanted,
                left,
                again: course.again,
            });
        }
        Ok(Some(written))
    }

    /// The next key that an increment has changes of one by one, with all that came to it.
    fn next_key(&mut self) -> TaskResult<Option<(Vec<u8>, Course)>> {
        let Some((first, _)) = &self.next else {
            return Ok(None);
        };
        let (key, _) = split_key(first).map_err(|error| self.garbled(&error))?;
        let key = key.to_vec();
        let mut folded = Vec::new();
        for (place, reader) in &mut self.folded {
            while reader.next_before(Some(&key))?.is_some() {}
            if let Some(change) = reader.next_at(&key)? {
                folded.push((*place, change.to_vec()));
            }
        }
        let mut folded = folded.into_iter().peekable();
        let mut course = Course::default();
        let types = Arc::clone(&self.types);
        while let Some((whole, change)) = self.next.take() {
            let (of, made) = split_key(&whole).map_err(|error| self.garbled(&error))?;
            if of != key {
                self.next = Some((whole, change));
                break;
            }
            while let Some((_, together)) = folded.next_if(|(place, _)| *place < made.place) {
                self.take(&mut course, &together, None, &types)?;
            }
            self.take(&mut course, &change, Some(made.committed_us), &types)?;
            self.advance()?;
        }
        for (_, together) in folded {
            self.take(&mut course, &together, None, &types)?;
        }
        Ok(Some((key, course)))
    }

    /// Adds a change to what came to a key; `committed_us` is of one by itself.
    fn take(
        &self,
        course: &mut Course,
        change: &[u8],
        committed_us: Option<i64>,
        types: &[ColumnType],
    ) -> TaskResult<()> {
        let change = Change::decode(change).map_err(|error| self.garbled(&error))?;
        let by = committed_us.map(|committed_us| WrittenBy {
            transaction: change.version,
            committed_us,
        });
        let is_chosen = by.is_some_and(|by| {
            let chosen = &self.rewind.changed_by;
            chosen.chooses(by.transaction, by.committed_us)
        });
        let taken = course.take(change, by, is_chosen, types);
        taken.map_err(|error| self.garbled(&error))
    }

    fn untold(&self, key: &[u8]) -> TaskError {
        TaskError::Proof(format!(
            "what row {} of table {} was before is not known: it came from another key, with a large value that the change \
             stream did not tell again. Nothing was changed; leave it out with --where or --range",
            describe_range(&KeyRange::only(key), &self.key_types),
            self.path.table
        ))
    }

    fn garbled(&self, error: &Malformed) -> TaskError {
        TaskError::Proof(format!(
            "a change of table {} is not as it was kept: {error}; check the repository: mendb verify",
            self.path.table
        ))
    }
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
