//! Ids of backups, each given once.
//!
//! An id counts seconds. What a collection has given is remembered by marks, objects named by a second
//! ([`layout::ids`]): a process that wants an id creates the mark of a second after all that is known, and has it
//! if nobody else did. So no id recurs, also when its backup was deleted, when the clock was set back, and
//! when several targets back up in the same second. Only the newest mark is needed; the others are removed.
//! So a process that has created a mark looks whether a newer one is there by then: if so, the second may have been
//! given and its mark removed meanwhile, and is given up. The newest mark is never removed, so that one of
//! several who claim at once gets on.
//!
//! *Crash*: an id that was claimed and not used is spent.

use mendb_model::BackupId;
use mendb_model::name::BackupKind;

use crate::error::{Error, Result};
use crate::layout;
use crate::objects::Created;
use crate::repository::Repository;

/// What a mark holds, for those who find it.
const MARK: &str =
    "an id of a backup was given for this second, or a later one; it is not given again\n";

impl Repository {
    /// Claims an id for a backup of a collection: that of the second `now`, or of the first after it and
    /// after all ids that the collection has or had, as far as that is remembered.
    ///
    /// # Errors
    /// The store fails, or the id would be beyond the year 9999.
    pub async fn claim_id(&self, collection: &str, kind: BackupKind, now: i64) -> Result<BackupId> {
        let marks = self.id_marks(collection).await?;
        let known = self.ids(collection).await?;
        let known = known.iter().map(BackupId::unix_seconds);
        let newest = known.chain(marks.iter().copied()).max();
        let mut second = newest.map_or(now, |newest| now.max(newest.saturating_add(1)));
        let id = loop {
            let id = BackupId::new(second, kind).ok_or(Error::NoIdLeft)?;
            match self.mark_id(collection, second).await? {
                Created::Yes => {
                    let marks = self.id_marks(collection).await?;
                    match marks.into_iter().max().filter(|newest| *newest > second) {
                        None => break id,
                        Some(newest) => second = newest.saturating_add(1),
                    }
                }
                // Another target was first.
                Created::AlreadyThere => second = second.saturating_add(1),
            }
        };
        self.remove_id_marks(collection, marks).await;
        Ok(id)
    }

    /// Remembers the id of a backup that is about to go, unless a newer one is there: backups from before ids
    /// were claimed have no mark.
    pub(crate) async fn remember_id(&self, collection: &str, id: &BackupId) -> Result<()> {
        let second = id.unix_seconds();
        let known = self.ids(collection).await?;
        if known.iter().any(|known| known.unix_seconds() > second) {
            return Ok(());
        }
        let marks = self.id_marks(collection).await?;
        if marks.iter().any(|mark| *mark >= second) {
            return Ok(());
        }
        self.mark_id(collection, second).await?;
        self.remove_id_marks(collection, marks).await;
        Ok(())
    }

    /// The seconds that have a mark.
    async fn id_marks(&self, collection: &str) -> Result<Vec<i64>> {
        let listed = self.objects.list(&layout::ids(collection)?).await?;
        let seconds = listed.iter().filter_map(|mark| mark.name.parse().ok());
        Ok(seconds.collect())
    }

    async fn mark_id(&self, collection: &str, second: i64) -> Result<Created> {
        let name = format!("{}/{second}", layout::ids(collection)?);
        self.objects.create(&name, MARK.into()).await
    }

    /// Removes marks that a newer one has made needless. They harm nobody where they cannot be removed.
    async fn remove_id_marks(&self, collection: &str, seconds: Vec<i64>) {
        let remove = async {
            let directory = layout::ids(collection)?;
            let names = seconds.iter().map(|second| format!("{directory}/{second}"));
            self.objects.delete_all(names.collect()).await
        };
        if let Err(error) = remove.await {
            tracing::debug!(%error, collection, "old marks of ids stay");
        }
    }
}
