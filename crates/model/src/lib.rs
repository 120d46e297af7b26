//! The words, rules and formats of mendb, and the machine that runs its long operations.
//!
//! Pure: nothing here reads a clock, draws a random number or touches a disk or a network.
//!
//! Start at [`schema`] for what a table is, at [`change`] for what can happen to a row, at
//! [`manifest`] for what a backup is, and at [`operation`] for how long work reaches its end.

pub mod balance;
pub mod block;
pub mod change;
pub mod digest;
pub mod fold;
pub mod key;
pub mod key_text;
pub mod manifest;
pub mod name;
mod names;
pub mod operation;
pub mod part;
pub mod rate;
pub mod retention;
pub mod row;
mod row_source;
pub mod schema;
mod staged_counts;
pub mod target;
pub mod text;
pub mod unfolded;
pub mod value;
mod varint;
mod version;

pub use balance::{Balance, Replaced};
pub use block::{RowBlock, RowBlockBuilder};
pub use change::{Change, ChangeKind, ColumnSet};
pub use digest::Digest;
pub use fold::Fold;
pub use key::KeyRange;
pub use name::{BackupId, OperationId};
pub use names::names;
pub use row_source::RowSource;
pub use schema::{Column, IndexSchema, TableSchema};
pub use staged_counts::StagedCounts;
pub use target::TargetMark;
pub use value::{ColumnType, Value, ValueRef};
pub use version::Version;

/// Bytes that do not decode: they came from a disk or a network and are damaged or foreign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: {detail}")]
pub struct Malformed {
    /// What was being read, as a noun: `row`, `key`, `row block`.
    pub what: &'static str,
    /// What is wrong with it.
    pub detail: String,
}

/// An error with all its causes in one line, as records and messages keep it.
pub fn describe_error(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl Malformed {
    pub(crate) fn new(what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            what,
            detail: detail.into(),
        }
    }
}
