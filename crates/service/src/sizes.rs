//! How many bytes some keys of a table take in a backup, by its manifest: for estimates and progress.

use mendb_model::key::KeyRange;
use mendb_model::manifest::{Manifest, Segment, ShardBackup};
use mendb_model::name::TablePath;
use mendb_repo::{Repository, Result};

/// Bytes of the segments of one shard.
pub(crate) fn segment_bytes(shard: &ShardBackup) -> u64 {
    shard.segments.iter().map(|segment| segment.bytes).sum()
}

/// Rows or changes of the segments of a table that may have keys of a range; none where the backup does not
/// have the table.
///
/// # Errors
/// What the backup says of the shards cannot be read.
pub(crate) async fn rows_within(
    repository: &Repository,
    manifest: &Manifest,
    path: &TablePath,
    range: &KeyRange,
) -> Result<u64> {
    if manifest.sharded_table(path).is_none() {
        return Ok(0);
    }
    let shards = repository.shards_within(manifest, path, range).await?;
    let segments = shards.iter().flat_map(|shard| &shard.segments);
    let within = segments.filter(|segment| reaches(segment, range));
    Ok(within.map(|segment| segment.digest.rows).sum())
}

/// What some segments hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Bytes of their objects.
    pub(crate) bytes: u64,
    /// Rows or changes.
    pub(crate) rows: u64,
}

/// Adds, to the sizes of each of some ranges that ascend and do not overlap, those of the segments of a
/// table that may have keys of it. Reads what the backup says of its shards once, however many ranges there
/// are.
///
/// # Errors
/// As [`rows_within`].
pub(crate) async fn add_within(
    repository: &Repository,
    manifest: &Manifest,
    path: &TablePath,
    ranges: &mut [(KeyRange, Sizes)],
) -> Result<()> {
    if manifest.sharded_table(path).is_none() {
        return Ok(());
    }
    for shard in repository.shards(manifest, path).await? {
        for segment in &shard.segments {
            let first = ranges.partition_point(|(range, _)| !range.ends_behind(&segment.first_key));
            let ranges = ranges.iter_mut().skip(first);
            let reached = ranges.take_while(|(range, _)| range.start <= segment.last_key);
            reached.for_each(|(_, sizes)| {
                sizes.bytes += segment.bytes;
                sizes.rows += segment.digest.rows;
            });
        }
    }
    Ok(())
}

fn reaches(segment: &Segment, range: &KeyRange) -> bool {
    segment.last_key >= range.start && range.ends_behind(&segment.first_key)
}
