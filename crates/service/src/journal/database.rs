//! Record `database`: which database a journal is of that servers share. One that was told of another would carry what is
//! unfinished out there.

use rusqlite::{OptionalExtension, params};

use super::Journal;
use crate::error::Result;

/// The table is made where it is first written: a journal that nobody shares has none.
const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS database (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    id    TEXT NOT NULL,
    shown TEXT NOT NULL               -- how it was reached first, for people
) STRICT;";

impl Journal {
    /// Notes which database the journal is of, if nothing is noted yet. Returns the one that is: its id, and how it was
    /// reached.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn take_database(&self, id: &str, shown: &str) -> Result<(String, String)> {
        self.write("note which database it is of", |tx| {
            tx.execute_batch(LAYOUT)?;
            let known = tx
                .query_row("SELECT id, shown FROM database", [], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            if let Some(known) = known {
                return Ok(known);
            }
            tx.execute(
                "INSERT INTO database (one, id, shown) VALUES (1, ?1, ?2)",
                params![id, shown],
            )?;
            Ok((id.to_owned(), shown.to_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_database_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        for (id, shown) in [("1/5", "a/shop"), ("1/6", "a/other"), ("1/5", "b/shop")] {
            let journal = Journal::open(directory.path()).unwrap();
            let kept = journal.take_database(id, shown).unwrap();
            assert_eq!(kept, ("1/5".to_owned(), "a/shop".to_owned()));
        }
    }
}
