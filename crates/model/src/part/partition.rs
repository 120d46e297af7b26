//! Partitions by the names that people give them: an id, or the value as the server prints it.

use serde::{Deserialize, Serialize};

use super::selection::{Selector, Unmatched};
use crate::name::matches;

/// What stands for a comma inside of a name while patterns are told apart by commas.
const COMMA_INSIDE: &str = "\u{1}";

/// A partition of a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition {
    /// Its id: part of the names of its parts.
    pub id: String,
    /// Its value as the server prints it; `None` where nobody has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// Comma-separated patterns of partitions: `202401`, `2024-01-*`, `('a',1)`.
#[derive(Debug, Clone)]
pub struct PartitionPatterns {
    hidden: String,
}

impl PartitionPatterns {
    /// The patterns of a list, in which commas inside of parentheses and quotes belong to a value.
    pub fn new(list: &str) -> Self {
        Self {
            hidden: hide_commas_inside(list),
        }
    }

    /// Whether one of them names a partition.
    pub fn name(&self, partition: &Partition) -> bool {
        names(&self.hidden, partition)
    }

    /// Those that name none of the partitions.
    pub fn unmatched(&self, partitions: &[Partition]) -> Vec<Unmatched> {
        let mut found = Selector::Partitions.unmatched(&self.hidden, |pattern| {
            (partitions.iter()).any(|partition| names(pattern, partition))
        });
        for unmatched in &mut found {
            unmatched.pattern = unmatched.pattern.replace(COMMA_INSIDE, ",");
        }
        found
    }
}

fn names(patterns: &str, partition: &Partition) -> bool {
    let value = partition.value.as_deref();
    matches(patterns, &partition.id) || value.is_some_and(|value| names_value(patterns, value))
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

    fn partition(id: &str, value: &str) -> Partition {
        Partition {
            id: id.to_owned(),
            value: Some(value.to_owned()),
        }
    }

    fn named(patterns: &str, value: &str) -> bool {
        PartitionPatterns::new(patterns).name(&partition("1f2e", value))
    }

    #[test]
    fn values_are_named_as_they_are_printed() {
        assert!(named("2024-01-01", "2024-01-01"));
        assert!(named("2023-*, 2024-01-0?", "2024-01-01"));
        assert!(named("('a',1)", "('a',1)"));
        assert!(named("x, ('it\\'s',-1)", "('it\\'s',-1)"));
        assert!(named("'b,c',d", "b,c"));
        assert!(!named("b,c", "b,c"));
        assert!(!named("('a',1)", "('a',2)"));
        assert!(named("1f2e", "x"));
    }

    #[test]
    fn each_pattern_that_names_no_partition_is_told_as_it_was_written() {
        let partitions = [partition("1f", "('a',1)"), partition("202401", "202401")];
        let patterns = PartitionPatterns::new("('a',1),('b',2),2024*,nosuch");
        let told = patterns.unmatched(&partitions);
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["--partitions ('b',2)", "--partitions nosuch"]);
    }
}
