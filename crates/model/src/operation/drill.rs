//! What a restore drill restores: a sample of a backup, under names of its own, to prove it and remove it again.

use serde::{Deserialize, Serialize};

/// A sample of the key ranges, or parts, of each table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drill {
    /// How many of a hundred are restored; 100 for all.
    pub percent: u8,
    /// Decides which; another seed decides otherwise. Part of the names of the tables that the drill makes: letters
    /// and digits.
    pub seed: String,
}

impl Drill {
    /// The places of the chosen ones among `count` key ranges or parts of a table, ascending: at least one of a table
    /// that has any.
    pub fn chosen(&self, table: &str, count: usize) -> Vec<usize> {
        let wanted = count * usize::from(self.percent.min(100));
        let wanted = wanted.div_ceil(100).max(1).min(count);
        let mut ranked: Vec<([u8; 32], usize)> = (0..count)
            .map(|at| {
                let text = format!("{}\0{table}\0{at}", self.seed);
                (*blake3::hash(text.as_bytes()).as_bytes(), at)
            })
            .collect();
        ranked.sort_unstable();
        let mut chosen: Vec<usize> = ranked.into_iter().take(wanted).map(|(_, at)| at).collect();
        chosen.sort_unstable();
        chosen
    }

    /// The name of the table that is made for the table at this place of the backup.
    pub fn table(&self, place: usize) -> String {
        format!("mendb_drill_{}_{place}", self.seed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn drill(percent: u8, seed: &str) -> Drill {
        Drill {
            percent,
            seed: seed.to_owned(),
        }
    }

    #[test]
    fn a_sample_has_its_share_and_one_at_least() {
        for (percent, count, wanted) in [
            (10, 1000, 100),
            (10, 1, 1),
            (10, 11, 2),
            (1, 50, 1),
            (100, 7, 7),
            (200, 7, 7),
            (10, 0, 0),
        ] {
            let chosen = drill(percent, "a").chosen("cities", count);
            assert_eq!(chosen.len(), wanted, "{percent} of {count}");
            assert!(chosen.is_sorted_by(|a, b| a < b));
            assert!(chosen.iter().all(|at| *at < count));
        }
    }

    #[test]
    fn one_seed_always_chooses_the_same_and_many_seeds_choose_all() {
        let first = drill(10, "a").chosen("cities", 40);
        assert_eq!(first, drill(10, "a").chosen("cities", 40));
        assert_ne!(first, drill(10, "a").chosen("streets", 40));
        let all: BTreeSet<usize> = (0..200)
            .flat_map(|seed| drill(10, &seed.to_string()).chosen("cities", 40))
            .collect();
        assert_eq!(all.len(), 40);
    }
}
