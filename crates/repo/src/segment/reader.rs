//! Reading a segment.

use std::collections::VecDeque;

use bytes::Bytes;
use mendb_model::manifest::Segment;
use mendb_model::{BackupId, RowBlock, TableSchema};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::ChunkReader;

use crate::arrow::{BatchDecoder, Content};
use crate::error::{Error, Result};
use crate::layout;
use crate::objects::check;
use crate::repository::Repository;
use crate::segment::whole::check_whole;

/// Rows are decoded in batches of at most this many …
const BATCH_ROWS: usize = 8 * 1024;
/// … or about this many bytes.
const BATCH_BYTES: usize = 2 << 20;
/// A block ends after this many bytes, whatever the sizes of the rows in a batch.
const BLOCK_BYTES: usize = 4 << 20;

/// The rows or changes of a segment, in key order, block by block. The bytes of the segment were
/// checked before; rows are decoded when the next block is asked for, which is work for a thread
/// that may block. Ends after an error.
pub struct SegmentReader {
    object: String,
    rows_expected: u64,
    rows: u64,
    batches: ParquetRecordBatchReader,
    decoder: BatchDecoder,
    blocks: VecDeque<RowBlock>,
    ended: bool,
}

impl std::fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentReader")
            .field("object", &self.object)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

impl Repository {
    /// Fetches a segment, checks its size and BLAKE3, and begins to read it. What arrives damaged is
    /// fetched again. Waits for the store; holds the whole segment in memory.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Damaged`] when it is not the segment of the manifest or its rows
    /// are not those of the table; or the store fails.
    pub async fn read_segment(
        &self,
        collection: &str,
        backup_id: &BackupId,
        segment: &Segment,
        schema: &TableSchema,
        content: Content,
    ) -> Result<SegmentReader> {
        let bytes = self.fetch_segment(collection, backup_id, segment).await?;
        let directory = layout::backup(collection, backup_id)?;
        let object = self
            .objects
            .full_name(&format!("{directory}/{}", segment.object));
        let builder =
            ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| Error::Damaged {
                object: object.clone(),
                detail: error.to_string(),
            })?;
        SegmentReader::of_checked(object, builder, segment.digest.rows, schema, content)
    }

    /// Fetches the bytes of a segment and checks their number and BLAKE3, and those of its row groups:
    /// who reads them alone later finds what was found here.
    pub(crate) async fn fetch_segment(
        &self,
        collection: &str,
        backup_id: &BackupId,
        segment: &Segment,
    ) -> Result<Bytes> {
        let directory = layout::backup(collection, backup_id)?;
        let name = format!("{directory}/{}", segment.object);
        let check = |bytes: Bytes| {
            check(&bytes, segment.bytes, &segment.blake3)?;
            check_whole(segment, &bytes)?;
            Ok(bytes)
        };
        self.objects.get(&name, segment.bytes, check).await
    }
}

impl SegmentReader {
    /// Reads `rows` rows. The Parquet reader panics over some damage, so that bytes must be checked
    /// before.
    pub(super) fn of_checked<T: ChunkReader + 'static>(
        object: String,
        builder: ParquetRecordBatchReaderBuilder<T>,
        rows: u64,
        schema: &TableSchema,
        content: Content,
    ) -> Result<Self> {
        let damaged = |detail: String| Error::Damaged {
            object: object.clone(),
            detail,
        };
        let decoder = BatchDecoder::new(schema, content, builder.schema())
            .map_err(|error| damaged(error.to_string()))?;
        let metadata = builder.metadata();
        let groups = metadata.row_groups().iter();
        let size: i64 = groups.map(RowGroupMetaData::total_byte_size).sum();
        let row_bytes = size / metadata.file_metadata().num_rows().max(1);
        let row_bytes = usize::try_from(row_bytes).unwrap_or_default();
        let batch_rows = (BATCH_BYTES / row_bytes.max(1)).clamp(1, BATCH_ROWS);
        let batches = builder
            .with_batch_size(batch_rows)
            .build()
            .map_err(|error| damaged(error.to_string()))?;
        Ok(Self {
            object,
            rows_expected: rows,
            rows: 0,
            batches,
            decoder,
            blocks: VecDeque::new(),
            ended: false,
        })
    }

    /// The name of the object, with the URL of its repository.
    pub(super) fn object(&self) -> &str {
        &self.object
    }

    fn read(&mut self) -> Result<Option<RowBlock>, String> {
        loop {
            if let Some(block) = self.blocks.pop_front() {
                self.rows += block.len() as u64;
                return Ok(Some(block));
            }
            let Some(batch) = self.batches.next() else {
                return match self.rows == self.rows_expected {
                    true => Ok(None),
                    false => Err(format!(
                        "{} rows instead of {}",
                        self.rows, self.rows_expected
                    )),
                };
            };
            let batch = batch.map_err(|error| error.to_string())?;
            let blocks = self.decoder.blocks(&batch, BLOCK_BYTES);
            self.blocks = blocks.map_err(|error| error.to_string())?.into();
        }
    }
}

impl Iterator for SegmentReader {
    type Item = Result<RowBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.read().map_err(|detail| Error::Damaged {
            object: self.object.clone(),
            detail,
        });
        self.ended = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
