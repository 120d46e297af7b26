//! A file of which only some stretches are in memory.

use bytes::Bytes;
use bytes::buf::{Buf, Reader};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// The stretches of a Parquet file that were fetched and checked. Asking for other bytes is an error.
#[derive(Debug, Clone)]
pub(crate) struct SparseFile {
    bytes: u64,
    /// Offsets and what is there.
    pieces: Vec<(u64, Bytes)>,
}

impl SparseFile {
    /// A file of `bytes`, of which nothing is there.
    pub(crate) fn new(bytes: u64) -> Self {
        Self {
            bytes,
            pieces: Vec::new(),
        }
    }

    /// Adds what begins at an offset.
    pub(crate) fn insert(&mut self, offset: u64, bytes: Bytes) {
        self.pieces.push((offset, bytes));
    }

    /// Adds what is there of the same file elsewhere.
    pub(crate) fn extend(&mut self, other: Self) {
        self.pieces.extend(other.pieces);
    }

    /// The bytes from an offset to the end of their piece.
    fn bytes_from(&self, start: u64) -> Result<Bytes, ParquetError> {
        let within = |(offset, bytes): &(u64, Bytes)| {
            let skip = usize::try_from(start.checked_sub(*offset)?).ok()?;
            (skip < bytes.len()).then(|| bytes.slice(skip..))
        };
        let found = self.pieces.iter().find_map(within);
        found.ok_or_else(|| ParquetError::General(format!("refers to byte {start}, outside of it")))
    }
}

impl Length for SparseFile {
    fn len(&self) -> u64 {
        self.bytes
    }
}

impl ChunkReader for SparseFile {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(self.bytes_from(start)?.reader())
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let piece = self.bytes_from(start)?;
        if piece.len() < length {
            let detail = format!("refers to {length} bytes from {start}, beyond its end");
            return Err(ParquetError::General(detail));
        }
        Ok(piece.slice(..length))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn only_what_is_there_is_read() {
        let mut file = SparseFile::new(100);
        file.insert(4, Bytes::from_static(b"abcd"));
        file.insert(90, Bytes::from_static(b"0123456789"));
        assert_eq!(file.len(), 100);
        assert_eq!(file.get_bytes(5, 2).unwrap().as_ref(), b"bc");
        assert_eq!(file.get_bytes(96, 4).unwrap().as_ref(), b"6789");
        let mut rest = String::new();
        file.get_read(98)
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        assert_eq!(rest, "89");
        assert!(file.get_bytes(6, 3).is_err());
        assert!(file.get_bytes(8, 1).is_err());
        assert!(file.get_read(u64::MAX).is_err());
    }
}
