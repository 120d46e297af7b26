//! Sorted pairs, to be read one after the other. Where some lie in files, a thread reads and merges them ahead.
//!
//! *Memory*: a block for each piece, and [`BLOCKS_AHEAD`] more.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use mendb_model::{RowBlock, RowBlockBuilder};

use crate::error::Result;
use crate::kernel::fault::Faults;
use crate::kernel::merge::{Merge, SortedPairs};
use crate::kernel::pairs::Pairs;
use crate::kernel::piece::Piece;

/// So many blocks are merged before they are needed.
const BLOCKS_AHEAD: usize = 4;

/// Sorted pairs.
pub(crate) struct Merged(From);

enum From {
    /// All of them lay in memory.
    Memory { pairs: Pairs, at: usize },
    /// Some lie in files.
    Blocks(BlocksAhead),
}

/// The pairs of one sorter: those in files, and then those in memory.
pub(crate) struct Sorted {
    pub(super) pieces: Vec<Piece>,
    pub(super) pairs: Pairs,
    pub(super) faults: Faults,
}

impl Sorted {
    fn sources(self) -> Result<Vec<SortedPairs>> {
        let pieces = self.pieces.into_iter();
        let sources = pieces.map(|piece| SortedPairs::piece(piece, &self.faults));
        let mut sources = sources.collect::<Result<Vec<_>>>()?;
        sources.push(SortedPairs::memory(self.pairs));
        Ok(sources)
    }
}

impl Merged {
    /// The pairs of sorters in the order of their keys; of those with one key, those of earlier ones come first.
    pub(crate) fn new(mut sorted: Vec<Sorted>) -> Result<Self> {
        sorted.retain(|sorted| !sorted.pieces.is_empty() || sorted.pairs.get(0).is_some());
        Ok(Self(match sorted.as_slice() {
            [] => From::Memory {
                pairs: Pairs::default(),
                at: 0,
            },
            [only] if only.pieces.is_empty() => From::Memory {
                pairs: std::mem::take(&mut sorted[0].pairs),
                at: 0,
            },
            _ => From::Blocks(BlocksAhead::new(sorted)?),
        }))
    }

    /// The next pair, which [`Self::take`] takes.
    #[inline]
    pub(crate) fn peek(&self) -> Option<(&[u8], &[u8])> {
        match &self.0 {
            From::Memory { pairs, at } => pairs.get(*at),
            From::Blocks(BlocksAhead { block, at, .. }) => {
                (*at < block.len()).then(|| (block.key(*at), block.value(*at)))
            }
        }
    }

    /// Goes on behind the next pair.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<()> {
        match &mut self.0 {
            From::Memory { at, .. } => *at += 1,
            From::Blocks(blocks) => {
                blocks.at += 1;
                if blocks.at >= blocks.block.len() {
                    blocks.fill()?;
                }
            }
        }
        Ok(())
    }
}

/// Blocks that a thread merges.
struct BlocksAhead {
    block: RowBlock,
    at: usize,
    /// Until the last one came.
    merged: Option<Receiver<Result<RowBlock>>>,
    thread: Option<JoinHandle<()>>,
}

impl BlocksAhead {
    fn new(sorted: Vec<Sorted>) -> Result<Self> {
        let (sender, merged) = sync_channel(BLOCKS_AHEAD);
        let faults = sorted.first().map(|sorted| sorted.faults.clone());
        let work = move || {
            if let Err(error) = merge(sorted, &sender) {
                // When nobody wants more, nobody wants the error.
                let _ = sender.send(Err(error));
            }
        };
        let thread = thread::Builder::new().spawn(work);
        let thread = match (thread, faults) {
            (Err(error), Some(faults)) => return Err(faults.file(faults.dir(), error)),
            (thread, _) => thread.ok(),
        };
        let mut blocks = Self {
            block: RowBlockBuilder::new().finish(),
            at: 0,
            merged: Some(merged),
            thread,
        };
        blocks.fill()?;
        Ok(blocks)
    }

    /// Waits for the next block, if there is one.
    fn fill(&mut self) -> Result<()> {
        let Some(merged) = &self.merged else {
            return Ok(());
        };
        match merged.recv() {
            Ok(block) => {
                self.block = block?;
                self.at = 0;
            }
            Err(_) => {
                self.merged = None;
                let ended = self.thread.take().map(JoinHandle::join);
                if let Some(Err(panic)) = ended {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        Ok(())
    }
}

impl Drop for BlocksAhead {
    fn drop(&mut self) {
        // The thread ends when nobody takes its blocks. If it panicked, nobody misses them.
        self.merged = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Sends all pairs, or as many as are wanted.
fn merge(sorted: Vec<Sorted>, blocks: &SyncSender<Result<RowBlock>>) -> Result<()> {
    let mut sources = Vec::new();
    for sorted in sorted {
        sources.extend(sorted.sources()?);
    }
    let mut merge = Merge::new(sources);
    while let Some(block) = merge.next()? {
        if blocks.send(Ok(block)).is_err() {
            break;
        }
    }
    Ok(())
}
