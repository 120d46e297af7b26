//! What was read of the names that wait to be removed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use blake3::Hash;

use crate::part::{Blob, BlobKind};

/// What was read of the names that are there.
#[derive(Debug, Default)]
pub(crate) struct KnownCandidates(pub(crate) Mutex<(Known, Epochs)>);

/// Names by the record that they are from, with its epoch.
pub(crate) type Known = BTreeMap<String, (u64, Vec<Blob>)>;

/// The highest epoch of each name.
pub(crate) type Epochs = Arc<HashMap<(BlobKind, Hash), u64>>;
