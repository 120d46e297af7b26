//! The rows of a table that differ.

use std::ops::ControlFlow;

use mendb_model::key_text::describe_range;
use mendb_model::name::TablePath;
use mendb_model::{Digest, RowBlock};

use super::candidates::Between;
use super::key_union::KeyUnion;
use super::pieces::{Piece, pieces};
use super::pulled::Pulled;
use super::report::{DiffMethod, RowDiff, RowsDiffer};
use super::state::{After, Lookup, Point, TableState, until_error};
use super::{RowSink, TellRead};
use crate::attempt::Tools;
use crate::task_error::{TaskError, TaskResult};

/// A table whose rows are compared.
pub(super) struct Comparison<'a> {
    pub(super) tools: &'a Tools,
    pub(super) path: TablePath,
    pub(super) before: (&'a Point, &'a TableState),
    pub(super) after: (&'a After<'a>, &'a TableState),
    pub(super) between: &'a Between,
    pub(super) method: &'a DiffMethod,
}

/// What was found so far, and where it goes.
struct Found<'a, 'b> {
    comparison: &'a Comparison<'a>,
    sink: RowSink<'b>,
    read: TellRead<'b>,
    rows: RowsDiffer,
    /// What was found in the piece, as what it does to the digest of the first.
    digest: Digest,
}

impl Comparison<'_> {
    /// Hands over every row that differs, in key order, and counts them. Of key ranges whose digests
    /// agree nothing is read. In each of the others the differences that were found have to make the one
    /// digest of the other, so that none can be missing.
    pub(super) fn run(&self, sink: RowSink<'_>, read: TellRead<'_>) -> TaskResult<RowsDiffer> {
        let mut found = Found {
            comparison: self,
            sink,
            read,
            rows: RowsDiffer::default(),
            digest: Digest::default(),
        };
        let mut lookups = None;
        for piece in pieces(&self.before.1.shards, &self.after.1.shards) {
            if piece.before == piece.after {
                continue;
            }
            found.digest = piece.before;
            match self.method {
                DiffMethod::Rows { .. } => self.walk(&piece, &mut found)?,
                DiffMethod::Changes { .. } => {
                    let lookups = match &mut lookups {
                        Some(lookups) => lookups,
                        None => lookups.insert((
                            Lookup::in_point(self.tools, self.before.0, &self.path)?,
                            Lookup::in_after(self.tools, self.after.0, &self.path)?,
                        )),
                    };
                    self.look_up(&piece, lookups, &mut found)?;
                }
            }
            if found.digest != piece.after {
                let types = self.before.1.schema.key_types();
                return Err(TaskError::Proof(format!(
                    "the differences that were found in table {} (keys: {}) do not make the one state the \
                     other: mendb verify tells whether the backups and the target are whole",
                    self.path.table,
                    describe_range(&piece.range, &types)
                )));
            }
        }
        Ok(found.rows)
    }

    /// Compares the rows of a range side by side.
    fn walk(&self, piece: &Piece, found: &mut Found<'_, '_>) -> TaskResult<()> {
        let (tools, range) = (self.tools, &piece.range);
        let reader = self.before.0.read(tools, &self.path, range)?;
        let mut before = Pulled::new(reader, |reader| {
            Ok(tools.runtime.block_on(reader.next())?)
        });
        self.after.0.read(tools, &self.path, range, &mut |block| {
            found.tell_read(block.len())?;
            for (key, row) in block.iter() {
                while let Some((key, row)) = before.next_before(Some(key))? {
                    found.compare(key, Some(row), None)?;
                }
                found.compare(key, before.next_at(key)?, Some(row))?;
            }
            Ok(())
        })?;
        while let Some((key, row)) = before.next_before(None)? {
            found.compare(key, Some(row), None)?;
        }
        Ok(())
    }

    /// Compares the rows of the keys of a range that changed.
    fn look_up(
        &self,
        piece: &Piece,
        (before, after): &mut (Lookup<'_>, Lookup<'_>),
        found: &mut Found<'_, '_>,
    ) -> TaskResult<()> {
        let Between::Changes { increments, live } = self.between else {
            unreachable!("the method is chosen by what is known");
        };
        let (tools, path, range) = (self.tools, &self.path, &piece.range);
        let reader = match increments.as_slice() {
            [] => None,
            increments => {
                let reader = tools.repository.read_chain(increments, path, range, None);
                Some(tools.runtime.block_on(reader)?)
            }
        };
        let changed = Pulled::new(reader, |reader| match reader {
            Some(reader) => Ok(tools.runtime.block_on(reader.next())?),
            None => Ok(None),
        });
        let mut keys = KeyUnion::new(changed, |keys| {
            found.tell_read(keys.len())?;
            let rows = before.rows_of(keys)?.into_iter().zip(after.rows_of(keys)?);
            for (key, (before, after)) in keys.iter().zip(rows) {
                found.compare(key, before.as_deref(), after.as_deref())?;
            }
            Ok(())
        });
        if let (Some(live), After::Live { rows, .. }) = (live, self.after.0) {
            let mut outcome = Ok(());
            let mut add = |block: &RowBlock<&[u8]>| {
                let mut changed = block.iter();
                changed.try_for_each(|(key, _)| keys.push(key))
            };
            let mut sink = until_error(&mut outcome, &mut add);
            rows.changes_since(path, range, live.since_version, &mut sink)?;
            drop(sink);
            outcome?;
        }
        keys.finish()?;
        Ok(())
    }
}

impl Found<'_, '_> {
    fn tell_read(&mut self, rows: usize) -> TaskResult<()> {
        match (self.read)(rows as u64) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TaskError::Stopped),
        }
    }

    /// Takes what a key has in both.
    fn compare(
        &mut self,
        key: &[u8],
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> TaskResult<()> {
        let counted = match (before, after) {
            (None, Some(_)) => &mut self.rows.added,
            (Some(_), None) => &mut self.rows.removed,
            (Some(before), Some(after)) if before != after => &mut self.rows.changed,
            _ => return Ok(()),
        };
        *counted += 1;
        if let Some(row) = before {
            self.digest.remove(key, row);
        }
        if let Some(row) = after {
            self.digest.add(key, row);
        }
        let told = (self.sink)(&RowDiff {
            table: &self.comparison.path.table,
            schema_before: &self.comparison.before.1.schema,
            schema_after: &self.comparison.after.1.schema,
            key,
            before,
            after,
        });
        match told {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(TaskError::Stopped),
        }
    }
}
