//! A thread that sorts pairs and writes them to files, while others are collected.
//!
//! *Memory*: besides the pairs a block for each piece that is merged, of which there are at most
//! [`MERGED_PIECES`] a level.

use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};

use mendb_model::RowBlockBuilder;

use crate::error::Result;
use crate::kernel::fault::Faults;
use crate::kernel::merge::{Merge, SortedPairs};
use crate::kernel::pairs::Pairs;
use crate::kernel::piece::{BLOCK_BYTES, Piece, PieceWriter};

/// So many pieces of a level are merged into one of the next.
const MERGED_PIECES: usize = 128;

/// Sorts and writes.
pub(super) struct Spiller {
    /// Nothing waits in it: the thread has one piece, and the caller another.
    full: Option<SyncSender<Pairs>>,
    empty: Receiver<Pairs>,
    thread: Option<JoinHandle<Result<Vec<Piece>>>>,
}

impl Spiller {
    pub(super) fn start(faults: &Faults) -> Result<Self> {
        let (full, to_write) = sync_channel(0);
        let (written, empty) = channel();
        let for_thread = faults.clone();
        let work = move || spill(&for_thread, &to_write, &written);
        let thread = thread::Builder::new().spawn(work);
        let thread = thread.map_err(|error| faults.file(faults.dir(), error))?;
        Ok(Self {
            full: Some(full),
            empty,
            thread: Some(thread),
        })
    }

    /// Gives it pairs when it is done with those before, and takes memory for more.
    pub(super) fn spill(&mut self, pairs: Pairs) -> Result<Pairs> {
        let sent = self.full.as_ref().map(|full| full.send(pairs));
        match sent {
            Some(Ok(())) => Ok(self.empty.try_recv().unwrap_or_default()),
            _ => match self.end() {
                Err(error) => Err(error),
                Ok(_) => unreachable!("it goes on for as long as pairs may come"),
            },
        }
    }

    /// All pieces, in the order in which their pairs came.
    pub(super) fn finish(mut self) -> Result<Vec<Piece>> {
        self.end()
    }

    fn end(&mut self) -> Result<Vec<Piece>> {
        self.full = None;
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(Vec::new()),
            Some(Ok(pieces)) => pieces,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Spiller {
    fn drop(&mut self) {
        // Nobody wants what it has.
        self.full = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn spill(faults: &Faults, full: &Receiver<Pairs>, empty: &Sender<Pairs>) -> Result<Vec<Piece>> {
    let mut pieces: Vec<Piece> = Vec::new();
    for mut pairs in full {
        pairs.sort();
        pieces.push(write(faults, &pairs)?);
        pairs.clear();
        // The receiver has ended and wants no more of it.
        let _ = empty.send(pairs);
        while let Some(full_level) = full_level(&mut pieces) {
            pieces.push(merge(faults, full_level)?);
        }
    }
    Ok(pieces)
}

/// The pieces of the last level, if there are enough to merge.
fn full_level(pieces: &mut Vec<Piece>) -> Option<Vec<Piece>> {
    let level = pieces.last()?.level;
    let of_level = pieces.iter().rev().take_while(|piece| piece.level == level);
    let of_level = of_level.count();
    (of_level >= MERGED_PIECES).then(|| pieces.split_off(pieces.len() - of_level))
}

fn write(faults: &Faults, pairs: &Pairs) -> Result<Piece> {
    let mut writer = PieceWriter::new(faults)?;
    let mut builder = RowBlockBuilder::new();
    let mut at = 0;
    while let Some((key, value)) = pairs.get(at) {
        builder.push(key, value);
        at += 1;
        if builder.size_bytes() >= BLOCK_BYTES {
            writer.push(&builder.finish())?;
        }
    }
    if !builder.is_empty() {
        writer.push(&builder.finish())?;
    }
    writer.finish(0)
}

fn merge(faults: &Faults, pieces: Vec<Piece>) -> Result<Piece> {
    let level = pieces.last().map_or(0, |piece| piece.level) + 1;
    let sources = pieces
        .into_iter()
        .map(|piece| SortedPairs::piece(piece, faults));
    let mut merge = Merge::new(sources.collect::<Result<_>>()?);
    let mut writer = PieceWriter::new(faults)?;
    while let Some(block) = merge.next()? {
        writer.push(&block)?;
    }
    writer.finish(level)
}
