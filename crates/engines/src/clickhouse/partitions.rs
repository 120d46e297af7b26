//! Partitions by the names that people give them.

use mendb_model::name::matches;
use mendb_model::part::TableName;
use serde::Deserialize;

use super::ClickHouse;
use super::client::Result;
use super::disks::is_table;
use super::inventory::PATCH;

/// What stands for a comma inside of a name while patterns are told apart by commas.
const COMMA_INSIDE: &str = "\u{1}";

impl ClickHouse {
    /// Ids of the partitions that the patterns name.
    pub(super) fn match_partitions(&self, name: &TableName, patterns: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Row {
            partition_id: String,
            partition: String,
        }
        let rows: Vec<Row> = self.client.rows(&format!(
            "SELECT DISTINCT partition_id, partition FROM system.parts \
             WHERE active AND {} ORDER BY partition_id",
            is_table(name, "table")
        ))?;
        let patterns = hide_commas_inside(patterns);
        let named = rows.into_iter().filter(|row| {
            !row.partition_id.starts_with(PATCH)
                && (matches(&patterns, &row.partition_id) || names_value(&patterns, &row.partition))
        });
        Ok(named.map(|row| row.partition_id).collect())
    }
}

/// Whether patterns name a value, as it is printed or in quotes.
fn names_value(patterns: &str, value: &str) -> bool {
    let value = value.replace(',', COMMA_INSIDE);
    matches(patterns, &value) || matches(patterns, &format!("'{value}'"))
}

/// Patterns in which commas only stand between patterns: not in parentheses, not in quotes.
fn hide_commas_inside(patterns: &str) -> String {
    let mut hidden = String::with_capacity(patterns.len());
    let mut depth = 0_u32;
    let mut is_quoted = false;
    let mut is_escaped = false;
    for c in patterns.chars() {
        match c {
            '\'' if !is_escaped => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        is_escaped = c == '\\' && !is_escaped;
        if c == ',' && (is_quoted || depth > 0) {
            hidden.push_str(COMMA_INSIDE);
        } else {
            hidden.push(c);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(patterns: &str, value: &str) -> bool {
        names_value(&hide_commas_inside(patterns), value)
    }

    #[test]
    fn values_are_named_as_they_are_printed() {
        assert!(names("2024-01-01", "2024-01-01"));
        assert!(names("2023-*, 2024-01-0?", "2024-01-01"));
        assert!(names("('a',1)", "('a',1)"));
        assert!(names("x, ('it\\'s',-1)", "('it\\'s',-1)"));
        assert!(names("'b,c',d", "b,c"));
        assert!(!names("b,c", "b,c"));
        assert!(!names("('a',1)", "('a',2)"));
    }
}
