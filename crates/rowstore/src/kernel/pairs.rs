//! Pairs of keys and values in memory, to be sorted.

/// What is compared of a key without looking it up.
const PREFIX_BYTES: usize = 16;

/// Pairs in memory.
#[derive(Default)]
pub(super) struct Pairs {
    bytes: Vec<u8>,
    places: Vec<PairPosition>,
}

/// Where a pair lies.
#[derive(Clone, Copy)]
struct PairPosition {
    prefix: u128,
    start: u32,
    key_bytes: u32,
    value_bytes: u32,
}

/// The beginning of a key, as a number: where those of two keys differ, their order is that of the keys.
#[inline]
pub(super) fn prefix_of(key: &[u8]) -> u128 {
    if let Some(prefix) = key.first_chunk::<PREFIX_BYTES>() {
        return u128::from_be_bytes(*prefix);
    }
    let mut prefix = [0; PREFIX_BYTES];
    prefix[..key.len()].copy_from_slice(key);
    u128::from_be_bytes(prefix)
}

impl Pairs {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let length = |of: &[u8]| u32::try_from(of.len()).expect("a key or row is below 4 GiB");
        let start = u32::try_from(self.bytes.len()).expect("what is sorted at once is below 4 GiB");
        self.places.push(PairPosition {
            prefix: prefix_of(key),
            start,
            key_bytes: length(key),
            value_bytes: length(value),
        });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// Sorts them by key; those of one key keep their order.
    pub(super) fn sort(&mut self) {
        let bytes = &self.bytes;
        let key = |place: &PairPosition| &bytes[place.start as usize..][..place.key_bytes as usize];
        // They lie in the order in which they came.
        self.places.sort_unstable_by(|one, other| {
            let prefixes = one.prefix.cmp(&other.prefix);
            let keys = prefixes.then_with(|| key(one).cmp(key(other)));
            keys.then(one.start.cmp(&other.start))
        });
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<(&[u8], &[u8])> {
        let place = self.places.get(at)?;
        let start = place.start as usize;
        let value_start = start + place.key_bytes as usize;
        let value_end = value_start + place.value_bytes as usize;
        let key = &self.bytes[start..value_start];
        Some((key, &self.bytes[value_start..value_end]))
    }

    /// About how much memory they take.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.places.len() * size_of::<PairPosition>()
    }

    /// Removes them, and keeps the memory for others.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }
}
