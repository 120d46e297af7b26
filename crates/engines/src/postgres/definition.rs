//! What a table is, in a form of ours: it is in the manifest of each backup, and tables are made of it.

use mendb_model::schema::{Column, TableSchema};
use serde::{Deserialize, Serialize};

use super::error::{damaged, refused};
use super::name::quoted;
use super::nested::Form;
use super::wire::Wire;
use crate::error::Result;

/// The most columns: a table of what is staged has some more, and a server allows 1,600.
const MOST_COLUMNS: usize = 1_500;

/// A table, without its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Definition {
    /// The version of the server: `150018`.
    pub(super) server: u32,
    /// All columns, in their order.
    pub(super) columns: Vec<ColumnDefinition>,
    /// Those of the primary key, in its order.
    pub(super) key: Vec<String>,
    /// Unique, check and exclusion constraints.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) constraints: Vec<String>,
    /// Indexes that are of no constraint.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) indexes: Vec<IndexDefinition>,
    /// Sequences that columns own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) sequences: Vec<SequenceDefinition>,
    /// How it is partitioned: `RANGE (at)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition_by: Option<String>,
    /// Its partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) partitions: Vec<PartitionDefinition>,
    /// The tables that it inherits from (`INHERITS`), in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inherits: Vec<String>,
    /// Check constraints that it has from these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) inherited_constraints: Vec<String>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartitionDefinition {
    pub(super) name: String,
    /// What of its name follows on that of the table, where it begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) behind: Option<String>,
    /// `FOR VALUES …` or `DEFAULT`.
    pub(super) bound: String,
    /// How it is partitioned itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) partition_by: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) partitions: Vec<PartitionDefinition>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ColumnDefinition {
    pub(super) name: String,
    /// As the server writes it, `character varying(20)`, with its schema where that is none of the system.
    #[serde(rename = "type")]
    pub(super) type_name: String,
    /// The type that a domain is of; that of the column where it is none.
    pub(super) base_type: String,
    pub(super) wire: Wire,
    /// What values are made of, where types within them have other numbers in other databases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) form: Option<Form>,
    pub(super) not_null: bool,
    /// Where it is not that of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) collation: Option<String>,
    /// Whether the server orders texts as their bytes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) in_byte_order: bool,
    /// The expression of its default, or of a generated column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) default: Option<String>,
    /// `ALWAYS` or `BY DEFAULT` of an identity column.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) identity: Option<String>,
    /// `STORED` or `VIRTUAL` of a generated column, whose values are carried nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) generated: Option<String>,
    /// Whether it has it from a table that it inherits from alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) inherited: bool,
}

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexDefinition {
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) unique: bool,
    /// What follows the name of the table in its statement.
    pub(super) text: String,
}

/// A sequence that a column owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SequenceDefinition {
    pub(super) column: String,
    #[serde(rename = "type")]
    pub(super) type_name: String,
    pub(super) start: i64,
    pub(super) increment: i64,
    pub(super) min: i64,
    pub(super) max: i64,
    pub(super) cache: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) cycle: bool,
    /// The last value that it gave, when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last: Option<i64>,
}

impl SequenceDefinition {
    /// The options of a statement that makes it.
    pub(super) fn options(&self) -> String {
        format!(
            "START {} INCREMENT {} MINVALUE {} MAXVALUE {} CACHE {}{}",
            self.start,
            self.increment,
            self.min,
            self.max,
            self.cache,
            if self.cycle { " CYCLE" } else { "" }
        )
    }
}

impl Definition {
    /// What a backup has of it.
    pub(super) fn from_native(native: &serde_json::Value) -> Result<Self> {
        let of_postgres = native.get("postgres");
        let found = of_postgres.ok_or_else(|| refused("the backup was not taken of PostgreSQL"))?;
        Self::deserialize(found).map_err(|error| {
            damaged(format!(
                "the definition of a table in the backup is not one: {error}"
            ))
        })
    }

    /// The same, for a backup.
    pub(super) fn to_native(&self) -> serde_json::Value {
        serde_json::json!({ "postgres": self })
    }

    /// The columns whose values are carried.
    pub(super) fn carried(&self) -> impl Iterator<Item = &ColumnDefinition> + Clone {
        self.columns
            .iter()
            .filter(|column| column.generated.is_none())
    }

    /// The schema as the rest of mendb knows it.
    ///
    /// # Errors
    /// It is a table that cannot be backed up, with the reason.
    pub(super) fn schema(&self, table: &str) -> Result<TableSchema> {
        let cannot = |why: String| refused(format!("table {table} cannot be backed up: {why}"));
        if self.columns.len() > MOST_COLUMNS {
            return Err(cannot(format!("it has more than {MOST_COLUMNS} columns")));
        }
        if self.key.is_empty() {
            return Err(cannot(
                "it has no primary key, by which its rows could be told apart".to_owned(),
            ));
        }
        for name in &self.key {
            let column = self.columns.iter().find(|column| column.name == *name);
            let column =
                column.ok_or_else(|| cannot(format!("its key column {name} is not there")))?;
            if column.generated.is_some() || !column.wire.can_be_key() {
                return Err(cannot(format!(
                    "its key column {name} is of type {}, whose values are told apart otherwise than by their bytes",
                    column.type_name
                )));
            }
        }
        let columns = self.carried().map(|column| Column {
            name: column.name.clone(),
            column_type: column.wire.column_type(),
            not_null: column.not_null,
        });
        let schema = TableSchema {
            columns: columns.collect(),
            key: self.key.clone(),
            indexes: Vec::new(),
        };
        schema
            .validate()
            .map_err(|error| cannot(error.to_string()))?;
        Ok(schema)
    }

