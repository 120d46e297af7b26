//! Whether a table still has just the rows that it had when it was frozen.
//!
//! What several tables, or shards, froze one after another is of one moment only if nothing came into any of them, or went
//! from it, between its own freeze and the last of all. So each is looked at once more when all are frozen: where none has
//! changed, all of what was frozen is what was there at the moment of the last freeze.
//!
//! Merges may go on meanwhile. They are known as merges by [`explain`], or, of an engine whose merges keep all rows, by
//! their numbers: the merged part covers whole parts of before, has as many rows as these together, and no mutation is in
//! it that was not in one of them. *Limit*: of a table without replicas the last is no proof against a table that was
//! detached and attached again in between, since numbers begin again then. Rows that came and went again between both looks,
//! as those of a partition that was filled and dropped, are not seen.

use std::collections::HashMap;

use super::hash::Hash128;
use super::inventory::{Inventory, Part};
use super::lineage::{Explained, explain};
use super::table::TableDefinition;
use super::witness::{MergeTraits, PartLog, Witness};

/// What shows that a table has other rows than when it was frozen, or may have; `None` where it has just those.
/// Partitions that are not to be compared are left out of both inventories by who calls.
pub fn changed_since(
    then: &Inventory,
    now: &Inventory,
    log: &PartLog,
    table: &TableDefinition,
) -> Option<String> {
    if then.incarnation != now.incarnation {
        return Some("it was created anew".to_owned());
    }
    if let Some(patch) = now.patches.first() {
        return Some(format!("an update came ({patch})"));
    }
    let traits = MergeTraits::of(table);
    let keeps_rows = !traits.has_ttl
        && then.run.is_same(&now.run)
        && ["MergeTree", "ReplicatedMergeTree"].contains(&table.engine.as_str());
    let ways = explain(now, &[Witness::plain(then.clone())], log, traits);
    let mut accounted = vec![false; then.parts.len()];
    let places: HashMap<(&str, Hash128), usize> = (then.parts.iter().enumerate())
        .map(|(at, part)| ((part.name.as_str(), part.hash), at))
        .collect();
    for (part, ways) in now.parts.iter().zip(&ways) {
        if let Some(at) = places.get(&(part.name.as_str(), part.hash)) {
            accounted[*at] = true;
            continue;
        }
        let covered = covered_by(part, &then.parts);
        let is_merge = !covered.is_empty()
            && (is_known(ways, &covered) || keeps_rows && adds_up(part, &covered));
        if !is_merge && !part.has_no_rows() {
            return Some(format!(
                "part {} with {} rows came, or is of a merge of which that cannot be told",
                part.name, part.rows
            ));
        }
        if is_merge {
            for (at, _) in covered {
                accounted[at] = true;
            }
        }
    }
    let mut gone = then.parts.iter().zip(&accounted);
    gone.find(|(part, is_there)| !**is_there && !part.has_no_rows())
        .map(|(part, _)| format!("part {} with {} rows went", part.name, part.rows))
}

/// The parts that lie within the numbers of another one, with their places.
fn covered_by<'a>(part: &Part, of: &'a [Part]) -> Vec<(usize, &'a Part)> {
    let lies_within = |other: &Part| {
        other.partition_id == part.partition_id
            && part.min_block <= other.min_block
            && other.max_block <= part.max_block
    };
    let places = of.iter().enumerate();
    places.filter(|(_, other)| lies_within(other)).collect()
}

/// Whether a part is proved to be just these.
fn is_known(ways: &[Explained], covered: &[(usize, &Part)]) -> bool {
    let mut wanted: Vec<Hash128> = covered.iter().map(|(_, part)| part.hash).collect();
    wanted.sort_unstable();
    ways.iter().any(|way| {
        let mut held = way.holds.clone();
        held.sort_unstable();
        held == wanted
    })
}

