//! Writing the lists of shards that a manifest names.

use futures::{StreamExt, TryStreamExt, stream};
use mendb_model::manifest::{
    FORMAT_VERSION, ListedShards, Manifest, ShardBackup, ShardList, ShardTotals, Shards,
};
use mendb_model::name::TablePath;

use crate::error::Result;
use crate::layout;
use crate::objects::REQUESTS_AT_ONCE;
use crate::repository::Repository;

/// A list ends after so many shards …
const SHARDS: usize = 128;
/// … or after so many row groups, at some 200 bytes each.
const GROUPS: usize = 4096;

impl Repository {
    /// The manifest of a draft as it is stored: where its shards are more than a manifest may tell itself
    /// ([`crate::RepositoryOptions::manifest_shard_bytes`]), it names lists of them, which are written here.
    /// What they are called tells their writer and what is in them, so that attempts that have other segments
    /// write other lists.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn listed(&self, draft: &Manifest, writer: &str) -> Result<Manifest> {
        let mut manifest = draft.clone();
        manifest.format_version = manifest.format_version.max(FORMAT_VERSION);
        let mut room = self.options().manifest_shard_bytes;
        for (path, data) in manifest.stored_tables_mut() {
            let Shards::Here(shards) = &data.shards else {
                continue;
            };
            let bytes = serde_json::to_vec(shards).map_or(usize::MAX, |text| text.len());
            if bytes <= room {
                room -= bytes;
                continue;
            }
            let lists = self.write_lists(draft, &path, shards, writer).await?;
            data.shards = Shards::Listed(ListedShards {
                totals: ShardTotals::of(shards),
                lists,
            });
        }
        Ok(manifest)
    }

    async fn write_lists(
        &self,
        draft: &Manifest,
        path: &TablePath,
        shards: &[ShardBackup],
        writer: &str,
    ) -> Result<Vec<ShardList>> {
        let mut number = 0;
        let writes = cut(shards).into_iter().map(|stretch| {
            let first = number;
            number += stretch.len();
            async move {
                let (collection, id) = (&draft.collection, &draft.backup_id);
                let object = |blake3: &str| layout::shard_list(path, first, writer, blake3);
                let at = self.put_named(collection, id, object, &stretch).await?;
                let first_key = stretch.first().map(|shard| shard.range.start.clone());
                Ok(ShardList {
                    at,
                    shards: u32::try_from(stretch.len()).unwrap_or(u32::MAX),
                    first_key: first_key.unwrap_or_default(),
                })
            }
        });
        let writes: Vec<_> = writes.collect();
        let writes = stream::iter(writes).buffered(REQUESTS_AT_ONCE);
        writes.try_collect().await
    }
}

/// Stretches of shards for a list each.
fn cut(shards: &[ShardBackup]) -> Vec<&[ShardBackup]> {
    let mut stretches = Vec::new();
    let mut rest = shards;
    while let Some(first) = rest.first() {
        let mut groups = groups_of(first);
        let fits = |shard: &&ShardBackup| {
            groups += groups_of(shard);
            groups <= GROUPS
        };
        let more = rest.iter().take(SHARDS).skip(1).take_while(fits).count();
        let (stretch, behind) = rest.split_at(1 + more);
        stretches.push(stretch);
        rest = behind;
    }
    stretches
}

fn groups_of(shard: &ShardBackup) -> usize {
    let segments = shard.segments.iter();
    let groups = segments.map(|segment| segment.groups.as_ref().map_or(1, |it| it.list.len()));
    groups.sum()
}

#[cfg(test)]
mod tests {
    use mendb_model::Digest;
    use mendb_model::key::KeyRange;
    use mendb_model::manifest::{Segment, SegmentGroup, SegmentGroups, Stretch};
    use proptest::prelude::*;

    use super::*;

    fn shard(groups: usize) -> ShardBackup {
        let stretch = Stretch {
            offset: 0,
            bytes: 0,
            blake3: String::new(),
        };
        let group = SegmentGroup {
            first_key: Vec::new(),
            rows: 1,
            at: stretch.clone(),
        };
        let segment = Segment {
            object: String::new(),
            bytes: 0,
            blake3: String::new(),
            digest: Digest::default(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            groups: Some(SegmentGroups {
                footer: stretch,
                list: vec![group; groups],
            }),
        };
        ShardBackup {
            range: KeyRange::all(),
            digest: Digest::default(),
            segments: vec![segment],
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn lists_have_all_shards_in_order_and_stay_short(
            groups in proptest::collection::vec(prop_oneof![20 => 0usize..90, 1 => 0..2 * GROUPS], 0..300),
        ) {
            let shards: Vec<_> = groups.iter().map(|groups| shard(*groups)).collect();
            let lists = cut(&shards);
            prop_assert_eq!(&lists.concat(), &shards);
            for list in lists {
                let groups: usize = list.iter().map(groups_of).sum();
                prop_assert!(!list.is_empty() && list.len() <= SHARDS);
                prop_assert!(list.len() == 1 || groups <= GROUPS);
            }
        }
    }
}
