//! Records `schedule` and `schedule_run`: what is to be done when, and what was done.

use mendb_service::{Result, env};
use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde_json::{Map, Value};

use super::audit::{self, Wish};
use super::{Store, int};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS schedule (
    name          TEXT PRIMARY KEY,
    work          TEXT NOT NULL,      -- full, increment, verify, prune
    collection    TEXT NOT NULL,
    cron          TEXT NOT NULL,
    time_zone     TEXT NOT NULL,
    arguments     TEXT NOT NULL,      -- JSON, of the command
    created_at_ms INTEGER NOT NULL,
    decided_ms    INTEGER NOT NULL,   -- what was due up to then was decided
    jitter_s      INTEGER NOT NULL DEFAULT 0,
    paused_at_ms  INTEGER             -- null while it runs
) STRICT;
CREATE TABLE IF NOT EXISTS schedule_run (
    run_id       INTEGER PRIMARY KEY AUTOINCREMENT,
    name         TEXT NOT NULL,
    due_ms       INTEGER NOT NULL,
    begun_ms     INTEGER NOT NULL,
    missed       INTEGER NOT NULL,    -- times before this one that were not run
    outcome      TEXT,                -- done, skipped: why, failed: why; null while it runs
    operation_id TEXT,
    waits        TEXT,                -- why it has not begun yet
    audit_id     INTEGER,             -- its line in the audit
    UNIQUE (name, due_ms)
) STRICT;";

/// What layout 1 lacks.
pub(super) const FROM_1: &str = "
ALTER TABLE schedule ADD COLUMN jitter_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedule ADD COLUMN paused_at_ms INTEGER;
ALTER TABLE schedule_run ADD COLUMN waits TEXT;
ALTER TABLE schedule_run ADD COLUMN audit_id INTEGER;";

/// Runs that are kept of each schedule.
const KEPT_RUNS: u32 = 200;

/// What a schedule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A full backup.
    Full,
    /// An increment; a full backup where there is none that it could stand on.
    Increment,
    /// Proves all backups of the collection.
    Verify,
    /// Keeps what rules want.
    Prune,
    /// Restores a sample of the newest backup, proves it and removes it again.
    Drill,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Full,
        Self::Increment,
        Self::Verify,
        Self::Prune,
        Self::Drill,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Increment => "increment",
            Self::Verify => "verify",
            Self::Prune => "prune",
            Self::Drill => "drill",
        }
    }
}

impl std::str::FromStr for Work {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|work| work.name() == text)
            .ok_or_else(|| "it is not full, increment, verify, prune or drill".to_owned())
    }
}

/// What is to be done when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Schedule {
    /// Its name.
    pub name: String,
    /// What is done.
    pub work: Work,
    /// With which collection.
    pub collection: String,
    /// When, as cron writes it.
    pub cron: String,
    /// In which time zone.
    pub time_zone: String,
    /// What else the command is told.
    pub arguments: Map<String, Value>,
    /// When it was made, in milliseconds since 1970.
    pub created_at_ms: u64,
    /// What was due up to then was decided.
    pub decided_ms: u64,
    /// Each time is put off by less than so many seconds, by another number each.
    pub jitter_s: u32,
    /// Since when it is paused, in milliseconds since 1970.
    pub paused_at_ms: Option<u64>,
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Of which schedule.
    pub name: String,
    /// When it was due.
    pub due_ms: u64,
    /// When it began.
    pub begun_ms: u64,
    /// Times before this one that were not run.
    pub missed: u64,
    /// What became of it; null while it runs.
    pub outcome: Option<String>,
    /// Why it has not begun yet.
    pub waits: Option<String>,
    /// The operation that it began.
    pub operation_id: Option<String>,
}

