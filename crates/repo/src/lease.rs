//! The lease of a repository: at most one process at a time removes or folds what is in it.
//!
//! ```text
//! lease.json   { epoch, renewal, holder, leaving }
//! ```
//!
//! **Fencing.** Each change of `lease.json` is conditional on what was read of it. Taking the lease makes a
//! new epoch. The holder renews it in the background and before each step that removes something: where
//! another has the lease by then, the renewal fails, and the step is not done. What a process that was
//! stopped does on waking, its last request, is harmless all the same: manifests are replaced under
//! conditions of their own, and those that a cancelled operation of such a process would replace are given another text
//! ([`Repository::keep_late_writers_out`]); ids of backups do not recur, and content that may be removed is stored under
//! another name by those who need it (`candidates`).
//!
//! **Crashes.** A holder that has not renewed its lease for [`crate::RepositoryOptions::lease_ms`], by the
//! watch of who waits for it, is taken for dead; one of this machine whose process is gone at once. No
//! clocks are compared.
//!
//! **Backups that leave.** Before a backup is removed, `leaving` names it, and only then it is looked at
//! what stands on it. An increment that is being sealed puts down a claim on its parent first, and looks
//! whether that is leaving then. Of the two at least one sees the other, so that none is ever sealed on
//! what is removed. Who takes the lease of a dead process ends what that has begun: see `leaving`.
//!
//! Backups and restores need no lease.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mendb_model::BackupId;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};
use crate::holder::Holder;
use crate::layout;
use crate::objects::{Created, pause};
use crate::replace::Seen;
use crate::repository::Repository;
use crate::seal;

/// The format that this version writes and reads.
const FORMAT_VERSION: u32 = 1;

/// So often the lease of another process is looked at at least while it lasts.
const LEAST_LOOKS: u64 = 40;
/// The longest time between two looks.
const MOST_BETWEEN_LOOKS_MS: u64 = 250;
/// So many holders that were taken for dead are remembered.
const MOST_SILENT: usize = 4;
/// So often a holder renews its lease while it lasts.
const RENEWALS: u32 = 3;

/// A backup that is being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leaving {
    pub(crate) collection: String,
    pub(crate) backup_id: BackupId,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    format_version: u32,
    /// Grows with each process that takes it.
    epoch: u64,
    /// Grows with each renewal, so that no two texts are the same.
    renewal: u64,
    holder: Option<Holder>,
    leaving: Vec<Leaving>,
    /// Holders that were taken for dead, and may only have been stopped: the newest. What is known to have ended goes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    silent: Vec<Holder>,
}

/// The right to remove things from a repository, until [`Self::release`]. When it is dropped without, others
/// wait for it to run out, unless they are of this machine.
#[derive(Debug)]
pub struct Lease {
    held: Arc<Held>,
    renewing: JoinHandle<()>,
}

#[derive(Debug)]
struct Held {
    repository: Repository,
    epoch: u64,
    holder: Holder,
    state: Mutex<(Document, Seen)>,
}

impl Repository {
    /// Takes the lease of the repository; waits for a process that has it to end, or to be dead. `work` is
    /// what others are told this one does, as a verb phrase. What a process that died was removing is
    /// removed then.
    ///
    /// Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Leased`] when another process goes on working; [`Error::NoConditions`] when the store is
    /// none that can be shared; or it fails.
    pub async fn lease(&self, work: &str) -> Result<Lease> {
        let lease = self.lease_unfinished(work).await?;
        match self.finish_leaving(&lease).await {
            Ok(()) => Ok(lease),
            Err(error) => {
                lease.release().await;
                Err(error)
            }
        }
    }

    /// As [`Self::lease`], but what a process that died was removing is not ended yet.
    pub(crate) async fn lease_unfinished(&self, work: &str) -> Result<Lease> {
        self.raise_format().await?;
        let holder = Holder::this(work);
        let taken = self.take_lease(&holder).await;
        let (document, seen) = taken.inspect_err(|_| holder.is_over())?;
        Ok(Lease::begin(self.clone(), holder, document, seen))
    }

