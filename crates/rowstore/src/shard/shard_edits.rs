//! Writes many edits of a shard: as blocks where they are many, else row by row.

use std::sync::Arc;

use mendb_model::{Digest, Replaced};

use crate::catalogue::Shard;
use crate::error::Result;
use crate::shard::block_writer::{BlockWriter, Role, WrittenBlocks};
use crate::shard::budget::Budget;
use crate::shard::view::View;

/// So many bytes are not worth a run of their own: who looks for a row looks into each run.
const BYTES_OF_FEW: usize = 256 << 10;

/// What the rows are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be seen from the next commit on.
    Write {
        /// Whether a change stream needs to know.
        is_logged: bool,
    },
    /// To be staged by a mend.
    Stage,
}

/// What becomes of rows of a shard, for [`crate::commit::Transaction::put_edits`].
pub(crate) struct ShardEdits {
    pub(crate) shard: Arc<Shard>,
    pub(crate) edits: Edits,
}

pub(crate) enum Edits {
    Few {
        edits: Vec<Edit>,
        is_logged: bool,
    },
    Blocks {
        blocks: WrittenBlocks,
        /// Digest of the rows that go.
        before: Digest,
        /// Digest of the rows that come.
        after: Digest,
        /// Whether the shard was empty, so that they are rows of its base.
        is_base: bool,
        purpose: Purpose,
    },
}

/// What becomes of a row.
pub(crate) struct Edit {
    pub(crate) key: Vec<u8>,
    pub(crate) before: Option<Vec<u8>>,
    pub(crate) after: Option<Vec<u8>>,
}

impl ShardEdits {
    /// About how much they add to the change log.
    pub(crate) fn logged_bytes(&self) -> u64 {
        match &self.edits {
            Edits::Blocks {
                blocks,
                purpose: Purpose::Write { is_logged: true },
                ..
            } => blocks.bytes(),
            Edits::Blocks { .. } | Edits::Few { .. } => 0,
        }
    }
}

impl Purpose {
    /// What blocks are, of a commit of this version.
    pub(crate) fn role(self, is_base: bool, version: u64) -> Role {
        match self {
            Self::Stage => Role::Staged,
            Self::Write { .. } if is_base => Role::Base,
            Self::Write { is_logged } => Role::Run { version, is_logged },
        }
    }
}

/// Takes the edits of a shard. *Memory*: [`BYTES_OF_FEW`] as far as a [`Budget`] allows it, then the places of
/// blocks.
pub(crate) struct ShardEditsWriter<'a> {
    shard: Arc<Shard>,
    writer: BlockWriter<'a>,
    /// Those that are few so far; `None` once they are many.
    few: Option<Vec<Edit>>,
    few_bytes: usize,
    most_bytes: usize,
    budget: &'a Budget,
    before: Digest,
    after: Digest,
    is_base: bool,
    purpose: Purpose,
}

impl<'a> ShardEditsWriter<'a> {
    /// The caller holds the `work` of the shard.
    pub(crate) fn new(
        view: &'a View,
        budget: &'a Budget,
        shard: &Arc<Shard>,
        purpose: Purpose,
    ) -> Result<Self> {
        let stats = view.stats(shard.id)?;
        let is_empty = stats.is_packed() && stats.base_end.is_none();
        // No change log has the rows of a base.
        let is_base = is_empty && purpose == Purpose::Write { is_logged: false };
        let in_blocks = is_base || purpose == Purpose::Stage;
        Ok(Self {
            writer: BlockWriter::new(&view.files, budget, shard.id, stats.file_bytes),
            shard: shard.clone(),
            few: (!in_blocks).then(Vec::new),
            few_bytes: 0,
            most_bytes: budget.grant(BYTES_OF_FEW),
            budget,
            before: Digest::default(),
            after: Digest::default(),
            is_base,
            purpose,
        })
    }

    /// Whether a key, which is behind those before, is one of the shard.
    pub(crate) fn is_before_end(&self, key: &[u8]) -> bool {
        let end = self.shard.range.end.as_deref();
        end.is_none_or(|end| key < end)
    }

    /// The row of `key` becomes `after`; keys ascend.
    pub(crate) fn push(
        &mut self,
        key: &[u8],
        before: Option<&[u8]>,
        after: Option<&[u8]>,
    ) -> Result<()> {
        let Some(few) = &mut self.few else {
            return self.write(key, before, after);
        };
        let length = |row: Option<&[u8]>| row.map_or(0, <[u8]>::len);
        self.few_bytes += size_of::<Edit>() + key.len() + length(before) + length(after);
        few.push(Edit {
            key: key.to_vec(),
            before: before.map(<[u8]>::to_vec),
            after: after.map(<[u8]>::to_vec),
        });
        if self.few_bytes > self.most_bytes {
            for edit in self.few.take().unwrap_or_default() {
                self.write(&edit.key, edit.before.as_deref(), edit.after.as_deref())?;
            }
        }
        Ok(())
    }

    fn write(&mut self, key: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) -> Result<()> {
        if let Some(before) = before {
            self.before.add(key, before);
        }
        match (self.is_base, after) {
            (false, _) => {
                if let Some(after) = after {
                    self.after.add(key, after);
                }
                let replaced = match self.purpose {
                    Purpose::Write { is_logged: false } => Replaced::Unknown,
                    // Whether a change log will have what is staged, publishing tells.
                    Purpose::Write { is_logged: true } | Purpose::Stage => {
                        Replaced::of(key, before)
                    }
                };
                self.writer.push_entry(key, replaced, after)
            }
            // The digest of the blocks is that of the rows.
            (true, Some(after)) => self.writer.push(key, after),
            (true, None) => Ok(()),
        }
    }

    /// Returns when blocks are on disk; `None` if there are no edits.
    pub(crate) fn finish(self) -> Result<Option<ShardEdits>> {
        let edits = match self.few {
            Some(few) => {
                self.budget.keep(self.few_bytes);
                (!few.is_empty()).then_some(Edits::Few {
                    edits: few,
                    is_logged: self.purpose == Purpose::Write { is_logged: true },
                })
            }
            None => self.writer.finish()?.map(|blocks| Edits::Blocks {
                before: self.before,
                after: match self.is_base {
                    true => blocks.digest(),
                    false => self.after,
                },
                blocks,
                is_base: self.is_base,
                purpose: self.purpose,
            }),
        };
        let shard = self.shard;
        Ok(edits.map(|edits| ShardEdits { shard, edits }))
    }
}
