//! Numbers of transactions, and which rows are of which.

use super::error::damaged;
use crate::error::Result;

/// A number of a transaction, with its epoch.
pub(super) fn number(text: &str) -> Result<u64> {
    text.parse()
        .map_err(|_| damaged(format!("{text:?} is no number of a transaction")))
}

/// The condition that a row is of a transaction that is not older than one. Rows have the low half of the number.
pub(super) fn is_written_since(before: &str, oldest: u64) -> String {
    let low = oldest & u64::from(u32::MAX);
    format!("age({before}xmin) <= age('{low}'::xid)")
}

/// Which transactions a snapshot sees, of whole ones: it has no numbers of parts (savepoints).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sees {
    /// Transactions from this one on had not begun.
    next: u64,
    /// Those before that had not ended, prepared ones among them.
    running: Vec<u64>,
}

impl Sees {
    /// Reads what the server says of a snapshot: `xmin:xmax:running,running`.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let (Some(_), Some(next), Some(running), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(damaged(format!("{text:?} is no snapshot")));
        };
        let running = running.split(',').filter(|one| !one.is_empty());
        Ok(Self {
            next: number(next)?,
            running: running.map(number).collect::<Result<_>>()?,
        })
    }

    /// Whether it sees a transaction that has committed by now.
    pub(super) fn sees(&self, transaction: u64) -> bool {
        transaction < self.next && !self.running.contains(&transaction)
    }

    /// The number of a transaction with its epoch: the one that is nearest, for fewer than 2^31 have begun between.
    pub(super) fn whole_number(&self, low: u32) -> u64 {
        let away = i64::from(low.wrapping_sub(self.next as u32).cast_signed());
        self.next.saturating_add_signed(away)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_sees_what_had_ended_before_it() {
        let sees = Sees::parse("7:12:7,9").unwrap();
        let seen: Vec<u64> = (5..15).filter(|number| sees.sees(*number)).collect();
        assert_eq!(seen, [5, 6, 8, 10, 11]);
        assert!(Sees::parse("7:7:").unwrap().sees(6));
        for bad in ["", "7", "7:8", "7:8:9:10", "7:x:", "7:8:9,,y"] {
            assert!(Sees::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn numbers_that_went_round_are_told_apart() {
        let epoch = 1_u64 << 32;
        let sees = Sees::parse(&format!("{0}:{0}:", 3 * epoch + 5)).unwrap();
        assert_eq!(sees.whole_number(4), 3 * epoch + 4);
        assert_eq!(sees.whole_number(6), 3 * epoch + 6);
        assert_eq!(sees.whole_number(u32::MAX), 3 * epoch - 1);
        assert!(sees.sees(sees.whole_number(u32::MAX)));
        assert!(!sees.sees(sees.whole_number(5)));
    }
}
