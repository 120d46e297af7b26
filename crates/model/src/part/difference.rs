//! How the definition of a live table differs from that in a backup, how much that matters, and what
//! mends it.
//!
//! [`TableDefinition::obstacles`] lists what keeps parts from being attached; everything else is a
//! [`Difference`]. Its texts may be shown: of credentials they say only that they differ.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::aspect::Aspect;
use super::definition::{Clause, Definition};
use super::table::{RowPolicies, TableDefinition};

/// How much a difference matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Nothing but what is said of the table.
    Harmless,
    /// What is stored from now on, or how: queries answer the same.
    Storage,
    /// What queries answer, now or after the next merge.
    Answers,
}

impl Grade {
    /// In words: `changes answers`.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Harmless => "harmless",
            Self::Storage => "changes storage",
            Self::Answers => "changes answers",
        }
    }
}

/// Something that a definition says otherwise than the backup's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is about.
    pub aspect: Aspect,
    /// The column, index, projection, constraint or setting; empty for the table.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// How much it matters.
    pub grade: Grade,
    /// What the backup says; `None` for nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<String>,
    /// What the live table says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
}

/// `default of column price: DEFAULT 10 in the backup, DEFAULT 99 now`
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.aspect)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        if self.aspect == Aspect::Credentials {
            return f.write_str(" are others than in the backup");
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "absent".to_owned());
        let (backup, live) = (text(&self.backup), text(&self.live));
        write!(f, ": {backup} in the backup, {live} now")
    }
}

/// How a definition is brought to that of the backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Redefining {
    /// By `ALTER`, each difference for itself: data stays where it is.
    Alter,
    /// It has no data of its own: it is dropped and created.
    Recreate,
    /// It is renamed and created anew.
    Aside,
}

/// How differences of a live table can be mended, where the server can alter those that `can_alter`
/// accepts.
pub fn redefining(
    live: &TableDefinition,
    differences: &[Difference],
    can_alter: impl Fn(&Difference) -> bool,
) -> Redefining {
    let by_alter = |difference: &Difference| is_altered(live, difference) && can_alter(difference);
    if differences.iter().all(by_alter) {
        Redefining::Alter
    } else if holds_no_data(live) {
        Redefining::Recreate
    } else {
        Redefining::Aside
    }
}

/// Settings that the server changes of no table that exists, or not always.
const FIXED_SETTINGS: [&str; 5] = [
    "index_granularity",
    "index_granularity_bytes",
    "enable_mixed_granularity_parts",
    "storage_policy",
    "disk",
];

/// Whether there is an `ALTER` for a difference of such a table.
fn is_altered(live: &TableDefinition, difference: &Difference) -> bool {
    if live.engine == "MaterializedView" {
        return match difference.aspect {
            Aspect::Query | Aspect::Comment => true,
            Aspect::Refresh => difference.backup.is_some() && difference.live.is_some(),
            _ => false,
        };
    }
    live.has_parts()
        && match difference.aspect {
            Aspect::Setting => !FIXED_SETTINGS.contains(&difference.name.as_str()),
            Aspect::Column => live_or_backup_is_computed(difference),
            Aspect::ColumnOrder
            | Aspect::ColumnDefault
            | Aspect::ColumnCodec
            | Aspect::ColumnTtl
            | Aspect::ColumnComment
            | Aspect::ColumnStatistics
            | Aspect::Index
            | Aspect::Projection
            | Aspect::Constraint
            | Aspect::Ttl
            | Aspect::Comment => true,
            _ => false,
        }
}

/// Of a stored column the difference would be an obstacle.
fn live_or_backup_is_computed(difference: &Difference) -> bool {
    let texts = difference.backup.iter().chain(&difference.live);
    let mut texts = texts.map(String::as_str);
    texts.any(|text| text.contains(" ALIAS ") || text.contains(" EPHEMERAL"))
}

/// Whether what it shows is kept elsewhere, so that it can be dropped.
fn holds_no_data(live: &TableDefinition) -> bool {
    match live.engine.as_str() {
        "MaterializedView" => Definition::read(&live.create_query)
            .is_some_and(|definition| definition.clause(Aspect::Target, "").is_some()),
        "View" | "Dictionary" | "Kafka" | "RabbitMQ" | "NATS" | "Merge" | "Null" | "MySQL"
        | "PostgreSQL" | "MongoDB" | "ODBC" | "JDBC" | "S3" | "URL" | "HDFS"
        | "AzureBlobStorage" | "GenerateRandom" | "Executable" | "ExecutablePool" => true,
        _ => false,
    }
}

