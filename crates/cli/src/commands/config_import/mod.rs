//! `mendb config import`: the configuration of clickhouse-backup as settings of mendb.
//!
//! The translation is a function of text: what has a counterpart becomes a setting, what is only needed
//! once becomes a comment that says where to put it, and everything else that is set is named in a
//! comment with the reason why it is left out. So nothing of the file is dropped silently. Passwords and
//! keys are printed only when that was asked for.

mod config;
mod left_out;
mod translation;

use std::path::PathBuf;

use clap::Args;
use serde_norway::Value as Yaml;

use self::config::Config;
use self::translation::Translation;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};

/// What clickhouse-backup calls this variable; its own file cannot set it in all versions.
const IN_PLACE_VARIABLE: &str = "RESTORE_IN_PLACE";

/// Print the configuration of clickhouse-backup as a settings file of mendb.
///
/// Settings that have no counterpart are listed as comments with the reason.
#[derive(Debug, Args)]
pub struct ImportCommand {
    /// The configuration: /etc/clickhouse-backup/config.yml
    file: PathBuf,
    /// Print passwords and keys too, instead of where they are
    #[arg(long)]
    with_secrets: bool,
}

impl ImportCommand {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<Verdict, Failure> {
        let shown = self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file)
            .map_err(|error| Failure::io(format!("cannot read {shown}"), &error))?;
        let source = Source {
            file: &shown,
            in_place: std::env::var(IN_PLACE_VARIABLE).ok(),
            with_secrets: self.with_secrets,
        };
        let translation = translate(&text, &source)?;
        context.output.record(&translation, Translation::yaml)?;
        Ok(Verdict::Done)
    }
}

/// What a configuration is translated with.
struct Source<'s> {
    /// The file, as comments name it.
    file: &'s str,
    /// The value of [`IN_PLACE_VARIABLE`].
    in_place: Option<String>,
    with_secrets: bool,
}

