//! Record `coordinator`: who gives orders to the server, where it is the agent of a cluster, and the highest epoch of it
//! that was seen.

use mendb_service::{Coordinator, Result};
use rusqlite::{OptionalExtension, params};

use super::{Store, int};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS coordinator (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    id    TEXT NOT NULL,
    name  TEXT NOT NULL,              -- where it is, for people
    epoch INTEGER NOT NULL            -- lower ones are refused
) STRICT;";

impl Store {
    /// Takes a coordinator: the first one, or the known one with an epoch that is not lower. Returns the one that is known
    /// then, durably; it is another one, or of a higher epoch, where this one was not taken.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn take_coordinator(&self, asking: &Coordinator) -> Result<Coordinator> {
        let known = self.coordinator()?;
        // Most requests change nothing, and wait for no disk.
        if let Some(known) = &known
            && (known.id != asking.id || known.epoch >= asking.epoch)
        {
            return Ok(known.clone());
        }
        self.with("note who gives orders", |connection| {
            connection.execute(
                "INSERT INTO coordinator (one, id, name, epoch) VALUES (1, ?1, ?2, ?3)
                 ON CONFLICT (one) DO UPDATE SET name = excluded.name, epoch = excluded.epoch
                 WHERE id = excluded.id AND epoch < excluded.epoch",
                params![asking.id, asking.name, int(asking.epoch)],
            )
        })?;
        let known = self.coordinator()?;
        known.ok_or_else(|| self.unreadable("who gives orders is gone right after it was noted"))
    }

    /// Forgets who gives orders: the next who asks is taken.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn forget_coordinator(&self) -> Result<()> {
        self.with("forget who gives orders", |connection| {
            connection.execute("DELETE FROM coordinator", [])
        })?;
        Ok(())
    }

    fn coordinator(&self) -> Result<Option<Coordinator>> {
        self.with("read who gives orders", |connection| {
            connection
                .query_row("SELECT id, name, epoch FROM coordinator", [], |row| {
                    let epoch: i64 = row.get(2)?;
                    Ok(Coordinator {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        epoch: u64::try_from(epoch).unwrap_or(0),
                    })
                })
                .optional()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_kept_and_its_epochs_never_go_back() {
        let directory = tempfile::tempdir().unwrap();
        let who = |id: &str, epoch| Coordinator {
            id: id.to_owned(),
            name: "ops".to_owned(),
            epoch,
        };
        let store = Store::open(directory.path()).unwrap();
        for (asking, known) in [
            (who("a", 3), who("a", 3)),
            (who("b", 9), who("a", 3)),
            (who("a", 2), who("a", 3)),
            (who("a", 5), who("a", 5)),
        ] {
            assert_eq!(store.take_coordinator(&asking).unwrap(), known);
        }
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.take_coordinator(&who("a", 4)).unwrap(), who("a", 5));
        store.forget_coordinator().unwrap();
        assert_eq!(store.take_coordinator(&who("b", 1)).unwrap(), who("b", 1));
    }
}
