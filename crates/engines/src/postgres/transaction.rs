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
