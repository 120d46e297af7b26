//! Mutations that a backup holds the state before of, in some of its parts or in all.
//!
//! A mutation concerns parts whose number is below its own, and is through with those that carry its
//! number. It can be applied again only to a partition of which it had reached no part: a statement
//! names partitions, not parts, and most updates done twice are not those done once.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::inventory::{Mutation, Part};

/// A mutation that was not finished when a table was backed up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// Its id on the server that was backed up.
    pub mutation_id: String,
    /// What it does.
    pub command: String,
    /// Partitions whose parts it has not been through: it can be applied to them.
    pub partitions: Vec<String>,
    /// Partitions of which it has been through some parts, or which got others after it.
    pub partly: Vec<String>,
    /// Mutations that the target had before it was applied there; `None` as long as it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known: Option<Vec<String>>,
}

/// The mutations of a backup with the partitions that they were to change.
pub fn unfinished(mutations: &[Mutation], parts: &[&Part]) -> Vec<Unfinished> {
    let of = |mutation: &Mutation| {
        let number = number_of(&mutation.mutation_id);
        // For each partition: whether there are parts before the mutation, and others.
        let mut seen: BTreeMap<&str, [bool; 2]> = BTreeMap::new();
        for part in parts {
            let before = number.is_some_and(|number| part.data_version() < number);
            seen.entry(&part.partition_id).or_default()[usize::from(!before)] = true;
        }
        let which = |wanted: &dyn Fn(&[bool; 2]) -> bool| -> Vec<String> {
            let chosen = seen.iter().filter(|(_, seen)| wanted(seen));
            chosen.map(|(id, _)| (*id).to_owned()).collect()
        };
        Unfinished {
            mutation_id: mutation.mutation_id.clone(),
            command: mutation.command.clone(),
            partitions: which(&|seen| *seen == [true, false]),
            // Without a number nothing is known of any part.
            partly: which(&|seen| number.is_none() || *seen == [true, true]),
            known: None,
        }
    };
    let mut all: Vec<Unfinished> = mutations.iter().map(of).collect();
    all.retain(|found| !found.partitions.is_empty() || !found.partly.is_empty());
    all.sort_by_key(|found| number_of(&found.mutation_id));
    all
}

impl Unfinished {
    /// The same for some partitions; `None` if it concerns none of them.
    pub fn within(mut self, ids: &BTreeSet<&str>) -> Option<Self> {
        self.partitions.retain(|id| ids.contains(id.as_str()));
        self.partly.retain(|id| ids.contains(id.as_str()));
        (!self.partitions.is_empty() || !self.partly.is_empty()).then_some(self)
    }
}

/// The number of `mutation_7.txt`. Replicas number mutations for each partition: theirs tells nothing.
fn number_of(mutation_id: &str) -> Option<i64> {
    let number = mutation_id.strip_prefix("mutation_")?;
    number.strip_suffix(".txt")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::world::part;
    use super::*;

    #[test]
    fn a_mutation_is_applied_only_where_it_had_reached_nothing() {
        let parts = [
            part("a_1_1_0", 10, 1),
            part("a_2_2_0", 10, 2),
            part("b_3_3_0_7", 10, 3),
            part("b_4_4_0", 10, 4),
            part("c_5_5_0_7", 10, 5),
            part("d_9_9_0", 10, 6),
            part("e_6_6_0", 10, 7),
            part("e_8_8_0", 10, 8),
        ];
        let parts: Vec<&Part> = parts.iter().collect();
        let mutation = |id: &str| Mutation {
            mutation_id: id.to_owned(),
            command: "UPDATE v = v + 1 WHERE 1".to_owned(),
            parts_to_do: 1,
        };
        let found = unfinished(&[mutation("mutation_7.txt")], &parts);
        assert_eq!(found[0].partitions, ["a"]);
        assert_eq!(found[0].partly, ["b", "e"]);
        let only = BTreeSet::from(["e"]);
        assert!(
            found[0]
                .clone()
                .within(&only)
                .unwrap()
                .partitions
                .is_empty()
        );
        assert_eq!(found[0].clone().within(&BTreeSet::from(["d"])), None);
        assert!(unfinished(&[mutation("mutation_1.txt")], &parts).is_empty());
        let replicated = unfinished(&[mutation("0000000007")], &parts);
        assert!(replicated[0].partitions.is_empty() && replicated[0].partly.len() == 5);
    }
}
