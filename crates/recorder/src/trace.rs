//! What a process did to the recorded directory, in order.

use crate::tree::{NameChange, Tree};

/// Where a mark came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// A line on stdout.
    Stdout,
    /// A line on stderr.
    Stderr,
    /// The end of the process, with its exit code as text.
    Exit,
}

/// What the process told the world: from then on it is held to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Where it was told.
    pub stream: Stream,
    /// The line, without its end.
    pub text: String,
}

/// What is written to disk by a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    File(usize),
    Directory(usize),
    All,
}

/// A change of a file's bytes or length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DataChange {
    Write { offset: usize, bytes: Vec<u8> },
    Resize { length: usize },
}

impl DataChange {
    pub(crate) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            Self::Resize { length } => content.resize(*length, 0),
        }
    }
}

/// What an event did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Data(usize, DataChange),
    /// Names that change together: two where something is renamed.
    Names(Vec<NameChange>),
    Sync(Synced),
    Mark(Mark),
}

impl Change {
    pub(crate) fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Data(file, change) => change.apply(tree.file(*file)),
            Self::Names(changes) => changes.iter().for_each(|change| tree.rename(change)),
            Self::Sync(_) | Self::Mark(_) => {}
        }
    }
}

/// One thing that a process did.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// The line of strace from which on it counts: where the call ended, of a mark where it began.
    pub(crate) at: usize,
    /// The line in which the call began: a sync covers what had ended before.
    pub(crate) began: usize,
    /// The call as people read it.
    pub(crate) shown: String,
    pub(crate) change: Change,
}

/// The directory as it was, and all that was done to it.
#[derive(Debug, Clone)]
pub struct Trace {
    pub(crate) before: Tree,
    pub(crate) events: Vec<Event>,
}

impl Trace {
    /// What was done, one line each, for people.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.events.iter().map(|event| event.shown.as_str())
    }

    /// Everything that was told.
    pub fn marks(&self) -> Vec<Mark> {
        let events = self.events.iter();
        let marks = events.filter_map(|event| match &event.change {
            Change::Mark(mark) => Some(mark.clone()),
            _ => None,
        });
        marks.collect()
    }
}
