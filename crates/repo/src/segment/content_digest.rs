//! The digest of what a segment holds.

use mendb_model::change::ChangeRef;
use mendb_model::{Digest, Malformed};

use crate::arrow::Content;

/// Counts rows or changes into a digest. What a change replaced is left out: the digest is the same as when
/// changes did not say.
#[derive(Debug)]
pub(crate) struct ContentDigest {
    pub(crate) content: Content,
    pub(crate) digest: Digest,
    scratch: Vec<u8>,
}

impl ContentDigest {
    pub(crate) fn new(content: Content) -> Self {
        Self {
            content,
            digest: Digest::default(),
            scratch: Vec::new(),
        }
    }

    /// Counts a row or change in; the change comes back.
    pub(crate) fn add<'a>(
        &mut self,
        key: &[u8],
        value: &'a [u8],
    ) -> Result<Option<ChangeRef<'a>>, Malformed> {
        match self.content {
            Content::Rows => {
                self.digest.add(key, value);
                Ok(None)
            }
            Content::Changes => {
                let change = ChangeRef::decode(value)?;
                self.scratch.clear();
                change.without_replaced().encode_into(&mut self.scratch);
                self.digest.add(key, &self.scratch);
                Ok(Some(change))
            }
        }
    }

    /// The digest so far; the next one begins anew.
    pub(crate) fn take(&mut self) -> Digest {
        std::mem::take(&mut self.digest)
    }
}
