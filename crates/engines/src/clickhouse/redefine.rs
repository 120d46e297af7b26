//! Bringing the definition of a table that exists to another one.
//!
//! Each call begins by comparing what is there with what is wanted, and does what is left: repeated
//! after a crash it goes on. *Hazard*: `ALTER`s that drop an index, a projection or a column make the
//! server rewrite parts. They come last ([`Moment::After`]), when the parts are proved and merges go on
//! again; all others only change what is said of the table, and come first: a TTL before the next merge.
//! A TTL is never materialized here: parts are what the backup says.

use mendb_model::part::secret::scrub;
use mendb_model::part::{
    Aspect, Definition, Difference, Redefining, TableDefinition, TableName, quote, redefining,
};

use super::ClickHouse;
use super::create::{AS_IT_WAS, not_whole};
use super::disks::missing;
use crate::contract::parts::Moment;
use crate::error::{EngineError, Remedy, Result};

/// What an `ALTER` must not do beside, what it has to wait for, and what has to be allowed.
const ALTER_SETTINGS: [(&str, &str); 4] = [
    ("materialize_ttl_after_modify", "0"),
    ("mutations_sync", "1"),
    ("allow_statistics", "1"),
    ("allow_experimental_statistics", "1"),
];
/// A difference may stand in the way of another: all are tried again as long as some were mended.
const ROUNDS_MAX: usize = 4;

impl ClickHouse {
    /// Whether the server has an `ALTER` for a difference. The oldest have it for columns only.
    pub(super) fn can_alter(&self, difference: &Difference) -> bool {
        let of_all = matches!(
            difference.aspect,
            Aspect::Column | Aspect::ColumnDefault | Aspect::ColumnComment
        );
        of_all || self.abilities.uuids
    }

    /// Makes a table, view or dictionary what a definition says.
    pub(super) fn redefine(
        &self,
        name: &TableName,
        to: &TableDefinition,
        moment: Moment,
    ) -> Result<()> {
        let wanted = whole(to)?;
        for _ in 0..ROUNDS_MAX {
            let told = self.told_name(name)?;
            let Some(live) = self.find_table(name, &told)? else {
                // A crash came between dropping and creating it.
                if moment == Moment::Before && super::inner::view_of(&name.table).is_none() {
                    return self.create(to, name);
                }
                return Err(missing(&told));
            };
            let live = whole(&live).unwrap_or(live);
            let differences = wanted.differences(&live);
            if differences.is_empty() {
                return Ok(());
            }
            match redefining(&live, &differences, |difference| self.can_alter(difference)) {
                Redefining::Alter => {}
                Redefining::Recreate if moment == Moment::Before => {
                    self.drop_needed(&told)?;
                    return self.create(to, name);
                }
                _ => return Err(out_of_reach(name, &differences)),
            }
            let now: Vec<&Difference> = differences
                .iter()
                .filter(|difference| moment == Moment::After || !rewrites(difference))
                .collect();
            if now.is_empty() {
                return Ok(());
            }
            self.alter_all(name, &told, [&wanted, &live], &now)?;
        }
        Ok(())
    }

    /// Alters one difference after the other. One that fails may need another first: it is an error only
    /// if all do.
    fn alter_all(
        &self,
        name: &TableName,
        told: &TableName,
        [wanted, live]: [&TableDefinition; 2],
        differences: &[&Difference],
    ) -> Result<()> {
        let read = |table: &TableDefinition| Definition::read(&table.create_query);
        let wanted_clauses = read(wanted).unwrap_or_default();
        let modern = self.abilities.uuids;
        let mut failed = None;
        let mut mended = 0;
        let settings: Vec<_> = AS_IT_WAS.into_iter().chain(ALTER_SETTINGS).collect();
        for difference in differences {
            let all = statements(difference, &wanted_clauses, modern);
            let done = all.iter().try_for_each(|change| {
                let sql = format!("ALTER TABLE {} {change}", told.sql());
                self.client.execute_with(&sql, &settings)
            });
            match done {
                Ok(()) => mended += 1,
                Err(error) => {
                    let error = error.during(format_args!("mend {} of {name}", what(difference)));
                    let message = scrub(&error.to_string(), &wanted.create_query);
                    let message = scrub(&message, &live.create_query);
                    failed = Some(EngineError::new(error.remedy, message));
                }
            }
        }
        failed.filter(|_| mended == 0).map_or(Ok(()), Err)
    }

