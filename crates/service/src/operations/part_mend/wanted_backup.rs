//! The backup that a mend works towards.

use mendb_model::operation::{ChainLink, MendSource};

use crate::error::{Error, Result};
use crate::front::Front;
use crate::front::chosen::{Chosen, Purpose};

/// Where the parts come from, as a user says it.
#[derive(Debug, Clone)]
pub enum MendFrom {
    /// A backup of the repository.
    Collection {
        /// The collection.
        collection: String,
        /// The backup by id or label; the newest without.
        to: Option<String>,
        /// Of the backup of a cluster, the shard; without, the one that the target was then.
        shard: Option<String>,
    },
    /// A backup that clickhouse-backup made.
    Imported {
        /// Where such backups are: `clickhouse-backup+file:///dir`.
        url: String,
        /// Its name.
        name: String,
    },
}

impl Front {
    /// Where the parts of an order come from. Of a backup that nobody named and that is not this target's it
    /// also says so: it must not take the place of anything.
    pub(super) fn mend_source(
        &self,
        from: &MendFrom,
        in_place: bool,
    ) -> Result<(MendSource, Option<Chosen>)> {
        let (collection, to, shard) = match from {
            MendFrom::Imported { url, name } => {
                let source = MendSource::Imported {
                    url: url.clone(),
                    name: name.clone(),
                };
                return Ok((source, None));
            }
            MendFrom::Collection {
                collection,
                to,
                shard,
            } => (collection, to.as_deref(), shard),
        };
        let purpose = match in_place {
            true => Purpose::Overwrite,
            false => Purpose::Create,
        };
        let chosen = self.chosen(collection, to, purpose)?;
        let Some(stored) = chosen.chain.last() else {
            return Err(Error::refused(
                format!(
                    "collection {collection} has no backup in {}",
                    self.tools.repository.url()
                ),
                "mendb list shows what there is; --repository names another repository",
            ));
        };
        let source = MendSource::Backup {
            collection: collection.clone(),
            link: ChainLink {
                backup_id: stored.manifest.backup_id.clone(),
                manifest_blake3: stored.blake3.clone(),
            },
            of_target: chosen.whose.clone().other(),
            shard: shard.clone(),
        };
        let must_be_absent = chosen.only_into_absent.then_some(chosen);
        Ok((source, must_be_absent))
    }
}
