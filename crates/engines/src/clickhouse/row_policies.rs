//! Row policies: which rows some users see. They are no clauses of tables, and are told apart from them.

use mendb_model::part::{RowPolicies, TableName};
use serde::Deserialize;

use super::ClickHouse;
use super::client::literal;
use crate::error::Result;

/// A policy as `system.row_policies` has it; a name that is missing is that of an older server.
#[derive(Debug, Deserialize)]
struct RowPolicy {
    short_name: String,
    database: String,
    /// Empty where it is for all tables of the database.
    table: String,
    #[serde(default)]
    select_filter: Option<String>,
    #[serde(default)]
    is_restrictive: u8,
    #[serde(default)]
    apply_to_all: u8,
    #[serde(default)]
    apply_to_list: Vec<String>,
    #[serde(default)]
    apply_to_except: Vec<String>,
}

impl RowPolicy {
    fn is_of(&self, table: &TableName) -> bool {
        self.database == table.database && (self.table.is_empty() || self.table == table.table)
    }

    /// What follows its name and that of its table in the statement that creates it.
    fn describe(&self) -> String {
        let filter = self.select_filter.as_deref().unwrap_or("1");
        let kind = match self.is_restrictive {
            0 => "PERMISSIVE",
            _ => "RESTRICTIVE",
        };
        let names = |names: &[String]| {
            let quoted: Vec<String> = names.iter().map(|name| literal(name)).collect();
            quoted.join(", ")
        };
        let to = match (self.apply_to_all, self.apply_to_except.as_slice()) {
            (0, _) if self.apply_to_list.is_empty() => "NONE".to_owned(),
            (0, _) => names(&self.apply_to_list),
            (_, []) => "ALL".to_owned(),
            (_, except) => format!("ALL EXCEPT {}", names(except)),
        };
        format!("AS {kind} USING {filter} TO {to}")
    }
}

/// The policies of a server.
pub(super) struct ServerPolicies(Vec<RowPolicy>);

impl ServerPolicies {
    /// Those that are for a table, by the server's name of it.
    pub(super) fn of(&self, told: &TableName) -> RowPolicies {
        let policies = self.0.iter().filter(|policy| policy.is_of(told));
        policies
            .map(|policy| (policy.short_name.clone(), policy.describe()))
            .collect()
    }
}

impl ClickHouse {
    /// All row policies; `None` where the server has no list of them or the user may not see it.
    pub(super) fn all_row_policies(&self) -> Result<Option<ServerPolicies>> {
        if !self.abilities.uuids {
            // They stand in its configuration.
            return Ok(None);
        }
        match self.client.rows("SELECT * FROM system.row_policies") {
            Ok(policies) => Ok(Some(ServerPolicies(policies))),
            Err(error) if error.is_missing_table() || error.is_denied() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_as_it_would_be_created() {
        let told = |more: &str| -> RowPolicy {
            let json = format!(r#"{{"short_name":"p","database":"d","table":"t"{more}}}"#);
            serde_json::from_str(&json).unwrap()
        };
        let everyone = told(r#","select_filter":"a < 5","apply_to_all":1"#);
        assert_eq!(everyone.describe(), "AS PERMISSIVE USING a < 5 TO ALL");
        let some = told(
            r#","select_filter":null,"is_restrictive":1,"apply_to_all":1,"apply_to_except":["it's"]"#,
        );
        assert_eq!(
            some.describe(),
            r"AS RESTRICTIVE USING 1 TO ALL EXCEPT 'it\'s'"
        );
        let listed = told(r#","select_filter":"0","apply_to_list":["u","v"]"#);
        assert_eq!(listed.describe(), "AS PERMISSIVE USING 0 TO 'u', 'v'");
        assert!(listed.is_of(&TableName::new("d", "t")));
        assert!(!listed.is_of(&TableName::new("d", "u")));
    }
}
