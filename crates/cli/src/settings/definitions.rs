//! Every setting there is.

use std::path::PathBuf;

use super::Settings;
use super::hooks::Happening;
use super::secret::{Secret, hide, hide_in_url, hide_path};
use super::value::{
    Wanted, boolean, level, limit, port, positive, restore_order, size, url, web_address, whole,
};

/// One setting that exists.
pub struct Definition {
    /// Its key in the settings file, nested at the dots.
    pub key: &'static str,
    /// The value when nothing sets it; `None` for those that depend on the current directory.
    pub default: Option<&'static str>,
    /// What it does.
    pub about: &'static str,
    /// Checks a value and stores it.
    pub store: fn(&mut Settings, &str) -> Result<(), Wanted>,
    /// The value as it may be shown.
    pub show: fn(&str) -> String,
}

/// Every setting, in the order they are shown: those of one group stand together.
pub const DEFINITIONS: [Definition; 43] = [
    Definition {
        key: "target",
        default: None,
        about: "the database to back up or mend: mendb:///dir, postgres://user@host:5432/database, \
                clickhouse://user@host:8123/, or cluster:FILE with a list of ClickHouse servers",
        store: |settings, text| store(&mut settings.target, url(text)),
        show: hide_in_url,
    },
    Definition {
        key: "server",
        default: Some(""),
        about: "the server that runs commands, instead of this process: http://host:port, with the token in MENDB_TOKEN",
        store: |settings, text| {
            let server = (!text.is_empty()).then(|| text.trim_end_matches('/').to_owned());
            store(&mut settings.server, Ok(server))
        },
        show: hide_in_url,
    },
    Definition {
        key: "journal",
        default: Some(""),
        about: "where mendb serve keeps a journal that several servers share, so that one takes over from another: \
                s3://bucket/prefix. Empty: beside the target, for one server",
        store: |settings, text| {
            let journal = (!text.is_empty()).then(|| text.to_owned());
            store(&mut settings.journal, Ok(journal))
        },
        show: hide_in_url,
    },
    Definition {
        key: "repository",
        default: None,
        about: "where backups live: file:///dir, s3://bucket/prefix",
        store: |settings, text| store(&mut settings.repository, url(text)),
        show: hide_in_url,
    },
    Definition {
        key: "repository.state",
        default: Some(""),
        about: "directory of the journals of what this machine does in repositories alone (delete, compact, prune, \
                tidy). Empty: mendb/repositories in $XDG_STATE_HOME or ~/.local/state, or where there is no home, \
                mendb-data/repositories here",
        store: |settings, text| store(&mut settings.repository_state, Ok(PathBuf::from(text))),
        show: str::to_owned,
    },
    Definition {
        key: "repository.upload_bytes_per_s",
        default: Some("0"),
        about: "the most bytes a second that go to the repository; 0 for no limit",
        store: |settings, text| store(&mut settings.upload_bytes_per_s, limit(text)),
        show: str::to_owned,
    },
    Definition {
        key: "repository.download_bytes_per_s",
        default: Some("0"),
        about: "the most bytes a second that come from the repository; 0 for no limit",
        store: |settings, text| store(&mut settings.download_bytes_per_s, limit(text)),
        show: str::to_owned,
    },
    Definition {
        key: "repository.transfers",
        default: Some("4"),
        about: "files that go to or come from the repository at the same time",
        store: |settings, text| store(&mut settings.transfers, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "general.max_in_flight",
        default: Some("2"),
        about: "shards or tables that work at the same time; eight small shards count as one",
        store: |settings, text| store(&mut settings.max_in_flight, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "general.operation_deadline_s",
        default: Some("86400"),
        about: "seconds after which an operation fails",
        store: |settings, text| store(&mut settings.operation_deadline_s, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "general.step_deadline_s",
        default: Some("86400"),
        about: "seconds after which one step of an operation fails",
        store: |settings, text| store(&mut settings.step_deadline_s, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "general.restore_in_place",
        default: Some("false"),
        about: "restore mends tables where they are, as with --in-place (ClickHouse)",
        store: |settings, text| store(&mut settings.restore_in_place, boolean(text)),
        show: str::to_owned,
    },
    Definition {
        key: "general.restore_order",
        default: Some("auto"),
        about: "order of work of a restore in place: auto, remove_first, swap (ClickHouse)",
        store: |settings, text| store(&mut settings.restore_order, restore_order(text)),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.state",
        default: Some(""),
        about: "directory of the journals of clusters that this machine coordinates, one directory for each. Empty: \
                mendb/clusters in $XDG_STATE_HOME or ~/.local/state, or where there is no home, mendb-data/clusters here",
        store: |settings, text| store(&mut settings.cluster_state, Ok(PathBuf::from(text))),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.agent_port",
        default: Some("7443"),
        about: "where the agents of a cluster listen, unless a file of its servers says otherwise",
        store: |settings, text| store(&mut settings.cluster_agent_port, port(text)),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.tls_cert",
        default: Some(""),
        about: "the certificate by which agents know this machine, in PEM",
        store: |settings, text| store(&mut settings.cluster_tls_cert, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.tls_key",
        default: Some(""),
        about: "its key, in PEM",
        store: |settings, text| store(&mut settings.cluster_tls_key, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.tls_ca",
        default: Some(""),
        about: "the certificates of who signed those of the agents, in PEM",
        store: |settings, text| store(&mut settings.cluster_tls_ca, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.stop_inserts",
        default: Some(""),
        about: "program that keeps users of a cluster from inserting while mendb backup --exact freezes its shards; it \
                ends when no insert goes on. In its environment MENDB_CLUSTER and MENDB_STOPPED_S",
        store: |settings, text| store(&mut settings.cluster_stop_inserts, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.start_inserts",
        default: Some(""),
        about: "program that lets them insert again, also where they do",
        store: |settings, text| store(&mut settings.cluster_start_inserts, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.stop_inserts_s",
        default: Some("60"),
        about: "seconds for which inserts are stopped at most; a backup that is not frozen by then fails",
        store: |settings, text| store(&mut settings.cluster_stop_inserts_s, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "cluster.take_over_after_s",
        default: Some("0"),
        about: "seconds after which another replica does the part of a shard whose agent does not answer, as long as no \
                shard is changed; 0: the agent is waited for, unless mendb operation resume --replica says otherwise",
        store: |settings, text| store(&mut settings.cluster_take_over_after_s, whole(text)),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.password",
        default: Some(""),
        about: "the password of the target's user, unless its URL has one",
        store: |settings, text| store(&mut settings.clickhouse_password, Ok(Secret::new(text))),
        show: hide,
    },
    Definition {
        key: "clickhouse.data_path",
        default: Some(""),
        about: "where the server's default disk is seen from here, unless where the server sees it",
        store: |settings, text| store(&mut settings.clickhouse_data_path, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.without_secrets",
        default: Some("false"),
        about: "backup leaves passwords and keys in definitions out, as with --without-secrets",
        store: |settings, text| store(&mut settings.without_secrets, boolean(text)),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.state",
        default: Some(""),
        about: "directory of the journal of a ClickHouse target; one for each server. Empty: mendb/ in \
                the server's data directory, or where the record in it says",
        store: |settings, text| store(&mut settings.clickhouse_state, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.replica_wait_s",
        default: Some("30"),
        about: "seconds that a mend waits for what other replicas have brought and this one does not have yet, and \
                after it for those to follow; then it refuses, or names them",
        store: |settings, text| store(&mut settings.replica_wait_s, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.exclude_tables",
        default: Some(""),
        about: "tables that backup and restore leave out: comma-separated patterns of database.table with \
                * and ?",
        store: |settings, text| store(&mut settings.exclude.tables, Ok(text.to_owned())),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.exclude_engines",
        default: Some(""),
        about: "engines whose tables backup and restore leave out: comma-separated patterns, such as \
                Kafka,Distributed",
        store: |settings, text| store(&mut settings.exclude.engines, Ok(text.to_owned())),
        show: str::to_owned,
    },
    Definition {
        key: "clickhouse.exclude_disks",
        default: Some(""),
        about: "disks whose tables backup and restore leave out: comma-separated patterns of names",
        store: |settings, text| store(&mut settings.exclude.disks, Ok(text.to_owned())),
        show: str::to_owned,
    },
    Definition {
        key: "postgres.state",
        default: Some(""),
        about: "directory of the journal of a PostgreSQL target; one for each database. Empty: one for each in \
                mendb/postgres in $XDG_STATE_HOME or ~/.local/state, or where there is no home, in mendb-data/postgres \
                here",
        store: |settings, text| store(&mut settings.postgres_state, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "postgres.bytes_per_s",
        default: Some("0"),
        about: "the most bytes of rows a second that are read of a PostgreSQL target and written to it, but for the publish \
                of a mend, for which writers wait; 0 for no limit",
        store: |settings, text| store(&mut settings.postgres_bytes_per_s, limit(text)),
        show: str::to_owned,
    },
    Definition {
        key: "rowstore.split_bytes",
        default: Some("512MiB"),
        about: "a shard larger than this splits",
        store: |settings, text| store(&mut settings.split_bytes, size(text)),
        show: str::to_owned,
    },
    Definition {
        key: "rowstore.cache_bytes",
        default: Some("32MiB"),
        about: "memory for blocks that were read",
        store: |settings, text| store(&mut settings.cache_bytes, size(text)),
        show: str::to_owned,
    },
    Definition {
        key: "rowstore.change_log_bytes",
        default: Some("16GiB"),
        about: "when the changes of a table that are kept for increments are more than this, those for the \
                repository that was left alone longest are let go; 0 for no limit",
        store: |settings, text| store(&mut settings.change_log_bytes, limit(text)),
        show: str::to_owned,
    },
    Definition {
        key: "backup.segment_bytes",
        default: Some("64MiB"),
        about: "a backup's segment ends after about this much",
        store: |settings, text| store(&mut settings.segment_bytes, size(text)),
        show: str::to_owned,
    },
    Definition {
        key: "backup.zstd_level",
        default: Some("1"),
        about: "compression of segments, 1 (fast) to 22 (small)",
        store: |settings, text| store(&mut settings.zstd_level, level(text)),
        show: str::to_owned,
    },
    Definition {
        key: "backup.attempts",
        default: Some("6"),
        about: "attempts of a request to the object store",
        store: |settings, text| store(&mut settings.repository_attempts, positive(text)),
        show: str::to_owned,
    },
    Definition {
        key: "hooks.url",
        default: Some(""),
        about: "where mendb serve posts what happened, as JSON: http:// or https://",
        store: |settings, text| store(&mut settings.hooks.url, web_address(text)),
        show: hide_path,
    },
    Definition {
        key: "hooks.secret",
        default: Some(""),
        about: "what these posts are signed with (HMAC-SHA256, in the header Mendb-Signature)",
        store: |settings, text| store(&mut settings.hooks.secret, Ok(Secret::new(text))),
        show: hide,
    },
    Definition {
        key: "hooks.command",
        default: Some(""),
        about: "program that mendb serve runs when something happened: the JSON is on its stdin",
        store: |settings, text| store(&mut settings.hooks.command, Ok(path(text))),
        show: str::to_owned,
    },
    Definition {
        key: "hooks.events",
        default: Some("success,failure,late"),
        about: "what is told: success and failure of operations and scheduled runs, late for scheduled runs that do \
                not begin in time",
        store: |settings, text| store(&mut settings.hooks.events, Happening::list(text)),
        show: str::to_owned,
    },
    Definition {
        key: "hooks.late_after_s",
        default: Some("600"),
        about: "seconds after its time at which a scheduled run that has not begun is late",
        store: |settings, text| store(&mut settings.hooks.late_after_s, positive(text)),
        show: str::to_owned,
    },
];

fn store<T>(place: &mut T, value: Result<T, Wanted>) -> Result<(), Wanted> {
    *place = value?;
    Ok(())
}

/// A path, or none where the text is empty.
fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| text.into())
}
