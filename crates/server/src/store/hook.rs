//! Record `hook_delivery`: what others are told, each way, until they have heard it or it is given up.
//!
//! *Crash*: what happened is here before anybody is told, under a name of its own: it is told at least once, and noted
//! once. *Bound*: so many wait at most; the oldest are given up for newer ones.

use mendb_service::Result;
use rusqlite::{Connection, OptionalExtension, params};

use super::{Store, int};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS hook_delivery (
    delivery_id INTEGER PRIMARY KEY AUTOINCREMENT,
    event       TEXT NOT NULL,        -- names what happened
    way         TEXT NOT NULL,        -- url or command
    at_ms       INTEGER NOT NULL,
    body        TEXT NOT NULL,        -- JSON, as it is sent
    attempts    INTEGER NOT NULL,
    next_ms     INTEGER,              -- when it is tried next; null when it is over
    failure     TEXT,                 -- why the last attempt failed, if one did
    UNIQUE (event, way)
) STRICT;
CREATE INDEX IF NOT EXISTS hook_delivery_waits ON hook_delivery (next_ms) WHERE next_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS hook_seen (
    journal TEXT PRIMARY KEY,         -- its directory
    end_id  INTEGER NOT NULL          -- ends of operations up to this one were told
) STRICT;";

/// So many wait at most.
const MOST_WAITING: u32 = 1000;
/// So many are read at a time.
const MOST_AT_ONCE: u32 = 16;
/// So many that are over are kept.
const MOST_KEPT: u32 = 1000;

/// How somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A webhook.
    Url,
    /// A command of this machine.
    Command,
}

impl Way {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Command => "command",
        }
    }
}

/// Something that somebody is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Grows by one.
    pub delivery_id: i64,
    /// Names what happened.
    pub event: String,
    /// How it is told.
    pub way: Way,
    /// What is told.
    pub body: String,
    /// Attempts that failed.
    pub attempts: u32,
}

/// How deliveries stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Those that wait for their next attempt.
    pub waiting: u64,
    /// Of those that are kept, those that were given up.
    pub given_up: u64,
}

impl Store {
    /// Notes what is to be told, unless it was noted before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn put_delivery(&self, event: &str, ways: &[Way], at_ms: u64, body: &str) -> Result<()> {
        self.with("note what is to be told", |connection| {
            let tx = connection.unchecked_transaction()?;
            for way in ways {
                tx.execute(
                    "INSERT OR IGNORE INTO hook_delivery (event, way, at_ms, body, attempts, next_ms) \
                     VALUES (?1, ?2, ?3, ?4, 0, ?3)",
                    params![event, way.name(), int(at_ms), body],
                )?;
            }
            bound(&tx)?;
            tx.commit()
        })
    }

    /// What is to be told one way by now, the oldest first: some of it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn due_deliveries(&self, way: Way, now_ms: u64) -> Result<Vec<Delivery>> {
        self.with("read what is to be told", |connection| {
            connection
                .prepare_cached(
                    "SELECT delivery_id, event, body, attempts FROM hook_delivery \
                     WHERE next_ms <= ?1 AND way = ?2 ORDER BY delivery_id LIMIT ?3",
                )?
                .query_map(params![int(now_ms), way.name(), MOST_AT_ONCE], |row| {
                    Ok(Delivery {
                        delivery_id: row.get(0)?,
                        event: row.get(1)?,
                        way,
                        body: row.get(2)?,
                        attempts: row.get(3)?,
                    })
                })?
                .collect()
        })
    }

    /// Notes that somebody was told.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn end_delivery(&self, delivery_id: i64) -> Result<()> {
        self.with("note what was told", |connection| {
            connection.execute(
                "UPDATE hook_delivery SET next_ms = NULL, failure = NULL WHERE delivery_id = ?1",
                [delivery_id],
            )
        })?;
        Ok(())
    }

    /// Notes that an attempt failed, and when the next one is; `None` to give it up.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn fail_delivery(
        &self,
        delivery_id: i64,
        failure: &str,
        next_ms: Option<u64>,
    ) -> Result<()> {
        self.with("note what was not told", |connection| {
            connection.execute(
                "UPDATE hook_delivery SET attempts = attempts + 1, failure = ?2, next_ms = ?3 WHERE delivery_id = ?1",
                params![delivery_id, failure, next_ms.map(int)],
            )
        })?;
        Ok(())
    }

    /// How deliveries stand.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn delivery_counts(&self) -> Result<DeliveryCounts> {
        self.with("read what is to be told", |connection| {
            connection.query_row(
                "SELECT count(*) FILTER (WHERE next_ms IS NOT NULL), \
                        count(*) FILTER (WHERE next_ms IS NULL AND failure IS NOT NULL) FROM hook_delivery",
                [],
                |row| {
                    Ok(DeliveryCounts {
                        waiting: row.get::<_, i64>(0)?.unsigned_abs(),
                        given_up: row.get::<_, i64>(1)?.unsigned_abs(),
                    })
                },
            )
        })
    }

    /// Up to which end the operations of a journal were told; `None` of one that was not read yet.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn end_seen(&self, journal: &str) -> Result<Option<i64>> {
        self.with("read what was told", |connection| {
            connection
                .query_row(
                    "SELECT end_id FROM hook_seen WHERE journal = ?1",
                    [journal],
                    |row| row.get(0),
                )
                .optional()
        })
    }

    /// Notes up to which end the operations of a journal were told.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn see_end(&self, journal: &str, end_id: i64) -> Result<()> {
        self.with("note what was told", |connection| {
            connection.execute(
                "INSERT OR REPLACE INTO hook_seen (journal, end_id) VALUES (?1, ?2)",
                params![journal, end_id],
            )
        })?;
        Ok(())
    }
}

