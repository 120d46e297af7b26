//! How data is printed: for people or for programs.

use clap::ValueEnum;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// Tables and lines for people.
    Text,
    /// One JSON document for programs.
    Json,
}