    async fn take_lease(&self, holder: &Holder) -> Result<(Document, Seen)> {
        let lease_ms = self.options().lease_ms;
        let step_ms = (lease_ms / LEAST_LOOKS).clamp(1, MOST_BETWEEN_LOOKS_MS);
        let most_looks = lease_ms.div_ceil(step_ms);
        let mut watched: Option<(Document, u64)> = None;
        let mut looks = 0;
        let mut refused: Option<Document> = None;
        loop {
            let Some(seen) = self.objects.see(layout::LEASE).await? else {
                let first = Document {
                    format_version: FORMAT_VERSION,
                    // Where one was lost, what is named as garbage says how far epochs had come.
                    epoch: self.newest_epoch().await?,
                    renewal: 0,
                    holder: None,
                    leaving: Vec::new(),
                    silent: Vec::new(),
                };
                let bytes = seal::seal(&first).into();
                let (Created::Yes | Created::AlreadyThere) =
                    self.objects.create(layout::LEASE, bytes).await?;
                continue;
            };
            let there = self.read_lease(&seen)?;
            if let Some(other) = (there.holder.as_ref()).filter(|other| !other.has_ended()) {
                let unchanged = match &watched {
                    Some((before, looks)) if *before == there => looks + 1,
                    _ => 0,
                };
                if unchanged <= most_looks {
                    // It renews its lease: it lives, and may work for hours.
                    if looks > 2 * most_looks {
                        return Err(Error::Leased {
                            repository: self.url().to_owned(),
                            holder: other.to_string(),
                            work: other.work.clone(),
                        });
                    }
                    if looks == 1 {
                        tracing::warn!(holder = %other, work = other.work, "waits for another process that has the lease of the repository");
                    }
                    looks += 1;
                    watched = Some((there, unchanged));
                    // It is shortened by up to a half.
                    pause(Duration::from_millis(2 * step_ms)).await;
                    continue;
                }
                tracing::warn!(holder = %other, work = other.work, "took the lease of a process that was not heard of");
            }
            let before = there.silent.iter().chain(&there.holder);
            let mut silent: Vec<_> = before.filter(|it| !it.has_ended()).cloned().collect();
            silent.drain(..silent.len().saturating_sub(MOST_SILENT));
            let ours = Document {
                epoch: there.epoch + 1,
                renewal: 0,
                holder: Some(holder.clone()),
                silent,
                ..there.clone()
            };
            let bytes = seal::seal(&ours).into();
            let Some(taken) = self.objects.replace(layout::LEASE, &seen, bytes).await? else {
                if refused.is_some_and(|refused| refused == there) {
                    let detail = "its store does not replace an object that has not changed";
                    return Err(self.objects.no_conditions(detail));
                }
                refused = Some(there);
                continue;
            };
            let another = Document {
                renewal: ours.renewal + 1,
                holder: None,
                ..ours.clone()
            };
            let another: Bytes = seal::seal(&another).into();
            let kept = self.check_conditions(&seen, &taken, another.clone());
            if let Err(error) = kept.await {
                // It is given back; where that fails, too, it runs out.
                drop(self.objects.replace(layout::LEASE, &taken, another).await);
                return Err(error);
            }
            return Ok((ours, taken));
        }
    }

    /// The backups that are being removed.
    pub(crate) async fn leaving(&self) -> Result<Vec<Leaving>> {
        match self.objects.see(layout::LEASE).await? {
            Some(seen) => Ok(self.read_lease(&seen)?.leaving),
            None => Ok(Vec::new()),
        }
    }

    fn read_lease(&self, seen: &Seen) -> Result<Document> {
        let read = seal::open(&seen.bytes, FORMAT_VERSION);
        read.map_err(|why| self.unreadable(layout::LEASE, why, FORMAT_VERSION))
    }
}

