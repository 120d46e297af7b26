//! What is measured: operations, backups, schedules.

use std::collections::BTreeMap;

use mendb_model::operation::OperationHead;
use mendb_server::Store;
use mendb_server::metrics::Family;
use mendb_server::schedule::{Choice, choose};
use mendb_service::env;
use mendb_service::journal::Journal;

use super::house::House;
use crate::shared::Shared;

/// The repository is looked at that often at most, in milliseconds.
const LOOKED_AT_EVERY_MS: u64 = 60_000;

/// Operations by kind and state, and how far those are that run.
pub fn operations(journal: &Journal) -> Vec<Family> {
    let operations = match journal.operations() {
        Ok(operations) => operations,
        Err(error) => {
            tracing::error!(%error, "operations cannot be counted");
            return Vec::new();
        }
    };
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut done: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut progress = Family::gauge(
        "mendb_operation_progress_ratio",
        "How far operations are that are not over, from 0 to 1.",
    );
    for operation in &operations {
        let kind = operation.request.kind();
        *counts.entry((kind, state(operation))).or_default() += 1;
        let of_kind = done.entry(kind).or_default();
        let so_far = operation.progress();
        of_kind.0 += so_far.rows_done;
        of_kind.1 += so_far.bytes_done;
        if !operation.state.is_terminal() {
            let labels = vec![
                ("operation", operation.operation_id.to_string()),
                ("kind", kind.to_owned()),
                ("collection", operation.request.collection().to_owned()),
            ];
            progress = progress.with(labels, so_far.percent / 100.0);
        }
    }
    let mut by_state = Family::gauge(
        "mendb_operations",
        "Operations of the journal by kind and state.",
    );
    for ((kind, state), count) in counts {
        by_state = by_state.with(
            vec![("kind", kind.to_owned()), ("state", state.to_owned())],
            count as f64,
        );
    }
    let mut rows = Family::gauge(
        "mendb_operation_rows",
        "Rows that the operations of the journal have moved.",
    );
    let mut bytes = Family::gauge(
        "mendb_operation_bytes",
        "Bytes that the operations of the journal have moved.",
    );
    for (kind, (rows_done, bytes_done)) in done {
        rows = rows.with(vec![("kind", kind.to_owned())], rows_done as f64);
        bytes = bytes.with(vec![("kind", kind.to_owned())], bytes_done as f64);
    }
    vec![by_state, progress, rows, bytes]
}

fn state(operation: &OperationHead) -> &'static str {
    if operation.is_paused() {
        "paused"
    } else {
        operation.state.name()
    }
}

/// How late schedules are, and how their last runs ended.
pub fn schedules(store: &Store) -> Vec<Family> {
    let now_ms = env::now_ms();
    let mut lag = Family::gauge(
        "mendb_schedule_lag_seconds",
        "How long ago something was due that was not decided yet.",
    );
    let mut last = Family::gauge(
        "mendb_schedule_last_run_success",
        "Whether the last run of a schedule was done, 0 or 1.",
    );
    let mut paused = Family::gauge(
        "mendb_schedule_paused",
        "Whether a schedule is paused, 0 or 1.",
    );
    let schedules = store.schedules();
    if let Err(error) = &schedules {
        let why = mendb_model::describe_error(error);
        tracing::warn!(why, "the schedules cannot be measured");
    }
    let up = Family::gauge(
        "mendb_schedules_up",
        "Whether the schedules could be read, 0 or 1.",
    )
    .with(Vec::new(), f64::from(u8::from(schedules.is_ok())));
    for schedule in schedules.into_iter().flatten() {
        let labels = || {
            vec![
                ("schedule", schedule.name.clone()),
                ("collection", schedule.collection.clone()),
                ("work", schedule.work.name().to_owned()),
            ]
        };
        let late_s = match choose(&schedule, now_ms) {
            Ok(Choice::Run { due_ms, .. }) => now_ms.saturating_sub(due_ms) / 1000,
            _ => 0,
        };
        let is_paused = schedule.paused_at_ms.is_some();
        paused = paused.with(labels(), f64::from(u8::from(is_paused)));
        lag = lag.with(labels(), late_s as f64);
        if let Ok(Some(run)) = store.last_run(&schedule.name)
            && let Some(outcome) = run.outcome
        {
            last = last.with(labels(), f64::from(u8::from(outcome == "done")));
        }
    }
    vec![up, lag, last, paused]
}

/// How the telling of others stands.
pub fn deliveries(store: &Store) -> Vec<Family> {
    let counts = match store.delivery_counts() {
        Ok(counts) => counts,
        Err(error) => {
            let why = mendb_model::describe_error(&error);
            tracing::warn!(why, "what is to be told cannot be measured");
            return Vec::new();
        }
    };
    vec![
        Family::gauge(
            "mendb_hook_deliveries_waiting",
            "Happenings that somebody was not told yet.",
        )
        .with(Vec::new(), counts.waiting as f64),
        Family::gauge(
            "mendb_hook_deliveries_given_up",
            "Of the last thousand happenings, those that somebody could not be told.",
        )
        .with(Vec::new(), counts.given_up as f64),
    ]
}