/// Whether a part begins and ends with these, has as many rows and no mutation that none of them has.
fn adds_up(part: &Part, covered: &[(usize, &Part)]) -> bool {
    let parts = || covered.iter().map(|(_, part)| part);
    part.rows == parts().map(|part| part.rows).sum::<u64>()
        && parts().map(|part| part.min_block).min() == Some(part.min_block)
        && parts().map(|part| part.max_block).max() == Some(part.max_block)
        && parts().map(|part| part.mutation).max() == Some(part.mutation)
        && parts().any(|covered| covered.level < part.level)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::table_name::TableName;
    use super::*;

    /// What happens to a table after it was frozen.
    #[derive(Debug, Clone)]
    enum Happening {
        /// The parts of these places, one after the other, are merged.
        Merge(usize),
        Insert {
            rows: u64,
        },
        Drop(usize),
        Mutate(usize),
    }

    fn part(name: &str, rows: u64, hash: u64) -> Part {
        Part::new(name, rows, 100, Hash128::from_halves(hash, 0), "default").unwrap()
    }

    fn inventory(parts: Vec<Part>) -> Inventory {
        Inventory {
            incarnation: "one".to_owned(),
            taken_at_ms: 1_000_000,
            parts,
            ..Inventory::default()
        }
    }

    fn table(engine: &str) -> TableDefinition {
        serde_json::from_value(serde_json::json!({
            "name": TableName::new("shop", "orders"), "engine": engine, "create_query": "", "partition_key": "",
            "sorting_key": "", "columns": [],
        }))
        .unwrap()
    }

    fn changed(then: &Inventory, now: &Inventory, engine: &str) -> Option<String> {
        changed_since(then, now, &PartLog::default(), &table(engine))
    }

    #[test]
    fn merges_of_all_that_was_frozen_change_nothing_and_what_came_into_one_does() {
        let then = inventory(vec![part("p_1_1_0", 3, 1), part("p_3_3_0", 4, 2)]);
        for engine in ["MergeTree", "ReplicatedMergeTree"] {
            let merged = inventory(vec![part("p_1_3_1", 7, 3)]);
            assert_eq!(changed(&then, &merged, engine), None);
            for wrong in ["p_1_4_1", "p_0_3_1", "p_1_3_1_5"] {
                let now = inventory(vec![part(wrong, 7, 3)]);
                assert!(changed(&then, &now, engine).is_some(), "{wrong}");
            }
            // A number in between that replicas had given out, and that was put in later.
            let now = inventory(vec![part("p_1_3_1", 8, 3)]);
            let why = changed(&then, &now, engine).unwrap();
            assert!(why.contains("p_1_3_1 with 8 rows"), "{why}");
        }
        // Merges that may lose rows prove nothing by how many there are.
        let merged = inventory(vec![part("p_1_3_1", 7, 3)]);
        assert!(changed(&then, &merged, "ReplicatedReplacingMergeTree").is_some());
    }

    #[test]
    fn what_came_went_or_was_made_anew_is_named() {
        let then = inventory(vec![part("p_1_1_0", 3, 1), part("q_2_2_0", 4, 2)]);
        assert_eq!(changed(&then, &then, "Log"), None);
        let less = inventory(vec![part("p_1_1_0", 3, 1)]);
        let why = changed(&then, &less, "MergeTree").unwrap();
        assert_eq!(why, "part q_2_2_0 with 4 rows went");
        let mut more = then.clone();
        more.parts.push(part("q_3_3_0", 1, 3));
        let why = changed(&then, &more, "MergeTree").unwrap();
        assert!(why.contains("q_3_3_0 with 1 rows"), "{why}");
        // A part without rows changes none.
        let mut empty = then.clone();
        empty.parts.push(part("q_3_3_0", 0, 3));
        assert_eq!(changed(&then, &empty, "MergeTree"), None);
        let mut other = then.clone();
        other.parts[0].hash = Hash128::from_halves(9, 0);
        assert!(changed(&then, &other, "MergeTree").is_some());
        let anew = Inventory {
            incarnation: "two".to_owned(),
            ..then.clone()
        };
        assert!(changed(&then, &anew, "MergeTree").is_some());
        let updated = Inventory {
            patches: vec!["patch-1".to_owned()],
            ..then.clone()
        };
        assert!(changed(&then, &updated, "MergeTree").is_some());
    }

    fn happening() -> impl Strategy<Value = Happening> {
        prop_oneof![
            3 => any::<usize>().prop_map(Happening::Merge),
            1 => (1..3u64).prop_map(|rows| Happening::Insert { rows }),
            1 => any::<usize>().prop_map(Happening::Drop),
            1 => any::<usize>().prop_map(Happening::Mutate),
        ]
    }

    /// A part with what tells its rows from all others.
    #[derive(Debug, Clone)]
    struct Filled {
        part: Part,
        rows: Vec<u64>,
    }

    /// A table, as its server changes it.
    struct Table {
        parts: Vec<Filled>,
        last_number: i64,
        last_row: u64,
        last_hash: u64,
    }

    impl Table {
        fn filled(&mut self, name: &str, rows: Vec<u64>) -> Filled {
            self.last_hash += 1;
            let part = part(name, rows.len() as u64, self.last_hash);
            Filled { part, rows }
        }

        fn new_rows(&mut self, count: u64) -> Vec<u64> {
            let first = self.last_row + 1;
            self.last_row += count;
            (first..=self.last_row).collect()
        }

        fn insert(&mut self, count: u64) {
            // Numbers have gaps.
            self.last_number += 2;
            let rows = self.new_rows(count);
            let number = self.last_number;
            let inserted = self.filled(&format!("p_{number}_{number}_0"), rows);
            self.parts.push(inserted);
        }

        fn happen(&mut self, happening: &Happening) {
            match happening {
                Happening::Merge(at) if self.parts.len() > 1 => {
                    let at = at % (self.parts.len() - 1);
                    let (a, b) = (self.parts.remove(at), self.parts.remove(at));
                    let level = a.part.level.max(b.part.level) + 1;
                    let mut name = format!("p_{}_{}_{level}", a.part.min_block, b.part.max_block);
                    let mutation = a.part.mutation.max(b.part.mutation);
                    if mutation > 0 {
                        name = format!("{name}_{mutation}");
                    }
                    let merged = self.filled(&name, [a.rows, b.rows].concat());
                    self.parts.insert(at, merged);
                }
                Happening::Insert { rows } => self.insert(*rows),
                Happening::Drop(at) if !self.parts.is_empty() => {
                    self.parts.remove(at % self.parts.len());
                }
                Happening::Mutate(at) if !self.parts.is_empty() => {
                    self.last_number += 1;
                    let at = at % self.parts.len();
                    let Part {
                        min_block,
                        max_block,
                        level,
                        rows,
                        ..
                    } = self.parts[at].part;
                    let name = format!("p_{min_block}_{max_block}_{level}_{}", self.last_number);
                    let rows = self.new_rows(rows);
                    self.parts[at] = self.filled(&name, rows);
                }
                Happening::Merge(_) | Happening::Drop(_) | Happening::Mutate(_) => {}
            }
        }

        fn inventory(&self) -> Inventory {
            inventory(
                self.parts
                    .iter()
                    .map(|filled| filled.part.clone())
                    .collect(),
            )
        }

        fn rows(&self) -> Vec<u64> {
            let rows = self.parts.iter().flat_map(|filled| filled.rows.clone());
            let mut rows: Vec<u64> = rows.collect();
            rows.sort_unstable();
            rows
        }
    }

    proptest! {
        /// Whatever a server does: a table with other rows is never taken for what was frozen, and one that was only merged
        /// always is.
        #[test]
        fn a_table_is_still_what_it_was_if_and_only_if_it_has_the_same_rows(
            rows in prop::collection::vec(1..5u64, 1..6),
            happenings in prop::collection::vec(happening(), 0..6),
            replicated in any::<bool>(),
        ) {
            let mut table = Table { parts: Vec::new(), last_number: 0, last_row: 0, last_hash: 0 };
            for count in rows {
                table.insert(count);
            }
            let (then, rows_then) = (table.inventory(), table.rows());
            for happening in &happenings {
                table.happen(happening);
            }
            let now = table.inventory();
            let engine = if replicated { "ReplicatedMergeTree" } else { "MergeTree" };
            let told = changed(&then, &now, engine);
            prop_assert_eq!(told.is_some(), table.rows() != rows_then, "{:?} {:?}", then.parts, now.parts);
        }
    }
}