/// Translates a configuration.
///
/// # Errors
/// It is not YAML, or not made of groups of settings.
fn translate(text: &str, source: &Source<'_>) -> Result<Translation, Failure> {
    let yaml: Yaml = serde_norway::from_str(text).map_err(|error| {
        let message = format!("{} is not YAML", source.file);
        Failure::of(FailureKind::FixInput, &error).context(message)
    })?;
    let mut config = Config::read(&yaml).ok_or_else(|| {
        let file = source.file;
        Failure::input(format!("{file} is no configuration of clickhouse-backup"))
            .hint("it has groups of settings such as general:, clickhouse: and s3:")
    })?;
    let mut translation = Translation::default();
    translation.target(&mut config, source);
    translation.repository(&mut config, source);
    translation.general(&mut config, source);
    translation.leave_out(&config);
    Ok(translation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn source() -> Source<'static> {
        Source {
            file: "config.yml",
            in_place: None,
            with_secrets: false,
        }
    }

    fn yaml(config: &str, source: &Source<'_>) -> String {
        translate(config, source).unwrap().yaml()
    }

    /// The settings that a translation makes when it is the settings file.
    fn read(settings: &str) -> crate::settings::Settings {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mendb.yml"), settings).unwrap();
        let sources = Sources {
            directory: directory.path().to_owned(),
            ..Sources::default()
        };
        sources.resolve().unwrap().0
    }

    const S3: &str = "
general:
  remote_storage: s3
  max_file_size: 1073741824
  backups_to_keep_remote: 7
  upload_concurrency: 4
  download_concurrency: 8
  upload_max_bytes_per_second: 1000000
  download_max_bytes_per_second: 0
  retries_on_failure: 3
  restore_in_place: true
  restore_database_mapping: {a: b}
  sharded_operation_mode: ''
  made_up: 1
clickhouse:
  username: backup user
  password: 'p:w''d'
  host: db1.example
  port: 9440
  secure: true
  skip_tables: [system.*, INFORMATION_SCHEMA.*, 'logs.*']
  freeze_by_part: false
s3:
  bucket: old
  path: /shard{shard}/backups/
  endpoint: minio:9000
  disable_ssl: true
  region: eu-1
  access_key: AK
  secret_key: SK
  force_path_style: true
  compression_format: zstd
ftp:
  address: ''
  timeout: 2m
api:
  listen: localhost:7171
";

    #[test]
    fn what_has_a_counterpart_becomes_a_setting_that_mendb_reads() {
        let text = yaml(S3, &source());
        let settings = read(&text);
        assert_eq!(
            settings.target,
            "clickhouses://backup%20user@db1.example:8443/"
        );
        assert_eq!(settings.repository, "s3://old/mendb-backups");
        assert_eq!(settings.transfers, 8);
        assert_eq!(settings.repository_attempts, 4);
        assert!(settings.restore_in_place);
        assert!(text.contains("upload_bytes_per_s: 1000000"), "{text}");
        assert!(!text.contains("download_bytes_per_s"), "{text}");
    }

    #[test]
    fn what_belongs_elsewhere_is_said_and_what_is_left_out_has_its_reason() {
        let text = yaml(S3, &source());
        for said in [
            "used 9440",
            "--from clickhouse-backup+s3://old/shard{shard}/backups",
            "replace {shard}/backups",
            "AWS_ALLOW_HTTP=true AWS_ENDPOINT=http://minio:9000 AWS_REGION=eu-1",
            "--database-mapping a=b",
            "left these out: logs.*",
            "general.max_file_size, s3.compression_format: a backup stores every file once",
            "general.backups_to_keep_remote: backups stay until",
            "general.made_up: mendb has no such setting",
            "api.listen: mendb serves no API",
            "ftp.timeout: it is not where the backups are",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        for empty in ["sharded_operation_mode", "freeze_by_part", "ftp.address"] {
            assert!(!text.contains(empty), "{empty}\n{text}");
        }
    }

    #[test]
    fn every_key_that_is_set_is_named_or_translated() {
        let config = Config::read(&serde_norway::from_str(S3).unwrap()).unwrap();
        let translated = translate(S3, &source()).unwrap();
        let taken = "general.remote_storage general.upload_concurrency general.download_concurrency \
                     general.upload_max_bytes_per_second general.download_max_bytes_per_second \
                     general.retries_on_failure general.restore_in_place \
                     general.restore_database_mapping clickhouse.username clickhouse.password \
                     clickhouse.host clickhouse.port clickhouse.secure clickhouse.skip_tables \
                     clickhouse.freeze_by_part s3.bucket s3.path s3.endpoint s3.disable_ssl s3.region \
                     s3.access_key s3.secret_key s3.force_path_style";
        let left: Vec<&String> = translated.left_out.values().flatten().collect();
        for key in config.values.keys() {
            let is_taken = taken.split_whitespace().any(|taken| taken == key);
            assert!(is_taken != left.contains(&key), "{key}");
        }
    }

    #[test]
    fn secrets_are_printed_only_when_asked_for() {
        let text = yaml(S3, &source());
        for secret in ["p:w", "AK", "SK"] {
            assert!(
                !text.contains(&format!("={secret}")) && !text.contains(&format!(": '{secret}"))
            );
        }
        assert!(
            text.contains("clickhouse.password is in config.yml"),
            "{text}"
        );
        assert!(text.contains("s3.secret_key is in config.yml"), "{text}");

        let all = Source {
            with_secrets: true,
            ..source()
        };
        let text = yaml(S3, &all);
        assert_eq!(read(&text).clickhouse_password.reveal(), "p:w'd");
        assert!(
            text.contains("AWS_ACCESS_KEY_ID=AK AWS_SECRET_ACCESS_KEY=SK"),
            "{text}"
        );
    }

    #[test]
    fn an_empty_configuration_is_a_local_server_with_local_backups() {
        for config in [
            "{}",
            "general:\nclickhouse: {host: '::1', username: default}",
        ] {
            let text = yaml(config, &source());
            let settings = read(&text);
            assert!(settings.target.ends_with(":8123/"), "{text}");
            assert_eq!(settings.repository, "file:///var/lib/mendb");
            assert!(!settings.restore_in_place);
            assert!(
                text.contains("clickhouse-backup+file:///var/lib/clickhouse/backup"),
                "{text}"
            );
        }
        assert!(yaml("clickhouse: {host: '::1'}", &source()).contains("clickhouse://[::1]:8123/"));
    }

    #[test]
    fn the_environment_sets_in_place_too() {
        for (variable, expected) in [("1", true), ("true", true), ("false", false)] {
            let source = Source {
                in_place: Some(variable.to_owned()),
                ..source()
            };
            let settings = read(&yaml("general: {restore_in_place: false}", &source));
            assert_eq!(settings.restore_in_place, expected);
        }
    }

    #[test]
    fn storages_that_are_not_read_are_named() {
        let text = yaml(
            "general: {remote_storage: gcs}\ngcs: {bucket: b}",
            &source(),
        );
        assert!(text.contains("Backups on gcs are not read there"), "{text}");
        assert!(text.contains("gcs.bucket: "), "{text}");
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for bad in ["a: [", "- x", "general: 1", "text", "1: {a: b}"] {
            let failure = translate(bad, &source()).err().unwrap();
            assert_eq!(failure.kind, FailureKind::FixInput, "{bad}");
        }
    }
}
