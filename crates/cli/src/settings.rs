//! The settings: what they are, where their values come from.
//!
//! A value is taken from the first place that has one: a flag, the environment, the settings file,
//! the default. The settings file is YAML (`mendb.yml` in the current directory, or `--config FILE`),
//! its keys nested at the dots: `rowstore.split_bytes` is `split_bytes` under `rowstore`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_norway::Value as Yaml;

use crate::failure::{Failure, FailureKind};

/// The settings file that is looked for in the current directory.
pub const FILE_NAME: &str = "mendb.yml";

/// One setting that exists.
struct Definition {
    /// Its key in the settings file, nested at the dots.
    key: &'static str,
    /// The value when nothing sets it; `None` for those that depend on the current directory.
    default: Option<&'static str>,
    /// What it does.
    about: &'static str,
    /// Checks a value and stores it.
    store: fn(&mut Settings, &str) -> Result<(), &'static str>,
}

/// Every setting, in the order they are shown.
const DEFINITIONS: [Definition; 10] = [
    Definition {
        key: "target",
        default: None,
        about: "the database to back up or mend: mendb:///dir",
        store: |settings, text| store(&mut settings.target, some_text(text)),
    },
    Definition {
        key: "repository",
        default: None,
        about: "where backups live: file:///dir, s3://bucket/prefix",
        store: |settings, text| store(&mut settings.repository, some_text(text)),
    },
    Definition {
        key: "general.max_in_flight",
        default: Some("2"),
        about: "shards that work at the same time",
        store: |settings, text| store(&mut settings.max_in_flight, positive(text)),
    },
    Definition {
        key: "general.operation_deadline_s",
        default: Some("86400"),
        about: "seconds after which an operation fails",
        store: |settings, text| store(&mut settings.operation_deadline_s, positive(text)),
    },
    Definition {
        key: "general.step_deadline_s",
        default: Some("86400"),
        about: "seconds after which one step of an operation fails",
        store: |settings, text| store(&mut settings.step_deadline_s, positive(text)),
    },
    Definition {
        key: "rowstore.split_bytes",
        default: Some("512MiB"),
        about: "a shard larger than this splits",
        store: |settings, text| store(&mut settings.split_bytes, size(text)),
    },
    Definition {
        key: "rowstore.cache_bytes",
        default: Some("32MiB"),
        about: "memory for blocks that were read",
        store: |settings, text| store(&mut settings.cache_bytes, size(text)),
    },
    Definition {
        key: "backup.segment_bytes",
        default: Some("64MiB"),
        about: "a backup's segment ends after about this much",
        store: |settings, text| store(&mut settings.segment_bytes, size(text)),
    },
    Definition {
        key: "backup.zstd_level",
        default: Some("1"),
        about: "compression of segments, 1 (fast) to 22 (small)",
        store: |settings, text| store(&mut settings.zstd_level, level(text)),
    },
    Definition {
        key: "backup.attempts",
        default: Some("6"),
        about: "attempts of a request to the object store",
        store: |settings, text| store(&mut settings.repository_attempts, positive(text)),
    },
];

/// The settings of one run of the program.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// URL of the database to back up or mend.
    pub target: String,
    /// URL of where backups live.
    pub repository: String,
    /// Shards that work at the same time.
    pub max_in_flight: u64,
    /// Seconds after which an operation fails.
    pub operation_deadline_s: u64,
    /// Seconds after which one step of an operation fails.
    pub step_deadline_s: u64,
    /// A shard larger than this splits.
    pub split_bytes: u64,
    /// Memory for blocks that were read.
    pub cache_bytes: u64,
    /// A backup's segment ends after about this much.
    pub segment_bytes: u64,
    /// Compression of segments, 1 to 22.
    pub zstd_level: u64,
    /// Attempts of a request to the object store.
    pub repository_attempts: u64,
}

/// A setting with its value and where that came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key in the settings file.
    pub key: &'static str,
    /// The value, as it was written.
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
        let file = self.read_file()?;
        let mut settings = Settings::default();
        let mut entries = Vec::with_capacity(DEFINITIONS.len());
        for definition in &DEFINITIONS {
            let entry = self.find(definition, file.as_ref());
            (definition.store)(&mut settings, &entry.value).map_err(|wanted| {
                Failure::misuse(format!(
                    "{} is {:?} ({}), which is not {wanted}",
                    entry.key, entry.value, entry.from
                ))
            })?;
            entries.push(entry);
        }
        Ok((settings, entries))
    }

    /// Every setting at its default.
    pub fn defaults(directory: &Path) -> Vec<Entry> {
        let sources = Self {
            directory: directory.to_owned(),
            ..Self::default()
        };
        DEFINITIONS
            .iter()
            .map(|definition| sources.find(definition, None))
            .collect()
    }

    fn find(&self, definition: &Definition, file: Option<&SettingsFile>) -> Entry {
        let key = definition.key;
        let variable = environment_name(key);
        let flag = self
            .flags
            .get(key)
            .map(|value| (value.clone(), format!("flag --{key}")));
        let environment = || {
            let value = self.environment.get(&variable)?;
            (!value.is_empty()).then(|| (value.clone(), format!("environment {variable}")))
        };
        let in_file = || {
            let file = file?;
            let value = file.values.get(key)?;
            Some((value.clone(), format!("file {}", file.path.display())))
        };
        let (value, from) = flag
            .or_else(environment)
            .or_else(in_file)
            .unwrap_or_else(|| (self.default_of(definition), "default".to_owned()));
        Entry {
            key,
            value,
            from,
            about: definition.about,
        }
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

    fn read_file(&self) -> Result<Option<SettingsFile>, Failure> {
        let (path, text) = match &self.file {
            Some(path) => (
                path.clone(),
                std::fs::read_to_string(self.directory.join(path)),
            ),
            None => {
                let text = std::fs::read_to_string(self.directory.join(FILE_NAME));
                match text {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                    text => (PathBuf::from(FILE_NAME), text),
                }
            }
        };
        let wrong = |failure: Failure| Failure {
            kind: FailureKind::FixCommand,
            ..failure
        };
        let text = text.map_err(|error| {
            wrong(Failure::io(
                format!("cannot read the settings file {}", path.display()),
                &error,
            ))
        })?;
        let yaml: Yaml = serde_norway::from_str(&text).map_err(|error| {
            let message = format!("the settings file {} is not YAML", path.display());
            Failure::of(FailureKind::FixCommand, &error).context(message)
        })?;
        let mut values = BTreeMap::new();
        flatten("", &yaml, &mut values)
            .map_err(|failure| failure.context(format!("in {}", path.display())))?;
        Ok(Some(SettingsFile { path, values }))
    }
}

