//! Record `plan`: what a preview of a mend has shown, to be carried out as it was shown.

use mendb_service::{Result, env};
use rusqlite::{OptionalExtension, params};

use super::{Store, int};

pub(super) const LAYOUT: &str = "
CREATE TABLE IF NOT EXISTS plan (
    plan_id TEXT PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    plan    TEXT NOT NULL             -- as --plan saves it
) STRICT;";

/// Plans are kept for a day, in milliseconds.
const KEPT_MS: u64 = 86_400_000;

impl Store {
    /// Keeps a plan for a day, and returns its name.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn keep_plan(&self, plan: &str) -> Result<String> {
        let (plan_id, now_ms) = (env::random_id(), env::now_ms());
        self.with("keep a plan", |connection| {
            let old = int(now_ms.saturating_sub(KEPT_MS));
            connection.execute("DELETE FROM plan WHERE at_ms < ?1", [old])?;
            connection.execute(
                "INSERT INTO plan (plan_id, at_ms, plan) VALUES (?1, ?2, ?3)",
                params![plan_id, int(now_ms), plan],
            )
        })?;
        Ok(plan_id)
    }

    /// A plan that was kept.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn plan(&self, plan_id: &str) -> Result<Option<String>> {
        self.with("read a plan", |connection| {
            let sql = "SELECT plan FROM plan WHERE plan_id = ?1";
            connection
                .query_row(sql, [plan_id], |row| row.get(0))
                .optional()
        })
    }
}