/// Gives up the oldest of too many, and removes the oldest of those that are over.
fn bound(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE hook_delivery SET next_ms = NULL, failure = 'given up for newer ones' WHERE next_ms IS NOT NULL \
         AND delivery_id <= (SELECT delivery_id FROM hook_delivery WHERE next_ms IS NOT NULL \
                             ORDER BY delivery_id DESC LIMIT 1 OFFSET ?1)",
        [MOST_WAITING],
    )?;
    connection.execute(
        "DELETE FROM hook_delivery WHERE next_ms IS NULL \
         AND delivery_id <= (SELECT delivery_id FROM hook_delivery WHERE next_ms IS NULL \
                             ORDER BY delivery_id DESC LIMIT 1 OFFSET ?1)",
        [MOST_KEPT],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_told_once_each_way_and_again_when_it_was_not_heard() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for _ in 0..2 {
            store
                .put_delivery("a", &[Way::Url, Way::Command], 100, "{}")
                .unwrap();
        }
        let due = |store: &Store, way, now_ms| store.due_deliveries(way, now_ms).unwrap();
        assert_eq!(due(&store, Way::Url, 99), []);
        let by_command = due(&store, Way::Command, 100);
        assert_eq!(by_command.len(), 1);
        store.end_delivery(by_command[0].delivery_id).unwrap();
        assert_eq!(due(&store, Way::Command, 100), []);
        let by_url = due(&store, Way::Url, 100);
        assert_eq!(by_url.len(), 1);
        store
            .fail_delivery(by_url[0].delivery_id, "refused", Some(500))
            .unwrap();
        assert_eq!(due(&store, Way::Url, 499), []);
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        let again = due(&store, Way::Url, 500);
        assert_eq!((again.len(), again[0].attempts), (1, 1));
        store
            .fail_delivery(again[0].delivery_id, "refused", None)
            .unwrap();
        let counts = store.delivery_counts().unwrap();
        assert_eq!((counts.waiting, counts.given_up), (0, 1));
    }

    #[test]
    fn those_that_wait_and_those_that_are_kept_are_bounded() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        for at in 0..u64::from(MOST_WAITING + 5) {
            store
                .put_delivery(&at.to_string(), &[Way::Url], at, "{}")
                .unwrap();
        }
        let counts = store.delivery_counts().unwrap();
        assert_eq!((counts.waiting, counts.given_up), (1000, 5));
        assert_eq!(
            store.due_deliveries(Way::Url, u64::MAX).unwrap()[0].event,
            "5"
        );
    }

    #[test]
    fn what_was_told_of_a_journal_is_known_also_later() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.end_seen("a").unwrap(), None);
        store.see_end("a", 7).unwrap();
        store.see_end("a", 9).unwrap();
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.end_seen("a").unwrap(), Some(9));
    }
}