    /// Creates it as the definition says, which has its own names already.
    fn create(&self, definition: &TableDefinition, name: &TableName) -> Result<()> {
        let as_it_is = std::collections::HashMap::new();
        Self::create_table(self, definition, name, &as_it_is)
    }

    /// Drops what holds no data, also where others need it: it is created again at once.
    fn drop_needed(&self, told: &TableName) -> Result<()> {
        let kinds = ["TABLE", "DICTIONARY"];
        let drop = |kind: &str| {
            let at_once = if self.abilities.uuids { " SYNC" } else { "" };
            let sql = format!("DROP {kind} IF EXISTS {}{at_once}", told.sql());
            let settings = [("check_table_dependencies", "0")];
            self.client.execute_with(&sql, &settings)
        };
        let dropped = drop(kinds[0]).or_else(|error| match error.code() {
            Some(super::drop::IS_A_DICTIONARY) => drop(kinds[1]),
            _ => Err(error),
        });
        dropped.map_err(|error| error.during(format_args!("drop {told} to create it anew")))
    }
}

/// The definition with its whole statement as what is compared and told.
fn whole(definition: &TableDefinition) -> Result<TableDefinition> {
    let Some(statement) = definition.statement() else {
        return Err(not_whole(&definition.name));
    };
    Ok(TableDefinition {
        create_query: statement.to_owned(),
        whole_query: None,
        ..definition.clone()
    })
}

fn out_of_reach(name: &TableName, differences: &[Difference]) -> EngineError {
    let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
    let message = format!(
        "{name} was changed since the mend was planned and cannot be altered to what the backup says: {}; \
         cancel the mend and ask for it again",
        differences.join("; ")
    );
    EngineError::new(Remedy::Request, message)
}

fn what(difference: &Difference) -> String {
    let Difference { aspect, name, .. } = difference;
    format!("the {aspect} {name}").trim_end().to_owned()
}

/// Whether mending it makes the server rewrite parts.
fn rewrites(difference: &Difference) -> bool {
    let removes = difference.live.is_some();
    match difference.aspect {
        Aspect::Index | Aspect::Projection => removes,
        Aspect::Column | Aspect::ColumnStatistics => removes && difference.backup.is_none(),
        _ => false,
    }
}

/// What follows `ALTER TABLE …`.
fn statements(difference: &Difference, wanted: &Definition, modern: bool) -> Vec<String> {
    let name = quote(&difference.name);
    let kind = wanted.clause(Aspect::Column, &difference.name);
    let column = format!("MODIFY COLUMN {name} {}", kind.unwrap_or_default());
    let (backup, live) = (difference.backup.as_deref(), difference.live.as_deref());
    let of_list = |word: &str, text: Option<&str>| {
        let drop = live.map(|_| format!("DROP {word} {name}"));
        let add = text.map(|text| format!("ADD {word} {name} {text}"));
        drop.into_iter().chain(add).collect()
    };
    let or_remove = |set: &dyn Fn(&str) -> String, remove: String| vec![backup.map_or(remove, set)];
    match difference.aspect {
        Aspect::Column => vec![match (backup, live) {
            (Some(text), None) => format!("ADD COLUMN {name} {text}"),
            (Some(text), Some(_)) => format!("MODIFY COLUMN {name} {text}"),
            (None, _) => format!("DROP COLUMN {name}"),
        }],
        Aspect::ColumnDefault => {
            let word = live.and_then(|text| text.split_whitespace().next());
            let remove = match word.filter(|_| modern) {
                Some(word) => format!("MODIFY COLUMN {name} REMOVE {word}"),
                None => column.clone(),
            };
            or_remove(&|text| format!("{column} {text}"), remove)
        }
        Aspect::ColumnCodec => or_remove(
            &|text| format!("{column} CODEC{text}"),
            format!("MODIFY COLUMN {name} REMOVE CODEC"),
        ),
        Aspect::ColumnTtl => or_remove(
            &|text| format!("{column} TTL {text}"),
            format!("MODIFY COLUMN {name} REMOVE TTL"),
        ),
        Aspect::ColumnComment => vec![format!("COMMENT COLUMN {name} {}", backup.unwrap_or("''"))],
        Aspect::ColumnStatistics => {
            let word = if live.is_some() { "MODIFY" } else { "ADD" };
            or_remove(
                &|text| {
                    let kinds = text.trim_start_matches('(').trim_end_matches(')');
                    format!("{word} STATISTICS {name} TYPE {kinds}")
                },
                format!("DROP STATISTICS {name}"),
            )
        }
        Aspect::ColumnOrder => in_order(wanted, backup.unwrap_or_default()),
        Aspect::Index => of_list("INDEX", backup),
        Aspect::Projection => of_list("PROJECTION", backup),
        Aspect::Constraint => of_list("CONSTRAINT", backup),
        Aspect::Ttl => or_remove(
            &|text| format!("MODIFY TTL {text}"),
            "REMOVE TTL".to_owned(),
        ),
        Aspect::Setting => {
            let setting = &difference.name;
            or_remove(
                &|text| format!("MODIFY SETTING {setting} = {text}"),
                format!("RESET SETTING {setting}"),
            )
        }
        Aspect::Comment => vec![format!("MODIFY COMMENT {}", backup.unwrap_or("''"))],
        Aspect::Query => vec![format!("MODIFY QUERY {}", backup.unwrap_or_default())],
        Aspect::Refresh => vec![format!("MODIFY REFRESH {}", backup.unwrap_or_default())],
        _ => Vec::new(),
    }
}

