//! What the fields of a CSV file are called.

use std::fmt;

/// What the fields of a CSV file are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Header {
    /// As the first record says.
    #[default]
    Present,
    /// There is no header: as the columns of the table, in their order.
    Absent,
    /// There is no header and no table yet: `column1` and so on.
    Numbered,
    /// There is no header: as was said.
    Said(Vec<String>),
}

impl Header {
    /// The name of a field that has none, by its position.
    pub fn number(at: usize) -> String {
        format!("column{}", at + 1)
    }
}

/// What says how many fields each record has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldCount {
    /// The header.
    Header(usize),
    /// The table, whose columns are the fields.
    Table(usize),
    /// The first record.
    First(usize),
    /// Who named the fields.
    Said(usize),
}

impl FieldCount {
    /// How many.
    pub fn get(self) -> usize {
        match self {
            Self::Header(count) | Self::Table(count) | Self::First(count) | Self::Said(count) => {
                count
            }
        }
    }
}

impl fmt::Display for FieldCount {
    /// As in `the header has 2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(count) => write!(f, "the header has {count}"),
            Self::Table(1) => f.write_str("the table has 1 column"),
            Self::Table(count) => write!(f, "the table has {count} columns"),
            Self::First(count) => write!(f, "the first line has {count}"),
            Self::Said(count) => write!(f, "--fields names {count}"),
        }
    }
}