impl TableDefinition {
    /// Everything in which a live table differs from this definition and that does not keep parts from
    /// being attached. Empty where one of both cannot be read: then [`Self::obstacles`] is all there is.
    pub fn differences(&self, live: &Self) -> Vec<Difference> {
        let read = |table: &Self| Definition::read(&table.create_query);
        let (Some(backup), Some(now)) = (read(self), read(live)) else {
            return Vec::new();
        };
        let comparison = Comparison {
            engine: &self.engine,
            has_parts: self.has_parts() && live.has_parts(),
            backup,
            live: now,
        };
        let mut differences = comparison.all();
        if differences.is_empty() && self.has_other_credentials(live) {
            differences.push(Difference {
                aspect: Aspect::Credentials,
                name: String::new(),
                grade: Grade::Answers,
                backup: None,
                live: None,
            });
        }
        differences
    }

    /// In which row policies a live table, which has these, differs from this definition. They are rights:
    /// nothing here brings them back. Empty where those of the backup are not known.
    pub fn policy_differences(&self, live: &RowPolicies) -> Vec<Difference> {
        let Some(backup) = &self.row_policies else {
            return Vec::new();
        };
        let names: BTreeSet<&String> = backup.keys().chain(live.keys()).collect();
        let differing = names
            .into_iter()
            .filter(|name| backup.get(*name) != live.get(*name));
        differing
            .map(|name| Difference {
                aspect: Aspect::RowPolicy,
                name: name.clone(),
                grade: Grade::Answers,
                backup: backup.get(name).cloned(),
                live: live.get(name).cloned(),
            })
            .collect()
    }

    /// Whether both are known whole and say something else where what is shown of them is the same.
    fn has_other_credentials(&self, live: &Self) -> bool {
        let whole = |table: &Self| {
            let whole = table.whole_query.as_ref()?;
            Definition::read(whole.reveal())
        };
        match (whole(self), whole(live)) {
            (Some(backup), Some(live)) => !Comparison {
                engine: &self.engine,
                has_parts: self.has_parts(),
                backup,
                live,
            }
            .all()
            .is_empty(),
            _ => false,
        }
    }
}

struct Comparison<'a> {
    engine: &'a str,
    has_parts: bool,
    backup: Definition,
    live: Definition,
}

impl Comparison<'_> {
    fn all(&self) -> Vec<Difference> {
        let keys = self.backup.clauses.keys().chain(self.live.clauses.keys());
        let keys: BTreeSet<_> = keys.collect();
        let mut differences: Vec<Difference> = keys
            .into_iter()
            .filter_map(|key| self.compare(key))
            .collect();
        differences.extend(self.order());
        differences
    }

    fn compare(&self, key: &(Aspect, String)) -> Option<Difference> {
        let (aspect, name) = key;
        let (backup, live) = (self.backup.clauses.get(key), self.live.clauses.get(key));
        let same = match (backup, live) {
            (Some(backup), Some(live)) => backup.says_the_same(live),
            _ => false,
        };
        if same || !self.looks_at(*aspect, name) {
            return None;
        }
        let text = |clause: Option<&Clause>| clause.map(|clause| clause.text.clone());
        let (backup, live) = (text(backup), text(live));
        // A column that is not stored is told whole.
        let whole = |of: &Definition, text: Option<String>| {
            let default = of.clause(Aspect::ColumnDefault, name);
            text.map(|kind| match default.filter(|_| *aspect == Aspect::Column) {
                Some(default) => format!("{kind} {default}"),
                None => kind,
            })
        };
        let difference = Difference {
            aspect: *aspect,
            name: name.clone(),
            grade: grade(*aspect, name, backup.as_deref().or(live.as_deref())),
            backup: whole(&self.backup, backup),
            live: whole(&self.live, live),
        };
        (!is_default(&difference)).then_some(difference)
    }

    /// Whether a difference of this kind is to be told, and not another one instead of it.
    fn looks_at(&self, aspect: Aspect, name: &str) -> bool {
        let has = |of: &Definition| of.clause(Aspect::Column, name).is_some();
        let (in_backup, is_live) = (has(&self.backup), has(&self.live));
        match aspect {
            Aspect::Column if self.has_parts => {
                let computed = |of: &Definition, has: bool| !has || of.is_computed(name);
                computed(&self.backup, in_backup) && computed(&self.live, is_live)
            }
            Aspect::ColumnDefault
            | Aspect::ColumnCodec
            | Aspect::ColumnTtl
            | Aspect::ColumnComment
            | Aspect::ColumnStatistics
            | Aspect::ColumnSettings => in_backup && is_live,
            // The view was created with them; its table has its own.
            Aspect::Engine
            | Aspect::EngineArguments
            | Aspect::Setting
            | Aspect::Ttl
            | Aspect::PartitionKey
            | Aspect::PrimaryKey
            | Aspect::SortingKey
            | Aspect::SamplingKey
                if self.engine.ends_with("View") =>
            {
                false
            }
            Aspect::Engine | Aspect::PartitionKey | Aspect::PrimaryKey | Aspect::SortingKey => {
                !self.has_parts
            }
            _ => true,
        }
    }

    fn order(&self) -> Option<Difference> {
        let common = |of: &Definition, other: &Definition| -> Vec<String> {
            let columns = of.columns().iter();
            let both = columns.filter(|column| other.columns().contains(column));
            both.cloned().collect()
        };
        let backup = common(&self.backup, &self.live);
        let live = common(&self.live, &self.backup);
        (backup != live).then(|| Difference {
            aspect: Aspect::ColumnOrder,
            name: String::new(),
            grade: Grade::Answers,
            backup: Some(backup.join(", ")),
            live: Some(live.join(", ")),
        })
    }
}

