//! What becomes of each setting of clickhouse-backup.

use mendb_model::name::matches;
use serde::Serialize;

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// It becomes a setting, a variable or a flag.
    Translated,
    /// There is nothing to set.
    NotNeeded,
    /// What it is for is absent.
    Missing,
}

impl Fate {
    /// As the table calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::NotNeeded => "not needed",
            Self::Missing => "missing",
        }
    }
}

/// The reason of settings that are in no list.
pub(super) const UNKNOWN: &str =
    "neither mendb nor clickhouse-backup is known to have such a setting";

/// What becomes of a setting, and into what or why; `None` for one that is not known.
pub(super) fn of(key: &str) -> Option<(Fate, &'static str)> {
    let known = FATES.iter().find(|(_, keys, _)| matches(keys, key));
    known.map(|(fate, _, why)| (*fate, *why))
}

use Fate::{Missing, NotNeeded, Translated};

/// Fates, by comma-separated patterns of keys; the first that fits counts.
const FATES: [(Fate, &str, &str); 43] = [
    (
        Translated,
        "clickhouse.host, clickhouse.port, clickhouse.secure, clickhouse.username",
        "target",
    ),
    (
        Translated,
        "clickhouse.password",
        "clickhouse.password, or MENDB_CLICKHOUSE_PASSWORD",
    ),
    (Translated, "clickhouse.data_path", "clickhouse.data_path"),
    (
        Translated,
        "clickhouse.skip_tables",
        "clickhouse.exclude_tables",
    ),
    (
        Translated,
        "clickhouse.skip_table_engines",
        "clickhouse.exclude_engines",
    ),
    (
        Translated,
        "clickhouse.skip_disks",
        "clickhouse.exclude_disks",
    ),
    (
        Translated,
        "general.remote_storage, s3.bucket, s3.path",
        "repository, and --from for the backups there are",
    ),
    (
        Translated,
        "s3.endpoint, s3.disable_ssl",
        "AWS_ENDPOINT and AWS_ALLOW_HTTP in the environment",
    ),
    (Translated, "s3.region", "AWS_REGION in the environment"),
    (
        Translated,
        "s3.force_path_style",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST in the environment",
    ),
    (
        Translated,
        "s3.access_key, s3.secret_key",
        "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
    ),
    (
        Translated,
        "general.upload_concurrency, general.download_concurrency",
        "repository.transfers",
    ),
    (
        Translated,
        "general.upload_max_bytes_per_second",
        "repository.upload_bytes_per_s",
    ),
    (
        Translated,
        "general.download_max_bytes_per_second",
        "repository.download_bytes_per_s",
    ),
    (Translated, "general.retries_on_failure", "backup.attempts"),
    (
        Translated,
        "general.restore_in_place",
        "general.restore_in_place",
    ),
    (
        Translated,
        "general.restore_database_mapping",
        "mendb restore --database-mapping",
    ),
    (
        Translated,
        "general.restore_table_mapping",
        "mendb restore --rename",
    ),
    (
        NotNeeded,
        "general.max_file_size, general.upload_by_part, general.download_by_part, *.compression_*, \
         *.part_size, *.max_parts_count, *.chunk_size, *.buffer_*, *_buffer_size",
        "a backup stores every file once, by its content, not in archives",
    ),
    (
        NotNeeded,
        "general.disable_progress_bar",
        "progress is shown on terminals; --quiet ends that",
    ),
    (
        Missing,
        "general.backups_to_keep_*",
        "backups stay until mendb delete or mendb prune removes them: mendb prune COLLECTION --keep-last N after each backup",
    ),
    (
        NotNeeded,
        "general.delete_batch_size, *.delete_concurrency, general.rebase_*",
        "each backup is complete, and mendb delete removes what no other needs",
    ),
    (
        NotNeeded,
        "general.log_*, *.debug, clickhouse.log_sql_queries",
        "messages are chosen by flags of the program",
    ),
    (
        NotNeeded,
        "general.use_resumable_state",
        "every operation can be resumed, always",
    ),
    (
        NotNeeded,
        "general.retries_*, general.retriesduration",
        "pauses between attempts grow by themselves",
    ),
    (
        NotNeeded,
        "general.*_nice_*, clickhouse.restart_command, clickhouse.config_dir",
        "start mendb as you want it to run; it restarts no server",
    ),
    (
        NotNeeded,
        "general.watch_*, general.full_*, general.watchduration, general.fullduration",
        "backups are started by a scheduler such as cron; each is complete and costs only what is new",
    ),
    (
        Missing,
        "general.rbac_*, general.config_*, general.named_collections_*",
        "users, rights and configuration files are not backed up: copy them",
    ),
    (
        Missing,
        "general.sharded_operation_mode, general.restore_schema_on_cluster, clickhouse.*replica*, \
         clickhouse.restore_distributed_cluster",
        "one server is backed up and mended at a time, and replicated tables are not mended",
    ),
    (
        Missing,
        "general.object_disk_*, general.allow_object_disk_streaming, *.object_disk_path, \
         clickhouse.skip_disk_types",
        "tables on disks of object storage are refused by name; clickhouse.exclude_disks leaves them out",
    ),
    (
        NotNeeded,
        "general.allow_empty_backups",
        "a backup of no tables is an error",
    ),
    (
        NotNeeded,
        "general.max_broken_part_ratio",
        "a part that cannot be read fails the backup",
    ),
    (
        NotNeeded,
        "clickhouse.disk_mapping, clickhouse.*embedded_*",
        "disks are those of the server, all of them, and data is copied by mendb",
    ),
    (
        NotNeeded,
        "clickhouse.freeze_by_part*, clickhouse.ignore_not_exists_error_during_freeze, \
         clickhouse.check_parts_columns, clickhouse.parts_columns_*, clickhouse.backup_mutations, \
         clickhouse.restore_as_attach, clickhouse.force_rebalance, clickhouse.max_connections",
        "a backup freezes whole tables, as close together as the server allows, and keeps what mutations \
         were under way",
    ),
    (
        Missing,
        "clickhouse.tls_*, clickhouse.skip_verify",
        "certificates are those that the system trusts",
    ),
    (
        NotNeeded,
        "clickhouse.timeout",
        "see general.step_deadline_s",
    ),
    (
        NotNeeded,
        "s3.acl, s3.sse*, s3.storage_class, s3.use_custom_storage_class, s3.custom_storage_class_map, \
         s3.object_labels, s3.request_payer",
        "set it for the bucket",
    ),
    (
        NotNeeded,
        "s3.assume_role_arn, s3.disable_cert_verification, s3.check*sum_algorithm, s3.retry_mode, \
         s3.request_content_md5",
        "set it by the AWS_ variables of the environment where there is one",
    ),
    (
        NotNeeded,
        "s3.allow_multipart_download, s3.concurrency, s3.http_*",
        "see repository.transfers",
    ),
    (
        Missing,
        "gcs.*, cos.*, azblob.*, ftp.*, sftp.*",
        "mendb keeps backups in directories and on S3",
    ),
    (
        NotNeeded,
        "api.*",
        "mendb serve --compat clickhouse-backup answers its routes, to who has a token",
    ),
    (
        Missing,
        "custom.*",
        "backups are not made by commands of your own",
    ),
    (
        NotNeeded,
        "general.*_concurrency",
        "see repository.transfers",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::keys;
    use super::*;

    #[test]
    fn every_documented_key_has_a_fate() {
        let without: Vec<String> = keys::all().filter(|key| of(key).is_none()).collect();
        assert_eq!(without, Vec::<String>::new());
        assert_eq!(of("general.made_up"), None);
    }

    #[test]
    fn every_fate_is_that_of_some_key() {
        for (_, patterns, _) in FATES {
            for pattern in patterns.split(',').map(str::trim) {
                let old = [
                    "general.retriesduration",
                    "general.watchduration",
                    "general.fullduration",
                ];
                let fits = keys::all().any(|key| matches(pattern, &key));
                assert!(fits || old.contains(&pattern), "{pattern}");
            }
        }
    }
}
