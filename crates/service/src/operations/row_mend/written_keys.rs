//! The keys that chosen transactions wrote: what was under each before, what the newest backup has, and who wrote again.
//!
//! ```text
//! increments from the first chosen one on    each change of a key, as it was made: those before the first that is taken
//!                                            back make, over the row of the chain before, the wanted row
//! increments without changes one by one      what they left of a key is a change of others
//! ```
//!
//! *Memory*: some thousand keys with their rows. *Cost*: the changes of the range are read, and of the chain the keys that
//! are found.

use std::sync::Arc;

use mendb_model::key::KeyRange;
use mendb_model::key_text::describe_range;
use mendb_model::manifest::Manifest;
use mendb_model::name::TablePath;
use mendb_model::operation::{Rewind, RowMendRequest};
use mendb_model::unfolded::split_key;
use mendb_model::value::ColumnType;
use mendb_model::{Change, ChangeKind, Malformed};
use mendb_repo::{ChainLookup, ChainReader};
use serde::{Deserialize, Serialize};

use super::unit_keys::{UnitKeys, garbled};
use super::{no_such_table, wanted_chain};
use crate::attempt::Attempt;
use crate::diff::Pulled;
use crate::operations::row_backup::unfolded::first_place;
use crate::task_error::{TaskError, TaskResult};

/// Keys that are looked up together.
pub(super) const KEYS_AT_ONCE: usize = 4_096;
/// Or so many bytes of them and of changes.
const BYTES_AT_ONCE: usize = 4 << 20;

/// A transaction that wrote a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenBy {
    /// Its number.
    pub transaction: u64,
    /// When it committed, in microseconds since 1970.
    pub committed_us: i64,
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

/// A key that chosen transactions wrote, or of a unit with such a key.
pub(super) struct WrittenKey {
    pub(super) key: Vec<u8>,
    /// What was there before.
    pub(super) wanted: Option<Vec<u8>>,
    /// What is there in the newest backup.
    left: Option<Vec<u8>>,
    again: Option<Again>,
    /// Whether a chosen transaction wrote it.
    pub(super) is_chosen: bool,
}

impl WrittenKey {
    /// The change that makes the live row the wanted one.
    pub(super) fn change(&self) -> Change {
        match &self.wanted {
            Some(wanted) => Change::reset(wanted.clone(), 0),
            None => Change::erase(0),
        }
    }

    /// Who wrote it again, going by the live row, too; `None` where nobody did, and within it where that is not known.
    pub(super) fn again(&self, live: Option<&[u8]>) -> Option<Option<WrittenBy>> {
        match self.left.as_deref() == live {
            true => self.again.map(Again::by),
            false => Some(None),
        }
    }
}

/// What came to a key so far, in its order.
#[derive(Default)]
struct Course {
    /// The changes before the first one that is taken back, as one; `None` for no change.
    before: Option<Change>,
    /// Whether they leave a row of which not all values were told.
    is_untold: bool,
    /// Whether one that is taken back has come.
    is_taken: bool,
    /// Whether a chosen one has.
    is_chosen: bool,
    again: Option<Again>,
}

