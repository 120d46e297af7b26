//! Writing the segments of one shard.

use mendb_model::manifest::Segment;
use mendb_model::name::TablePath;
use mendb_model::{BackupId, RowBlock, TableSchema};
use tokio::task::JoinSet;

use crate::arrow::Content;
use crate::error::Result;
use crate::layout;
use crate::objects::Objects;
use crate::repository::Repository;
use crate::segment::encoder::{EncodedSegment, SegmentEncoder};

/// What segments are of, which gives them their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentTarget {
    /// The collection.
    pub collection: String,
    /// The backup.
    pub backup_id: BackupId,
    /// The table or index.
    pub path: TablePath,
    /// The number of the shard in its table.
    pub shard: u32,
    /// Who writes, for example drawn at random for each operation: two targets may take a backup of
    /// collections of one name in the same second, and then write into the same directory. What one
    /// writes is not touched by [`Repository::sweep`] and [`Repository::withdraw`] of another.
    pub writer: String,
    /// The attempt: two attempts of a writer never write the same object, also when both are still alive.
    pub attempt: u32,
    /// The number of the first segment; more than 0 when an attempt goes on where it was.
    pub first_segment: u32,
}

/// Writes the rows or changes of one shard into segments.
///
/// While a segment is uploaded the next one is encoded: at most two are in memory, encoded. Dropping
/// the writer ends its upload; what is uploaded by then are leftovers.
#[derive(Debug)]
pub struct SegmentWriter {
    objects: Objects,
    directory: String,
    target: SegmentTarget,
    encoder: SegmentEncoder,
    next: u32,
    /// At most one, so that segments end in key order. The set aborts it when dropped.
    uploads: JoinSet<Result<Segment>>,
}

impl Repository {
    /// A writer for the segments of one shard.
    ///
    /// # Errors
    /// The collection has a bad name, or the schema a column name that segments cannot hold.
    pub fn segment_writer(
        &self,
        target: SegmentTarget,
        schema: &TableSchema,
        content: Content,
    ) -> Result<SegmentWriter> {
        let options = self.objects.options();
        Ok(SegmentWriter {
            directory: layout::backup(&target.collection, &target.backup_id)?,
            encoder: SegmentEncoder::new(target.path.clone(), schema, content, options)?,
            next: target.first_segment,
            target,
            objects: self.objects.clone(),
            uploads: JoinSet::new(),
        })
    }
}

impl SegmentWriter {
    /// Adds the rows of a block, and returns the segments that are safely stored since the last call,
    /// in key order; most often there is none. What is behind the last returned segment must be
    /// pushed again after a crash. The caller keeps keys ascending, from block to block too.
    ///
    /// Encodes where it is called and waits for the store: call it from a thread that may block.
    /// After an error the writer is of no more use.
    ///
    /// # Errors
    /// [`crate::Error::Rows`]: the block does not hold rows or changes of the table. Or the store fails.
    pub async fn push<B: AsRef<[u8]> + Sync>(
        &mut self,
        block: &RowBlock<B>,
    ) -> Result<Vec<Segment>> {
        self.encoder.push(block)?;
        let mut stored = Vec::new();
        while let Some(encoded) = self.encoder.take() {
            stored.extend(self.upload(encoded).await?);
        }
        if let Some(done) = self.uploads.try_join_next() {
            stored.push(self.stored(done)?);
        }
        Ok(stored)
    }

    /// Stores what is left, and returns the segments that were not returned before, in key order.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub async fn finish(mut self) -> Result<Vec<Segment>> {
        self.encoder.finish()?;
        let mut stored = Vec::new();
        while let Some(encoded) = self.encoder.take() {
            stored.extend(self.wait().await?);
            let put = self.put(encoded);
            stored.push(put.await?);
        }
        stored.extend(self.wait().await?);
        Ok(stored)
    }

    /// Begins to store a segment, after the one before is stored.
    async fn upload(&mut self, encoded: EncodedSegment) -> Result<Option<Segment>> {
        let before = self.wait().await?;
        let put = self.put(encoded);
        self.uploads.spawn(put);
        Ok(before)
    }

    /// Stores a segment.
    fn put(
        &mut self,
        encoded: EncodedSegment,
    ) -> impl Future<Output = Result<Segment>> + Send + use<> {
        let SegmentTarget {
            path,
            shard,
            writer,
            attempt,
            ..
        } = &self.target;
        let object = layout::segment(path, *shard, writer, *attempt, self.next);
        self.next += 1;
        let name = format!("{}/{object}", self.directory);
        let objects = self.objects.clone();
        async move {
            objects.put(&name, encoded.bytes.clone()).await?;
            Ok(encoded.stored_as(object))
        }
    }

    /// Waits for the segment that is being stored, if there is one.
    async fn wait(&mut self) -> Result<Option<Segment>> {
        match self.uploads.join_next().await {
            None => Ok(None),
            Some(done) => self.stored(done).map(Some),
        }
    }

    fn stored(&self, done: Result<Result<Segment>, tokio::task::JoinError>) -> Result<Segment> {
        done.unwrap_or_else(|error| Err(self.objects.cut_off(error)))
    }
}
