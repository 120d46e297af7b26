//! The settings: what they are, where their values come from.
//!
//! A value is taken from the first place that has one: a flag, the environment, the settings file,
//! the default. The settings file is YAML (`mendb.yml` in the current directory, or `--config FILE`),
//! its keys nested at the dots: `rowstore.split_bytes` is `split_bytes` under `rowstore`.
//!
//! Passwords go to where they are used and nowhere else: what is shown of a setting hides them.

mod definitions;
pub mod file;
pub mod hooks;
pub mod secret;
pub mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mendb_model::part::{Exclusion, PartitionMethod};
use serde::Serialize;

use crate::failure::Failure;
use definitions::{DEFINITIONS, Definition};
use file::SettingsFile;
use hooks::Hooks;
use secret::Secret;

/// The settings of one run of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// URL of the database to back up or mend; it may hold a password.
    pub target: String,
    /// URL of where backups live.
    pub repository: String,
    /// URL of the server that runs commands instead of this process.
    pub server: Option<String>,
    /// URL of the journal that servers share, instead of one beside the target.
    pub journal: Option<String>,
    /// Where copies of such journals are.
    pub journal_copies: PathBuf,
    /// The directory of the journals of work on repositories alone.
    pub repository_state: PathBuf,
    /// The most bytes a second that go to the repository.
    pub upload_bytes_per_s: Option<u64>,
    /// The most bytes a second that come from the repository.
    pub download_bytes_per_s: Option<u64>,
    /// Files that go to or come from the repository at the same time.
    pub transfers: u64,
    /// Shards or tables that work at the same time; eight small shards count as one.
    pub max_in_flight: u64,
    /// Seconds after which an operation fails.
    pub operation_deadline_s: u64,
    /// Seconds after which one step of an operation fails.
    pub step_deadline_s: u64,
    /// Whether a restore mends tables where they are, without being told.
    pub restore_in_place: bool,
    /// The order of work of a restore in place.
    pub restore_order: PartitionMethod,
    /// The password of the target's user, for URLs without one.
    pub clickhouse_password: Secret,
    /// Where the server's default disk is seen from here.
    pub clickhouse_data_path: Option<PathBuf>,
    /// Whether backups leave credentials in definitions out.
    pub without_secrets: bool,
    /// The directory of the journal of a ClickHouse target.
    pub clickhouse_state: Option<PathBuf>,
    /// The directory of the journal of a PostgreSQL target, where one is named.
    pub postgres_state: Option<PathBuf>,
    /// The most bytes of rows a second of a PostgreSQL target.
    pub postgres_bytes_per_s: Option<u64>,
    /// Where else these journals are, a directory for each database.
    pub postgres_journals: PathBuf,
    /// The directory of the journals of clusters.
    pub cluster_state: PathBuf,
    /// Where agents listen.
    pub cluster_agent_port: u16,
    /// The certificate by which agents know this machine.
    pub cluster_tls_cert: Option<PathBuf>,
    /// Its key.
    pub cluster_tls_key: Option<PathBuf>,
    /// Who signed the certificates of agents.
    pub cluster_tls_ca: Option<PathBuf>,
    /// What keeps the users of a cluster from inserting, for as long as an exact backup freezes.
    pub cluster_stop_inserts: Option<PathBuf>,
    /// What lets them insert again.
    pub cluster_start_inserts: Option<PathBuf>,
    /// Seconds for which inserts are stopped at most.
    pub cluster_stop_inserts_s: u64,
    /// Seconds after which an agent that does not answer is lost; 0 for never.
    pub cluster_take_over_after_s: u64,
    /// Seconds that replicas of tables are waited for.
    pub replica_wait_s: u64,
    /// Tables of a ClickHouse server that backup and restore leave out.
    pub exclude: Exclusion,
    /// A shard larger than this splits.
    pub split_bytes: u64,
    /// Memory for blocks that were read.
    pub cache_bytes: u64,
    /// A change log larger than this is let go; `None` for no limit.
    pub change_log_bytes: Option<u64>,
    /// A backup's segment ends after about this much.
    pub segment_bytes: u64,
    /// Compression of segments, 1 to 22.
    pub zstd_level: u64,
    /// Attempts of a request to the object store.
    pub repository_attempts: u64,
    /// Who a server tells what happened.
    pub hooks: Hooks,
}

/// A setting with its value and where that came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key in the settings file.
    pub key: &'static str,
    /// The value, as it was written; passwords hidden.
    pub value: String,
    /// `flag --target`, `environment MENDB_TARGET`, `file mendb.yml` or `default`.
    pub from: String,
    /// What the setting does.
    #[serde(skip)]
    pub about: &'static str,
}

