//! The proof that a partition became what it should be.

use std::collections::{HashMap, HashSet};

use mendb_model::part::{Hash128, LeftPart, Part};

/// Parts of a partition, if what was expected is among them and nothing that was to go. The others came.
pub(super) fn proved(
    parts: Vec<Part>,
    expected: impl Iterator<Item = Hash128>,
    gone: &HashSet<&str>,
) -> Option<Vec<LeftPart>> {
    let mut missing: HashMap<Hash128, usize> = HashMap::new();
    for hash in expected {
        *missing.entry(hash).or_default() += 1;
    }
    let mut left = Vec::with_capacity(parts.len());
    for part in parts {
        let is_expected = match missing.get_mut(&part.hash) {
            Some(count) if *count > 0 => {
                *count -= 1;
                true
            }
            _ => false,
        };
        if !is_expected && part.rows > 0 && gone.contains(part.name.as_str()) {
            return None;
        }
        left.push(LeftPart {
            came: !is_expected && part.rows > 0,
            part,
        });
    }
    missing.values().all(|count| *count == 0).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, content: u8) -> Part {
        Part::new(name, 1, 1, Hash128([content; 16]), "default").unwrap()
    }

    fn came(parts: &[Part], expected: &[u8], gone: &[&str]) -> Option<Vec<String>> {
        let expected = expected.iter().map(|content| Hash128([*content; 16]));
        let gone = gone.iter().copied().collect();
        let left = proved(parts.to_vec(), expected, &gone)?;
        let came = left.into_iter().filter(|left| left.came);
        Some(came.map(|left| left.part.name).collect())
    }

    #[test]
    fn a_partition_is_proved_by_all_that_it_should_have_and_nothing_that_was_to_go() {
        let parts = [part("a_5_5_0", 1), part("a_6_6_0", 2), part("a_7_7_0", 9)];
        let late = Some(vec!["a_7_7_0".to_owned()]);
        assert_eq!(came(&parts, &[1, 2], &[]), late);
        assert_eq!(came(&parts, &[1, 2, 3], &[]), None);
        assert_eq!(came(&parts, &[1, 1, 2], &[]), None);
        assert_eq!(came(&parts, &[1, 2], &["a_7_7_0"]), None);
        assert_eq!(came(&parts, &[1, 2], &["a_6_6_0"]), late);
    }
}
