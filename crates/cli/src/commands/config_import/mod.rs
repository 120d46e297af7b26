//! `mendb config import`: the configuration of clickhouse-backup as settings of mendb.
//!
//! The translation is a function of text and variables: what has a counterpart becomes a setting, what is
//! only needed once becomes a comment that says where to put it, and everything else that is set is named
//! in a comment with the reason why it is left out. So nothing of the configuration is dropped silently.
//! Passwords and keys are printed only when that was asked for.

mod config;
mod fate;
mod keys;
mod source;
mod table;
mod translation;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_norway::Value as Yaml;

use self::config::Config;
use self::source::Source;
use self::table::KeyRecord;
use self::translation::Translation;
use crate::context::Context;
use crate::failure::{Failure, FailureKind, Verdict};

/// Print the configuration of clickhouse-backup as a settings file of mendb.
///
/// Settings that have no counterpart are listed as comments with the reason.
#[derive(Debug, Args)]
pub struct ImportCommand {
    /// The configuration: /etc/clickhouse-backup/config.yml. With --env it can be left out
    #[arg(required_unless_present_any = ["env", "keys"])]
    file: Option<PathBuf>,
    /// Take what the environment sets too, as clickhouse-backup does: REMOTE_STORAGE, S3_BUCKET,
    /// CLICKHOUSE_HOST …
    #[arg(long)]
    env: bool,
    /// Print passwords and keys too, instead of where they are
    #[arg(long)]
    with_secrets: bool,
    /// Translate nothing: print every setting of clickhouse-backup with its variable and what becomes of it
    #[arg(long, conflicts_with_all = ["file", "env", "with_secrets"])]
    keys: bool,
}

