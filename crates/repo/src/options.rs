//! The settings of a repository.

use std::collections::BTreeMap;
use std::time::Duration;

/// How a repository is used. [`Default`] suits both a local directory and S3.
#[derive(Debug, Clone)]
pub struct RepositoryOptions {
    /// How often requests are repeated.
    pub retry: RetryPolicy,
    /// How long one request may take, and one second more for each 256 KiB that it carries.
    pub request_timeout_ms: u64,
    /// Bytes of rows, before compression, after which a segment ends.
    pub segment_bytes: u64,
    /// Rows after which a row group of a segment ends, at least 1; one of long rows ends earlier. A
    /// look-up fetches whole groups, and the manifest has an entry of about 200 bytes for each.
    pub group_rows: usize,
    /// The most bytes of text that a manifest itself has about shards. Where they take more, it names lists of them:
    /// all manifests of a collection are read whenever its backups are listed.
    pub manifest_shard_bytes: usize,
    /// Compression of segments: 1 (fast) to 22 (small); what is beyond counts as the nearer end.
    pub zstd_level: i32,
    /// The most bytes a second that are written, on average, by all that share the repository's
    /// connection; without, as fast as it goes.
    pub upload_bytes_per_s: Option<u64>,
    /// The most bytes a second that are read, likewise.
    pub download_bytes_per_s: Option<u64>,
    /// Files and bundles of parts that are written or read at once, likewise; at least 1. Each takes up
    /// to 24 MiB of memory.
    pub transfers: usize,
    /// How old content that no backup refers to must be before it is named as garbage, and for how long it
    /// stays named before it is removed. Backups that run longer may have to store again what they had found.
    pub garbage_grace_ms: u64,
    /// How long a process that removes things may say nothing before others take it for dead.
    pub lease_ms: u64,
    /// Settings of the S3 client by the names of its environment variables, in any case
    /// (`aws_endpoint`, `aws_allow_http`, `aws_region`, …). They win over the environment, which is
    /// read too.
    pub s3: BTreeMap<String, String>,
}

/// A connection slower than this is taken for a broken one.
pub(crate) const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// So many short rows are a few hundred KiB, which take a store little longer than a few bytes would,
/// and enough that columns compress as well as in larger groups.
const GROUP_ROWS: usize = 8 * 1024;

/// What no store and no machine needs more of.
const MOST_TRANSFERS: usize = 256;

/// How often a request is repeated, and after which pauses: the first, then twice as long each
/// time. A pause is shortened by up to a half at random, so that workers do not come back in step.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// How often a request is made in all, at least once.
    pub attempts: u32,
    /// The first pause.
    pub first_backoff_ms: u64,
    /// The longest pause.
    pub max_backoff_ms: u64,
}

impl Default for RepositoryOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::default(),
            request_timeout_ms: 60_000,
            segment_bytes: 32 << 20,
            group_rows: GROUP_ROWS,
            manifest_shard_bytes: 32 << 10,
            zstd_level: 1,
            upload_bytes_per_s: None,
            download_bytes_per_s: None,
            transfers: 4,
            garbage_grace_ms: 24 * 60 * 60 * 1000,
            lease_ms: 30_000,
            s3: BTreeMap::new(),
        }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_backoff_ms: 200,
            max_backoff_ms: 10_000,
        }
    }
}

impl RetryPolicy {
    /// The pause after `failed` attempts, before it is shortened.
    pub(crate) fn backoff(&self, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(32);
        let pause = self.first_backoff_ms.saturating_mul(1 << doublings);
        Duration::from_millis(pause.min(self.max_backoff_ms))
    }
}

impl RepositoryOptions {
    /// Transfers at once.
    pub(crate) fn transfers_at_once(&self) -> usize {
        self.transfers.clamp(1, MOST_TRANSFERS)
    }

    /// The time a request has that carries `bytes`.
    pub(crate) fn time_limit(&self, bytes: u64) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
            + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
    }
}
