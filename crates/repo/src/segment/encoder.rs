//! From rows to the bytes of segments. No I/O.

use std::collections::{HashSet, VecDeque};
use std::ops::Range;

use arrow_array::cast::AsArray;
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use bytes::Bytes;
use mendb_model::manifest::{Segment, SegmentGroup, SegmentGroups, Stretch};
use mendb_model::name::TablePath;
use mendb_model::{Digest, RowBlock, TableSchema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::arrow::{BatchEncoder, Content, ConvertError, REPLACED_COLUMN};
use crate::error::{Error, Result};
use crate::options::RepositoryOptions;
use crate::segment::content_digest::ContentDigest;

/// A segment ends after this many rows, so that short rows do not make one that takes long to repeat.
pub(crate) const MAX_ROWS: u64 = 256 * 1024;
/// A row group ends after about this many bytes before compression, if it has not
/// [`RepositoryOptions::group_rows`] before: what a look-up of one key fetches and decodes.
const GROUP_BYTES: usize = 1 << 20;
/// A segment of fewer bytes than these is not compressed: to set up the compression of each of its columns, and that
/// again whenever it is read, takes longer than all else, and a disk would be spared a page or two.
const LITTLE_BYTES: u64 = 8 << 10;
/// Values of a column that are looked at to see whether they repeat.
const SAMPLE: usize = 1024;
/// A dictionary pays when among this many values there is at most one new one.
const REPEATS: usize = 4;

/// Encodes rows or changes into segments, cutting a new one where the last is full.
///
/// Runs on the CPU alone: call it from a thread that may block.
#[derive(Debug)]
pub(crate) struct SegmentEncoder {
    table: TablePath,
    key: HashSet<String>,
    /// The row group under construction.
    batch: BatchEncoder,
    /// Of the batch under construction.
    digest: ContentDigest,
    /// What the batch under construction holds.
    batch_span: Span,
    writer: Option<(ArrowWriter<Vec<u8>>, SchemaRef)>,
    /// First keys and numbers of rows of the groups of the segment under construction.
    groups: Vec<(Vec<u8>, u64)>,
    group_rows: usize,
    /// What the segment under construction holds, without the batch.
    span: Span,
    segment_bytes: u64,
    zstd_level: i32,
    finished: VecDeque<EncodedSegment>,
}

/// The bytes of a segment and what a manifest says about them.
#[derive(Debug, Clone)]
pub(crate) struct EncodedSegment {
    /// The Parquet file.
    pub(crate) bytes: Bytes,
    /// BLAKE3 of the bytes, as hex digits.
    pub(crate) blake3: String,
    /// Digest of the rows or changes in it.
    pub(crate) digest: Digest,
    /// The first key in it.
    pub(crate) first_key: Vec<u8>,
    /// The last key in it.
    pub(crate) last_key: Vec<u8>,
    /// Its row groups.
    pub(crate) groups: SegmentGroups,
}

impl EncodedSegment {
    /// The entry of a manifest for the segment stored as `object`.
    pub(crate) fn stored_as(self, object: String) -> Segment {
        Segment {
            object,
            bytes: self.bytes.len() as u64,
            blake3: self.blake3,
            digest: self.digest,
            first_key: self.first_key,
            last_key: self.last_key,
            groups: Some(self.groups),
        }
    }
}

/// Neighbouring rows.
#[derive(Debug, Default)]
struct Span {
    digest: Digest,
    bytes: u64,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
}

impl Span {
    fn append(&mut self, next: Self) {
        if self.digest.rows == 0 {
            *self = next;
        } else {
            self.digest.merge(next.digest);
            self.bytes += next.bytes;
            self.last_key = next.last_key;
        }
    }
}

impl SegmentEncoder {
    /// An encoder for the rows or changes of a table.
    ///
    /// # Errors
    /// The schema has a column name that segments cannot hold.
    pub(crate) fn new(
        table: TablePath,
        schema: &TableSchema,
        content: Content,
        options: &RepositoryOptions,
    ) -> Result<Self> {
        let batch = BatchEncoder::new(schema, content).map_err(|source| Error::Rows {
            table: table.to_string(),
            source,
        })?;
        Ok(Self {
            table,
            key: schema.key.iter().cloned().collect(),
            batch,
            digest: ContentDigest::new(content),
            batch_span: Span::default(),
            writer: None,
            groups: Vec::new(),
            group_rows: options.group_rows.max(1),
            span: Span::default(),
            segment_bytes: options.segment_bytes,
            zstd_level: options.zstd_level,
            finished: VecDeque::new(),
        })
    }

    /// Adds the rows of a block. The caller keeps keys ascending, from block to block too.
    /// After an error the encoder is of no more use.
    ///
    /// # Errors
    /// [`Error::Rows`]: the block does not hold rows or changes of the table.
    pub(crate) fn push<B: AsRef<[u8]>>(&mut self, block: &RowBlock<B>) -> Result<()> {
        for (key, value) in block.iter() {
            self.push_row(key, value)?;
        }
        Ok(())
    }

    fn push_row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.batch
            .push(key, value)
            .map_err(|source| rows_error(&self.table, source))?;
        let counted = self.digest.add(key, value);
        counted.map_err(|error| rows_error(&self.table, error.into()))?;
        let span = &mut self.batch_span;
        if span.digest.rows == 0 {
            span.first_key = key.to_vec();
        }
        span.last_key.clear();
        span.last_key.extend_from_slice(key);
        span.digest = self.digest.digest;
        span.bytes += (key.len() + value.len()) as u64;
        if self.is_full() {
            self.finish()?;
        } else if self.batch.rows() >= self.group_rows || self.batch.bytes() >= GROUP_BYTES {
            self.flush(true)?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.span.digest.rows + self.batch_span.digest.rows >= MAX_ROWS
            || self.span.bytes + self.batch_span.bytes >= self.segment_bytes
    }

    /// The next finished segment, in key order.
    pub(crate) fn take(&mut self) -> Option<EncodedSegment> {
        self.finished.pop_front()
    }

    /// Ends the last segment, so that all rows are in segments to [take](Self::take).
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.flush(false)?;
        self.close();
        Ok(())
    }

    /// Moves the batch into the segment, as a row group, of which more may follow. A batch of another Arrow schema
    /// begins a new one.
    fn flush(&mut self, more_follows: bool) -> Result<()> {
        if self.batch_span.digest.rows == 0 {
            return Ok(());
        }
        let batch = self
            .batch
            .finish()
            .map_err(|source| rows_error(&self.table, source))?;
        let schema = batch.schema();
        if self
            .writer
            .as_ref()
            .is_some_and(|(_, before)| *before != schema)
        {
            self.close();
        }
        let (writer, _) = match &mut self.writer {
            Some(begun) => begun,
            None => {
                let is_little = !more_follows && self.batch_span.bytes < LITTLE_BYTES;
                let properties = self.properties(&batch, is_little);
                let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties));
                let writer = writer.expect("all column types have a Parquet type");
                self.writer.insert((writer, schema))
            }
        };
        writer.write(&batch).expect("memory takes what is written");
        writer.flush().expect("memory takes what is written");
        let first_key = self.batch_span.first_key.clone();
        self.groups.push((first_key, self.batch_span.digest.rows));
        self.digest.take();
        self.span.append(std::mem::take(&mut self.batch_span));
        Ok(())
    }

    /// Ends the segment under construction, if it holds anything.
    fn close(&mut self) {
        let Some((mut writer, _)) = self.writer.take() else {
            return;
        };
        let metadata = writer.finish().expect("memory takes what is written");
        let bytes = Bytes::from(std::mem::take(writer.inner_mut()));
        let groups = groups(
            &bytes,
            metadata.row_groups(),
            std::mem::take(&mut self.groups),
        );
        let span = std::mem::take(&mut self.span);
        self.finished.push_back(EncodedSegment {
            blake3: blake3::hash(&bytes).to_hex().to_string(),
            bytes,
            digest: span.digest,
            first_key: span.first_key,
            last_key: span.last_key,
            groups,
        });
    }

    /// How to write a segment that begins with this batch: row groups end where batches do, statistics only for the key,
    /// by which readers can skip, dictionaries only for columns whose values repeat, and integers as
    /// packed differences, which leaves little for the compression to do.
    fn properties(&self, first: &RecordBatch, is_little: bool) -> WriterProperties {
        let level =
            ZstdLevel::try_new(self.zstd_level.clamp(1, 22)).expect("the level is in range");
        let compression = match is_little {
            true => Compression::UNCOMPRESSED,
            false => Compression::ZSTD(level),
        };
        let mut properties = WriterProperties::builder()
            .set_compression(compression)
            .set_max_row_group_row_count(None)
            .set_statistics_enabled(EnabledStatistics::None)
            .set_offset_index_disabled(true)
            .set_dictionary_enabled(false)
            .set_created_by(concat!("mendb ", env!("CARGO_PKG_VERSION")).to_owned());
        for (field, column) in first.schema().fields().iter().zip(first.columns()) {
            let path = ColumnPath::from(vec![field.name().clone()]);
            if self.key.contains(field.name()) {
                properties = properties
                    .set_column_statistics_enabled(path.clone(), EnabledStatistics::Chunk);
            }
            // Marks are as good as random: their differences are no shorter.
            if is_integer(field.data_type()) && field.name() != REPLACED_COLUMN {
                properties =
                    properties.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            if repeats(column.as_ref()) {
                properties = properties.set_column_dictionary_enabled(path, true);
            }
        }
        properties.build()
    }
}