impl ImportCommand {
    /// Runs the command.
    pub fn run(&self, context: &Context) -> Result<Verdict, Failure> {
        if self.keys {
            context
                .output
                .record(&KeyRecord::all(), |records| KeyRecord::describe(records))?;
            return Ok(Verdict::Done);
        }
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let text = self.file.as_deref().map(read).transpose()?;
        let shown = self.file.as_ref().map(|file| file.display().to_string());
        let source = Source {
            file: shown.as_deref(),
            environment: self.env.then_some(&environment),
            with_secrets: self.with_secrets,
        };
        let translation = translate(text.as_deref(), &source)?;
        context.output.record(&translation, Translation::yaml)?;
        let unread = set_in(&environment);
        if !self.env && !unread.is_empty() {
            context.say(&format!(
                "note: the environment sets {}, which clickhouse-backup prefers to its file; --env takes them",
                unread.join(", ")
            ));
        }
        Ok(Verdict::Done)
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(file)
        .map_err(|error| Failure::io(format!("cannot read {}", file.display()), &error))
}

/// Known variables that an environment sets.
fn set_in(environment: &BTreeMap<String, String>) -> Vec<String> {
    let is_set = |variable: &String| {
        let value = environment.get(variable);
        value.is_some_and(|value| !value.is_empty())
    };
    keys::all()
        .map(|key| keys::variable(&key))
        .filter(is_set)
        .collect()
}

/// Translates a configuration: the text of a file, if there is one, and the environment.
///
/// # Errors
/// It is not YAML, or not made of groups of settings.
fn translate(text: Option<&str>, source: &Source<'_>) -> Result<Translation, Failure> {
    let mut config = match text {
        Some(text) => parse(text, source.file.unwrap_or_default())?,
        None => Config::default(),
    };
    if let Some(environment) = source.environment {
        config.overlay(environment);
    }
    let mut translation = Translation::default();
    translation.target(&mut config, source);
    translation.repository(&mut config, source);
    translation.general(&mut config);
    translation.exclusions(&mut config);
    translation.leave_out(&config);
    Ok(translation)
}

fn parse(text: &str, file: &str) -> Result<Config, Failure> {
    let yaml: Yaml = serde_norway::from_str(text).map_err(|error| {
        let message = format!("{file} is not YAML");
        Failure::of(FailureKind::FixInput, &error).context(message)
    })?;
    Config::read(&yaml).ok_or_else(|| {
        Failure::input(format!("{file} is no configuration of clickhouse-backup"))
            .hint("it has groups of settings such as general:, clickhouse: and s3:")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Sources;

    fn source() -> Source<'static> {
        Source {
            file: Some("config.yml"),
            environment: None,
            with_secrets: false,
        }
    }

    fn yaml(config: &str, source: &Source<'_>) -> String {
        translate(Some(config), source).unwrap().yaml()
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
  skip_tables: [system.*, INFORMATION_SCHEMA.*]
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
            "(clickhouse.skip_tables: system.*, INFORMATION_SCHEMA.*)",
            "general.max_file_size, s3.compression_format: a backup stores every file once",
            "general.backups_to_keep_remote: backups stay until",
            "general.made_up: neither mendb nor",
            "api.listen: mendb serve --compat clickhouse-backup answers its routes, to who has a token",
            "ftp.timeout: mendb keeps backups in directories and on S3",
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
        let translated = translate(Some(S3), &source()).unwrap();
        let taken = "general.remote_storage general.upload_concurrency general.download_concurrency \
                     general.upload_max_bytes_per_second general.download_max_bytes_per_second \
                     general.retries_on_failure general.restore_in_place \
                     general.restore_database_mapping clickhouse.username clickhouse.password \
                     clickhouse.host clickhouse.port clickhouse.secure clickhouse.skip_tables \
                     clickhouse.freeze_by_part s3.bucket s3.path s3.endpoint s3.disable_ssl s3.region \
                     s3.access_key s3.secret_key s3.force_path_style";
        let left: Vec<&String> = {
            let left_out = translated.left_out.values();
            left_out.flat_map(|left_out| &left_out.keys).collect()
        };
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

    fn environment(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = variables.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_environment_wins_over_the_file_and_needs_none() {
        let variables = environment(&[
            ("REMOTE_STORAGE", "s3"),
            ("S3_BUCKET", "of-env"),
            ("S3_PATH", "backup"),
            ("S3_SECRET_KEY", "hunter2"),
            ("CLICKHOUSE_HOST", "ch-0"),
            ("CLICKHOUSE_PASSWORD", "hunter3"),
            ("CLICKHOUSE_DATA_PATH", "/mnt/ch"),
            ("CLICKHOUSE_SKIP_TABLES", "system.*, logs.*,tmp.?"),
            ("CLICKHOUSE_SKIP_TABLE_ENGINES", "Kafka"),
            ("CLICKHOUSE_SKIP_DISKS", "s3_cold"),
            ("RESTORE_IN_PLACE", "true"),
            ("RESTORE_DATABASE_MAPPING", "a:b,c:d"),
            ("BACKUPS_TO_KEEP_REMOTE", "7"),
            ("BACKUPS_TO_KEEP_LOCAL", "0"),
            ("S3_SPEED", "fast"),
            ("S3_ENDPOINT", ""),
            ("HOME", "/root"),
        ]);
        let source = Source {
            environment: Some(&variables),
            ..source()
        };
        let file = "s3: {bucket: of-file, region: eu-1}\nclickhouse: {username: me}";
        for (text, region) in [(Some(file), "AWS_REGION=eu-1"), (None, "")] {
            let said = translate(text, &source).unwrap().yaml();
            for line in [
                "@ch-0:8123/",
                "url: s3://of-env/mendb-backups",
                "data_path: /mnt/ch",
                "clickhouse-backup+file:///mnt/ch/backup",
                "exclude_tables: 'logs.*,tmp.?'",
                "exclude_engines: Kafka",
                "exclude_disks: s3_cold",
                "restore_in_place: true",
                "--database-mapping a=b,c=d",
                "s3.secret_key is in S3_SECRET_KEY of the environment",
                "clickhouse.password is in CLICKHOUSE_PASSWORD of the environment",
                "general.backups_to_keep_remote (BACKUPS_TO_KEEP_REMOTE): backups stay",
                "s3.speed (S3_SPEED): neither mendb nor",
                region,
            ] {
                let line = if text.is_none() {
                    line.trim_start_matches('@')
                } else {
                    line
                };
                assert!(said.contains(line), "{line}\n{said}");
            }
            for never in ["hunter", "HOME", "of-file", "KEEP_LOCAL", "ENDPOINT"] {
                assert!(!said.contains(never), "{never}\n{said}");
            }
        }
    }

    #[test]
    fn what_is_skipped_may_be_a_list_or_one_text() {
        for skip in ["[a.*, 'b.[0-9]']", "'a.*,b.[0-9]'"] {
            let text = yaml(&format!("clickhouse: {{skip_tables: {skip}}}"), &source());
            assert!(text.contains("exclude_tables: 'a.*,b.[0-9]'"), "{text}");
            assert!(text.contains("[ for itself"), "{text}");
        }
        let text = yaml("clickhouse: {skip_tables: {a: b}}", &source());
        assert!(
            text.contains("clickhouse.skip_tables: its value is not"),
            "{text}"
        );
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
            let failure = translate(Some(bad), &source()).err().unwrap();
            assert_eq!(failure.kind, FailureKind::FixInput, "{bad}");
        }
    }
}
