//! Names of tables of part stores.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::matches;

/// A table of a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TableName {
    /// Its database.
    pub database: String,
    /// Its name in there.
    pub table: String,
}

impl TableName {
    /// The table of a database.
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            table: table.into(),
        }
    }

    /// Whether comma-separated patterns name it, as `database.table`; `?` and `*` stand for one and
    /// for any characters. Where names have dots in them, backquotes tell database and table apart:
    /// `` `a.b`.c ``.
    pub fn matches(&self, patterns: &str) -> bool {
        crate::name::patterns(patterns).any(|pattern| match quoted_parts(pattern) {
            Some((database, table)) => {
                matches(database, &self.database) && matches(table, &self.table)
            }
            None => matches(pattern, &self.to_string()),
        })
    }

    /// The name in SQL, quoted.
    pub fn sql(&self) -> String {
        format!("{}.{}", quote(&self.database), quote(&self.table))
    }
}

/// Database and table of a name of which one part or both are in backquotes.
fn quoted_parts(name: &str) -> Option<(&str, &str)> {
    fn unquoted(part: &str) -> Option<&str> {
        match part.strip_prefix('`') {
            Some(quoted) => quoted.strip_suffix('`').filter(|name| !name.contains('`')),
            None => (!part.contains('`')).then_some(part),
        }
    }
    let after_quoted = name.starts_with('`').then(|| name.find("`."));
    let at = match after_quoted {
        Some(end) => end? + 1,
        None => name.find(".`")?,
    };
    let (database, table) = (&name[..at], &name[at + 1..]);
    Some((unquoted(database)?, unquoted(table)?))
}

/// `database.table`, as people write it.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

/// An identifier in backquotes.
pub fn quote(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
