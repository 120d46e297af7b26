//! A foreign file as the library reads it.
//!
//! The library takes what it skips for skipped where the file has ended: the header of a page that claims a list
//! of two thousand million numbers behind the end has it ask for each of them. So a reader that has been told of
//! the end answers with an error from then on.

use std::fs::File;
use std::io::{self, BufReader, Read};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

/// An open file.
#[derive(Debug)]
pub(super) struct ForeignFile(File);

impl ForeignFile {
    /// Another handle of an open file, with the same position.
    ///
    /// # Errors
    /// The system has no more handles.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self(file.try_clone()?))
    }
}

impl Length for ForeignFile {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for ForeignFile {
    type T = ToldOnce<BufReader<File>>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(ToldOnce {
            reader: self.0.get_read(start)?,
            is_told: false,
        })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        // The library makes room for as many bytes as are asked for before it reads.
        if start.saturating_add(length as u64) > self.len() {
            return Err(ParquetError::EOF(format!(
                "{length} bytes from {start} on are more than the file has"
            )));
        }
        self.0.get_bytes(start, length)
    }
}

/// Says once that the input has ended, and fails when it is asked again.
#[derive(Debug)]
pub(super) struct ToldOnce<R> {
    reader: R,
    is_told: bool,
}

impl<R: Read> Read for ToldOnce<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        if self.is_told {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.is_told = true;
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_once_and_is_an_error_then() {
        let mut reader = ToldOnce {
            reader: &b"ab"[..],
            is_told: false,
        };
        let mut all = Vec::new();
        assert_eq!(reader.read_to_end(&mut all).unwrap(), 2);
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        let error = reader.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_lies_behind_the_end_is_an_error_and_no_room_is_made_for_it() {
        let file = ForeignFile(tempfile::tempfile().unwrap());
        assert!(file.get_bytes(0, usize::MAX).is_err());
        assert!(file.get_bytes(u64::MAX, 1).is_err());
        assert!(file.get_bytes(0, 0).is_ok());
    }
}