/// What was sent of a journal that servers share, since this one leads; nothing where none do.
pub fn shared(shared: Option<&Shared>) -> Vec<Family> {
    let Some(shared) = shared else {
        return Vec::new();
    };
    let sent = shared.replica().sent();
    vec![
        Family::counter(
            "mendb_journal_commits_total",
            "Commits of the shared journal, each a request to its store.",
        )
        .with(Vec::new(), sent.entries as f64),
        Family::counter(
            "mendb_journal_bytes_total",
            "Bytes of pages in these commits, before they were compressed.",
        )
        .with(Vec::new(), sent.bytes as f64),
    ]
}

/// What is in the repository.
pub struct Repository {
    at_ms: u64,
    is_there: bool,
    collections: BTreeMap<String, Kept>,
}

#[derive(Default)]
struct Kept {
    backups: u64,
    damaged: u64,
    bytes: u64,
    /// Of the newest that can be read and lacks nothing, in milliseconds since 1970.
    newest_ms: Option<u64>,
    /// The last drill that proved one of them, in milliseconds since 1970.
    restorable_ms: Option<u64>,
}

impl Repository {
    /// Looks at all backups.
    pub fn look(house: &House, now_ms: u64) -> Self {
        let found = look(house);
        if let Err(error) = &found {
            let why = mendb_model::describe_error(error);
            tracing::warn!(why, "the repository cannot be measured");
        }
        Self {
            at_ms: now_ms,
            is_there: found.is_ok(),
            collections: found.unwrap_or_default(),
        }
    }

    /// Whether it is time to look again.
    pub fn is_old(&self, now_ms: u64) -> bool {
        now_ms < self.at_ms || now_ms - self.at_ms > LOOKED_AT_EVERY_MS
    }

    /// What was found.
    pub fn families(&self, store: &Store, now_ms: u64) -> Vec<Family> {
        let up = Family::gauge(
            "mendb_repository_up",
            "Whether the repository could be read, 0 or 1.",
        );
        let mut age = Family::gauge(
            "mendb_backup_newest_age_seconds",
            "Age of the newest backup of a collection that is complete.",
        );
        let mut count = Family::gauge("mendb_backups", "Backups of a collection.");
        let mut damaged = Family::gauge(
            "mendb_backups_damaged",
            "Backups of a collection whose manifest cannot be read.",
        );
        let mut bytes = Family::gauge(
            "mendb_backup_bytes",
            "Bytes that the backups of a collection added to the repository.",
        );
        let mut restorable = Family::gauge(
            "mendb_last_proven_restorable_timestamp_seconds",
            "When a drill last restored a backup of a collection and proved it.",
        );
        let mut proof = Family::gauge(
            "mendb_last_proof_timestamp_seconds",
            "When a scheduled verify last found all backups of a collection whole.",
        );
        for (collection, kept) in &self.collections {
            let labels = || vec![("collection", collection.clone())];
            if let Some(newest_ms) = kept.newest_ms {
                age = age.with(labels(), (now_ms.saturating_sub(newest_ms) / 1000) as f64);
            }
            count = count.with(labels(), kept.backups as f64);
            damaged = damaged.with(labels(), kept.damaged as f64);
            bytes = bytes.with(labels(), kept.bytes as f64);
            if let Some(at_ms) = kept.restorable_ms {
                restorable = restorable.with(labels(), (at_ms / 1000) as f64);
            }
            if let Ok(Some(at_ms)) = store.last_proof_ms(collection) {
                proof = proof.with(labels(), (at_ms / 1000) as f64);
            }
        }
        let up = up.with(Vec::new(), f64::from(u8::from(self.is_there)));
        vec![up, age, count, damaged, bytes, proof, restorable]
    }
}

fn look(house: &House) -> mendb_service::Result<BTreeMap<String, Kept>> {
    let (repository, runtime) = (&house.repository, &house.runtime);
    let proofs = match runtime.block_on(repository.header())? {
        Some(header) => house.target.journal().proofs(&header.repository_id)?,
        None => Vec::new(),
    };
    let mut collections = BTreeMap::new();
    for collection in runtime.block_on(repository.collections())? {
        let mut of_collection = proofs.iter().filter(|proof| proof.collection == collection);
        let mut kept = Kept {
            restorable_ms: of_collection.next().map(|proof| proof.at_ms),
            ..Kept::default()
        };
        for (id, stored) in runtime.block_on(repository.list(&collection))? {
            kept.backups += 1;
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) if error.is_damage() => {
                    kept.damaged += 1;
                    continue;
                }
                // That it cannot be fetched says nothing of it.
                Err(error) => return Err(error.into()),
            };
            kept.bytes += stored.manifest.bytes();
            if stored.manifest.is_complete() {
                kept.newest_ms = kept.newest_ms.max(taken_ms(id.as_str()));
            }
        }
        collections.insert(collection, kept);
    }
    Ok(collections)
}

/// When a backup was taken, by its id.
fn taken_ms(id: &str) -> Option<u64> {
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", id.split('_').next()?).ok()?;
    let at = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(at.timestamp().as_millisecond()).ok()
}

#[cfg(test)]
mod tests {
    use super::taken_ms;

    #[test]
    fn the_id_of_a_backup_tells_when_it_was_taken() {
        assert_eq!(taken_ms("19700101000001Z_full"), Some(1000));
        assert_eq!(taken_ms("full"), None);
    }
}