    /// In what another one differs whose rows are to take the place of those of this one, if in anything.
    pub(super) fn difference(&self, then: &Self) -> Option<String> {
        if self.key != then.key {
            let (now, then) = (self.key.join(", "), then.key.join(", "));
            return Some(format!("its key is ({now}), in the backup ({then})"));
        }
        let described = |column: &ColumnDefinition| {
            let generated = column
                .generated
                .as_deref()
                .map(|kind| format!(" GENERATED {kind}"));
            let form = column.form.as_ref().map(Form::to_string);
            format!(
                "{} {}{}{}",
                quoted(&column.name),
                column.type_name,
                form.unwrap_or_default(),
                generated.unwrap_or_default()
            )
        };
        let list = |of: &Self| of.columns.iter().map(described).collect::<Vec<_>>();
        let (now, then) = (list(self), list(then));
        let added: Vec<&str> = now
            .iter()
            .filter(|c| !then.contains(c))
            .map(String::as_str)
            .collect();
        let gone: Vec<&str> = then
            .iter()
            .filter(|c| !now.contains(c))
            .map(String::as_str)
            .collect();
        match (added.is_empty(), gone.is_empty()) {
            (true, true) => None,
            (false, true) => Some(format!(
                "the backup does not have its column {}",
                added.join(", ")
            )),
            (true, false) => Some(format!(
                "it does not have the column {} of the backup",
                gone.join(", ")
            )),
            (false, false) => Some(format!(
                "it has {}, and the backup {}",
                added.join(", "),
                gone.join(", ")
            )),
        }
    }

    /// The columns of a table that holds carried ones and no rule of them.
    pub(super) fn plain_columns(&self) -> String {
        let plain = self.carried().map(|column| {
            let collation = column
                .collation
                .as_ref()
                .map(|name| format!(" COLLATE {name}"));
            format!(
                "{} {}{}",
                quoted(&column.name),
                column.base_type,
                collation.unwrap_or_default()
            )
        });
        plain.collect::<Vec<_>>().join(", ")
    }

    /// The statement that makes the table under a name, with its key and no other constraint: of the columns that are
    /// declared, those with a default that have their own.
    pub(super) fn create(
        &self,
        relation: &str,
        is_declared: &dyn Fn(&ColumnDefinition) -> bool,
        has_own_default: &dyn Fn(&ColumnDefinition) -> bool,
    ) -> String {
        let declared = self.columns.iter().filter(|column| is_declared(column));
        let columns = declared.map(|column| {
            let mut text = format!("{} {}", quoted(&column.name), column.type_name);
            if let Some(collation) = &column.collation {
                text += &format!(" COLLATE {collation}");
            }
            match (&column.generated, &column.identity, &column.default) {
                (Some(kind), _, Some(expression)) => {
                    text += &format!(" GENERATED ALWAYS AS ({expression}) {kind}");
                }
                (_, Some(kind), _) => {
                    let options = self.sequence(&column.name).map(SequenceDefinition::options);
                    text += &format!(" GENERATED {kind} AS IDENTITY");
                    text += &options
                        .map(|options| format!(" ({options})"))
                        .unwrap_or_default();
                }
                // It is given its own sequence with its name.
                (_, _, Some(_)) if self.sequence(&column.name).is_some() => {}
                // So is it, where its table inherits from one that has it.
                (_, _, Some(_)) if !has_own_default(column) => {}
                (_, _, Some(expression)) => text += &format!(" DEFAULT {expression}"),
                _ => {}
            }
            if column.not_null {
                text += " NOT NULL";
            }
            text
        });
        let mut parts: Vec<String> = columns.collect();
        let key = super::name::list("", self.key.iter().map(String::as_str));
        parts.push(format!("PRIMARY KEY ({key})"));
        let by = partitioned(self.partition_by.as_deref());
        format!("CREATE TABLE {relation} ({}){by}", parts.join(", "))
    }

    /// The sequence that a column owns.
    pub(super) fn sequence(&self, column: &str) -> Option<&SequenceDefinition> {
        self.sequences
            .iter()
            .find(|sequence| sequence.column == column)
    }
}

/// The end of the statement that makes a table or partition.
fn partitioned(by: Option<&str>) -> String {
    by.map_or_else(String::new, |by| format!(" PARTITION BY {by}"))
}

impl PartitionDefinition {
    /// The statement that makes it of a table, which may be a partition itself.
    pub(super) fn create(&self, relation: &str, of: &str) -> String {
        let by = partitioned(self.partition_by.as_deref());
        format!(
            "CREATE TABLE {relation} PARTITION OF {of} {}{by}",
            self.bound
        )
    }

    /// What it is called as one of a table of this name.
    pub(super) fn name_below(&self, table: &str) -> String {
        match &self.behind {
            Some(behind) => format!("{table}{behind}"),
            None => self.name.clone(),
        }
    }

    /// It and those below it, each behind what it is one of: `None` for the table.
    pub(super) fn all(partitions: &[Self]) -> Vec<(Option<usize>, &Self)> {
        fn add<'p>(
            all: &mut Vec<(Option<usize>, &'p PartitionDefinition)>,
            of: Option<usize>,
            partitions: &'p [PartitionDefinition],
        ) {
            for partition in partitions {
                all.push((of, partition));
                let own = all.len() - 1;
                add(all, Some(own), &partition.partitions);
            }
        }
        let mut all = Vec::new();
        add(&mut all, None, partitions);
        all
    }
}