impl Store {
    /// Adds a schedule. Returns false where there is one of the name.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn add_schedule(&self, schedule: &Schedule) -> Result<bool> {
        let added = self.with("add a schedule", |connection| {
            connection.execute(
                "INSERT OR IGNORE INTO schedule (name, work, collection, cron, time_zone, arguments, created_at_ms, \
                 decided_ms, jitter_s, paused_at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    schedule.name,
                    schedule.work.name(),
                    schedule.collection,
                    schedule.cron,
                    schedule.time_zone,
                    Value::Object(schedule.arguments.clone()).to_string(),
                    int(schedule.created_at_ms),
                    int(schedule.decided_ms),
                    schedule.jitter_s,
                    schedule.paused_at_ms.map(int)
                ],
            )
        })?;
        Ok(added > 0)
    }

    /// Removes a schedule; what it did is still told. Returns whether there was one.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn remove_schedule(&self, name: &str) -> Result<bool> {
        let removed = self.with("remove a schedule", |connection| {
            connection.execute("DELETE FROM schedule WHERE name = ?1", [name])
        })?;
        Ok(removed > 0)
    }

    /// All schedules, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn schedules(&self) -> Result<Vec<Schedule>> {
        type Read = (
            String,
            String,
            String,
            String,
            String,
            String,
            i64,
            i64,
            u32,
            Option<i64>,
        );
        let rows: Vec<Read> = self.with("read schedules", |connection| {
            connection
                .prepare_cached(
                    "SELECT name, work, collection, cron, time_zone, arguments, created_at_ms, decided_ms, jitter_s, \
                     paused_at_ms FROM schedule ORDER BY name",
                )?
                .query_map([], |row| Read::try_from(row))?
                .collect()
        })?;
        let schedule = |read: Read| {
            let (
                name,
                work,
                collection,
                cron,
                time_zone,
                arguments,
                created,
                decided,
                jitter_s,
                paused,
            ) = read;
            let broken = |what: &str| self.unreadable(format!("schedule {name} has {what}"));
            let work = work.parse().map_err(|_| broken("unknown work"))?;
            let arguments = match serde_json::from_str(&arguments) {
                Ok(Value::Object(arguments)) => arguments,
                _ => return Err(broken("broken arguments")),
            };
            Ok(Schedule {
                name,
                work,
                collection,
                cron,
                time_zone,
                arguments,
                created_at_ms: created.unsigned_abs(),
                decided_ms: decided.unsigned_abs(),
                jitter_s,
                paused_at_ms: paused.map(i64::unsigned_abs),
            })
        };
        rows.into_iter().map(schedule).collect()
    }

    /// Decides what was due up to a time: to run it, or to skip it with a reason. Both in one commit, so that a time is
    /// decided once. Returns the number of the run; none where it was decided before.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn decide(
        &self,
        name: &str,
        due_ms: u64,
        missed: u64,
        skipped: Option<&str>,
    ) -> Result<Option<i64>> {
        let outcome = skipped.map(|why| format!("skipped: {why}"));
        self.with("decide a schedule", |connection| {
            let tx = connection.unchecked_transaction()?;
            let added = tx.execute(
                "INSERT OR IGNORE INTO schedule_run (name, due_ms, begun_ms, missed, outcome) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![name, int(due_ms), int(env::now_ms()), int(missed), outcome],
            )?;
            let run_id = tx.last_insert_rowid();
            tx.execute(
                "UPDATE schedule SET decided_ms = max(decided_ms, ?2) WHERE name = ?1",
                params![name, int(due_ms)],
            )?;
            tx.execute(
                "DELETE FROM schedule_run WHERE name = ?1 AND outcome IS NOT NULL AND run_id NOT IN \
                 (SELECT run_id FROM schedule_run WHERE name = ?1 ORDER BY run_id DESC LIMIT ?2)",
                params![name, KEPT_RUNS],
            )?;
            tx.commit()?;
            Ok((added > 0).then_some(run_id))
        })
    }

    /// Pauses a schedule, or lets it go on from a time: what was due until then is not caught up.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn pause_schedule(&self, name: &str, is_paused: bool, now_ms: u64) -> Result<()> {
        self.with("pause a schedule", |connection| {
            connection.execute(
                "UPDATE schedule SET paused_at_ms = CASE WHEN ?2 THEN coalesce(paused_at_ms, ?3) END, \
                 decided_ms = CASE WHEN ?2 OR paused_at_ms IS NULL THEN decided_ms ELSE max(decided_ms, ?3) END \
                 WHERE name = ?1",
                params![name, is_paused, int(now_ms)],
            )
        })?;
        Ok(())
    }

    /// Writes down why a run has not begun yet, or that it has.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn note_waiting(&self, run_id: i64, waits: Option<&str>) -> Result<()> {
        self.with("note why a run waits", |connection| {
            connection.execute(
                "UPDATE schedule_run SET waits = ?2 WHERE run_id = ?1",
                params![run_id, waits],
            )
        })?;
        Ok(())
    }

    /// Writes down in the audit that a run is about to be done, once: one that a crash has cut off goes on under the
    /// line that it has.
    ///
    /// # Errors
    /// The store cannot be written: then it must not be done.
    pub fn audit_run(&self, run_id: i64, wish: &Wish) -> Result<()> {
        self.with("write the audit", |connection| {
            let tx = connection.unchecked_transaction()?;
            let known: Option<i64> = tx.query_row(
                "SELECT audit_id FROM schedule_run WHERE run_id = ?1",
                [run_id],
                |row| row.get(0),
            )?;
            if known.is_none() {
                let audit_id = audit::put(&tx, wish)?;
                tx.execute(
                    "UPDATE schedule_run SET audit_id = ?2 WHERE run_id = ?1",
                    [run_id, audit_id],
                )?;
            }
            tx.commit()
        })
    }

    /// Writes down what became of a run, with it and in the audit.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn end_run(&self, run_id: i64, outcome: &str, operation_id: Option<&str>) -> Result<()> {
        self.with("end a run", |connection| {
            let tx = connection.unchecked_transaction()?;
            tx.execute(
                "UPDATE schedule_run SET outcome = ?2, waits = NULL, operation_id = coalesce(?3, operation_id) \
                 WHERE run_id = ?1",
                params![run_id, outcome, operation_id],
            )?;
            tx.execute(
                "UPDATE audit SET outcome = ?2, operation_id = coalesce(?3, operation_id) \
                 WHERE audit_id = (SELECT audit_id FROM schedule_run WHERE run_id = ?1)",
                params![run_id, outcome, operation_id],
            )?;
            tx.commit()
        })
    }

    /// Runs that have not ended, in the order in which they were decided: those that run, and after a crash those that it
    /// cut off.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn open_runs(&self) -> Result<Vec<(i64, Run)>> {
        let mut runs = self.runs_where("outcome IS NULL", "")?;
        runs.reverse();
        Ok(runs)
    }

    /// The last runs of a schedule, the newest first; with an empty name of all.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn runs(&self, name: &str) -> Result<Vec<Run>> {
        let runs = self.runs_where("(?1 = '' OR name = ?1)", name)?;
        Ok(runs.into_iter().map(|(_, run)| run).collect())
    }

    /// The newest run of a schedule, skipped or not.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_run(&self, name: &str) -> Result<Option<Run>> {
        let runs = self.runs(name)?;
        Ok(runs.into_iter().next())
    }

    fn runs_where(&self, condition: &str, name: &str) -> Result<Vec<(i64, Run)>> {
        let sql = format!(
            "SELECT run_id, name, due_ms, begun_ms, missed, outcome, operation_id, waits FROM schedule_run \
             WHERE ?1 = ?1 AND {condition} ORDER BY run_id DESC LIMIT 1000"
        );
        self.with("read runs", |connection| {
            connection
                .prepare_cached(&sql)?
                .query_map([name], |row| {
                    let run = Run {
                        name: row.get(1)?,
                        due_ms: row.get::<_, i64>(2)?.unsigned_abs(),
                        begun_ms: row.get::<_, i64>(3)?.unsigned_abs(),
                        missed: row.get::<_, i64>(4)?.unsigned_abs(),
                        outcome: row.get(5)?,
                        operation_id: row.get(6)?,
                        waits: row.get(7)?,
                    };
                    Ok((row.get(0)?, run))
                })?
                .collect()
        })
    }

    /// The last time that a verify of a collection found all whole, in milliseconds since 1970.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn last_proof_ms(&self, collection: &str) -> Result<Option<u64>> {
        let found: Option<Option<i64>> = self.with("read runs", |connection| {
            connection
                .query_row(
                    "SELECT max(begun_ms) FROM schedule_run JOIN schedule USING (name) \
                     WHERE work = 'verify' AND collection = ?1 AND outcome = 'done'",
                    [collection],
                    |row| row.get(0),
                )
                .optional()
        })?;
        Ok(found.flatten().map(i64::unsigned_abs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn schedule(name: &str) -> Schedule {
        Schedule {
            name: name.into(),
            work: Work::Full,
            collection: "world".into(),
            cron: "0 3 * * *".into(),
            time_zone: "UTC".into(),
            arguments: Map::new(),
            created_at_ms: 1,
            decided_ms: 1,
            jitter_s: 0,
            paused_at_ms: None,
        }
    }

    fn wish() -> Wish {
        Wish {
            who: "schedule nightly".into(),
            role: "admin".into(),
            peer: String::new(),
            request: "full of world".into(),
            arguments: Value::Null,
        }
    }

    #[test]
    fn a_run_has_one_line_in_the_audit_however_often_it_is_cut_off_and_it_is_closed_with_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.add_schedule(&schedule("nightly")).unwrap();
        let run = store.decide("nightly", 1000, 0, None).unwrap().unwrap();
        store.audit_run(run, &wish()).unwrap();
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        // It goes on, so its line is not that of something that was cut off.
        store.close_audit().unwrap();
        store.audit_run(run, &wish()).unwrap();
        let audit = store.audit(None, 10).unwrap();
        assert_eq!((audit.len(), audit[0].outcome.as_deref()), (1, None));
        store.note_waiting(run, Some("its turn")).unwrap();
        assert_eq!(
            store.runs("nightly").unwrap()[0].waits.as_deref(),
            Some("its turn")
        );
        store.end_run(run, "done", Some("backup-1")).unwrap();
        let audit = store.audit(None, 10).unwrap();
        assert_eq!(audit[0].outcome.as_deref(), Some("done"));
        assert_eq!(audit[0].operation_id.as_deref(), Some("backup-1"));
        assert_eq!(store.runs("nightly").unwrap()[0].waits, None);
    }

    #[test]
    fn what_was_due_in_a_pause_is_not_caught_up() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.add_schedule(&schedule("nightly")).unwrap();
        let only = || store.schedules().unwrap().remove(0);
        store.pause_schedule("nightly", true, 500).unwrap();
        store.pause_schedule("nightly", true, 700).unwrap();
        assert_eq!((only().paused_at_ms, only().decided_ms), (Some(500), 1));
        store.pause_schedule("nightly", false, 900).unwrap();
        assert_eq!((only().paused_at_ms, only().decided_ms), (None, 900));
        // One that runs is not touched by being told to go on.
        store.pause_schedule("nightly", false, 1000).unwrap();
        assert_eq!(only().decided_ms, 900);
    }

    #[test]
    fn a_time_is_decided_once() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert!(store.add_schedule(&schedule("nightly")).unwrap());
        assert!(!store.add_schedule(&schedule("nightly")).unwrap());
        let run = store.decide("nightly", 1000, 2, None).unwrap().unwrap();
        assert_eq!(store.decide("nightly", 1000, 0, None).unwrap(), None);
        assert_eq!(store.schedules().unwrap()[0].decided_ms, 1000);
        assert_eq!(store.open_runs().unwrap().len(), 1);
        store.end_run(run, "done", Some("backup-1")).unwrap();
        store
            .decide("nightly", 2000, 0, Some("the one before still runs"))
            .unwrap();
        assert!(store.open_runs().unwrap().is_empty());
        let runs = store.runs("nightly").unwrap();
        assert_eq!(
            runs[0].outcome.as_deref(),
            Some("skipped: the one before still runs")
        );
        assert_eq!(runs[1].missed, 2);
        assert!(store.remove_schedule("nightly").unwrap());
        assert_eq!(store.runs("").unwrap().len(), 2);
    }
}