/// Where the row groups of a file lie, and its footer, which is all that comes after them.
fn groups(
    file: &Bytes,
    metadata: &[RowGroupMetaData],
    known: Vec<(Vec<u8>, u64)>,
) -> SegmentGroups {
    assert_eq!(metadata.len(), known.len(), "a batch is a row group");
    let mut end = 0;
    let list = metadata
        .iter()
        .zip(known)
        .map(|(group, (first_key, rows))| {
            let range = byte_range(group).expect("it was just written");
            end = range.end;
            SegmentGroup {
                first_key,
                rows,
                at: stretch(file, range),
            }
        });
    let list = list.collect();
    SegmentGroups {
        footer: stretch(file, end..file.len() as u64),
        list,
    }
}

/// Where a row group lies in its file; `None` when it says so in numbers that are none.
pub(super) fn byte_range(group: &RowGroupMetaData) -> Option<Range<u64>> {
    let mut whole: Option<Range<u64>> = None;
    for column in group.columns() {
        let start = column.dictionary_page_offset();
        let start = u64::try_from(start.unwrap_or_else(|| column.data_page_offset())).ok()?;
        let bytes = u64::try_from(column.compressed_size()).ok()?;
        let end = start.checked_add(bytes)?;
        whole = Some(match whole {
            None => start..end,
            Some(before) => before.start.min(start)..before.end.max(end),
        });
    }
    whole
}

