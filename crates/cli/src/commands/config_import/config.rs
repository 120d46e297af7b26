//! The configuration of clickhouse-backup, as far as it is set: in a file, in the environment, or both.

use std::collections::BTreeMap;

use serde_norway::Value as Yaml;

use super::keys;

/// The settings of a configuration that are not empty, by dotted key. What is translated is taken out.
#[derive(Default)]
pub(super) struct Config {
    pub(super) values: BTreeMap<String, Yaml>,
    /// Where each comes from, if not from the file: a variable of the environment.
    variables: BTreeMap<String, String>,
}

impl Config {
    /// `None` for what is not groups of settings.
    pub(super) fn read(yaml: &Yaml) -> Option<Self> {
        let mut values = BTreeMap::new();
        for (group, settings) in yaml.as_mapping()? {
            let group = group.as_str()?;
            let Some(settings) = settings.as_mapping() else {
                if settings.is_null() {
                    continue;
                }
                return None;
            };
            for (name, value) in settings {
                let is_empty = match value {
                    Yaml::Null => true,
                    Yaml::String(text) => text.is_empty(),
                    Yaml::Sequence(list) => list.is_empty(),
                    Yaml::Mapping(map) => map.is_empty(),
                    _ => false,
                };
                if !is_empty {
                    values.insert(format!("{group}.{}", name.as_str()?), value.clone());
                }
            }
        }
        Some(Self {
            values,
            ..Self::default()
        })
    }

    /// Takes what the environment sets, which wins over a file.
    pub(super) fn overlay(&mut self, environment: &BTreeMap<String, String>) {
        let known: BTreeMap<String, String> =
            keys::all().map(|key| (keys::variable(&key), key)).collect();
        for (variable, value) in environment {
            let key = known.get(variable).cloned();
            let key = key.or_else(|| keys::unknown(variable));
            if let Some(key) = key.filter(|_| !value.is_empty()) {
                self.values.insert(key.clone(), Yaml::String(value.clone()));
                self.variables.insert(key, variable.clone());
            }
        }
    }

    /// The variable that set a key.
    pub(super) fn variable(&self, key: &str) -> Option<&str> {
        self.variables.get(key).map(String::as_str)
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let text = scalar(self.values.get(key)?)?;
        self.values.remove(key);
        Some(text)
    }

    pub(super) fn is_true(&mut self, key: &str) -> bool {
        self.text(key).is_some_and(|value| is_true(&value))
    }

    /// A number above 0, which is what 0 means nearly everywhere: no value.
    pub(super) fn number(&mut self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok().filter(|number| *number > 0)
    }

    /// The pairs of a group within a group, as `old=new,…`. The environment has them as `old:new,…`.
    pub(super) fn pairs(&mut self, key: &str) -> Option<String> {
        let pairs: Option<Vec<String>> = match self.values.get(key)? {
            Yaml::Mapping(map) => {
                let pairs = map.iter();
                let pair =
                    |(old, new): (&Yaml, &Yaml)| Some(format!("{}={}", scalar(old)?, scalar(new)?));
                pairs.map(pair).collect()
            }
            Yaml::String(text) => {
                let pairs = text.split(',').map(|pair| pair.trim().split_once(':'));
                let pairs = pairs.map(|pair| pair.map(|(old, new)| format!("{old}={new}")));
                pairs.collect()
            }
            _ => None,
        };
        let pairs = pairs?;
        self.values.remove(key);
        Some(pairs.join(","))
    }

    /// The values of a list, or of one text with commas in it.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let list: Option<Vec<String>> = match self.values.get(key)? {
            Yaml::Sequence(list) => list.iter().map(scalar).collect(),
            other => scalar(other).map(|text| text.split(',').map(str::to_owned).collect()),
        };
        let list = list?;
        self.values.remove(key);
        let list = list.iter().map(|value| value.trim().to_owned());
        Some(list.filter(|value| !value.is_empty()).collect())
    }
}

/// What stands for yes, in YAML and in the environment.
pub(super) fn is_true(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "1" | "t" | "true" | "yes" | "on"
    )
}

/// Whether a value says that something is not done: no need to tell what would have become of it.
pub(super) fn is_off(value: &Yaml) -> bool {
    scalar(value).is_some_and(|text| {
        matches!(
            text.to_ascii_lowercase().as_str(),
            "0" | "f" | "false" | "no" | "off"
        )
    })
}

/// A value that is neither list nor group.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) => Some(text.clone()),
        Yaml::Number(number) => Some(number.to_string()),
        Yaml::Bool(value) => Some(value.to_string()),
        _ => None,
    }
}
