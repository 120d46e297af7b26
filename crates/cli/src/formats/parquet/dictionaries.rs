//! Dictionaries of a foreign file, checked before the library decodes them.
//!
//! The library makes room for as many values as the header of a dictionary says. One that lies takes all
//! memory, and an allocation that fails ends the process: no boundary catches that.
//!
//! *Cost*: the header of each page is read, and each dictionary twice. *Memory*: one dictionary at a time.

use std::sync::Arc;

use parquet::basic::Type;
use parquet::column::page::{Page, PageReader as _};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::foreign_file::ForeignFile;

/// Looks at the dictionaries of the columns that are read.
///
/// # Errors
/// One says that it holds more values than it has bytes for, or a page cannot be read.
pub(super) fn check(
    file: ForeignFile,
    metadata: &ParquetMetaData,
    roots: &[usize],
) -> Result<(), ParquetError> {
    let file = Arc::new(file);
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

fn check_column(
    file: &Arc<ForeignFile>,
    column: &ColumnChunkMetaData,
    rows: usize,
) -> Result<(), ParquetError> {
    let mut pages = SerializedPageReader::new(Arc::clone(file), column, rows, None)?;
    while let Some(page) = pages.peek_next_page()? {
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