/// Puts columns one after the other, as far as both definitions have them.
fn in_order(wanted: &Definition, common: &str) -> Vec<String> {
    let is_common = |column: &&String| common.split(", ").any(|name| name == column.as_str());
    let mut before: Option<&String> = None;
    let columns = wanted.columns().iter().filter(is_common);
    columns
        .map(|column| {
            let kind = wanted.clause(Aspect::Column, column).unwrap_or_default();
            let place = match before.replace(column) {
                Some(before) => format!("AFTER {}", quote(before)),
                None => "FIRST".to_owned(),
            };
            format!("MODIFY COLUMN {} {kind} {place}", quote(column))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use mendb_model::part::Grade;

    use super::*;

    fn told(aspect: Aspect, name: &str, backup: Option<&str>, live: Option<&str>) -> String {
        let wanted =
            "CREATE TABLE d.t (`a` UInt8, `c d` Date DEFAULT now(), `e` String) ENGINE = MergeTree";
        let difference = Difference {
            aspect,
            name: name.to_owned(),
            grade: Grade::Answers,
            backup: backup.map(str::to_owned),
            live: live.map(str::to_owned),
        };
        let wanted = Definition::read(wanted).unwrap();
        statements(&difference, &wanted, true).join("; ")
    }

    #[test]
    fn each_difference_has_its_statements() {
        use Aspect as A;
        let column = "c d";
        assert_eq!(
            told(A::ColumnDefault, column, Some("DEFAULT 1"), None),
            "MODIFY COLUMN `c d` Date DEFAULT 1"
        );
        assert_eq!(
            told(A::ColumnDefault, column, None, Some("MATERIALIZED 1")),
            "MODIFY COLUMN `c d` REMOVE MATERIALIZED"
        );
        assert_eq!(
            told(A::Index, "i", Some("a TYPE set(1)"), Some("a TYPE minmax")),
            "DROP INDEX `i`; ADD INDEX `i` a TYPE set(1)"
        );
        assert_eq!(
            told(A::Constraint, "k", None, Some("CHECK a")),
            "DROP CONSTRAINT `k`"
        );
        assert_eq!(told(A::Ttl, "", None, Some("d")), "REMOVE TTL");
        assert_eq!(
            told(A::Setting, "x", Some("2"), Some("1")),
            "MODIFY SETTING x = 2"
        );
        assert_eq!(
            told(A::ColumnComment, "a", None, Some("'x'")),
            "COMMENT COLUMN `a` ''"
        );
        assert_eq!(
            told(A::ColumnOrder, "", Some("a, c d"), Some("c d, a")),
            "MODIFY COLUMN `a` UInt8 FIRST; MODIFY COLUMN `c d` Date AFTER `a`"
        );
        assert_eq!(
            told(A::Column, "x", Some("UInt8 ALIAS a"), None),
            "ADD COLUMN `x` UInt8 ALIAS a"
        );
    }
}
