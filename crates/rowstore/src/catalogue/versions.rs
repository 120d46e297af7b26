//! Schema versions, and the check that a client's view of a table is the current one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The schema versions (AlterVersion) of a table, its indexes and their implementation tables.
///
/// They move together, in one commit, and never back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of the table.
    pub table: u64,
    /// Of its indexes, by name.
    pub indexes: BTreeMap<String, IndexVersions>,
}

/// The schema versions of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexVersions {
    /// Of the index itself.
    pub entity: u64,
    /// Of its implementation table.
    pub implementation: u64,
}

impl Versions {
    /// The versions of a table that was just created with these indexes.
    pub(crate) fn first<'a>(indexes: impl Iterator<Item = &'a str>) -> Self {
        let first = IndexVersions {
            entity: 1,
            implementation: 1,
        };
        Self {
            table: 1,
            indexes: indexes.map(|name| (name.to_owned(), first)).collect(),
        }
    }

    /// The versions after one schema change: the table's and each implementation table's grow by one,
    /// and an index follows its implementation table unless it is ahead already.
    pub(crate) fn raised(&self) -> Self {
        let raise = |versions: &IndexVersions| {
            let implementation = versions.implementation + 1;
            IndexVersions {
                entity: versions.entity.max(implementation),
                implementation,
            }
        };
        Self {
            table: self.table + 1,
            indexes: self
                .indexes
                .iter()
                .map(|(name, versions)| (name.clone(), raise(versions)))
                .collect(),
        }
    }

    /// Refuses a client whose view `got` of `table` is not this one.
    pub(crate) fn check(&self, table: &str, got: &Self) -> Result<()> {
        let same = |path: String, expected: u64, got: u64| {
            if expected == got {
                Ok(())
            } else {
                Err(Error::SchemaVersion {
                    path,
                    expected,
                    got,
                })
            }
        };
        same(format!("/{table}"), self.table, got.table)?;
        for (index, expected) in &self.indexes {
            let Some(got) = got.indexes.get(index) else {
                return Err(Error::TableReplaced(table.to_owned()));
            };
            let path = format!("/{table}/{index}");
            same(path.clone(), expected.entity, got.entity)?;
            let path = format!("{path}/indexImplTable");
            same(path, expected.implementation, got.implementation)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(table: u64, entity: u64, implementation: u64) -> Versions {
        let index = IndexVersions {
            entity,
            implementation,
        };
        Versions {
            table,
            indexes: BTreeMap::from([("by_carrier".to_owned(), index)]),
        }
    }

    #[test]
    fn one_change_raises_all_and_the_index_follows_its_implementation() {
        assert_eq!(versions(1, 1, 1).raised(), versions(2, 2, 2));
        assert_eq!(versions(7, 2, 5).raised(), versions(8, 6, 6));
        assert_eq!(versions(7, 9, 5).raised(), versions(8, 9, 6));
    }

    #[test]
    fn a_stale_view_is_told_path_and_both_versions() {
        let refused = |got: Versions| {
            versions(3, 3, 3)
                .check("flights", &got)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused(versions(2, 2, 2)),
            "schema version mismatch: /flights expected 3 got 2"
        );
        assert_eq!(
            refused(versions(3, 2, 2)),
            "schema version mismatch: /flights/by_carrier expected 3 got 2"
        );
        assert_eq!(
            refused(versions(3, 3, 2)),
            "schema version mismatch: /flights/by_carrier/indexImplTable expected 3 got 2"
        );
        assert!(
            versions(3, 3, 3)
                .check("flights", &versions(3, 3, 3))
                .is_ok()
        );
    }
}
