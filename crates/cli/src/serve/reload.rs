//! Settings and certificates that are read again while the server runs (SIGHUP).
//!
//! *Whole or not at all*: everything is read and checked before anything is taken over; where something is wrong, or
//! cannot change while the server runs, all stays as it was, and that is said.

use std::sync::Arc;

use mendb_server::tls::Certificates;

use crate::context::Context;
use crate::failure::{Failure, FailureKind};
use crate::log;
use crate::settings::{Entry, Settings, Sources};

/// What reads them again.
pub struct Reload {
    /// Flags, environment and file, as they were named at the start.
    pub sources: Sources,
    /// The certificates of TLS.
    pub certificates: Option<Arc<Certificates>>,
}

impl Reload {
    /// Reads settings and certificates, and takes over what has changed. Returns what that is, as people read it.
    ///
    /// # Errors
    /// Something is wrong, or cannot change while the server runs. Then all is as it was.
    pub fn read(&self, settings: &mut (Settings, Vec<Entry>)) -> Result<Vec<String>, Failure> {
        self.try_read(settings).map_err(|failure| {
            failure.context("nothing of the settings and certificates was taken over")
        })
    }

    fn try_read(&self, settings: &mut (Settings, Vec<Entry>)) -> Result<Vec<String>, Failure> {
        let now = self.sources.resolve()?;
        check_may_change(settings, &now)?;
        let replaced = match &self.certificates {
            Some(certificates) => Some(
                certificates
                    .read()
                    .map_err(|error| Failure::of(FailureKind::FixInput, &error))?,
            ),
            None => None,
        };
        if let (Some(certificates), Some(read)) = (&self.certificates, replaced) {
            certificates.replace(read);
        }
        let changed = changed(&settings.1, &now.1).map(describe).collect();
        *settings = now;
        Ok(changed)
    }
}

/// Says what was read again.
pub fn tell(context: &Context, read: Result<Vec<String>, Failure>) {
    match read {
        Ok(changed) if changed.is_empty() => {
            context.say("mendb has read settings and certificates again; no setting has changed");
        }
        Ok(changed) => context.say(&format!(
            "mendb has read settings and certificates again: {}",
            changed.join(", ")
        )),
        Err(failure) => log::fail_with(&failure, context.output.format),
    }
}

fn describe(entry: &Entry) -> String {
    format!("{} is {:?} ({})", entry.key, entry.value, entry.from)
}

/// The entries that have another value than before.
fn changed<'a>(before: &'a [Entry], now: &'a [Entry]) -> impl Iterator<Item = &'a Entry> {
    let was = move |key: &str| before.iter().find(|entry| entry.key == key);
    now.iter()
        .filter(move |entry| was(entry.key).is_none_or(|before| before.value != entry.value))
}

/// The settings with those of `now` that may change while a server runs.
fn changeable(before: &Settings, now: &Settings) -> Settings {
    Settings {
        // It is of other commands.
        server: now.server.clone(),
        upload_bytes_per_s: now.upload_bytes_per_s,
        download_bytes_per_s: now.download_bytes_per_s,
        max_in_flight: now.max_in_flight,
        operation_deadline_s: now.operation_deadline_s,
        step_deadline_s: now.step_deadline_s,
        restore_in_place: now.restore_in_place,
        restore_order: now.restore_order,
        without_secrets: now.without_secrets,
        exclude: now.exclude.clone(),
        hooks: now.hooks.clone(),
        ..before.clone()
    }
}

/// Refuses settings that cannot change while a server runs.
fn check_may_change(
    (before, entries_before): &(Settings, Vec<Entry>),
    (now, entries): &(Settings, Vec<Entry>),
) -> Result<(), Failure> {
    if changeable(before, now) == *now {
        return Ok(());
    }
    let keys: Vec<&str> = changed(entries_before, entries)
        .map(|entry| entry.key)
        .filter(|key| !CHANGEABLE.contains(key))
        .collect();
    let what = match keys.as_slice() {
        // What is shown of a setting hides its password.
        [] => "a password".to_owned(),
        keys => keys.join(", "),
    };
    Err(Failure::misuse(format!(
        "{what} has changed, and cannot while the server runs"
    ))
    .hint("change it back, or start the server anew"))
}

/// The keys of what [`changeable`] takes.
const CHANGEABLE: [&str; 17] = [
    "server",
    "repository.upload_bytes_per_s",
    "repository.download_bytes_per_s",
    "general.max_in_flight",
    "general.operation_deadline_s",
    "general.step_deadline_s",
    "general.restore_in_place",
    "general.restore_order",
    "clickhouse.without_secrets",
    "clickhouse.exclude_tables",
    "clickhouse.exclude_engines",
    "clickhouse.exclude_disks",
    "hooks.url",
    "hooks.secret",
    "hooks.command",
    "hooks.events",
    "hooks.late_after_s",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn resolved(variables: &[(&str, &str)]) -> (Settings, Vec<Entry>) {
        let pairs = variables.iter();
        let sources = Sources {
            directory: Path::new("/nowhere").to_owned(),
            environment: pairs
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Sources::default()
        };
        sources.resolve().unwrap()
    }

    #[test]
    fn what_may_change_while_a_server_runs_is_told_from_what_may_not() {
        let before = resolved(&[]);
        for (name, value) in [
            ("MENDB_SERVER", "http://localhost:1"),
            ("MENDB_REPOSITORY_UPLOAD_BYTES_PER_S", "9"),
            ("MENDB_REPOSITORY_DOWNLOAD_BYTES_PER_S", "9"),
            ("MENDB_GENERAL_MAX_IN_FLIGHT", "3"),
            ("MENDB_GENERAL_OPERATION_DEADLINE_S", "77"),
            ("MENDB_GENERAL_STEP_DEADLINE_S", "77"),
            ("MENDB_GENERAL_RESTORE_IN_PLACE", "true"),
            ("MENDB_CLICKHOUSE_WITHOUT_SECRETS", "true"),
            ("MENDB_CLICKHOUSE_EXCLUDE_TABLES", "x.*"),
            ("MENDB_HOOKS_URL", "https://example.com/"),
            ("MENDB_HOOKS_SECRET", "x"),
            ("MENDB_HOOKS_LATE_AFTER_S", "9"),
        ] {
            let now = resolved(&[(name, value)]);
            assert_ne!(now.0, before.0, "{name}");
            assert!(check_may_change(&before, &now).is_ok(), "{name}");
        }
        for (name, value, key) in [
            ("MENDB_TARGET", "mendb:///other", "target"),
            ("MENDB_REPOSITORY", "file:///other", "repository"),
            ("MENDB_BACKUP_ATTEMPTS", "3", "backup.attempts"),
            ("MENDB_CLICKHOUSE_PASSWORD", "x", ""),
        ] {
            let failure = check_may_change(&before, &resolved(&[(name, value)])).unwrap_err();
            assert!(failure.message.contains(key), "{name}: {failure}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
