//! Where to split a new table so that its shards get about as many rows each.

/// The most keys that are kept: at least two for each of the most shards that can be asked for.
const MAX_KEYS: usize = 64 * 1024;

/// Every so many keys of a stream, evenly spread over it, in bounded memory. The same stream gives
/// the same sample.
#[derive(Debug)]
pub struct KeySample {
    keys: Vec<Vec<u8>>,
    /// One of this many is kept.
    stride: u64,
    seen: u64,
}

impl Default for KeySample {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            stride: 1,
            seen: 0,
        }
    }
}

impl KeySample {
    /// Whether the turn of the next key has come.
    pub fn wants_next(&self) -> bool {
        self.seen.is_multiple_of(self.stride)
    }

    /// Counts the next key, whose turn has not come.
    pub fn pass_over(&mut self) {
        self.seen += 1;
    }

    /// Counts the next key, and keeps it when its turn has come.
    pub fn add(&mut self, key: impl FnOnce() -> Vec<u8>) {
        if self.wants_next() {
            if self.keys.len() == MAX_KEYS {
                let mut keep = false;
                self.keys.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
            if self.wants_next() {
                self.keys.push(key());
            }
        }
        self.seen += 1;
    }

    /// The keys that cut the stream into `shards` parts of about the same size; fewer when there are
    /// fewer keys.
    pub fn splits(mut self, shards: usize) -> Vec<Vec<u8>> {
        self.keys.sort_unstable();
        self.keys.dedup();
        let count = self.keys.len();
        let mut splits: Vec<Vec<u8>> = (1..shards)
            .map(|shard| shard * count / shards)
            // Below the first key there would be an empty shard.
            .filter(|at| *at > 0)
            .map(|at| self.keys[at].clone())
            .collect();
        splits.dedup();
        splits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_get_about_as_many_rows_each() {
        for rows in [5u32, 1000, 300_000] {
            let mut sample = KeySample::default();
            for row in 0..rows {
                // Keys that come in no order.
                let key = row.wrapping_mul(2_654_435_761);
                sample.add(|| key.to_be_bytes().to_vec());
            }
            assert!(sample.keys.len() <= MAX_KEYS);
            let splits = sample.splits(4);
            assert_eq!(splits.len(), 3);
            let mut counts = [0u32; 4];
            for row in 0..rows {
                let key = row.wrapping_mul(2_654_435_761).to_be_bytes().to_vec();
                counts[splits.partition_point(|split| *split <= key)] += 1;
            }
            let fair = rows / 4;
            assert!(
                counts
                    .iter()
                    .all(|count| count.abs_diff(fair) <= 1 + fair / 20),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn there_are_no_more_shards_than_keys() {
        let mut sample = KeySample::default();
        assert_eq!(KeySample::default().splits(8), Vec::<Vec<u8>>::new());
        sample.add(|| b"a".to_vec());
        sample.add(|| b"a".to_vec());
        assert_eq!(sample.splits(8), Vec::<Vec<u8>>::new());
    }
}
