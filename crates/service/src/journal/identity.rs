//! Record `identity`: which journal this is. A target remembers it, so that a second journal is noticed.

use super::Journal;
use crate::env;
use crate::error::Result;

/// The table, with an id of its own in each journal: the first process to make it chooses.
pub(super) fn layout() -> String {
    format!(
        "
CREATE TABLE IF NOT EXISTS identity (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    journal_id TEXT NOT NULL                   -- 32 random hex digits
) STRICT;
INSERT OR IGNORE INTO identity VALUES (1, '{}');",
        env::random_id()
    )
}

impl Journal {
    /// What tells this journal from all others, and from none of its copies.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn id(&self) -> Result<String> {
        self.read("read which journal it is", |connection| {
            connection.query_row("SELECT journal_id FROM identity", [], |row| row.get(0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_keeps_its_identity_and_shares_it_with_none() {
        let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let id = |at: usize| {
            let journal = Journal::open(directories[at].path()).unwrap();
            journal.id().unwrap()
        };
        assert_eq!(id(0), id(0));
        assert_ne!(id(0), id(1));
        assert_eq!(id(0).len(), 32);
    }
}
