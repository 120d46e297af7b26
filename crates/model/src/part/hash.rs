//! The hashes that a ClickHouse server keeps of its parts and files, computed without it.

use std::fmt;
use std::str::FromStr;

use cityhash_rs::cityhash_102_128;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Malformed;
use crate::key::{from_hex, to_hex};

/// A number of 128 bits that stands for content: of a part what the server's `system.parts` calls
/// `hash_of_all_files` (see [`super::Checksums::part_hash`]), of a file what `checksums.txt` says.
/// Equal for equal content; names of parts play no part in it.
///
/// Its bytes are in one order everywhere, the most significant first, so that its text is what a
/// server prints.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash128(pub [u8; 16]);

impl Hash128 {
    /// CityHash128 (version 1.0.2) of bytes at once: guards every frame of compressed data. Files are
    /// hashed in another way, by [`FileHasher`].
    pub fn city(bytes: &[u8]) -> Self {
        // The crate puts what the algorithm calls the lower half first.
        Self(cityhash_102_128(bytes).rotate_left(64).to_be_bytes())
    }

    /// From the bytes as servers write them into files: the least significant first.
    pub fn from_stored(bytes: [u8; 16]) -> Self {
        Self(u128::from_le_bytes(bytes).to_be_bytes())
    }

    /// From the halves of the number.
    pub fn from_halves(low: u64, high: u64) -> Self {
        Self(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// The bytes as servers write them into files: the least significant first.
    pub fn to_stored(self) -> [u8; 16] {
        u128::from_be_bytes(self.0).to_le_bytes()
    }
}

impl fmt::Display for Hash128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for Hash128 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Hash128 {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let bad = || Malformed::new("hash", format!("{text:?} is not 32 hex digits"));
        let bytes = from_hex(&text.to_ascii_lowercase()).map_err(|_| bad())?;
        bytes.try_into().map(Self).map_err(|_| bad())
    }
}

impl Serialize for Hash128 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash128 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Hashes a file as the server does that writes it: every block of 2048 bytes, and what is left at
/// the end, by CityHash128 seeded with the hash of the blocks before. Memory: one block.
#[derive(Clone)]
pub struct FileHasher {
    low: u64,
    high: u64,
    /// Room for the seed, then the block that is being filled.
    seeded: [u8; SEED + BLOCK],
    filled: usize,
}

const BLOCK: usize = 2048;
const SEED: usize = 16;
/// What CityHash128 mixes into the first eight bytes of its input when it makes a seed of them.
const FIRST_SEED_MASK: u64 = 0xc949_d7c7_509e_6557;

impl FileHasher {
    /// Of no bytes yet.
    pub fn new() -> Self {
        Self {
            low: 0,
            high: 0,
            seeded: [0; SEED + BLOCK],
            filled: 0,
        }
    }

    /// Takes the next bytes of the file, in pieces of any size.
    pub fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let taken = bytes.len().min(BLOCK - self.filled);
            let (now, later) = bytes.split_at(taken);
            let from = SEED + self.filled;
            self.seeded[from..from + taken].copy_from_slice(now);
            self.filled += taken;
            bytes = later;
            if self.filled == BLOCK {
                self.chain();
            }
        }
    }

    /// The hash of all bytes taken; 0 for none.
    pub fn finish(mut self) -> Hash128 {
        if self.filled > 0 {
            self.chain();
        }
        Hash128::from_halves(self.low, self.high)
    }

    /// Makes the block the next link. CityHash128 of 16 bytes or more seeds itself with the first 16,
    /// so a seed can be given by writing it before the block as it will be read.
    fn chain(&mut self) {
        self.seeded[..8].copy_from_slice(&(self.low ^ FIRST_SEED_MASK).to_le_bytes());
        self.seeded[8..SEED].copy_from_slice(&self.high.to_le_bytes());
        let hash = cityhash_102_128(&self.seeded[..SEED + self.filled]);
        self.low = (hash >> 64) as u64;
        self.high = hash as u64;
        self.filled = 0;
    }
}

impl Default for FileHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// SipHash-2-4 with a zero key and 128 bits of result, folded as ClickHouse folds it: what its hash of
/// a part is made by.
pub(super) struct Sip {
    v: [u64; 4],
    tail: u64,
    length: u64,
}

impl Sip {
    pub(super) fn new() -> Self {
        Self {
            v: [
                0x736f_6d65_7073_6575,
                0x646f_7261_6e64_6f6d,
                0x6c79_6765_6e65_7261,
                0x7465_6462_7974_6573,
            ],
            tail: 0,
            length: 0,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.tail |= u64::from(*byte) << (8 * (self.length % 8));
            self.length += 1;
            if self.length.is_multiple_of(8) {
                self.absorb();
            }
        }
    }

    pub(super) fn finish(mut self) -> Hash128 {
        self.tail |= self.length << 56;
        self.absorb();
        self.v[2] ^= 0xff;
        for _ in 0..4 {
            self.round();
        }
        let [a, b, c, d] = self.v;
        Hash128::from_halves(a ^ b, c ^ d)
    }

    fn absorb(&mut self) {
        self.v[3] ^= self.tail;
        self.round();
        self.round();
        self.v[0] ^= self.tail;
        self.tail = 0;
    }

    fn round(&mut self) {
        let [a, b, c, d] = &mut self.v;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32).wrapping_add(*d);
        *c = c.wrapping_add(*b);
        *d = d.rotate_left(21) ^ *a;
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hash_file(bytes: &[u8]) -> Hash128 {
        let mut hasher = FileHasher::new();
        hasher.update(bytes);
        hasher.finish()
    }

    #[test]
    fn a_hash_is_read_in_either_case_and_written_in_small_letters() {
        let hash: Hash128 = "C332AF50000000000000000000000001".parse().unwrap();
        assert_eq!(hash.to_string(), "c332af50000000000000000000000001");
        assert!("c332af5".parse::<Hash128>().is_err());
        assert!(
            "x332af50000000000000000000000001"
                .parse::<Hash128>()
                .is_err()
        );
    }

    #[test]
    fn halves_and_stored_bytes_tell_the_same_number() {
        let hash = Hash128::from_halves(2, 1);
        assert_eq!(hash.to_string(), "00000000000000010000000000000002");
        assert_eq!(Hash128::from_stored(hash.to_stored()), hash);
        assert_eq!(hash.to_stored()[0], 2);
    }

    #[test]
    fn an_empty_file_has_the_hash_0() {
        assert_eq!(hash_file(b""), Hash128([0; 16]));
    }

    proptest! {
        #[test]
        fn the_hash_of_a_file_does_not_depend_on_the_pieces_it_comes_in(
            bytes in prop::collection::vec(any::<u8>(), 0..9000),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let mut hasher = FileHasher::new();
            let mut from = 0;
            for cut in cuts {
                hasher.update(&bytes[from..cut]);
                from = cut;
            }
            hasher.update(&bytes[from..]);
            prop_assert_eq!(hasher.finish(), hash_file(&bytes));
        }
    }
}