impl Course {
    /// Takes the next change; `by` is `None` of one that is several of others together. One that is not chosen is
    /// taken back with those before it, or where it `begins` what is.
    fn take(
        &mut self,
        change: Change,
        by: Option<WrittenBy>,
        (is_chosen, begins): (bool, bool),
        types: &[ColumnType],
    ) -> Result<(), Malformed> {
        self.is_taken |= is_chosen || begins;
        if is_chosen {
            self.is_chosen = true;
        } else if self.is_taken {
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

    /// What was there before the first change that is taken back, over what the chain before has.
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

/// Gives the keys of a range that chosen transactions wrote, and those of units with such keys, in their order.
pub(super) struct WrittenKeys<'a, 'b> {
    attempt: &'a Attempt<'b>,
    rewind: &'a Rewind,
    path: &'a TablePath,
    range: &'a KeyRange,
    units: &'a UnitKeys,
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
    pub(super) fn new(
        attempt: &'a Attempt<'b>,
        request: &RowMendRequest,
        rewind: &'a Rewind,
        (path, range): (&'a TablePath, &'a KeyRange),
        units: &'a UnitKeys,
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
            units,
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

    /// Of the columns of the key.
    pub(super) fn key_types(&self) -> &[ColumnType] {
        &self.key_types
    }

    fn advance(&mut self) -> TaskResult<()> {
        let next = self.changes.next_before(None)?;
        self.next = next.map(|(key, change)| (key.to_vec(), change.to_vec()));
        Ok(())
    }

    /// The next of them; `None` behind the last.
    pub(super) fn next(&mut self) -> TaskResult<Option<Vec<WrittenKey>>> {
        self.next_among(false)
    }

    /// The next that are of units; `None` behind the last.
    pub(super) fn next_of_units(&mut self) -> TaskResult<Option<Vec<WrittenKey>>> {
        self.next_among(true)
    }

    fn next_among(&mut self, of_units: bool) -> TaskResult<Option<Vec<WrittenKey>>> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < KEYS_AT_ONCE && bytes < BYTES_AT_ONCE {
            let Some((key, course)) = self.next_key()? else {
                break;
            };
            let is_asked_for = !of_units || self.units.find(&key).is_some();
            if course.is_taken && is_asked_for && self.range.contains(&key) {
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
            let wanted = match before.map_err(|error| garbled(&self.path.table, &error))? {
                Before::Row(row) => row,
                Before::Untold => return Err(self.untold(&key)),
            };
            written.push(WrittenKey {
                key,
                wanted,
                left,
                again: course.again,
                is_chosen: course.is_chosen,
            });
        }
        Ok(Some(written))
    }

    /// The next key that an increment has changes of one by one, with all that came to it.
    fn next_key(&mut self) -> TaskResult<Option<(Vec<u8>, Course)>> {
        let Some((first, _)) = &self.next else {
            return Ok(None);
        };
        let (key, _) = split_key(first).map_err(|error| garbled(&self.path.table, &error))?;
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
        let from = self.units.find(&key).map_or(u64::MAX, |of| of.from);
        let types = Arc::clone(&self.types);
        while let Some((whole, change)) = self.next.take() {
            let (of, made) =
                split_key(&whole).map_err(|error| garbled(&self.path.table, &error))?;
            if of != key {
                self.next = Some((whole, change));
                break;
            }
            while let Some((place, together)) = folded.next_if(|(place, _)| *place < made.place) {
                self.take(&mut course, &together, (None, place >= from), &types)?;
            }
            let by = Some(made.committed_us);
            self.take(&mut course, &change, (by, made.place >= from), &types)?;
            self.advance()?;
        }
        for (place, together) in folded {
            self.take(&mut course, &together, (None, place >= from), &types)?;
        }
        Ok(Some((key, course)))
    }

    /// Adds a change to what came to a key; `committed_us` is of one by itself.
    fn take(
        &self,
        course: &mut Course,
        change: &[u8],
        (committed_us, begins): (Option<i64>, bool),
        types: &[ColumnType],
    ) -> TaskResult<()> {
        let change = Change::decode(change).map_err(|error| garbled(&self.path.table, &error))?;
        let by = committed_us.map(|committed_us| WrittenBy {
            transaction: change.version,
            committed_us,
        });
        let is_chosen = by.is_some_and(|by| {
            let chosen = &self.rewind.changed_by;
            chosen.chooses(by.transaction, by.committed_us)
        });
        let taken = course.take(change, by, (is_chosen, begins), types);
        taken.map_err(|error| garbled(&self.path.table, &error))
    }

    fn untold(&self, key: &[u8]) -> TaskError {
        TaskError::Proof(format!(
            "what row {} of table {} was before is not known: it came from another key, with a large value that the change \
             stream did not tell again. Nothing was changed; leave it out with --range (REPLICA IDENTITY FULL has the stream tell such \
             values from now on)",
            describe_range(&KeyRange::only(key), &self.key_types),
            self.path.table
        ))
    }
}
