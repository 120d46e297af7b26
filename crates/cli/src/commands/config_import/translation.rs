//! A configuration that was translated, and the settings file that it makes.

use std::collections::BTreeMap;
use std::fmt::Write;

use mendb_model::name::matches;
use serde::Serialize;
use serde_norway::Value as Yaml;
use url::Url;

use super::config::{Config, is_true};
use super::left_out::{REASONS, UNKNOWN};
use super::{IN_PLACE_VARIABLE, Source};

/// Where servers keep their data unless they are told otherwise, and clickhouse-backup its backups in it.
const LOCAL_BACKUPS: &str = "/var/lib/clickhouse/backup";

/// A translated configuration.
#[derive(Debug, Default, Serialize)]
pub(super) struct Translation {
    /// Settings by key.
    pub(super) settings: BTreeMap<&'static str, String>,
    /// What has to be known of a setting, by its key.
    remarks: BTreeMap<&'static str, Vec<String>>,
    /// What belongs elsewhere: into the environment, or onto command lines.
    elsewhere: Vec<String>,
    /// Settings without a counterpart, by the reason.
    pub(super) left_out: BTreeMap<&'static str, Vec<String>>,
}

impl Translation {
    fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.settings.insert(key, value.into());
    }

    fn remark(&mut self, key: &'static str, remark: impl Into<String>) {
        self.remarks.entry(key).or_default().push(remark.into());
    }

    /// The server.
    pub(super) fn target(&mut self, config: &mut Config, source: &Source<'_>) {
        let host = config.text("clickhouse.host");
        let host = host.unwrap_or_else(|| "localhost".to_owned());
        let secure = config.is_true("clickhouse.secure");
        let port = if secure { 8443 } else { 8123 };
        let old_port = config.number("clickhouse.port").unwrap_or(9000);
        let user = config.text("clickhouse.username");
        let host = match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]"),
            false => host,
        };
        let scheme = if secure { "clickhouses" } else { "clickhouse" };
        let mut target = format!("{scheme}://{host}:{port}/");
        if let Some(user) = user.filter(|user| user != "default")
            && let Ok(mut url) = Url::parse(&target)
            && url.set_username(&user).is_ok()
        {
            target = url.into();
        }
        self.set("target", target);
        self.remark(
            "target",
            format!(
                "{port} is the port for HTTP where a server was not told otherwise; clickhouse-backup \
                 used {old_port}, which is of another protocol"
            ),
        );
        if let Some(password) = config.text("clickhouse.password") {
            if source.with_secrets {
                self.set("clickhouse.password", password);
            } else {
                self.remark("target", secret(source, "clickhouse.password"));
                self.remark(
                    "target",
                    "set it as clickhouse.password, or as MENDB_CLICKHOUSE_PASSWORD in the environment",
                );
            }
        }
    }

    /// Where the old backups are, and where new ones could be.
    pub(super) fn repository(&mut self, config: &mut Config, source: &Source<'_>) {
        let storage = config.text("general.remote_storage");
        let storage = storage.unwrap_or_else(|| "none".to_owned());
        self.elsewhere.push(format!(
            "Local backups are read with --from clickhouse-backup+file://{LOCAL_BACKUPS} (in the directory \
             of the server's default disk), on the server itself: mendb list, mendb show, mendb restore"
        ));
        let bucket = config.text("s3.bucket");
        match (storage.as_str(), bucket) {
            ("s3", Some(bucket)) => self.s3(&bucket, config, source),
            ("none", _) => {
                self.set("repository", "file:///var/lib/mendb");
                self.remark(
                    "repository",
                    "a suggestion: a directory for the backups that mendb makes, best on another disk or machine",
                );
            }
            (storage, _) => {
                self.set("repository", "file:///var/lib/mendb");
                self.remark(
                    "repository",
                    format!(
                        "a suggestion: remote_storage is {storage}, and mendb keeps backups in directories and \
                         on S3 (file:///dir, s3://bucket/prefix)"
                    ),
                );
                self.elsewhere.push(format!(
                    "Backups on {storage} are not read there: have clickhouse-backup download one, and read \
                     it as a local one"
                ));
            }
        }
    }

    fn s3(&mut self, bucket: &str, config: &mut Config, source: &Source<'_>) {
        let path = config.text("s3.path").unwrap_or_default();
        let path = path.trim_matches('/');
        let place = format!("{bucket}/{path}");
        let place = place.trim_end_matches('/');
        self.elsewhere.push(format!(
            "Remote backups are read with --from clickhouse-backup+s3://{place}"
        ));
        if place.contains('{') {
            self.elsewhere.push(format!(
                "There, replace {} by what the server's macros say (system.macros)",
                place[place.find('{').unwrap_or_default()..].trim_end_matches('/')
            ));
        }
        // Never inside of the other's path: it removes there what it takes for broken backups.
        let beside = if path.is_empty() {
            "mendb"
        } else {
            "mendb-backups"
        };
        self.set("repository", format!("s3://{bucket}/{beside}"));
        self.remark(
            "repository",
            "a suggestion: a place for the backups that mendb makes, apart from those of clickhouse-backup",
        );
        if path.is_empty() {
            self.remark(
                "repository",
                "better take another bucket: clickhouse-backup has the whole of this one, and takes what it \
                 does not know for broken backups, which it may remove",
            );
        }
        let mut variables = Vec::new();
        let endpoint = config.text("s3.endpoint");
        let without_tls = config.is_true("s3.disable_ssl");
        if let Some(endpoint) = endpoint {
            let scheme = if without_tls { "http" } else { "https" };
            let endpoint = match endpoint.contains("://") {
                true => endpoint,
                false => format!("{scheme}://{endpoint}"),
            };
            if endpoint.starts_with("http://") {
                variables.push("AWS_ALLOW_HTTP=true".to_owned());
            }
            variables.push(format!("AWS_ENDPOINT={endpoint}"));
        }
        if let Some(region) = config.text("s3.region") {
            variables.push(format!("AWS_REGION={region}"));
        }
        if config.values.remove("s3.force_path_style") == Some(Yaml::Bool(false)) {
            variables.push("AWS_VIRTUAL_HOSTED_STYLE_REQUEST=true".to_owned());
        }
        for (key, variable) in [
            ("s3.access_key", "AWS_ACCESS_KEY_ID"),
            ("s3.secret_key", "AWS_SECRET_ACCESS_KEY"),
        ] {
            match config.text(key) {
                Some(value) if source.with_secrets => variables.push(format!("{variable}={value}")),
                Some(_) => {
                    let remark = format!("{}: set it as {variable}", secret(source, key));
                    self.elsewhere.push(remark);
                }
                None => {}
            }
        }
        if !variables.is_empty() {
            let variables = variables.join(" ");
            self.elsewhere
                .push(format!("The environment that S3 needs: {variables}"));
        }
    }

    pub(super) fn general(&mut self, config: &mut Config, source: &Source<'_>) {
        let in_file = config.text("general.restore_in_place");
        let in_place = source.in_place.as_ref().or(in_file.as_ref());
        if in_place.is_some_and(|value| is_true(value)) {
            self.set("general.restore_in_place", "true");
            if source.in_place.is_some() {
                let remark = format!("from the variable {IN_PLACE_VARIABLE} of the environment");
                self.remark("general.restore_in_place", remark);
            }
        }
        let concurrency = ["general.upload_concurrency", "general.download_concurrency"];
        if let Some(most) = concurrency
            .iter()
            .filter_map(|key| config.number(key))
            .max()
        {
            self.set("repository.transfers", most.to_string());
            let remark = "files at the same time over all tables; clickhouse-backup counted tables, and parts \
                          of each again";
            self.remark("repository.transfers", remark);
        }
        for (old, new) in [
            (
                "general.upload_max_bytes_per_second",
                "repository.upload_bytes_per_s",
            ),
            (
                "general.download_max_bytes_per_second",
                "repository.download_bytes_per_s",
            ),
        ] {
            if let Some(limit) = config.number(old) {
                self.set(new, limit.to_string());
                let remark =
                    "for all transfers together; clickhouse-backup limited each part on its own";
                self.remark(new, remark);
            }
        }
        if let Some(retries) = config.number("general.retries_on_failure") {
            self.set("backup.attempts", (retries + 1).to_string());
        }
        let databases = config.pairs("general.restore_database_mapping");
        if let Some(pairs) = databases.filter(|pairs| !pairs.is_empty()) {
            self.elsewhere.push(format!(
                "Databases are renamed by the restore that shall do it: mendb restore --database-mapping {pairs}"
            ));
        }
        let tables = config.pairs("general.restore_table_mapping");
        if let Some(pairs) = tables.filter(|pairs| !pairs.is_empty()) {
            self.elsewhere.push(format!(
                "Tables are renamed by the restore that shall do it, with database.table=database.table: \
                 mendb restore --rename (restore_table_mapping was {pairs})"
            ));
        }
        if let Some(Yaml::Sequence(skipped)) = config.values.remove("clickhouse.skip_tables") {
            let skipped: Vec<&str> = skipped.iter().filter_map(Yaml::as_str).collect();
            let is_system = |pattern: &&&str| {
                let database = pattern.split('.').next().unwrap_or_default();
                !matches!(
                    database,
                    "system"
                        | "INFORMATION_SCHEMA"
                        | "information_schema"
                        | "_temporary_and_external_tables"
                )
            };
            let others: Vec<&str> = skipped.iter().filter(is_system).copied().collect();
            if !others.is_empty() {
                self.elsewhere.push(format!(
                    "Tables are chosen by each backup with --tables; clickhouse.skip_tables left these out: {}",
                    others.join(", ")
                ));
            }
        }
    }

    /// Names what is set and was not translated.
    pub(super) fn leave_out(&mut self, config: &Config) {
        for (key, value) in &config.values {
            let is_off = matches!(value, Yaml::Bool(false)) || value.as_i64() == Some(0);
            if is_off {
                continue;
            }
            let known = REASONS.iter().find(|(keys, _)| matches(keys, key));
            let reason = known.map_or(UNKNOWN, |(_, reason)| reason);
            self.left_out.entry(reason).or_default().push(key.clone());
        }
    }

    /// The settings file.
    pub(super) fn yaml(&self) -> String {
        let mut out =
            String::from("# mendb.yml, translated from the configuration of clickhouse-backup.\n");
        // Writing to a String does not fail.
        let mut line = |text: &str| {
            let _ = writeln!(out, "{text}");
        };
        let mut groups: BTreeMap<&str, Vec<(&str, &'static str)>> = BTreeMap::new();
        for key in self.settings.keys() {
            let (group, name) = match *key {
                "repository" => ("repository", "url"),
                key => key.split_once('.').unwrap_or(("", key)),
            };
            groups.entry(group).or_default().push((name, key));
        }
        for (group, settings) in groups {
            line("");
            if !group.is_empty() {
                line(&format!("{group}:"));
            }
            let indent = if group.is_empty() { "" } else { "  " };
            for (name, key) in settings {
                for remark in self.remarks.get(key).into_iter().flatten() {
                    line(&format!("{indent}# {remark}"));
                }
                let value = scalar(&self.settings[key]);
                line(&format!("{indent}{name}: {value}"));
            }
        }
        if !self.elsewhere.is_empty() {
            line("");
        }
        for remark in &self.elsewhere {
            line(&format!("# {remark}"));
        }
        if !self.left_out.is_empty() {
            line("\n# Left out:");
        }
        for (reason, keys) in &self.left_out {
            line(&format!("# {}: {reason}", keys.join(", ")));
        }
        out
    }
}

/// Where a secret is that is not printed.
fn secret(source: &Source<'_>, key: &str) -> String {
    let file = source.file;
    format!("{key} is in {file} and not printed here (--with-secrets prints it)")
}

/// A value as YAML: in quotes where it would be read as something else.
fn scalar(value: &str) -> String {
    let is_plain = !value.is_empty()
        && value
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/:._-@%[]?=".contains(&byte))
        && !value.starts_with(['[', '-', '?', ':', '%', '@', '=']);
    if is_plain {
        value.to_owned()
    } else {
        format!("'{}'", value.replace('\'', "''"))
    }
}
