//! Keeps the storage engine from using the number of a deleted keyspace again.
//!
//! The engine numbers keyspaces internally, and after a restart counts on from the highest number
//! whose directory is left. Its own records of a keyspace are keyed by that number, and its sequence
//! numbers may start again below those of the records that deleted it. So a keyspace that is made
//! under a used number can vanish when the old tombstones come to lie above its records, and entries
//! of the journal may be replayed into it that were the old one's.
//!
//! A fence is an empty keyspace that is newer than any keyspace that is deleted: while it is there,
//! every number ever used lies below it. It is renewed before a deletion, and only then is the fence
//! before it deleted. A crash in between leaves two, which is as good.

use std::sync::{Mutex, PoisonError};

use fjall::{Database, Keyspace, KeyspaceCreateOptions};

const PREFIX: &str = "fence-";

/// The newest empty keyspace.
pub(crate) struct Fence {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Every fence there is, with its number; the last is the newest.
    fences: Vec<(u64, Keyspace)>,
    /// Whether a keyspace may be newer than the newest fence.
    outrun: bool,
}

impl Fence {
    /// Finds the fences of a store.
    pub(crate) fn open(db: &Database) -> fjall::Result<Self> {
        let mut fences = Vec::new();
        for name in db.list_keyspace_names() {
            if let Some(number) = name
                .strip_prefix(PREFIX)
                .and_then(|number| number.parse().ok())
            {
                fences.push((number, db.keyspace(&name, KeyspaceCreateOptions::default)?));
            }
        }
        fences.sort_by_key(|(number, _)| *number);
        Ok(Self {
            state: Mutex::new(State {
                fences,
                outrun: true,
            }),
        })
    }

    /// Whether a keyspace is one of the fences.
    pub(crate) fn is_fence(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    /// Runs `create`, which makes a keyspace.
    pub(crate) fn outrun<T>(&self, create: impl FnOnce() -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.outrun = true;
        create()
    }

    /// Deletes a keyspace, behind a fence.
    pub(crate) fn delete(&self, db: &Database, keyspace: Keyspace) -> fjall::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.outrun {
            let number = state.fences.last().map_or(1, |(number, _)| number + 1);
            let fence =
                db.keyspace(&format!("{PREFIX}{number}"), KeyspaceCreateOptions::default)?;
            state.fences.push((number, fence));
            state.outrun = false;
        }
        while state.fences.len() > 1 {
            db.delete_keyspace(state.fences[0].1.clone())?;
            state.fences.remove(0);
        }
        db.delete_keyspace(keyspace)
    }
}
