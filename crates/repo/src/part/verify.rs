//! Proving that files of parts are what they are named after, by reading them.

use std::collections::{HashMap, HashSet};

use blake3::Hash;
use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::part::{FilePlace, PartRecord};

use super::blob::blake3_of;
use super::fetch::LargeContent;
use super::{Blob, MOST_BUNDLE_BYTES};
use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::repository::Repository;

/// What came of reading the files of parts.
#[derive(Debug, Default)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Bytes of those that are as they should be.
    pub bytes: u64,
    /// What is wrong with the others: each names its object.
    pub damaged: Vec<Error>,
}

impl Repository {
    /// Reads every object that these parts need, once, and compares sizes and BLAKE3. Goes on where one
    /// is missing or damaged. What is damaged is noted in the repository where that can be written, so that
    /// no later backup relies on it.
    ///
    /// # Errors
    /// A file is named as nothing can be, or the store fails.
    pub async fn verify_files<'a>(
        &self,
        records: impl IntoIterator<Item = &'a PartRecord>,
    ) -> Result<Verified> {
        let mut large = HashMap::new();
        let mut bundles: HashMap<Blob, HashSet<Slice>> = HashMap::new();
        for file in records.into_iter().flat_map(|record| &record.files) {
            let blake3 = blake3_of(file)?;
            Blob::least_bytes(file)?;
            let blob = Blob::of(file)?;
            match &file.place {
                FilePlace::Bundle { offset, .. } => {
                    let slice = Slice {
                        offset: *offset,
                        bytes: file.bytes,
                        blake3,
                    };
                    bundles.entry(blob).or_default().insert(slice);
                }
                FilePlace::File { .. } => {
                    large.insert(blob, file.bytes);
                }
            }
        }
        let large = large
            .into_iter()
            .map(|(blob, bytes)| Job::Large(blob, bytes));
        let bundles = bundles
            .into_iter()
            .map(|(bundle, slices)| Job::Bundle(bundle, slices));
        let noted = &self.objects.damaged_blobs().await?;
        let jobs = large.chain(bundles).map(|job| {
            let objects = self.objects.clone();
            async move {
                let _permit = objects.transfer().await;
                let (Job::Large(blob, _) | Job::Bundle(blob, _)) = job;
                let proved = objects.prove(job).await;
                objects.note_if_damaged(&blob, &proved).await;
                if proved.is_ok() && noted.contains(&blob) {
                    objects.forget_damage(&blob).await?;
                }
                match proved {
                    Err(error) if !error.is_damage() => Err(error),
                    proved => Ok(proved),
                }
            }
        });
        let mut verified = Verified::default();
        let mut proofs = stream::iter(jobs).buffer_unordered(self.options().transfers_at_once());
        while let Some(proved) = proofs.try_next().await? {
            verified.objects += 1;
            match proved {
                Ok(bytes) => verified.bytes += bytes,
                Err(error) => verified.damaged.push(error),
            }
        }
        Ok(verified)
    }
}

/// A file in a bundle.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Slice {
    offset: u64,
    bytes: u64,
    blake3: Hash,
}

enum Job {
    Large(Blob, u64),
    Bundle(Blob, HashSet<Slice>),
}

impl Objects {
    /// Reads an object; returns its size when it is as it should be.
    async fn prove(&self, job: Job) -> Result<u64> {
        match job {
            Job::Large(blob, bytes) => {
                let content = LargeContent {
                    name: blob.name(),
                    bytes,
                    blake3: blob.blake3(),
                };
                self.prove_size(&content.name, bytes..=bytes).await?;
                self.read_large(&content, None).await?;
                Ok(bytes)
            }
            Job::Bundle(bundle, slices) => {
                let name = bundle.name();
                let size = self.prove_size(&name, 0..=MOST_BUNDLE_BYTES).await?;
                self.get(&name, size, |bytes| {
                    if blake3::hash(&bytes) != bundle.blake3() {
                        return Err("its BLAKE3 is not its name".to_owned());
                    }
                    let wrong = slices.iter().find(|slice| !slice.is_in(&bytes));
                    wrong.map_or(Ok(()), |slice| {
                        let offset = slice.offset;
                        Err(format!(
                            "it has another file at byte {offset} than the list says"
                        ))
                    })
                })
                .await?;
                Ok(size)
            }
        }
    }

    async fn prove_size(&self, name: &str, expected: std::ops::RangeInclusive<u64>) -> Result<u64> {
        match self.size(name).await? {
            None => Err(Error::NotFound {
                object: self.full_name(name),
            }),
            Some(bytes) if expected.contains(&bytes) => Ok(bytes),
            Some(bytes) => Err(self.damaged(name, format!("it has {bytes} bytes"))),
        }
    }
}

impl Slice {
    fn is_in(&self, bundle: &[u8]) -> bool {
        let place = |at| usize::try_from(at).unwrap_or(usize::MAX);
        let range = place(self.offset)..place(self.offset + self.bytes);
        bundle
            .get(range)
            .is_some_and(|content| blake3::hash(content) == self.blake3)
    }
}
