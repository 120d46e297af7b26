//! Transactions that a mend takes back.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::BackupId;

/// Transactions that are taken back of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// Which.
    #[serde(flatten)]
    pub changed_by: ChangedBy,
    /// Whether rows go back too that others wrote again since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub include_rewritten: bool,
    /// Whether rows of the table changed their keys since, by the changes that are known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keys_changed: bool,
    /// The first backup of the chain that has a change of theirs of the table.
    pub from: BackupId,
}

/// A table that transactions which are taken back may have written to, where it is not known what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UntoldTable {
    /// Its name.
    pub table: String,
    /// The increment that does not tell it.
    pub backup_id: BackupId,
    /// Why not.
    pub why: String,
}

/// As a part of a sentence.
impl fmt::Display for UntoldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            backup_id,
            why,
        } = self;
        write!(f, "{table} (increment {backup_id} does not tell: {why})")
    }
}

/// Transactions, chosen among those whose changes increments keep one by one.
///
/// Written and read as `8423`, or as `TIME..TIME`, where either end may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedBy {
    /// The one of this number. One below 2^32 stands for any of which it is the lower half, as servers write it.
    Transaction(u64),
    /// Those that committed in this time, in microseconds since 1970.
    Span {
        /// From here on; from the full backup of the chain on without.
        from_us: Option<i64>,
        /// Before this; up to the newest backup without.
        before_us: Option<i64>,
    },
}

impl ChangedBy {
    /// As people write it behind a flag.
    pub fn as_flag(&self) -> String {
        let end = |us: Option<i64>| us.map(moment).unwrap_or_default();
        match *self {
            Self::Transaction(number) => number.to_string(),
            Self::Span { from_us, before_us } => format!("{}..{}", end(from_us), end(before_us)),
        }
    }

    /// Whether a transaction is one of them.
    pub fn chooses(&self, transaction: u64, committed_us: i64) -> bool {
        match *self {
            Self::Transaction(number) => match u32::try_from(number) {
                Ok(low) => transaction as u32 == low,
                Err(_) => transaction == number,
            },
            Self::Span { from_us, before_us } => {
                from_us.is_none_or(|from| committed_us >= from)
                    && before_us.is_none_or(|before| committed_us < before)
            }
        }
    }
}

fn moment(us: i64) -> String {
    let at = jiff::Timestamp::from_microsecond(us);
    at.map_or_else(|_| us.to_string(), |at| at.to_string())
}

/// As a part of a sentence.
impl fmt::Display for ChangedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Transaction(number) => write!(f, "transaction {number}"),
            Self::Span { from_us, before_us } => {
                match from_us {
                    Some(from) => write!(f, "what committed from {}", moment(from))?,
                    None => f.write_str("what committed from the full backup on")?,
                }
                match before_us {
                    Some(before) => write!(f, " until {}", moment(before)),
                    None => f.write_str(" until the newest backup"),
                }
            }
        }
    }
}

/// What is neither a number nor a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChangedBy {
    /// It is something else.
    #[error(
        "{0:?} is neither the number of a transaction nor a span as 2026-11-21T08:00:00Z..2026-11-21T08:05:00Z, of which one \
         end may be left out"
    )]
    Neither(String),
    /// Not a moment, or one of which it is not said where.
    #[error(
        "{0:?} is no moment with an offset, as 2026-11-21T08:00:00Z or 2026-11-21T09:00:00+01:00"
    )]
    Moment(String),
    /// The first moment is not before the last.
    #[error("{0} is empty: it ends at its first moment or before")]
    Empty(String),
}

impl FromStr for ChangedBy {
    type Err = BadChangedBy;

    fn from_str(text: &str) -> Result<Self, BadChangedBy> {
        let neither = || BadChangedBy::Neither(text.to_owned());
        let Some((from, before)) = text.split_once("..") else {
            return text.parse().map(Self::Transaction).map_err(|_| neither());
        };
        let moment = |text: &str| match text {
            "" => Ok(None),
            text => {
                let at = text.parse::<jiff::Timestamp>();
                let at = at.map_err(|_| BadChangedBy::Moment(text.to_owned()))?;
                Ok(Some(at.as_microsecond()))
            }
        };
        let (from_us, before_us) = (moment(from)?, moment(before)?);
        match (from_us, before_us) {
            (None, None) => Err(neither()),
            (Some(from), Some(before)) if from >= before => {
                Err(BadChangedBy::Empty(text.to_owned()))
            }
            _ => Ok(Self::Span { from_us, before_us }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_transaction_whose_lower_half_may_be_given_alone() {
        let short: ChangedBy = "8423".parse().unwrap();
        assert!(short.chooses(8423, 0) && short.chooses((3 << 32) + 8423, 0));
        assert!(!short.chooses(8424, 0));
        let whole: ChangedBy = ((3_u64 << 32) + 8423).to_string().parse().unwrap();
        assert!(whole.chooses((3 << 32) + 8423, 0) && !whole.chooses(8423, 0));
        assert_eq!(whole.to_string(), "transaction 12884910311");
    }

    #[test]
    fn a_span_has_its_first_moment_and_not_its_last() {
        let span: ChangedBy = "2026-11-21T08:00:00Z..2026-11-21T09:00:01+01:00"
            .parse()
            .unwrap();
        let from = 1_795_248_000_000_000;
        let chosen = [from - 1, from, from + 999_999, from + 1_000_000];
        assert_eq!(
            chosen.map(|at| span.chooses(1, at)),
            [false, true, true, false]
        );
        assert_eq!(
            span.to_string(),
            "what committed from 2026-11-21T08:00:00Z until 2026-11-21T08:00:01Z"
        );
        let open: ChangedBy = "..2026-11-21T08:00:00Z".parse().unwrap();
        assert!(open.chooses(1, i64::MIN) && !open.chooses(1, from));
        assert_eq!(open.as_flag().parse::<ChangedBy>().unwrap(), open);
        assert_eq!(span.as_flag().parse::<ChangedBy>().unwrap(), span);
        let told = serde_json::to_string(&span).unwrap();
        assert_eq!(serde_json::from_str::<ChangedBy>(&told).unwrap(), span);
    }

    #[test]
    fn an_open_end_is_that_of_what_the_chain_tells() {
        let open: ChangedBy = "..2026-11-21T08:00:00Z".parse().unwrap();
        assert_eq!(
            open.to_string(),
            "what committed from the full backup on until 2026-11-21T08:00:00Z"
        );
        let open: ChangedBy = "2026-11-21T08:00:00Z..".parse().unwrap();
        assert_eq!(
            open.to_string(),
            "what committed from 2026-11-21T08:00:00Z until the newest backup"
        );
    }

    #[test]
    fn what_is_neither_is_said_so() {
        for (bad, why) in [
            ("", "neither the number"),
            ("..", "neither the number"),
            ("x", "neither the number"),
            ("-1", "neither the number"),
            ("1..2", "\"1\" is no moment with an offset"),
            ("2026-11-21T08:00:00Z", "neither the number"),
            (
                "2026-11-21T08:00:00..2026-11-21T08:05:00Z",
                "\"2026-11-21T08:00:00\" is no moment with an offset",
            ),
            (
                "2026-11-21T08:00:00Z..2026-11-21T08:00:00Z",
                "ends at its first moment or before",
            ),
            (
                "2026-11-21T09:00:00Z..2026-11-21T08:00:00Z",
                "ends at its first moment or before",
            ),
        ] {
            let error = bad.parse::<ChangedBy>().unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
