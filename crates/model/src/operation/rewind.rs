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
    /// The first backup of the chain that has a change of theirs of the table.
    pub from: BackupId,
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
        /// From here on; from the first there is.
        from_us: Option<i64>,
        /// Before this; to the last there is.
        before_us: Option<i64>,
    },
}

impl ChangedBy {
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

/// As a part of a sentence.
impl fmt::Display for ChangedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = |us: i64| {
            let at = jiff::Timestamp::from_microsecond(us);
            at.map_or_else(|_| us.to_string(), |at| at.to_string())
        };
        match *self {
            Self::Transaction(number) => write!(f, "transaction {number}"),
            Self::Span { from_us, before_us } => {
                f.write_str("what committed")?;
                if let Some(from) = from_us {
                    write!(f, " from {}", moment(from))?;
                }
                match before_us {
                    Some(before) => write!(f, " until {}", moment(before)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// What is neither a number nor a span of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is neither the number of a transaction nor a span as 2026-11-21T08:00:00Z..2026-11-21T08:05:00Z, of which one \
     end may be left out"
)]
pub struct BadChangedBy(String);

impl FromStr for ChangedBy {
    type Err = BadChangedBy;

    fn from_str(text: &str) -> Result<Self, BadChangedBy> {
        let bad = || BadChangedBy(text.to_owned());
        let Some((from, before)) = text.split_once("..") else {
            return text.parse().map(Self::Transaction).map_err(|_| bad());
        };
        let moment = |text: &str| match text {
            "" => Ok(None),
            text => {
                let at: jiff::Timestamp = text.parse().map_err(|_| bad())?;
                Ok(Some(at.as_microsecond()))
            }
        };
        let (from_us, before_us) = (moment(from)?, moment(before)?);
        let is_one = from_us
            .zip(before_us)
            .is_none_or(|(from, before)| from < before);
        match is_one && (from_us.is_some() || before_us.is_some()) {
            true => Ok(Self::Span { from_us, before_us }),
            false => Err(bad()),
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
        let told = serde_json::to_string(&span).unwrap();
        assert_eq!(serde_json::from_str::<ChangedBy>(&told).unwrap(), span);
    }

    #[test]
    fn what_is_neither_is_said_so() {
        for bad in [
            "",
            "..",
            "x",
            "-1",
            "1..2",
            "2026-11-21T08:00:00Z",
            "2026-11-21T08:00:00Z..2026-11-21T08:00:00Z",
        ] {
            assert!(bad.parse::<ChangedBy>().is_err(), "{bad}");
        }
    }
}