fn stretch(file: &Bytes, range: Range<u64>) -> Stretch {
    let at = |offset| usize::try_from(offset).expect("a segment is in memory");
    let bytes = &file[at(range.start)..at(range.end)];
    Stretch {
        offset: range.start,
        bytes: bytes.len() as u64,
        blake3: blake3::hash(bytes).to_hex().to_string(),
    }
}

fn rows_error(table: &TablePath, source: ConvertError) -> Error {
    Error::Rows {
        table: table.to_string(),
        source,
    }
}

/// Whether Parquet holds the type as integers.
fn is_integer(data_type: &DataType) -> bool {
    use DataType as D;
    data_type.is_integer() || matches!(data_type, D::Date32 | D::Timestamp(..))
}

/// Whether a column of text or bytes has few different values, going by its first ones.
fn repeats(column: &dyn Array) -> bool {
    let sample = column.len().min(SAMPLE);
    let different = match column.data_type() {
        DataType::Utf8 => {
            let values = column.as_string::<i32>().iter().take(sample);
            values.collect::<HashSet<_>>().len()
        }
        DataType::Binary => {
            let values = column.as_binary::<i32>().iter().take(sample);
            values.collect::<HashSet<_>>().len()
        }
        _ => return false,
    };
    different * REPEATS <= sample
}

#[cfg(test)]
mod tests {
    use mendb_model::{Column, ColumnType, RowBlockBuilder, Value, key, row};
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::*;

    /// The compressions of the columns of a segment of so many rows.
    fn compressions(rows: i64) -> HashSet<String> {
        let column = |name: &str| Column {
            name: name.to_owned(),
            column_type: ColumnType::Int64,
            not_null: false,
        };
        let schema = TableSchema {
            columns: vec![column("id"), column("value")],
            key: vec!["id".to_owned()],
            indexes: vec![],
        };
        let (path, options) = (TablePath::table("t"), RepositoryOptions::default());
        let mut encoder = SegmentEncoder::new(path, &schema, Content::Rows, &options).unwrap();
        let mut block = RowBlockBuilder::new();
        for id in 0..rows {
            let types = [ColumnType::Int64];
            let key = key::encode(&types, [Value::Int(id).as_ref()]);
            block.push(&key, &row::encode(&types, &[Value::Int(id * 7)]));
        }
        encoder.push(&block.finish()).unwrap();
        encoder.finish().unwrap();
        let segment = encoder.take().unwrap();
        assert_eq!(segment.digest.rows, rows as u64);
        let file = SerializedFileReader::new(segment.bytes).unwrap();
        let groups = file.metadata().row_groups().iter();
        let columns = groups.flat_map(RowGroupMetaData::columns);
        columns
            .map(|column| column.compression().to_string())
            .collect()
    }

    #[test]
    fn a_segment_of_few_bytes_is_not_compressed_and_one_of_many_is_in_all_its_groups() {
        let of_few = compressions(10);
        assert_eq!(
            of_few,
            HashSet::from([Compression::UNCOMPRESSED.to_string()])
        );
        let of_many = compressions(RepositoryOptions::default().group_rows as i64 + 10);
        assert_eq!(of_many.len(), 1);
        assert!(
            of_many.iter().all(|codec| codec.starts_with("ZSTD")),
            "{of_many:?}"
        );
    }
}
