//! Which requests bring files back: pure planning.

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;

use blake3::Hash;
use mendb_model::part::{FilePlace, PartFile};

use super::blob::blake3_of;
use super::{Blob, MOST_BUNDLE_BYTES};
use crate::error::Result;

/// Bytes between two wanted files that are fetched rather than asked around: a request takes longer.
const MOST_GAP_BYTES: u64 = 256 << 10;

/// A file that is wanted, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// What errors call it.
    pub(super) name: String,
    pub(super) blake3: Hash,
    pub(super) bytes: u64,
    /// The object that it is in.
    pub(super) blob: Blob,
    /// Where it begins in its object.
    pub(super) offset: u64,
    pub(super) to: PathBuf,
}

/// A stretch of a bundle that holds wanted files, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) bundle: Blob,
    pub(super) range: Range<u64>,
    pub(super) files: Vec<Wanted>,
}

/// What to do to have files.
#[derive(Debug, Default)]
pub(super) struct FetchPlan {
    /// Files without a byte: nothing has to be fetched.
    pub(super) empty: Vec<Wanted>,
    pub(super) large: Vec<Wanted>,
    pub(super) stretches: Vec<Stretch>,
}

impl FetchPlan {
    /// The requests for files, each with where it is to be.
    ///
    /// # Errors
    /// A file is named as nothing can be.
    pub(super) fn new(files: &[(&PartFile, PathBuf)]) -> Result<Self> {
        let mut plan = Self::default();
        let mut bundles: HashMap<Blob, Vec<Wanted>> = HashMap::new();
        for (file, to) in files {
            let mut wanted = Wanted {
                name: file.name.clone(),
                blake3: blake3_of(file)?,
                bytes: file.bytes,
                blob: Blob::of(file)?,
                offset: 0,
                to: to.clone(),
            };
            if file.bytes == 0 {
                plan.empty.push(wanted);
                continue;
            }
            match &file.place {
                FilePlace::File { .. } => plan.large.push(wanted),
                FilePlace::Bundle { offset, .. } => {
                    // Its end is known to be a number from here on.
                    Blob::least_bytes(file)?;
                    wanted.offset = *offset;
                    bundles.entry(wanted.blob).or_default().push(wanted);
                }
            }
        }
        for (bundle, mut wanted) in bundles {
            wanted.sort_by_key(|file| file.offset);
            plan.stretches.extend(stretches(bundle, wanted));
        }
        Ok(plan)
    }
}

/// Cuts files of a bundle, in the order of their offsets, into stretches.
fn stretches(bundle: Blob, files: Vec<Wanted>) -> Vec<Stretch> {
    let mut stretches: Vec<Stretch> = Vec::new();
    for file in files {
        let range = file.offset..file.offset + file.bytes;
        if let Some(last) = stretches.last_mut()
            && file.offset <= last.range.end.saturating_add(MOST_GAP_BYTES)
            && range.end - last.range.start <= MOST_BUNDLE_BYTES
        {
            last.range.end = last.range.end.max(range.end);
            last.files.push(file);
        } else {
            stretches.push(Stretch {
                bundle,
                range,
                files: vec![file],
            });
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(offset: u64, bytes: u64) -> PartFile {
        PartFile {
            name: format!("{offset}.bin"),
            bytes,
            blake3: blake3::hash(b"file").to_hex().to_string(),
            checksum: None,
            place: FilePlace::Bundle {
                bundle: blake3::hash(b"bundle").to_hex().to_string(),
                offset,
                generation: 0,
            },
        }
    }

    fn plan(files: &[PartFile]) -> Result<FetchPlan> {
        let files: Vec<_> = files
            .iter()
            .enumerate()
            .map(|(n, file)| (file, PathBuf::from(n.to_string())))
            .collect();
        FetchPlan::new(&files)
    }

    #[test]
    fn neighbours_are_fetched_together_and_what_is_far_apart_is_not() {
        let far = 100 + MOST_GAP_BYTES + 1;
        let files = [file(far, 5), file(50, 50), file(0, 50)];
        let ranges = plan(&files).unwrap().stretches;
        let ranges: Vec<_> = ranges.into_iter().map(|stretch| stretch.range).collect();
        assert_eq!(ranges, [0..100, far..far + 5]);
    }

    #[test]
    fn what_no_bundle_can_be_is_refused_before_a_request_is_made() {
        assert!(plan(&[file(u64::MAX, 1)]).is_err());
        let mut odd = file(0, 1);
        odd.blake3 = "../../mendb.json".to_owned();
        assert!(plan(&[odd]).is_err());
    }

    proptest! {
        #[test]
        fn every_file_is_in_one_stretch_and_no_stretch_is_large(
            files in proptest::collection::vec((0u64..6 << 20, 0u64..300_000), 0..60),
        ) {
            let files: Vec<_> = files.into_iter().map(|(offset, bytes)| file(offset, bytes)).collect();
            let plan = plan(&files).unwrap();
            let mut seen = plan.empty.len();
            for stretch in &plan.stretches {
                prop_assert!(stretch.range.end - stretch.range.start <= MOST_BUNDLE_BYTES);
                for file in &stretch.files {
                    prop_assert!(stretch.range.start <= file.offset);
                    prop_assert!(file.offset + file.bytes <= stretch.range.end);
                }
                seen += stretch.files.len();
            }
            prop_assert_eq!(seen, files.len());
        }
    }
}
