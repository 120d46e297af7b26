//! What the rows of a file do.

use clap::ValueEnum;
use serde::Serialize;

/// What a row of a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Sets the columns it has and leaves the others
    Upsert,
    /// Becomes the row: columns it has not are NULL
    Replace,
    /// Removes the row; only the key is read
    Erase,
}
