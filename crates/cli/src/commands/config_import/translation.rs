//! A configuration that was translated, and the settings file that it makes.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;
use url::Url;

use super::config::{Config, is_off, is_true};
use super::fate::{self, Fate, UNKNOWN};
use super::source::Source;

/// Where servers keep their data unless they are told otherwise; clickhouse-backup has its backups in it.
const DATA: &str = "/var/lib/clickhouse";

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
    pub(super) left_out: BTreeMap<&'static str, LeftOut>,
}

/// Settings that have no counterpart for the same reason.
#[derive(Debug, Serialize)]
pub(super) struct LeftOut {
    /// Whether there is nothing to set, or what they are for is absent; `None` where they are not known.
    fate: Option<Fate>,
    pub(super) keys: Vec<String>,
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
        let where_password_is = secret(config, source, "clickhouse.password");
        if let Some(password) = config.text("clickhouse.password") {
            if source.with_secrets {
                self.set("clickhouse.password", password);
            } else {
                self.remark("target", where_password_is);
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
        let data = config.text("clickhouse.data_path");
        self.elsewhere.push(format!(
            "Local backups are read with --from clickhouse-backup+file://{}/backup (in the directory \
             of the server's default disk), on the server itself: mendb list, mendb show, mendb restore",
            data.as_deref().unwrap_or(DATA).trim_end_matches('/')
        ));
        if let Some(data) = data {
            self.set("clickhouse.data_path", data);
        }
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
        let path_style = config.text("s3.force_path_style");
        if path_style.is_some_and(|value| !is_true(&value)) {
            variables.push("AWS_VIRTUAL_HOSTED_STYLE_REQUEST=true".to_owned());
        }
        for (key, variable) in [
            ("s3.access_key", "AWS_ACCESS_KEY_ID"),
            ("s3.secret_key", "AWS_SECRET_ACCESS_KEY"),
        ] {
            let where_it_is = secret(config, source, key);
            match config.text(key) {
                Some(value) if source.with_secrets => variables.push(format!("{variable}={value}")),
                Some(_) => {
                    self.elsewhere
                        .push(format!("{where_it_is}: set it as {variable}"));
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

    pub(super) fn general(&mut self, config: &mut Config) {
        if config.is_true("general.restore_in_place") {
            self.set("general.restore_in_place", "true");
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
    }

    /// What backups and restores leave out.
    pub(super) fn exclusions(&mut self, config: &mut Config) {
        let tables = config.list("clickhouse.skip_tables").unwrap_or_default();
        let of_server = |pattern: &String| {
            let database = pattern.split('.').next().unwrap_or_default();
            matches!(
                database,
                "system"
                    | "INFORMATION_SCHEMA"
                    | "information_schema"
                    | "_temporary_and_external_tables"
            )
        };
        let (own, tables): (Vec<String>, Vec<String>) = tables.into_iter().partition(of_server);
        self.exclude("clickhouse.exclude_tables", &tables);
        if !own.is_empty() {
            self.elsewhere.push(format!(
                "Tables of the server's own are never backed up (clickhouse.skip_tables: {})",
                own.join(", ")
            ));
        }
        for (old, new) in [
            (
                "clickhouse.skip_table_engines",
                "clickhouse.exclude_engines",
            ),
            ("clickhouse.skip_disks", "clickhouse.exclude_disks"),
        ] {
            let patterns = config.list(old).unwrap_or_default();
            self.exclude(new, &patterns);
        }
        if self.settings.contains_key("clickhouse.exclude_disks") {
            self.remark(
                "clickhouse.exclude_disks",
                "leaves whole tables out that may have parts there; clickhouse-backup left out the parts",
            );
        }
    }

    fn exclude(&mut self, key: &'static str, patterns: &[String]) {
        if patterns.is_empty() {
            return;
        }
        self.set(key, patterns.join(","));
        if patterns.iter().any(|pattern| pattern.contains('[')) {
            self.remark(key, "* and ? stand for characters here, and [ for itself");
        }
    }

    /// Names what is set and was not translated.
    pub(super) fn leave_out(&mut self, config: &Config) {
        for (key, value) in &config.values {
            if is_off(value) {
                continue;
            }
            let (fate, reason) = match fate::of(key) {
                // Its kind is translated, and this was not as it should be, or is for another place.
                Some((Fate::Translated, _)) if key.starts_with("s3.") => (
                    Some(Fate::NotNeeded),
                    "it is not where the backups are (general.remote_storage)",
                ),
                Some((Fate::Translated, _)) => (None, "its value is not one that it can have"),
                Some((fate, why)) => (Some(fate), why),
                None => (None, UNKNOWN),
            };
            let told = match config.variable(key) {
                Some(variable) => format!("{key} ({variable})"),
                None => key.clone(),
            };
            let left_out = self.left_out.entry(reason).or_insert(LeftOut {
                fate,
                keys: Vec::new(),
            });
            left_out.keys.push(told);
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
        for (reason, LeftOut { keys, .. }) in &self.left_out {
            line(&format!("# {}: {reason}", keys.join(", ")));
        }
        out
    }
}

/// Where a secret is that is not printed.
fn secret(config: &Config, source: &Source<'_>, key: &str) -> String {
    let place = match (config.variable(key), source.file) {
        (Some(variable), _) => format!("{variable} of the environment"),
        (None, Some(file)) => file.to_owned(),
        (None, None) => "nowhere".to_owned(),
    };
    format!("{key} is in {place} and not printed here (--with-secrets prints it)")
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
