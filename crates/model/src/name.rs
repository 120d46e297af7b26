//! The names of things: tables, collections, backups, operations, and patterns of names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most bytes a name may have: it becomes part of file names and object keys.
pub const MAX_NAME_BYTES: usize = 128;

/// A name that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a name: use 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-` and `.`, beginning with a letter, a digit or `_`"
)]
pub struct BadName(pub String);

/// Checks the name of a table or of a collection: ASCII letters, digits, `_`, `-` and `.`.
///
/// # Errors
/// The name is empty, too long, begins with `-` or `.`, or holds another character.
pub fn check(name: &str) -> Result<(), BadName> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && name.len() <= MAX_NAME_BYTES && name.chars().all(good) {
        Ok(())
    } else {
        Err(BadName(name.to_owned()))
    }
}

/// A sharded table: a user's table, or the implementation table of one of its indexes.
///
/// Shown and serialised as `flights` or `flights/by_carrier`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TablePath {
    /// The user's table.
    pub table: String,
    /// The index, when its implementation table is meant.
    pub index: Option<String>,
}

impl TablePath {
    /// A user's table.
    pub fn table(table: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            index: None,
        }
    }

    /// The implementation table of an index.
    pub fn index(table: impl Into<String>, index: impl Into<String>) -> Self {
        Self {
            table: table.into(),
            index: Some(index.into()),
        }
    }
}

impl fmt::Display for TablePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.index {
            Some(index) => write!(f, "{}/{index}", self.table),
            None => f.write_str(&self.table),
        }
    }
}

impl From<TablePath> for String {
    fn from(path: TablePath) -> Self {
        path.to_string()
    }
}

impl TryFrom<String> for TablePath {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        let (table, index) = match text.split_once('/') {
            Some((table, index)) => (table, Some(index)),
            None => (text.as_str(), None),
        };
        check(table)?;
        if index.is_some_and(|index| index.is_empty() || index.contains('/')) {
            return Err(BadName(text));
        }
        Ok(Self {
            table: table.to_owned(),
            index: index.map(str::to_owned),
        })
    }
}

/// Whether a backup holds all rows or the changes since its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupKind {
    /// All rows.
    Full,
    /// The changes since the parent.
    Incremental,
}

impl BackupKind {
    /// The name in ids and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
        }
    }
}

impl fmt::Display for BackupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The id of a backup: `20260821141425Z_full` or `20260821151519Z_incremental`. Ids of one
/// collection are unique and their order is that of time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BackupId(String);

impl BackupId {
    /// The id of a backup of this kind taken at this second; `None` outside the years 0 to 9999.
    pub fn new(unix_seconds: i64, kind: BackupKind) -> Option<Self> {
        let at = jiff::Timestamp::from_second(unix_seconds).ok()?;
        let civil = jiff::tz::TimeZone::UTC.to_datetime(at);
        if civil.year() < 0 {
            return None;
        }
        Some(Self(format!("{}_{kind}", civil.strftime("%Y%m%d%H%M%SZ"))))
    }

    /// The kind that the id names.
    pub fn kind(&self) -> BackupKind {
        if self.0.ends_with("_full") {
            BackupKind::Full
        } else {
            BackupKind::Incremental
        }
    }

    /// The second that the id names, since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(&self) -> i64 {
        parse_seconds(&self.0).unwrap_or_default()
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_seconds(id: &str) -> Option<i64> {
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", id.get(..14)?).ok()?;
    Some(
        jiff::tz::TimeZone::UTC
            .to_timestamp(civil)
            .ok()?
            .as_second(),
    )
}

/// Text that is not the id of a backup.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a backup id such as 20260821141425Z_full")]
pub struct BadBackupId(String);

impl FromStr for BackupId {
    type Err = BadBackupId;
    fn from_str(text: &str) -> Result<Self, BadBackupId> {
        let digits = text
            .strip_suffix("Z_full")
            .or_else(|| text.strip_suffix("Z_incremental"));
        let good = digits.is_some_and(|d| d.len() == 14 && d.bytes().all(|b| b.is_ascii_digit()));
        if good && parse_seconds(text).is_some() {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadBackupId(text.to_owned()))
        }
    }
}

impl TryFrom<String> for BackupId {
    type Error = BadBackupId;
    fn try_from(text: String) -> Result<Self, BadBackupId> {
        text.parse()
    }
}

impl From<BackupId> for String {
    fn from(id: BackupId) -> Self {
        id.0
    }
}

impl fmt::Display for BackupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The id of an operation, such as `restore-20260821151519-3fa9c1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OperationId(String);

impl OperationId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OperationId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        check(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for OperationId {
    type Error = BadName;
    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<OperationId> for String {
    fn from(id: OperationId) -> Self {
        id.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a name matches one of some comma-separated patterns, in which `*` stands for any
/// characters and `?` for one.
pub fn matches(patterns: &str, name: &str) -> bool {
    self::patterns(patterns).any(|pattern| matches_one(pattern.as_bytes(), name.as_bytes()))
}

/// The patterns of a comma-separated list.
pub fn patterns(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim)
}

/// Those of some comma-separated patterns that fit nothing.
pub fn unmatched(list: &str, fits_something: impl Fn(&str) -> bool) -> Vec<&str> {
    patterns(list)
        .filter(|pattern| !fits_something(pattern))
        .collect()
}

/// Matches with one point of return: the last `*` seen, which takes one character more on each failure.
fn matches_one(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        assert!(matches("flights, air*", "airports"));
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(matches("pl?nes", "planes"));
        assert!(!matches("pl?nes", "plnes"));
        assert!(!matches("a*", "ba"));
        assert!(!matches("", "a"));
    }

    #[test]
    fn each_pattern_that_matches_nothing_is_found() {
        let fits = |pattern: &str| matches(pattern, "flights") || matches(pattern, "airports");
        assert_eq!(unmatched("fl*, plane?,airports,", fits), ["plane?", ""]);
        assert!(unmatched("*", fits).is_empty());
    }

    #[test]
    fn backup_ids_carry_time_and_kind() {
        let id = BackupId::new(1_787_321_665, BackupKind::Full).unwrap();
        assert_eq!(id.as_str(), "20260821141425Z_full");
        assert_eq!(id.unix_seconds(), 1_787_321_665);
        assert_eq!(
            id.as_str().parse::<BackupId>().unwrap().kind(),
            BackupKind::Full
        );
        for bad in [
            "20260821141425Z",
            "2026Z_full",
            "20261321141425Z_full",
            "../Z_full",
        ] {
            assert!(bad.parse::<BackupId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_name_matches_itself(name in "[a-z_.-]{1,10}") {
            prop_assert!(matches(&name, &name));
            prop_assert!(matches("*", &name));
        }

        #[test]
        fn ids_read_back(seconds in 0i64..4_000_000_000) {
            let id = BackupId::new(seconds, BackupKind::Incremental).unwrap();
            prop_assert_eq!(id.unix_seconds(), seconds);
            prop_assert_eq!(id.to_string().parse::<BackupId>().unwrap(), id);
        }
    }
}