impl Lease {
    fn begin(repository: Repository, holder: Holder, document: Document, seen: Seen) -> Self {
        let pause_ms = repository.options().lease_ms / u64::from(RENEWALS);
        let held = Arc::new(Held {
            repository,
            epoch: document.epoch,
            holder,
            state: Mutex::new((document, seen)),
        });
        let renewed = Arc::clone(&held);
        let renewing = tokio::spawn(async move {
            loop {
                pause(Duration::from_millis(pause_ms.max(1))).await;
                match renewed.change(|_| {}).await {
                    Ok(()) => {}
                    Err(Error::LeaseLost { .. }) => break,
                    Err(error) => tracing::debug!(%error, "cannot renew the lease"),
                }
            }
        });
        Self { held, renewing }
    }

    /// Which lease of the repository it is: each has a greater number than those before.
    pub(crate) fn epoch(&self) -> u64 {
        self.held.epoch
    }

    /// Makes sure that it is still held.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; or the store fails.
    pub async fn renew(&self) -> Result<()> {
        self.held.change(|_| {}).await
    }

    /// The backups that are being removed, by this process or by one that died.
    pub(crate) async fn leaving(&self) -> Vec<Leaving> {
        self.held.state.lock().await.0.leaving.clone()
    }

    /// Whether a process that was taken for dead while it had the lease may still wake.
    pub(crate) async fn has_silent_before(&self) -> bool {
        !self.held.state.lock().await.0.silent.is_empty()
    }

    /// Says which backups are being removed, and makes sure that the lease is still held.
    ///
    /// # Errors
    /// As [`Self::renew`].
    pub(crate) async fn set_leaving(&self, leaving: Vec<Leaving>) -> Result<()> {
        let set = |document: &mut Document| document.leaving = leaving;
        self.held.change(set).await
    }

    /// The time by the clock of the store, in seconds since 1970.
    pub(crate) async fn now_s(&self) -> Result<i64> {
        self.renew().await?;
        let repository = &self.held.repository;
        match repository.objects.see(layout::LEASE).await? {
            Some(seen) => Ok(seen.written_s),
            None => Err(self.held.lost()),
        }
    }

    /// Lets others have it. One that cannot be given back runs out.
    pub async fn release(self) {
        self.renewing.abort();
        let released = self.held.change(|document| document.holder = None).await;
        if let Err(error) = released {
            tracing::debug!(%error, "the lease could not be given back: it runs out");
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        self.held.holder.is_over();
    }
}

impl Held {
    async fn change(&self, change: impl FnOnce(&mut Document)) -> Result<()> {
        let mut state = self.state.lock().await;
        let mut document = state.0.clone();
        document.renewal += 1;
        change(&mut document);
        let bytes = seal::seal(&document).into();
        let objects = &self.repository.objects;
        // A change whose future was dropped may have happened: then the store has what was not noted.
        if let Some(seen) = objects.replace(layout::LEASE, &state.1, bytes).await? {
            *state = (document, seen);
            return Ok(());
        }
        let Some(seen) = objects.see(layout::LEASE).await? else {
            return Err(self.lost());
        };
        let there = self.repository.read_lease(&seen)?;
        let is_ours = (there.holder.as_ref()).is_some_and(|holder| holder.is_same(&self.holder));
        if !is_ours || there.epoch != self.epoch {
            return Err(self.lost());
        }
        document.renewal = there.renewal + 1;
        let bytes = seal::seal(&document).into();
        match objects.replace(layout::LEASE, &seen, bytes).await? {
            Some(seen) => {
                *state = (document, seen);
                Ok(())
            }
            None => Err(self.lost()),
        }
    }

    fn lost(&self) -> Error {
        Error::LeaseLost {
            repository: self.repository.url().to_owned(),
        }
    }
}
