//! Which tables of a part store a user means, and which selectors mean none.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::table_name::TableName;
use crate::name::{matches, unmatched};

/// Tables that are left out although patterns name them. Each field has comma-separated patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exclusion {
    /// Of `database.table`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tables: String,
    /// Of engines, such as `Kafka`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub engines: String,
    /// Of disks: a table goes with any of its disks, those of its policy and those that have parts of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub disks: String,
}

/// Tables that patterns name, and those of them that are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Comma-separated patterns of `database.table`.
    pub tables: String,
    /// What is left out.
    pub exclude: Exclusion,
}

/// What a pattern selects by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Names of tables.
    Tables,
    /// Ids and values of partitions.
    Partitions,
    /// Names of tables that are left out.
    ExcludeTables,
    /// Engines of tables that are left out.
    ExcludeEngines,
    /// Disks of tables that are left out.
    ExcludeDisks,
}

/// A pattern that fits nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmatched {
    /// What it was to select by.
    pub selector: Selector,
    /// The pattern.
    pub pattern: String,
}

impl Selector {
    /// The flag that takes its patterns.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Tables => "--tables",
            Self::Partitions => "--partitions",
            Self::ExcludeTables => "--exclude-tables",
            Self::ExcludeEngines => "--exclude-engines",
            Self::ExcludeDisks => "--exclude-disks",
        }
    }

    /// Those of some comma-separated patterns that fit nothing; an empty list has none.
    pub fn unmatched(self, list: &str, fits_something: impl Fn(&str) -> bool) -> Vec<Unmatched> {
        if list.is_empty() {
            return Vec::new();
        }
        let patterns = unmatched(list, fits_something).into_iter();
        let unmatched = patterns.map(|pattern| Unmatched {
            selector: self,
            pattern: pattern.to_owned(),
        });
        unmatched.collect()
    }
}

/// `--tables shop.typo`
impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.selector.flag(), self.pattern)
    }
}

impl Exclusion {
    /// Whether it leaves nothing out.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.engines.is_empty() && self.disks.is_empty()
    }

    /// What either leaves out.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let both = |one: &String, other: &String| match (one.as_str(), other.as_str()) {
            ("", only) | (only, "") => only.to_owned(),
            (one, other) if one == other => one.to_owned(),
            (one, other) => format!("{one},{other}"),
        };
        Self {
            tables: both(&self.tables, &other.tables),
            engines: both(&self.engines, &other.engines),
            disks: both(&self.disks, &other.disks),
        }
    }

    /// Whether it leaves out a table by its name or its engine.
    pub fn leaves_out(&self, name: &TableName, engine: &str) -> bool {
        name.matches(&self.tables) || matches(&self.engines, engine)
    }

    /// Whether it leaves out a table that is on these disks.
    pub fn leaves_out_on<D: AsRef<str>>(&self, disks: &[D]) -> bool {
        let mut disks = disks.iter();
        disks.any(|disk| matches(&self.disks, disk.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pattern_that_fits_nothing_is_told_on_its_own() {
        let names = [TableName::new("d", "t"), TableName::new("a.b", "c")];
        let fits = |pattern: &str| names.iter().any(|name| name.matches(pattern));
        let told = Selector::Tables.unmatched("d.t, d.typo,*.c,`a`.*", fits);
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["--tables d.typo", "--tables `a`.*"]);
    }

    #[test]
    fn a_table_is_left_out_by_name_engine_or_disk() {
        let settings = Exclusion {
            tables: "d.tmp_*".to_owned(),
            ..Exclusion::default()
        };
        let flags = Exclusion {
            engines: "Kafka".to_owned(),
            disks: "s3*".to_owned(),
            ..Exclusion::default()
        };
        let both = settings.and(&flags).and(&flags);
        assert_eq!(both.engines, "Kafka");
        let table = |name| TableName::new("d", name);
        assert!(both.leaves_out(&table("tmp_1"), "MergeTree"));
        assert!(both.leaves_out(&table("queue"), "Kafka"));
        assert!(!both.leaves_out(&table("t"), "MergeTree"));
        assert!(both.leaves_out_on(&["default", "s3_cold"]));
        assert!(!both.leaves_out_on(&["default"]));
        assert!(Exclusion::default().is_empty() && !both.is_empty());
        assert!(!Exclusion::default().leaves_out(&table("t"), "MergeTree"));
    }
}