/// What the settings are made of. Tests make their own; the program reads the process's.
#[derive(Debug, Default)]
pub struct Sources {
    /// The current directory.
    pub directory: PathBuf,
    /// `--config`, or `MENDB_CONFIG`.
    pub file: Option<PathBuf>,
    /// Values of flags, by key.
    pub flags: BTreeMap<&'static str, String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
}

impl Sources {
    /// The settings, and each with its origin.
    ///
    /// # Errors
    /// The settings file cannot be read or has a key that is none, or a value is not one of its setting.
    pub fn resolve(&self) -> Result<(Settings, Vec<Entry>), Failure> {
        let file = file::read(&self.directory, self.file.as_deref())?;
        let mut settings = Settings::default();
        let mut entries = Vec::with_capacity(DEFINITIONS.len());
        for definition in &DEFINITIONS {
            let (value, from) = self.find(definition, file.as_ref());
            let entry = definition.entry(&value, from);
            (definition.store)(&mut settings, &value).map_err(|wanted| {
                Failure::misuse(format!(
                    "{} is {:?} ({}), which is not {wanted}",
                    entry.key, entry.value, entry.from
                ))
            })?;
            entries.push(entry);
        }
        if settings.repository_state.as_os_str().is_empty() {
            settings.repository_state = self.state_of("repositories");
        }
        if settings.cluster_state.as_os_str().is_empty() {
            settings.cluster_state = self.state_of("clusters");
        }
        settings.postgres_journals = self.state_of("postgres");
        settings.journal_copies = self.state_of("journals");
        Ok((settings, entries))
    }

    /// Every setting at its default.
    pub fn defaults(directory: &Path) -> Vec<Entry> {
        let sources = Self {
            directory: directory.to_owned(),
            ..Self::default()
        };
        let entry = |definition: &Definition| {
            let (value, from) = sources.find(definition, None);
            definition.entry(&value, from)
        };
        DEFINITIONS.iter().map(entry).collect()
    }

    /// The value of a setting and where it comes from.
    fn find(&self, definition: &Definition, file: Option<&SettingsFile>) -> (String, String) {
        let key = definition.key;
        let variable = environment_name(key);
        let flag = self
            .flags
            .get(key)
            .map(|value| (value.clone(), format!("flag {}", flag_name(key))));
        let environment = || {
            let value = self.environment.get(&variable)?;
            (!value.is_empty()).then(|| (value.clone(), format!("environment {variable}")))
        };
        let in_file = || {
            let file = file?;
            let value = file.values.get(key)?;
            Some((value.clone(), format!("file {}", file.path.display())))
        };
        flag.or_else(environment)
            .or_else(in_file)
            .unwrap_or_else(|| (self.default_of(definition), "default".to_owned()))
    }

    fn default_of(&self, definition: &Definition) -> String {
        match definition.default {
            Some(value) => value.to_owned(),
            None => {
                let scheme = if definition.key == "target" {
                    "mendb"
                } else {
                    "file"
                };
                let directory = self.directory.join("mendb-data").join(definition.key);
                format!("{scheme}://{}", directory.display())
            }
        }
    }
}

impl Sources {
    /// Where programs keep what they would go on with, by the XDG base directory specification; below the current
    /// directory where the environment has no home.
    fn state_of(&self, what: &str) -> PathBuf {
        let absolute = |name: &str| {
            let value = self.environment.get(name).map(PathBuf::from);
            value.filter(|path| path.is_absolute())
        };
        let state = absolute("XDG_STATE_HOME");
        let state = state.or_else(|| Some(absolute("HOME")?.join(".local/state")));
        match state {
            Some(state) => state.join("mendb").join(what),
            None => self.directory.join("mendb-data").join(what),
        }
    }
}

impl Definition {
    fn entry(&self, value: &str, from: String) -> Entry {
        Entry {
            key: self.key,
            value: (self.show)(value),
            from,
            about: self.about,
        }
    }
}

