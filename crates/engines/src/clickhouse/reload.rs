//! Dictionaries that hold what tables held before they were mended.
//!
//! A dictionary is read when it is first used, and then stays what it was. What depends on a table is
//! found as the order of creation is, by what the server says and by names in statements; of
//! dictionaries in configuration files the server tells the source.

use std::collections::HashSet;

use mendb_model::part::{TableName, quote};
use serde::Deserialize;

use super::ClickHouse;
use super::definition::ToldTable;
use super::dependencies::{Member, dependents};
use crate::error::Result;

#[derive(Deserialize)]
struct Told {
    #[serde(default)]
    database: String,
    name: String,
    source: String,
    /// Servers of before 19.17 do not tell, and have read all of them.
    #[serde(default)]
    status: String,
}

impl ClickHouse {
    /// Has the server read dictionaries again that depend on tables and that it has read before.
    pub(super) fn reload(&self, tables: &[TableName]) -> Result<Vec<(String, Result<()>)>> {
        let all = self.told_tables("database != 'system'")?;
        let members: Vec<Member<'_>> = all.iter().map(ToldTable::member).collect();
        let touched = dependents(&members, tables);
        let touched: HashSet<&TableName> = touched.into_iter().map(|at| members[at].name).collect();
        let newer = if self.abilities.dictionary_status {
            ", database, toString(status) AS status"
        } else {
            ""
        };
        let sql = format!("SELECT name, source{newer} FROM system.dictionaries");
        let told: Vec<Told> = self.client.rows(&sql)?;
        let mut reloaded = Vec::new();
        for dictionary in told {
            let depends = if dictionary.database.is_empty() {
                touched.iter().any(|table| dictionary.reads(table))
            } else {
                touched.contains(&TableName::new(&dictionary.database, &dictionary.name))
            };
            if !depends || dictionary.status == "NOT_LOADED" {
                continue;
            }
            let sql = format!("SYSTEM RELOAD DICTIONARY {}", dictionary.sql());
            let done = self.client.execute(&sql);
            let done = done.map_err(|error| {
                error.during(format_args!(
                    "have dictionary {} read again",
                    dictionary.shown()
                ))
            });
            reloaded.push((dictionary.shown(), done));
        }
        Ok(reloaded)
    }
}

impl Told {
    /// Whether the source, such as `ClickHouse: d.t`, names a table.
    fn reads(&self, table: &TableName) -> bool {
        let name = table.to_string();
        let mut words = self.source.split(|c: char| c.is_whitespace() || c == ',');
        words.any(|word| word == name)
    }

    fn sql(&self) -> String {
        if self.database.is_empty() {
            return quote(&self.name);
        }
        TableName::new(&self.database, &self.name).sql()
    }

    fn shown(&self) -> String {
        if self.database.is_empty() {
            return self.name.clone();
        }
        format!("{}.{}", self.database, self.name)
    }
}
