//! Pages of a foreign file, checked before the library decodes them.
//!
//! The library makes room for as many bytes as the header of a page says that it has when it is decompressed, and for as
//! many values as that of a dictionary says. One that lies takes all memory, and an allocation that fails ends the
//! process: no boundary catches that.
//!
//! *Cost*: the header of each page is read, and each dictionary twice. *Memory*: one dictionary at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::basic::{Compression, Type};
use parquet::column::page::{Page, PageReader as _};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::reader::{ChunkReader, Length};
use parquet::file::serialized_reader::SerializedPageReader;

use super::foreign_file::ForeignFile;

/// A page that has no more than so many bytes is never too large.
const FINE_BYTES: u64 = 64 << 20;
/// Three numbers of at most five bytes, each behind its mark, are in the first bytes of a header.
const HEAD_BYTES: u64 = 18;

/// Looks at the pages of the columns that are read.
///
/// # Errors
/// One says that it holds more than it has bytes for, or cannot be read.
pub(super) fn check(
    file: ForeignFile,
    metadata: &ParquetMetaData,
    roots: &[usize],
) -> Result<(), ParquetError> {
    let file = Arc::new(Watched {
        file,
        read_from: AtomicU64::new(0),
    });
    let schema = metadata.file_metadata().schema_descr();
    for group in metadata.row_groups() {
        let rows = usize::try_from(group.num_rows())?;
        for (leaf, column) in group.columns().iter().enumerate() {
            if roots.contains(&schema.get_column_root_idx(leaf)) {
                check_column(&file, column, rows)?;
            }
        }
    }
    Ok(())
}

/// A file of which it is known where it was last read from.
struct Watched {
    file: ForeignFile,
    read_from: AtomicU64,
}

impl Length for Watched {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Watched {
    type T = <ForeignFile as ChunkReader>::T;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        self.read_from.store(start, Ordering::Relaxed);
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.file.get_bytes(start, length)
    }
}

fn check_column(
    file: &Arc<Watched>,
    column: &ColumnChunkMetaData,
    rows: usize,
) -> Result<(), ParquetError> {
    let mut pages = SerializedPageReader::new(Arc::clone(file), column, rows, None)?;
    while let Some(page) = pages.peek_next_page()? {
        // What was read for that is its header, from its beginning.
        let start = file.read_from.load(Ordering::Relaxed);
        let length = HEAD_BYTES.min(file.len().saturating_sub(start));
        let head = file.get_bytes(start, length as usize)?;
        let sizes = sizes(&head).ok_or_else(|| {
            ParquetError::General(format!(
                "the header of a page of column {} does not begin with its sizes",
                column.column_path()
            ))
        })?;
        check_sizes(sizes, column)?;
        if !page.is_dict {
            pages.skip_next_page()?;
            continue;
        }
        let Some(Page::DictionaryPage {
            buf, num_values, ..
        }) = pages.get_next_page()?
        else {
            continue;
        };
        if u64::from(num_values) * least_bits(column) > buf.len() as u64 * 8 {
            return Err(ParquetError::General(format!(
                "a dictionary of column {} has {} bytes and claims to hold {num_values} values",
                column.column_path(),
                buf.len()
            )));
        }
    }
    Ok(())
}

/// Bytes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sizes {
    decompressed: u64,
    stored: u64,
}

/// The sizes in the first bytes of a header: `PageHeader` in the specification of Parquet, in the compact protocol of
/// Thrift, which writes the fields in their order.
fn sizes(mut head: &[u8]) -> Option<Sizes> {
    let mut numbers = [0u64; 3];
    for number in &mut numbers {
        // The next field, which is a number of 32 bits.
        let (0x15, rest) = head.split_first().map(|(mark, rest)| (*mark, rest))? else {
            return None;
        };
        head = rest;
        for place in 0..5 {
            let (byte, rest) = head.split_first()?;
            head = rest;
            *number |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    // Numbers below zero are odd there; the library has refused them.
    let [_, decompressed, stored] = numbers.map(|number| number >> 1);
    Some(Sizes {
        decompressed,
        stored,
    })
}

fn check_sizes(sizes: Sizes, column: &ColumnChunkMetaData) -> Result<(), ParquetError> {
    let most = most_times(column.compression());
    let can_hold = most.map_or(u64::MAX, |times| sizes.stored.saturating_mul(times));
    if sizes.decompressed <= can_hold.max(FINE_BYTES) {
        return Ok(());
    }
    Err(ParquetError::General(format!(
        "a page of column {} has {} bytes and claims to hold {}",
        column.column_path(),
        sizes.stored,
        sizes.decompressed
    )))
}

/// How many times its stored bytes a page can have at most, where the library makes room for what is claimed before it
/// decompresses. Of the others a lie is found when it ends.
fn most_times(compression: Compression) -> Option<u64> {
    match compression {
        Compression::UNCOMPRESSED => Some(1),
        // A copy of 64 bytes takes three: the description of the format of Snappy.
        Compression::SNAPPY => Some(22),
        // A byte adds 255 to a length: the description of the block format of LZ4.
        Compression::LZ4 | Compression::LZ4_RAW => Some(256),
        Compression::GZIP(_) | Compression::BROTLI(_) | Compression::ZSTD(_) | Compression::LZO => {
            None
        }
    }
}

/// The least that a value takes in a dictionary: see *Plain encoding* in the specification of Parquet.
fn least_bits(column: &ColumnChunkMetaData) -> u64 {
    match column.column_type() {
        Type::BOOLEAN => 1,
        // The length of each is written before it.
        Type::INT32 | Type::FLOAT | Type::BYTE_ARRAY => 32,
        Type::INT64 | Type::DOUBLE => 64,
        Type::INT96 => 96,
        Type::FIXED_LEN_BYTE_ARRAY => {
            // Of no length at all it could hold any number.
            let bytes = u64::try_from(column.column_descr().type_length()).unwrap_or(0);
            bytes.max(1) * 8
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_thrift_writes_them() {
        // A data page (0) of 300 bytes, of which 5 are stored.
        let head = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x0a, 0x2c, 0x15];
        let wanted = Sizes {
            decompressed: 300,
            stored: 5,
        };
        assert_eq!(sizes(&head), Some(wanted));
        for cut in 0..7 {
            assert_eq!(sizes(&head[..cut]), None, "{cut}");
        }
        assert_eq!(sizes(&[0x25, 0x00, 0x15, 0x02, 0x15, 0x02]), None);
    }
}
