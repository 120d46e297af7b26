//! Which database a backup was taken of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// So many digits of an id tell two targets apart for people.
const SHOWN_DIGITS: usize = 8;

/// A target as its backups name it. Two marks are of the same target when their ids are equal: addresses
/// change, and those of two hosts may read alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetMark {
    /// Drawn at random when mendb first opened the target, and kept by it. A copy of a target has the
    /// same.
    pub target_id: String,
    /// Where it was when the backup was taken, without credentials.
    pub url: String,
    /// The host on which mendb ran then, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

impl TargetMark {
    /// Whether both are of one target.
    pub fn is_same(&self, other: &Self) -> bool {
        self.target_id == other.target_id
    }
}

impl fmt::Display for TargetMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)?;
        if let Some(host) = &self.host {
            write!(f, " on {host}")?;
        }
        let shown: String = self.target_id.chars().take(SHOWN_DIGITS).collect();
        write!(f, " ({shown})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_told_by_its_id_and_shown_with_where_it_was() {
        let mut mark = TargetMark {
            target_id: "0123456789abcdef".to_owned(),
            url: "mendb:///data".to_owned(),
            host: None,
        };
        assert_eq!(mark.to_string(), "mendb:///data (01234567)");
        let moved = TargetMark {
            url: "mendb:///moved".to_owned(),
            host: Some("db1".to_owned()),
            ..mark.clone()
        };
        assert!(mark.is_same(&moved));
        assert_eq!(moved.to_string(), "mendb:///moved on db1 (01234567)");
        mark.target_id = "é".to_owned();
        assert!(!mark.is_same(&moved));
        assert_eq!(mark.to_string(), "mendb:///data (é)");
    }
}
