//! Why settings of clickhouse-backup have no counterpart.

/// The reason of settings that are in no list.
pub(super) const UNKNOWN: &str = "mendb has no such setting";

/// Reasons, by comma-separated patterns of their keys; the first that fits counts.
pub(super) const REASONS: [(&str, &str); 21] = [
    (
        "general.max_file_size, general.upload_by_part, general.download_by_part, *.compression_*, \
         s3.part_size, *.max_parts_count, *.chunk_size, *.buffer_*",
        "a backup stores every file once, by its content, not in archives",
    ),
    (
        "general.remote_storage, general.disable_progress_bar",
        "nothing has to be set for it",
    ),
    (
        "general.backups_to_keep_*, general.delete_batch_size",
        "backups stay until mendb delete removes them",
    ),
    (
        "general.log_*, *.debug, clickhouse.log_sql_queries",
        "messages are chosen by flags of the program",
    ),
    (
        "general.use_resumable_state",
        "every operation can be resumed, always",
    ),
    (
        "general.retries_*, general.retriesduration",
        "pauses between attempts grow by themselves",
    ),
    (
        "general.*_nice_*, clickhouse.restart_command, clickhouse.config_dir",
        "start mendb as you want it to run; it restarts no server",
    ),
    (
        "general.watch_*, general.full_*, general.watchduration, general.fullduration",
        "backups are started by a scheduler such as cron; each is complete and costs only what is new",
    ),
    (
        "general.rbac_*, general.config_*, general.named_collections_*",
        "users, rights and configuration files are not backed up: copy them",
    ),
    (
        "general.sharded_operation_mode, general.restore_schema_on_cluster, clickhouse.*replica*",
        "one server is backed up and mended at a time, and replicated tables are not mended",
    ),
    (
        "general.object_disk_*, general.allow_object_disk_streaming, *.object_disk_path, \
         clickhouse.skip_disk_types",
        "tables on disks of object storage are refused by name",
    ),
    (
        "general.allow_empty_backups",
        "a backup of no tables is an error",
    ),
    ("general.*_concurrency", "see repository.transfers"),
    (
        "clickhouse.disk_mapping, clickhouse.skip_disks, clickhouse.embedded_*, \
         clickhouse.use_embedded_backup_restore",
        "disks are those of the server, all of them, and data is copied by mendb",
    ),
    (
        "clickhouse.freeze_by_part*, clickhouse.ignore_not_exists_error_during_freeze, \
         clickhouse.check_parts_columns, clickhouse.backup_mutations, clickhouse.restore_as_attach, \
         clickhouse.force_rebalance, clickhouse.max_connections, clickhouse.skip_table_engines",
        "a backup freezes whole tables, as close together as the server allows, and keeps what mutations \
         were under way; the engine is no matter of settings",
    ),
    (
        "clickhouse.tls_*, clickhouse.skip_verify",
        "certificates are those that the system trusts",
    ),
    ("clickhouse.timeout", "see general.step_deadline_s"),
    (
        "s3.acl, s3.sse*, s3.storage_class, s3.use_custom_storage_class, s3.custom_storage_class_map, \
         s3.object_labels, s3.checksum_algorithm, s3.request_payer, s3.assume_role_arn, \
         s3.disable_cert_verification, s3.allow_multipart_download, s3.concurrency, s3.retry_mode",
        "set it for the bucket, or by the AWS_ variables of the environment where there is one",
    ),
    (
        "s3.*, gcs.*, cos.*, ftp.*, sftp.*, azblob.*",
        "it is not where the backups are (general.remote_storage), or mendb keeps none there",
    ),
    ("api.*", "mendb serves no API"),
    ("custom.*", "backups are not made by commands of your own"),
];
