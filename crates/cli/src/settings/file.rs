//! The settings file: YAML, its keys nested at the dots.
//!
//! A setting whose name is also that of a group (`repository`) is written as `url` in the group, or as
//! the group's own value where nothing else of the group is set.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_norway::Value as Yaml;

use super::definitions::DEFINITIONS;
use crate::failure::{Failure, FailureKind};

/// The settings file that is looked for in the current directory.
pub const FILE_NAME: &str = "mendb.yml";

/// What a setting is called in the group of its own name.
const OWN_NAME: &str = "url";

/// A settings file that was read.
pub struct SettingsFile {
    /// Where it is, as the user named it.
    pub path: PathBuf,
    /// Values by dotted key.
    pub values: BTreeMap<String, String>,
}

/// Reads the settings file that was named, or the one in the directory if there is one.
///
/// # Errors
/// It cannot be read, is not YAML, or has a key that is no setting.
pub fn read(directory: &Path, named: Option<&Path>) -> Result<Option<SettingsFile>, Failure> {
    let (path, text) = match named {
        Some(path) => (
            path.to_owned(),
            std::fs::read_to_string(directory.join(path)),
        ),
        None => {
            let text = std::fs::read_to_string(directory.join(FILE_NAME));
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

/// The group and the name under which the settings file has a setting.
pub fn place(key: &'static str) -> (Option<&'static str>, &'static str) {
    match key.split_once('.') {
        Some((group, name)) => (Some(group), name),
        None if is_group(key) => (Some(key), OWN_NAME),
        None => (None, key),
    }
}

fn is_group(key: &str) -> bool {
    DEFINITIONS.iter().any(|definition| {
        let rest = definition.key.strip_prefix(key);
        rest.is_some_and(|rest| rest.starts_with('.'))
    })
}

/// Collects the values of nested YAML by dotted key.
fn flatten(prefix: &str, yaml: &Yaml, out: &mut BTreeMap<String, String>) -> Result<(), Failure> {
    let is_known = |key: &str| DEFINITIONS.iter().any(|definition| definition.key == key);
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
        let key = match prefix {
            "" => name,
            group if name == OWN_NAME && is_known(group) => group.to_owned(),
            group => format!("{group}.{name}"),
        };
        let has_own_value = is_known(&key) && !value.is_mapping();
        if is_group(&key) && key != prefix && !has_own_value {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn values(yaml: &str) -> Result<BTreeMap<String, String>, Failure> {
        let mut values = BTreeMap::new();
        flatten("", &serde_norway::from_str(yaml).unwrap(), &mut values).map(|()| values)
    }

    #[test]
    fn the_repository_is_a_value_or_a_group_with_limits() {
        let alone = values("repository: s3://b/p\n").unwrap();
        assert_eq!(alone["repository"], "s3://b/p");
        let grouped = values("repository:\n  url: s3://b/p\n  transfers: 8\n").unwrap();
        assert_eq!(grouped["repository"], "s3://b/p");
        assert_eq!(grouped["repository.transfers"], "8");
        assert_eq!(place("repository"), (Some("repository"), "url"));
        assert_eq!(place("target"), (None, "target"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        for (yaml, message) in [
            ("targets: x", "unknown setting \"targets\""),
            ("general: {split: 1}", "unknown setting \"general.split\""),
            ("general: {url: x}", "unknown setting \"general.url\""),
            (
                "repository: {urls: x}",
                "unknown setting \"repository.urls\"",
            ),
            ("general: 5", "\"general\" is a group of settings, not one"),
            (
                "target: [a]",
                "\"target\" needs one value, not a list or group",
            ),
            (
                "repository: {url: {url: x}}",
                "\"repository\" needs one value, not a list or group",
            ),
        ] {
            let failure = values(yaml).unwrap_err();
            assert_eq!(failure.message, message, "{yaml}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
