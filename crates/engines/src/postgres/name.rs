//! Names and texts as statements have them.

use std::fmt;

use mendb_model::name::check;

use super::error::refused;
use crate::error::Result;

/// A table with its schema.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) name: String,
}

impl TableName {
    /// The table that a user names.
    pub(super) fn parse(text: &str) -> Result<Self> {
        check(text).map_err(|error| refused(error.to_string()))?;
        match text.split_once('.') {
            Some((schema, name))
                if !schema.is_empty() && !name.is_empty() && !name.contains('.') =>
            {
                Ok(Self {
                    schema: schema.to_owned(),
                    name: name.to_owned(),
                })
            }
            _ => Err(refused(format!(
                "table {text} has to be named with its schema, as in public.{}",
                text.trim_matches('.')
            ))),
        }
    }
}

/// As in a statement.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// The rows of a relation as statements name them, without those of tables that inherit from it. The rows of a
/// partitioned table are those of its partitions.
pub(super) fn own_rows(relation: &str, is_partitioned: bool) -> String {
    match is_partitioned {
        true => relation.to_owned(),
        false => format!("ONLY {relation}"),
    }
}

/// A name as it is.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as a constant.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Bytes as a constant.
pub(super) fn bytes(bytes: &[u8]) -> String {
    format!("'\\x{}'::bytea", mendb_model::key::to_hex(bytes))
}

/// Names with something in front of each, as a list.
pub(super) fn list<'a>(before: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let names = names
        .into_iter()
        .map(|name| format!("{before}{}", quoted(name)));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_with_its_schema() {
        let name = TableName::parse("Sales.orders-2").unwrap();
        assert_eq!(name.to_string(), "\"Sales\".\"orders-2\"");
        for bad in ["orders", "a.b.c", "a.", ".b", "a.b c", "a.\"b\""] {
            assert!(TableName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            (quoted("a\"b"), text("it's")),
            ("\"a\"\"b\"".into(), "'it''s'".into())
        );
    }
}
