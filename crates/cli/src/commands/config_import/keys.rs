//! The settings that clickhouse-backup documents, and their variables of the environment.

/// Keys by group: those of version 2.8, and older ones that configurations still have.
const KEYS: [(&str, &str); 10] = [
    (
        "general",
        "remote_storage max_file_size backups_to_keep_local backups_to_keep_remote log_level \
         allow_empty_backups download_concurrency upload_concurrency rebase_concurrency \
         rebase_before_remove_old_remote upload_max_bytes_per_second download_max_bytes_per_second \
         max_broken_part_ratio pipe_buffer_size download_copy_buffer_size compression_use_multi_thread \
         compression_threads compression_buffer_size object_disk_server_side_copy_concurrency \
         allow_object_disk_streaming use_resumable_state restore_schema_on_cluster upload_by_part \
         download_by_part restore_database_mapping restore_table_mapping retries_on_failure retries_pause \
         retries_jitter watch_interval full_interval watch_backup_name_template watch_schedules \
         sharded_operation_mode cpu_nice_priority io_nice_priority rbac_backup_always \
         rbac_conflict_resolution config_backup_always named_collections_backup_always delete_batch_size \
         restore_in_place disable_progress_bar",
    ),
    (
        "clickhouse",
        "username password host port disk_mapping skip_tables skip_table_engines skip_disks \
         skip_disk_types timeout freeze_by_part freeze_by_part_where use_embedded_backup_restore \
         use_embedded_backup_restore_cluster embedded_backup_disk backup_mutations restore_as_attach \
         restore_distributed_cluster check_parts_columns parts_columns_batch_size secure skip_verify \
         sync_replicated_tables log_sql_queries config_dir restart_command \
         ignore_not_exists_error_during_freeze check_replicas_before_attach default_replica_path \
         default_replica_name rebind_replica_path_if_exists tls_key tls_cert tls_ca max_connections debug \
         force_rebalance parts_columns_max_bytes_before_external_group_by parts_columns_max_memory_usage \
         data_path embedded_backup_threads embedded_restore_threads",
    ),
    (
        "s3",
        "access_key secret_key bucket endpoint region acl assume_role_arn force_path_style path \
         object_disk_path disable_ssl compression_level compression_format sse sse_kms_key_id \
         sse_customer_algorithm sse_customer_key sse_customer_key_md5 sse_kms_encryption_context \
         disable_cert_verification use_custom_storage_class storage_class custom_storage_class_map \
         concurrency max_parts_count allow_multipart_download object_labels request_payer \
         check_sum_algorithm request_content_md5 retry_mode chunk_size delete_concurrency debug \
         http_max_idle_conns http_max_idle_conns_per_host http_max_conns_per_host http_write_buffer_size \
         http_read_buffer_size http_idle_conn_timeout part_size",
    ),
    (
        "gcs",
        "credentials_file credentials_json credentials_json_encoded sa_email embedded_access_key \
         embedded_secret_key skip_credentials bucket path object_disk_path compression_level \
         compression_format debug force_http disable_http2 endpoint storage_class object_labels \
         custom_storage_class_map client_pool_size chunk_size delete_concurrency encryption_key \
         upload_buffer_size",
    ),
    (
        "cos",
        "url timeout secret_id secret_key path object_disk_path compression_format compression_level \
         concurrency allow_multipart_download max_parts_count delete_concurrency debug",
    ),
    (
        "api",
        "listen enable_metrics enable_pprof username password secure certificate_file private_key_file \
         ca_cert_file ca_key_file create_integration_tables integration_tables_host allow_parallel \
         complete_resumable_after_restart complete_resumable_after_restart_commands watch_is_main_process \
         backup_actions_skip_commands cancel_operation_timeout",
    ),
    (
        "ftp",
        "address timeout username password tls skip_tls_verify path object_disk_path compression_format \
         compression_level concurrency debug",
    ),
    (
        "sftp",
        "address port username password key path object_disk_path compression_format compression_level \
         concurrency max_packet_size debug",
    ),
    (
        "azblob",
        "endpoint_schema endpoint_suffix account_name account_key sas use_managed_identity container \
         assume_container_exists path object_disk_path compression_level compression_format sse_key \
         buffer_count buffer_size max_parts_count timeout delete_concurrency debug",
    ),
    (
        "custom",
        "upload_command download_command list_command delete_command command_timeout",
    ),
];

/// Variables that are not named by group and key.
const VARIABLES: [(&str, &str); 5] = [
    ("azblob.buffer_count", "AZBLOB_MAX_BUFFERS"),
    ("api.ca_cert_file", "API_CA_KEY_FILE"),
    ("api.ca_key_file", "API_CA_CERT_FILE"),
    ("api.watch_is_main_process", "WATCH_IS_MAIN_PROCESS"),
    ("s3.check_sum_algorithm", "S3_CHECKSUM_ALGORITHM"),
];

/// Every key, as `group.name`.
pub(super) fn all() -> impl Iterator<Item = String> {
    KEYS.into_iter().flat_map(|(group, names)| {
        let names = names.split_whitespace();
        names.map(move |name| format!("{group}.{name}"))
    })
}

/// The variable of the environment that sets a key.
pub(super) fn variable(key: &str) -> String {
    let special = VARIABLES.iter().find(|(of, _)| *of == key);
    match special {
        Some((_, variable)) => (*variable).to_owned(),
        None => {
            let name = key.strip_prefix("general.").unwrap_or(key);
            name.replace('.', "_").to_ascii_uppercase()
        }
    }
}

/// The key that a variable would set if there were one: that of a group, by its name.
pub(super) fn unknown(variable: &str) -> Option<String> {
    let (group, name) = variable.split_once('_')?;
    let group = group.to_ascii_lowercase();
    let is_group = group != "general" && KEYS.iter().any(|(known, _)| *known == group);
    is_group.then(|| format!("{group}.{}", name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_key_has_a_variable_of_its_own() {
        let keys: Vec<String> = all().collect();
        let variables: HashSet<String> = keys.iter().map(|key| variable(key)).collect();
        assert_eq!(variables.len(), keys.len());
        for (key, name) in [
            ("general.remote_storage", "REMOTE_STORAGE"),
            ("clickhouse.skip_tables", "CLICKHOUSE_SKIP_TABLES"),
            ("s3.bucket", "S3_BUCKET"),
            ("azblob.buffer_count", "AZBLOB_MAX_BUFFERS"),
        ] {
            assert!(keys.iter().any(|known| known == key), "{key}");
            assert_eq!(variable(key), name);
        }
        assert_eq!(unknown("S3_SPEED").as_deref(), Some("s3.speed"));
        assert_eq!(unknown("HOME_DIR"), None);
    }
}
