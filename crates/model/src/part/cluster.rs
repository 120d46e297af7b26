//! The shards of a cluster in one backup: each has the tables of one of its replicas.
//!
//! Tables, and tables that the backup lacks, stand shard by shard in the lists of the backup, so that what reads
//! a backup reads all shards. What one shard has is cut out again for its server ([`PartStoreBackup::of_shard`]).

use serde::{Deserialize, Serialize};

use super::Unmatched;
use super::table::{PartStoreBackup, ShardOfCluster};
use crate::target::TargetMark;

/// What the agent of a server has put into the repository for its shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardContents {
    /// The server.
    pub target: TargetMark,
    /// When its tables were frozen: see [`ShardOfCluster::frozen_at_ms`].
    pub frozen_at_ms: u64,
    /// Its tables.
    pub store: PartStoreBackup,
}

impl PartStoreBackup {
    /// Adds what a replica of a shard has. Of a shard that is in it already nothing is added. A pattern fits nothing where it
    /// does on all shards.
    pub fn add_shard(&mut self, shard: &str, replica: &str, contents: ShardContents) {
        if self.shards.iter().any(|known| known.shard == shard) {
            return;
        }
        let ShardContents {
            target,
            frozen_at_ms,
            store,
        } = contents;
        if self.shards.is_empty() {
            // All agents were told the same.
            self.patterns = store.patterns;
            self.exclude = store.exclude;
            self.unmatched = store.unmatched;
        } else {
            let fits_nowhere = |known: &Unmatched| store.unmatched.contains(known);
            self.unmatched.retain(fits_nowhere);
        }
        self.shards.push(ShardOfCluster {
            shard: shard.to_owned(),
            replica: replica.to_owned(),
            target,
            server_version: store.server_version,
            run: store.run,
            frozen_at_ms,
            databases: store.databases,
            tables: store.tables.len(),
            missing: store.missing.len(),
            dropped: store.dropped.len(),
        });
        self.complete &= store.complete;
        self.tables.extend(store.tables);
        self.missing.extend(store.missing);
        self.dropped.extend(store.dropped);
    }

    /// What it holds of a shard, as a backup of that server alone; `None` of a shard that it does not have.
    pub fn of_shard(&self, name: &str) -> Option<Self> {
        let at = self.shards.iter().position(|shard| shard.shard == name)?;
        let (before, own) = (&self.shards[..at], &self.shards[at]);
        let missing = cut(
            &self.missing,
            before.iter().map(|it| it.missing),
            own.missing,
        )?;
        Some(Self {
            server_version: own.server_version.clone(),
            run: own.run.clone(),
            patterns: self.patterns.clone(),
            exclude: self.exclude.clone(),
            databases: own.databases.clone(),
            tables: cut(&self.tables, before.iter().map(|it| it.tables), own.tables)?,
            complete: missing.is_empty(),
            missing,
            dropped: cut(
                &self.dropped,
                before.iter().map(|it| it.dropped),
                own.dropped,
            )?,
            unmatched: self.unmatched.clone(),
            exact: self.exact,
            shards: Vec::new(),
        })
    }

    /// Milliseconds from the first freeze of a shard to the last, by the clocks of their servers.
    pub fn skew_ms(&self) -> u64 {
        let frozen = || self.shards.iter().map(|shard| shard.frozen_at_ms);
        let (first, last) = (frozen().min(), frozen().max());
        last.unwrap_or(0) - first.unwrap_or(0)
    }
}

/// What is a shard's own of a list; `None` where the list is shorter than its shards say.
fn cut<T: Clone>(all: &[T], before: impl Iterator<Item = usize>, own: usize) -> Option<Vec<T>> {
    let begin = before.fold(0usize, usize::saturating_add);
    let end = begin.checked_add(own)?;
    Some(all.get(begin..end)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::part::{MissingTable, Selector, TableName};

    fn contents(id: &str, frozen_at_ms: u64, missing: &[&str]) -> ShardContents {
        let mut store = PartStoreBackup::new("18.16".to_owned(), None);
        for name in missing {
            store.lack(TableName::new("shop", *name), "it is gone".to_owned());
        }
        store.dropped = vec![TableName::new("shop", id)];
        ShardContents {
            target: TargetMark {
                target_id: id.to_owned(),
                url: format!("clickhouse://{id}/"),
                host: None,
            },
            frozen_at_ms,
            store,
        }
    }

    #[test]
    fn what_a_shard_put_in_comes_out_again() {
        let mut whole = PartStoreBackup::new(String::new(), None);
        let shards = [
            ("1", contents("a", 5000, &["x", "y"])),
            ("2", contents("b", 7000, &[])),
            ("3", contents("c", 6000, &["z"])),
        ];
        for (shard, contents) in &shards {
            whole.add_shard(shard, "r", contents.clone());
        }
        whole.add_shard("2", "r", contents("other", 0, &["more"]));
        assert_eq!(
            (whole.shards.len(), whole.skew_ms(), whole.complete),
            (3, 2000, false)
        );
        for (shard, contents) in shards {
            assert_eq!(whole.of_shard(shard), Some(contents.store));
        }
        assert_eq!(whole.of_shard("4"), None);
        let names = |missing: &[MissingTable]| {
            let names = missing.iter().map(|table| table.name.table.clone());
            names.collect::<Vec<_>>()
        };
        assert_eq!(names(&whole.missing), ["x", "y", "z"]);
    }

    #[test]
    fn a_pattern_that_fits_something_on_one_shard_fits() {
        let nothing = |patterns: &[&str]| -> Vec<Unmatched> {
            let unmatched = patterns.iter().map(|pattern| Unmatched {
                selector: Selector::Tables,
                pattern: (*pattern).to_owned(),
            });
            unmatched.collect()
        };
        let mut whole = PartStoreBackup::new(String::new(), None);
        for (shard, patterns) in [("1", &["shop.a", "shop.x"]), ("2", &["shop.b", "shop.x"])] {
            let mut contents = contents(shard, 0, &[]);
            contents.store.patterns = "shop.*".to_owned();
            contents.store.unmatched = nothing(patterns);
            whole.add_shard(shard, "r", contents);
        }
        assert_eq!(whole.unmatched, nothing(&["shop.x"]));
        assert_eq!(whole.patterns, "shop.*");
    }

    #[test]
    fn lists_that_are_shorter_than_their_shards_say_give_nothing() {
        let mut whole = PartStoreBackup::new(String::new(), None);
        whole.add_shard("1", "r", contents("a", 0, &["x"]));
        whole.shards[0].missing = usize::MAX;
        assert_eq!(whole.of_shard("1"), None);
    }
}