struct SettingsFile {
    path: PathBuf,
    values: BTreeMap<String, String>,
}

/// The environment variable of a setting: `rowstore.split_bytes` is `MENDB_ROWSTORE_SPLIT_BYTES`.
pub fn environment_name(key: &str) -> String {
    format!("MENDB_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Collects the values of nested YAML by dotted key.
fn flatten(prefix: &str, yaml: &Yaml, out: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    let is_known = |key: &str| DEFINITIONS.iter().any(|definition| definition.key == key);
    let is_group = |key: &str| {
        let within = |definition: &Definition| {
            definition
                .key
                .strip_prefix(key)
                .is_some_and(|rest| rest.starts_with('.'))
        };
        DEFINITIONS.iter().any(within)
    };
    let mapping = match yaml {
        Yaml::Null => return Ok(()),
        Yaml::Mapping(mapping) => mapping,
        _ if prefix.is_empty() => {
            return Err(Failure::misuse("settings are `key: value` lines"));
        }
        _ => {
            return Err(Failure::misuse(format!(
                "{prefix:?} is a group of settings, not one"
            )));
        }
    };
    for (name, value) in mapping {
        let name = scalar(name).unwrap_or_default();
        let key = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        if is_group(&key) {
            flatten(&key, value, out)?;
        } else if !is_known(&key) {
            return Err(unknown(&key));
        } else if let Some(text) = scalar(value) {
            out.insert(key, text);
        } else if !value.is_null() {
            return Err(Failure::misuse(format!(
                "{key:?} needs one value, not a list or group"
            )));
        }
    }
    Ok(())
}

fn unknown(key: &str) -> Failure {
    let keys: Vec<&str> = DEFINITIONS
        .iter()
        .map(|definition| definition.key)
        .collect();
    Failure::misuse(format!("unknown setting {key:?}"))
        .hint(format!("the settings are {}", keys.join(", ")))
}

fn scalar(yaml: &Yaml) -> Option<String> {
    match yaml {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}

fn store<T>(place: &mut T, value: Result<T, &'static str>) -> Result<(), &'static str> {
    *place = value?;
    Ok(())
}

fn some_text(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        Err("a URL")
    } else {
        Ok(text.to_owned())
    }
}

fn positive(text: &str) -> Result<u64, &'static str> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("a whole number above 0"),
    }
}

fn level(text: &str) -> Result<u64, &'static str> {
    match text.parse() {
        Ok(level) if (1..=22).contains(&level) => Ok(level),
        _ => Err("a level from 1 to 22"),
    }
}

/// `1048576`, `512KiB`, `64MiB`, `2GiB`; `K`, `M`, `G` and `KB`, `MB`, `GB` mean the same.
fn size(text: &str) -> Result<u64, &'static str> {
    const WANTED: &str = "a size such as 1048576, 64MiB or 2GiB";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let shift = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(WANTED),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .filter(|bytes| *bytes > 0)
        .ok_or(WANTED)
}

#[cfg(test)]
mod tests {
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
    fn an_unknown_key_is_named() {
        for (yaml, message) in [
            ("targets: x", "unknown setting \"targets\""),
            ("general: {split: 1}", "unknown setting \"general.split\""),
            ("general: 5", "\"general\" is a group of settings, not one"),
            (
                "target: [a]",
                "\"target\" needs one value, not a list or group",
            ),
        ] {
            let (_directory, sources) = sources(Some(yaml));
            let failure = sources.resolve().unwrap_err();
            assert_eq!(failure.causes, [message], "{yaml}");
            assert_eq!(failure.exit_code(), 2);
        }
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
    fn sizes_have_units() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("2 GiB"), Ok(2 << 30));
        assert_eq!(size("64m"), Ok(64 << 20));
        for bad in ["", "0", "-1", "1TiBs", "99999999999GiB", "MiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
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
