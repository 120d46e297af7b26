//! The configuration of clickhouse-backup, as far as it is set.

use std::collections::BTreeMap;

use serde_norway::Value as Yaml;

/// The settings of a configuration that are not empty, by dotted key. What is translated is taken out.
pub(super) struct Config {
    pub(super) values: BTreeMap<String, Yaml>,
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
        Some(Self { values })
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.values.remove(key)? {
            Yaml::String(text) => Some(text),
            Yaml::Number(number) => Some(number.to_string()),
            Yaml::Bool(value) => Some(value.to_string()),
            other => {
                self.values.insert(key.to_owned(), other);
                None
            }
        }
    }

    pub(super) fn is_true(&mut self, key: &str) -> bool {
        self.text(key).is_some_and(|value| is_true(&value))
    }

    /// A number above 0, which is what 0 means nearly everywhere: no value.
    pub(super) fn number(&mut self, key: &str) -> Option<u64> {
        self.text(key)?.parse().ok().filter(|number| *number > 0)
    }

    /// The pairs of a group within a group, as `old=new,…`.
    pub(super) fn pairs(&mut self, key: &str) -> Option<String> {
        let Some(Yaml::Mapping(map)) = self.values.remove(key) else {
            return None;
        };
        let pairs = map
            .iter()
            .filter_map(|(old, new)| Some(format!("{}={}", old.as_str()?, new.as_str()?)));
        Some(pairs.collect::<Vec<_>>().join(","))
    }
}

/// What stands for yes, in YAML and in the environment.
pub(super) fn is_true(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "1" | "t" | "true" | "yes" | "on"
    )
}