/// The environment variable of a setting: `rowstore.split_bytes` is `MENDB_ROWSTORE_SPLIT_BYTES`.
pub fn environment_name(key: &str) -> String {
    format!("MENDB_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The flag of a setting that has one: `clickhouse.data_path` is `--data-path`.
fn flag_name(key: &str) -> String {
    let name = key.rsplit('.').next().unwrap_or(key);
    format!("--{}", name.replace('_', "-"))
}

#[cfg(test)]
mod tests {
    use super::file::FILE_NAME;
    use super::*;

    fn sources(yaml: Option<&str>) -> (tempfile::TempDir, Sources) {
        let directory = tempfile::tempdir().unwrap();
        if let Some(yaml) = yaml {
            std::fs::write(directory.path().join(FILE_NAME), yaml).unwrap();
        }
        let sources = Sources {
            directory: directory.path().to_owned(),
            ..Sources::default()
        };
        (directory, sources)
    }

    fn from<'e>(entries: &'e [Entry], key: &str) -> &'e str {
        &entries.iter().find(|entry| entry.key == key).unwrap().from
    }

    #[test]
    fn the_nearest_place_wins() {
        let (_directory, mut sources) = sources(Some(
            "target: mendb:///file\nrepository: file:///file\ngeneral:\n  max_in_flight: 7\n",
        ));
        let (settings, entries) = sources.resolve().unwrap();
        assert_eq!(settings.target, "mendb:///file");
        assert_eq!(settings.max_in_flight, 7);
        assert_eq!(settings.split_bytes, 512 << 20);
        assert_eq!(from(&entries, "target"), "file mendb.yml");
        assert_eq!(from(&entries, "rowstore.split_bytes"), "default");

        let variables = [
            ("MENDB_TARGET", "mendb:///env"),
            ("MENDB_REPOSITORY", "file:///env"),
        ];
        sources.environment = variables.map(|(k, v)| (k.into(), v.into())).into();
        sources.flags.insert("target", "mendb:///flag".into());
        let (settings, entries) = sources.resolve().unwrap();
        assert_eq!(settings.target, "mendb:///flag");
        assert_eq!(settings.repository, "file:///env");
        assert_eq!(from(&entries, "target"), "flag --target");
        assert_eq!(from(&entries, "repository"), "environment MENDB_REPOSITORY");
    }

    #[test]
    fn without_anything_the_data_is_under_the_current_directory() {
        let (directory, sources) = sources(None);
        let (settings, _) = sources.resolve().unwrap();
        let expected = format!("mendb://{}/mendb-data/target", directory.path().display());
        assert_eq!(settings.target, expected);
    }

    #[test]
    fn what_is_done_in_repositories_is_found_from_every_directory() {
        let (directory, mut sources) = sources(None);
        let state = |sources: &Sources| sources.resolve().unwrap().0.repository_state;
        let here = directory.path().join("mendb-data/repositories");
        assert_eq!(state(&sources), here);
        sources
            .environment
            .insert("HOME".into(), "/home/ada".into());
        let home = Path::new("/home/ada/.local/state/mendb/repositories");
        assert_eq!(state(&sources), home);
        // By that specification a relative path counts as none.
        let set = |sources: &mut Sources, name: &str, value: &str| {
            sources.environment.insert(name.into(), value.into());
        };
        set(&mut sources, "XDG_STATE_HOME", "state");
        assert_eq!(state(&sources), home);
        set(&mut sources, "XDG_STATE_HOME", "/state");
        assert_eq!(state(&sources), Path::new("/state/mendb/repositories"));
        set(&mut sources, "MENDB_REPOSITORY_STATE", "/var/lib/mendb");
        assert_eq!(state(&sources), Path::new("/var/lib/mendb"));
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_with_its_name() {
        let (_directory, sources) = sources(Some("targets: x"));
        let failure = sources.resolve().unwrap_err();
        assert_eq!(failure.message, "in mendb.yml");
        assert_eq!(failure.causes, ["unknown setting \"targets\""]);
        assert_eq!(failure.exit_code(), 2);
    }

    #[test]
    fn a_password_is_used_and_not_shown() {
        let (_directory, mut sources) = sources(Some("clickhouse:\n  password: hunter2\n"));
        sources
            .flags
            .insert("target", "clickhouse://u:hunter3@h:8123/".into());
        sources
            .flags
            .insert("clickhouse.data_path", "/mnt/data".into());
        let (settings, entries) = sources.resolve().unwrap();
        assert_eq!(settings.clickhouse_password.reveal(), "hunter2");
        assert_eq!(settings.clickhouse_data_path, Some("/mnt/data".into()));
        assert_eq!(from(&entries, "clickhouse.data_path"), "flag --data-path");
        let shown = format!("{entries:?}");
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("clickhouse://u:****@h:8123/"), "{shown}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_origin() {
        let (_directory, mut sources) = sources(None);
        sources
            .environment
            .insert("MENDB_ROWSTORE_SPLIT_BYTES".into(), "lots".into());
        assert_eq!(
            sources.resolve().unwrap_err().message,
            "rowstore.split_bytes is \"lots\" (environment MENDB_ROWSTORE_SPLIT_BYTES), \
             which is not a size such as 1048576, 64MiB or 2GiB"
        );
    }

    #[test]
    fn a_missing_settings_file_is_an_error_when_it_was_asked_for() {
        let (_directory, mut sources) = sources(None);
        sources.file = Some("other.yml".into());
        let failure = sources.resolve().unwrap_err();
        assert_eq!(failure.message, "cannot read the settings file other.yml");
        assert_eq!(failure.exit_code(), 2);
    }
}
