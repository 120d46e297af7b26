//! Applies sorted edits of an index to its shards, and checks what a unique index allows.
//!
//! *Memory*: the edits that share a unique value, and what [`super::shard_edits`] keeps.

use std::sync::Arc;

use mendb_model::key::KeyRange;

use crate::catalogue::Shard;
use crate::catalogue::index_rows::{IndexEdit, IndexEditRef};
use crate::error::Result;
use crate::kernel::{Direction, Merged};
use crate::shard::budget::Budget;
use crate::shard::rows::RowCursor;
use crate::shard::shard_edits::{Purpose, ShardEdits, ShardEditsWriter};
use crate::shard::view::View;

/// Writes the edits of an index to its shards, which are in key order. `conflict` makes an error of two keys of
/// rows that would have the same in a unique index; without it, nothing is checked.
pub(crate) fn write(
    view: &Arc<View>,
    budget: &Budget,
    shards: &[Arc<Shard>],
    mut edits: Merged,
    purpose: Purpose,
    conflict: Option<Conflict<'_>>,
) -> Result<Vec<ShardEdits>> {
    let mut rows = IndexWriter {
        view,
        budget,
        purpose,
        left: shards.iter(),
        writer: None,
        written: Vec::new(),
    };
    let Some(conflict) = conflict else {
        while let Some((key, edit)) = edits.peek() {
            let edit = IndexEditRef::decode(edit);
            rows.push(key, edit.before, edit.after)?;
            edits.take()?;
        }
        return rows.finish();
    };
    let mut live = LiveKeys::new(view, shards);
    while let Some(group) = next_group(&mut edits)? {
        check_unique(&group, &mut live, conflict)?;
        for (key, edit) in group {
            rows.push(&key, edit.before.as_deref(), edit.after.as_deref())?;
        }
    }
    rows.finish()
}

/// Writes sorted edits to the shards that own their keys.
struct IndexWriter<'a> {
    view: &'a View,
    budget: &'a Budget,
    purpose: Purpose,
    /// The shards behind that of the writer.
    left: std::slice::Iter<'a, Arc<Shard>>,
    writer: Option<ShardEditsWriter<'a>>,
    written: Vec<ShardEdits>,
}

impl IndexWriter<'_> {
    fn push(&mut self, key: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> Result<()> {
        loop {
            if let Some(writer) = &mut self.writer
                && writer.is_before_end(key)
            {
                return writer.push(key, before, after);
            }
            self.end_shard()?;
            let shard = self.left.next();
            let shard = shard.expect("the shards of an index cover all keys");
            let writer = ShardEditsWriter::new(self.view, self.budget, shard, self.purpose)?;
            self.writer = Some(writer);
        }
    }

    fn end_shard(&mut self) -> Result<()> {
        if let Some(done) = self.writer.take() {
            self.written.extend(done.finish()?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<ShardEdits>> {
        self.end_shard()?;
        Ok(self.written)
    }
}

/// The error for two keys of a unique index, of a row that comes and of one that is in its way; and how many
/// bytes of them are unique.
pub(crate) type Conflict<'a> = &'a dyn Fn(&[u8], &[u8], usize) -> Result<crate::Error>;

type Edit = (Vec<u8>, IndexEdit);

/// The next edits that share what is unique, or the next one for which nothing is. It ends with the second row
/// that comes, however many there are: two are too many.
fn next_group(edits: &mut Merged) -> Result<Option<Vec<Edit>>> {
    let mut group: Vec<Edit> = Vec::new();
    let mut coming = 0;
    while coming < 2
        && let Some((key, edit)) = edits.peek()
    {
        let first = group.first();
        let prefix = first.map(|(key, edit)| edit.unique.map(|length| &key[..length]));
        match prefix {
            None => {}
            Some(Some(prefix)) if key.starts_with(prefix) => {}
            Some(_) => break,
        }
        let edit = IndexEditRef::decode(edit).to_owned();
        coming += u8::from(edit.after.is_some());
        group.push((key.to_vec(), edit));
        edits.take()?;
    }
    Ok((!group.is_empty()).then_some(group))
}

/// Refuses edits that leave two rows with the same in a unique index.
fn check_unique(group: &[Edit], live: &mut LiveKeys<'_>, conflict: Conflict<'_>) -> Result<()> {
    let mut coming = group.iter().filter(|(_, edit)| edit.after.is_some());
    let Some((key, edit)) = coming.next() else {
        return Ok(());
    };
    let Some(length) = edit.unique else {
        return Ok(());
    };
    if let Some((other, _)) = coming.next() {
        return Err(conflict(other, key, length)?);
    }
    if edit.before.is_some() {
        return Ok(());
    }
    let prefix = &key[..length];
    live.seek(prefix)?;
    while let Some(there) = live.key().filter(|there| there.starts_with(prefix)) {
        let edits = group.iter();
        let goes = edits
            .clone()
            .any(|(key, edit)| key == there && edit.after.is_none());
        if !goes && there != key {
            return Err(conflict(key, there, length)?);
        }
        live.advance()?;
    }
    Ok(())
}

/// So many keys are passed over before the next is looked up.
const PASSED_OVER: usize = 64;

/// The live keys of an index, from ascending ones on.
struct LiveKeys<'a> {
    view: &'a Arc<View>,
    shards: &'a [Arc<Shard>],
    cursor: Option<RowCursor>,
    /// The shards behind that of the cursor.
    behind: &'a [Arc<Shard>],
    is_begun: bool,
}

impl<'a> LiveKeys<'a> {
    fn new(view: &'a Arc<View>, shards: &'a [Arc<Shard>]) -> Self {
        Self {
            view,
            shards,
            cursor: None,
            behind: shards,
            is_begun: false,
        }
    }

    fn key(&self) -> Option<&[u8]> {
        self.cursor.as_ref().map(RowCursor::key)
    }

    /// Goes to the first key that is not below one.
    fn seek(&mut self, key: &[u8]) -> Result<()> {
        if self.is_begun {
            for _ in 0..PASSED_OVER {
                match self.key() {
                    Some(there) if there < key => self.advance()?,
                    _ => return Ok(()),
                }
            }
        }
        self.is_begun = true;
        let behind = self
            .shards
            .partition_point(|shard| shard.range.end.as_ref().is_some_and(|end| **end <= *key));
        self.behind = &self.shards[behind..];
        self.open(key)
    }

    fn advance(&mut self) -> Result<()> {
        if let Some(cursor) = &mut self.cursor
            && cursor.advance()?
        {
            return Ok(());
        }
        self.open(&[])
    }

    /// Goes to the first key from `start` on in the shards that are left.
    fn open(&mut self, start: &[u8]) -> Result<()> {
        self.cursor = None;
        while let Some((shard, behind)) = self.behind.split_first() {
            self.behind = behind;
            let range = KeyRange {
                start: start.to_vec(),
                end: None,
            };
            let ascending = Direction::Ascending;
            let mut cursor = RowCursor::new(self.view.clone(), shard.clone(), &range, ascending)?;
            if cursor.advance()? {
                self.cursor = Some(cursor);
                break;
            }
        }
        Ok(())
    }
}
