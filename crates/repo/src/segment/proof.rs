//! Proving a segment: every byte and every row of it is as its manifest says.

use mendb_model::key::KeyRange;
use mendb_model::manifest::Segment;
use mendb_model::{BackupId, Balance, TableSchema};

use crate::arrow::Content;
use crate::error::{Error, Result};
use crate::repository::Repository;
use crate::segment::content_digest::ContentDigest;
use crate::segment::reader::SegmentReader;

impl Repository {
    /// Reads a segment of a shard of this range and proves it: size, BLAKE3, decoding, key order and range,
    /// digest, first and last key. Returns what its changes add up to; `None` of rows, and where a change does not
    /// say what it left or what it replaced.
    ///
    /// Waits for the store, and decodes on a thread that may block.
    ///
    /// # Errors
    /// As [`Self::read_segment`]; [`Error::Damaged`] says what is wrong with it.
    pub async fn prove_segment(
        &self,
        collection: &str,
        id: &BackupId,
        segment: &Segment,
        range: &KeyRange,
        schema: &TableSchema,
        content: Content,
    ) -> Result<Option<Balance>> {
        let reader = self
            .read_segment(collection, id, segment, schema, content)
            .await?;
        let (segment, range) = (segment.clone(), range.clone());
        let prove = move || prove(reader, &segment, &range, content);
        let proved = tokio::task::spawn_blocking(prove).await;
        proved.unwrap_or_else(|error| Err(self.objects.cut_off(error)))
    }
}

fn prove(
    mut reader: SegmentReader,
    segment: &Segment,
    range: &KeyRange,
    content: Content,
) -> Result<Option<Balance>> {
    let mut counted = ContentDigest::new(content);
    let mut balance = (content == Content::Changes).then(Balance::default);
    let mut first_key: Option<Vec<u8>> = None;
    let mut last_key: Option<Vec<u8>> = None;
    while let Some(block) = reader.next() {
        for (key, value) in block?.iter() {
            if last_key.as_deref() >= Some(key) || !range.contains(key) {
                return Err(reader.damaged("it holds keys out of order or outside its shard"));
            }
            let change = counted.add(key, value).map_err(|error| {
                let detail = mendb_model::describe_error(&error);
                reader.damaged(&format!("it holds a bad change: {detail}"))
            })?;
            if let (Some(sum), Some(change)) = (&mut balance, change)
                && !sum.count(key, &change)
            {
                balance = None;
            }
            first_key.get_or_insert_with(|| key.to_vec());
            let last = last_key.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
        }
    }
    let (found, expected) = (counted.take(), segment.digest);
    if found != expected {
        let detail = format!("it has the digest {found} instead of {expected}");
        return Err(reader.damaged(&detail));
    }
    let named = [&segment.first_key, &segment.last_key].map(|key| Some(key.as_slice()));
    if [first_key.as_deref(), last_key.as_deref()] != named {
        return Err(reader.damaged("it begins or ends with other keys than its manifest says"));
    }
    Ok(balance)
}

impl SegmentReader {
    fn damaged(&self, detail: &str) -> Error {
        Error::Damaged {
            object: self.object().to_owned(),
            detail: detail.to_owned(),
        }
    }
}
