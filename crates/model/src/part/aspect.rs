//! What a clause of a definition is about.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a clause is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aspect {
    /// The type of a column; of a column that is not stored, all of it.
    Column,
    /// The place of columns among each other.
    ColumnOrder,
    /// What a column is where nothing is stored of it.
    ColumnDefault,
    /// How a column is compressed.
    ColumnCodec,
    /// When values of a column go.
    ColumnTtl,
    /// Its comment.
    ColumnComment,
    /// Statistics of it.
    ColumnStatistics,
    /// Settings of it, and what else is said of it.
    ColumnSettings,
    /// A data skipping index.
    Index,
    /// A projection.
    Projection,
    /// A constraint.
    Constraint,
    /// The engine.
    Engine,
    /// The arguments of the engine.
    EngineArguments,
    /// The partition key.
    PartitionKey,
    /// The primary key.
    PrimaryKey,
    /// The sorting key.
    SortingKey,
    /// The sampling key.
    SamplingKey,
    /// When rows go, or move.
    Ttl,
    /// A setting.
    Setting,
    /// A comment.
    Comment,
    /// The table that a view writes to.
    Target,
    /// When a view is refreshed.
    Refresh,
    /// By whose rights a view reads.
    Security,
    /// What a view selects.
    Query,
    /// Where a dictionary comes from.
    Source,
    /// How a dictionary is kept.
    Layout,
    /// When a dictionary is read again.
    Lifetime,
    /// The range of a dictionary.
    Range,
    /// A password or key, of which nothing is told.
    Credentials,
    /// A row policy: which rows some users see.
    RowPolicy,
}

/// In words, before the name of a column, index or setting.
impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Column => "column",
            Self::ColumnOrder => "order of the columns",
            Self::ColumnDefault => "default of column",
            Self::ColumnCodec => "codec of column",
            Self::ColumnTtl => "TTL of column",
            Self::ColumnComment => "comment of column",
            Self::ColumnStatistics => "statistics of column",
            Self::ColumnSettings => "settings of column",
            Self::Index => "index",
            Self::Projection => "projection",
            Self::Constraint => "constraint",
            Self::Engine => "engine",
            Self::EngineArguments => "arguments of the engine",
            Self::PartitionKey => "partition key",
            Self::PrimaryKey => "primary key",
            Self::SortingKey => "sorting key",
            Self::SamplingKey => "sampling key",
            Self::Ttl => "TTL",
            Self::Setting => "setting",
            Self::Comment => "comment",
            Self::Target => "target of the view",
            Self::Refresh => "refreshing of the view",
            Self::Security => "rights of the view",
            Self::Query => "query",
            Self::Source => "source",
            Self::Layout => "layout",
            Self::Lifetime => "lifetime",
            Self::Range => "range",
            Self::Credentials => "credentials",
            Self::RowPolicy => "row policy",
        })
    }
}
