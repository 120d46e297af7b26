//! The mark: which commit was acknowledged last, in a small file beside the database.
//!
//! SQLite ends at the first record of its WAL that does not check, and takes what follows for a write
//! that was cut off. Without the mark, a flipped bit there would take back acknowledged commits without a
//! word. An older database than the mark is an error.
//!
//! 16 bytes: the number of the commit, big-endian, and its XXH3-64.
//!
//! # Crash
//! It is written after the commit is on disk, and not synced: a power loss leaves an older mark, which is
//! true as well. It then misses a damage of the WAL from the same moment only.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::Result;
use crate::kernel::fault::Faults;

pub(super) const FILE: &str = "mark";
/// The first mark of a store until it is whole.
const NEW_FILE: &str = "mark.new";
const BYTES: usize = 16;

pub(super) struct Mark {
    file: File,
}

impl Mark {
    /// The acknowledged commit of the store in a directory; `None` when there is no mark.
    pub(super) fn read(faults: &Faults) -> Result<Option<u64>> {
        let path = faults.dir().join(FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(faults.file(&path, error)),
        };
        match decode(&bytes) {
            Some(number) => Ok(Some(number)),
            None => Err(faults.damaged(FILE, "it does not have its checksum".to_owned())),
        }
    }

    /// Opens it to be moved on. Where there is none, it appears on disk as a whole.
    pub(super) fn open(faults: &Faults, number: u64) -> Result<Self> {
        let path = faults.dir().join(FILE);
        let open = || -> io::Result<Self> {
            if !path.exists() {
                let new = faults.dir().join(NEW_FILE);
                let mut file = File::create(&new)?;
                file.write_all(&encode(number))?;
                file.sync_all()?;
                std::fs::rename(&new, &path)?;
                File::open(faults.dir())?.sync_all()?;
            }
            let file = File::options().write(true).open(&path)?;
            let mark = Self { file };
            mark.put(number)?;
            Ok(mark)
        };
        open().map_err(|error| faults.file(&path, error))
    }

    pub(super) fn put(&self, number: u64) -> io::Result<()> {
        self.file.write_all_at(&encode(number), 0)
    }
}

fn encode(number: u64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let number = number.to_be_bytes();
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&xxh3_64(&number).to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<u64> {
    let (number, check) = bytes.split_first_chunk::<8>()?;
    let is_whole = *check == xxh3_64(number).to_be_bytes();
    is_whole.then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_what_was_written_or_an_error() {
        let bytes = encode(7);
        assert_eq!(decode(&bytes), Some(7));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        assert_eq!(decode(&bytes[..15]), None);
        assert_eq!(decode(&[]), None);
    }
}