/// Whether one side only says what the other has by default.
fn is_default(difference: &Difference) -> bool {
    let texts = [&difference.backup, &difference.live];
    let only = match texts {
        [Some(text), None] | [None, Some(text)] => text.as_str(),
        _ => return false,
    };
    match difference.aspect {
        Aspect::Setting => difference.name == "index_granularity" && only == "8192",
        Aspect::Comment | Aspect::ColumnComment => only == "''",
        _ => false,
    }
}

fn grade(aspect: Aspect, name: &str, text: Option<&str>) -> Grade {
    match aspect {
        Aspect::ColumnComment | Aspect::Comment => Grade::Harmless,
        Aspect::ColumnCodec
        | Aspect::ColumnStatistics
        | Aspect::ColumnSettings
        | Aspect::Index
        | Aspect::Projection => Grade::Storage,
        // What is assumed is not looked at by queries.
        Aspect::Constraint if text.is_some_and(|text| text.starts_with("ASSUME")) => Grade::Answers,
        Aspect::Constraint => Grade::Storage,
        // Where granules end is not in the parts of old servers: it is read wrongly with another one.
        Aspect::Setting if name == "index_granularity" => Grade::Answers,
        Aspect::Setting => Grade::Storage,
        _ => Grade::Answers,
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret;
    use super::super::table_name::TableName;
    use super::*;

    fn table(engine: &str, sql: &str) -> TableDefinition {
        let (create_query, whole_query) = secret::apart(sql);
        TableDefinition {
            name: TableName::new("d", "t"),
            engine: engine.to_owned(),
            create_query,
            whole_query,
            partition_key: String::new(),
            sorting_key: String::new(),
            primary_key: String::new(),
            columns: Vec::new(),
            storage_policy: String::new(),
            has_ttl: false,
            row_policies: None,
        }
    }

    fn merge_tree(columns: &str, rest: &str) -> TableDefinition {
        let sql = format!("CREATE TABLE d.t ({columns}) ENGINE = MergeTree ORDER BY a {rest}");
        table("MergeTree", &sql)
    }

    /// Each difference as a line, with its grade and how all of them are mended.
    fn told(backup: &TableDefinition, live: &TableDefinition) -> (Vec<String>, Redefining) {
        let differences = backup.differences(live);
        let lines = differences.iter();
        let lines = lines.map(|found| format!("{found} ({})", found.grade.describe()));
        (lines.collect(), redefining(live, &differences, |_| true))
    }

    #[test]
    fn what_queries_answer_is_told_from_how_it_is_stored_and_from_what_is_said() {
        let backup = merge_tree(
            "`a` UInt64 CODEC(ZSTD(1)), `p` UInt64 DEFAULT 10, `c` UInt8 COMMENT 'x', INDEX i a TYPE minmax",
            "TTL a SETTINGS x = 1",
        );
        let live = merge_tree(
            "`a` UInt64, `p` UInt64 DEFAULT 99, `c` UInt8, `al` UInt64 ALIAS a * 2, PROJECTION j (SELECT a)",
            "SETTINGS x = 2, index_granularity = 8192",
        );
        let expected = [
            "column al: absent in the backup, UInt64 ALIAS a * 2 now (changes answers)",
            "default of column p: DEFAULT 10 in the backup, DEFAULT 99 now (changes answers)",
            "codec of column a: (ZSTD(1)) in the backup, absent now (changes storage)",
            "comment of column c: 'x' in the backup, absent now (harmless)",
            "index i: a TYPE minmax in the backup, absent now (changes storage)",
            "projection j: absent in the backup, (SELECT a) now (changes storage)",
            "TTL: a in the backup, absent now (changes answers)",
            "setting x: 1 in the backup, 2 now (changes storage)",
        ];
        let (lines, way) = told(&backup, &live);
        assert_eq!(lines, expected);
        assert_eq!(way, Redefining::Alter);
        assert!(backup.differences(&backup).is_empty());
    }

    #[test]
    fn what_no_alter_reaches_is_put_aside_or_created_anew() {
        let sql =
            "CREATE TABLE d.t (`a` UInt8, `v` UInt8) ENGINE = ReplacingMergeTree(v) ORDER BY a";
        let backup = table("ReplacingMergeTree", sql);
        let live = table("ReplacingMergeTree", &sql.replace("(v)", ""));
        let (lines, way) = told(&backup, &live);
        assert_eq!(
            lines,
            ["arguments of the engine: v in the backup, absent now (changes answers)"]
        );
        assert_eq!(way, Redefining::Aside);

        let view = |sql: &str| {
            table(
                "View",
                &format!("CREATE VIEW d.t (`a` UInt8) AS SELECT {sql}"),
            )
        };
        let (lines, way) = told(&view("a FROM d.x"), &view("b FROM d.x"));
        assert_eq!(
            lines,
            ["query: SELECT a FROM d.x in the backup, SELECT b FROM d.x now (changes answers)"]
        );
        assert_eq!(way, Redefining::Recreate);

        let granularity =
            |n: u32| merge_tree("`a` UInt8", &format!("SETTINGS index_granularity = {n}"));
        let (_, way) = told(&granularity(1024), &granularity(8192));
        assert_eq!(way, Redefining::Aside);
        let (_, way) = told(
            &merge_tree("`a` UInt8, `b` UInt8", ""),
            &merge_tree("`b` UInt8, `a` UInt8", ""),
        );
        assert_eq!(way, Redefining::Alter);
    }

    #[test]
    fn a_materialized_view_is_altered_or_created_by_where_its_rows_are() {
        let view = |to: &str, columns: &str, query: &str| {
            let sql = format!("CREATE MATERIALIZED VIEW d.t {to} ({columns}) AS SELECT {query}");
            table("MaterializedView", &sql)
        };
        let way = |to: &str, columns: &str, can_alter: bool| {
            let (backup, live) = (view(to, "`a` UInt8", "a"), view(to, columns, "b"));
            redefining(&live, &backup.differences(&live), |_| can_alter)
        };
        assert_eq!(way("", "`a` UInt8", true), Redefining::Alter);
        assert_eq!(way("", "`a` UInt8", false), Redefining::Aside);
        assert_eq!(way("TO d.x", "`a` UInt8", false), Redefining::Recreate);
        assert_eq!(way("", "`b` UInt8", true), Redefining::Aside);
        assert_eq!(way("TO d.x", "`b` UInt8", true), Redefining::Recreate);
    }

    #[test]
    fn other_credentials_are_told_and_not_what_they_are() {
        let of = |password: &str| {
            let sql = format!(
                "CREATE TABLE d.t (`a` UInt8) ENGINE = MySQL('h:1', 'b', 't', 'u', '{password}')"
            );
            table("MySQL", &sql)
        };
        let (lines, way) = told(&of("one"), &of("two"));
        assert_eq!(
            lines,
            ["credentials are others than in the backup (changes answers)"]
        );
        assert_eq!(way, Redefining::Recreate);
        // Of what was hidden nothing is known.
        assert!(of("one").differences(&of(secret::HIDDEN)).is_empty());
    }
}
