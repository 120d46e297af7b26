//! How much of a chain of backups was fetched so far.

use mendb_model::operation::MendedRows;
use mendb_repo::ReadCounts;

/// Bytes and requests that were told of.
#[derive(Default)]
pub(crate) struct Fetched {
    bytes: u64,
    requests: u64,
}

impl Fetched {
    /// What came since this was asked last.
    pub(crate) fn since<'c>(&mut self, counts: impl Iterator<Item = &'c ReadCounts>) -> MendedRows {
        let (mut bytes, mut requests) = (0, 0);
        for level in counts {
            bytes += level.bytes;
            requests += level.requests;
        }
        let more = MendedRows {
            fetched_bytes: bytes - self.bytes,
            requests: requests - self.requests,
            ..MendedRows::default()
        };
        (self.bytes, self.requests) = (bytes, requests);
        more
    }
}
