//! A set of objects that parts need.

use std::collections::HashMap;

use mendb_model::part::PartFile;

use super::{Blob, BlobKind};
use crate::error::Result;

/// Objects that hold files, with the sizes they must have. Takes about 60 bytes for each.
#[derive(Debug, Default)]
pub(crate) struct NeededFiles(HashMap<Blob, u64>);

impl NeededFiles {
    /// Adds what a file needs.
    ///
    /// # Errors
    /// The file is named as nothing can be.
    pub(crate) fn add(&mut self, file: &PartFile) -> Result<()> {
        let least = Blob::least_bytes(file)?;
        let bytes = self.0.entry(Blob::of(file)?).or_default();
        *bytes = least.max(*bytes);
        Ok(())
    }

    /// How many objects.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The objects, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Blob, u64)> {
        self.0.iter().map(|(blob, bytes)| (*blob, *bytes))
    }
}

/// What is wrong with an object that is there with this size, or not there; `None` for nothing.
pub(super) fn problem_of(blob: Blob, needed_bytes: u64, there: Option<u64>) -> Option<String> {
    match (blob.kind(), there) {
        (_, None) => Some("does not exist".to_owned()),
        (BlobKind::File, Some(bytes)) if bytes != needed_bytes => {
            Some(format!("has {bytes} bytes instead of {needed_bytes}"))
        }
        (BlobKind::Bundle, Some(bytes)) if bytes < needed_bytes => Some(format!(
            "has {bytes} bytes instead of at least {needed_bytes}"
        )),
        _ => None,
    }
}
