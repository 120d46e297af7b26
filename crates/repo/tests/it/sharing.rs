//! Several processes on one repository: what one removes, no other is left without.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use mendb_model::BackupId;
use mendb_model::name::BackupKind;
use mendb_repo::{Error, REPOSITORY_FORMAT, Repository, RepositoryOptions, Result};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::task::JoinHandle;

use crate::faulty_store::{Clock, Conditions, FaultyStore, Gate, Moment, Watch};
use crate::sample::{self, COLLECTION, OPERATION, WRITER, backup, backups, full, increment, read};

/// A repository in a store that can be watched.
pub fn watched(faulty: &FaultyStore, options: RepositoryOptions) -> Repository {
    let store = Arc::new(faulty.clone());
    Repository::with_store(store, Path::from("p"), "ours:", options)
}

/// The same repository, as another process has it that takes those for dead who say nothing for some
/// milliseconds.
pub fn impatient(faulty: &FaultyStore, options: RepositoryOptions) -> Repository {
    let options = RepositoryOptions {
        lease_ms: 5,
        ..options
    };
    let store = Arc::new(faulty.unwatched());
    Repository::with_store(store, Path::from("p"), "other:", options)
}

/// Whether another process was let in.
#[derive(Debug, Clone, Default)]
pub struct LetIn(Arc<AtomicBool>);

impl LetIn {
    pub fn was(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Stops who uses the store before its `nth` request from now on, until another process has done all of
/// its work.
pub fn stop_before(
    faulty: &FaultyStore,
    nth: usize,
    other: impl AsyncFn() + Send + Sync + 'static,
) -> LetIn {
    stop_before_both(faulty, [nth, usize::MAX], async move |_| other().await)
}

/// Stops who uses the store before two of its requests from now on, until another process has done the
/// first part of its work, and the second. Both are done before the same request where they are the same.
pub fn stop_before_both(
    faulty: &FaultyStore,
    requests: [usize; 2],
    other: impl AsyncFn(usize) + Send + Sync + 'static,
) -> LetIn {
    let let_in = LetIn::default();
    let said = let_in.clone();
    let seen = AtomicUsize::new(0);
    let watch: Arc<Watch> = Arc::new(move |_, _: &str, moment| {
        if moment == Moment::After {
            return;
        }
        let nth = seen.fetch_add(1, Ordering::Relaxed);
        let other = &other;
        let parts = (0..2).filter(|part| requests[*part] == nth);
        for part in parts {
            // A thread of its own: this one is in a runtime already.
            std::thread::scope(|threads| {
                let work = threads.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_time()
                        .build();
                    runtime.unwrap().block_on(other(part));
                });
                work.join().unwrap();
            });
            said.0.store(true, Ordering::Relaxed);
        }
    });
    *faulty.witness.0.lock().unwrap() = Some(watch);
    let_in
}

pub fn stop_nobody(faulty: &FaultyStore) {
    *faulty.witness.0.lock().unwrap() = None;
}

/// The backups there are, each of which can be read with all that it stands on.
pub async fn whole(repository: &Repository) -> Vec<BackupId> {
    let mut ids = Vec::new();
    for stored in backups(repository).await {
        let id = stored.manifest.backup_id;
        for link in repository.chain(COLLECTION, &id).await.unwrap() {
            repository.check_present(&link.manifest).await.unwrap();
            read(repository, &link.manifest).await.unwrap();
        }
        ids.push(id);
    }
    ids
}

#[tokio::test]
async fn a_backup_that_was_discarded_while_it_was_made_is_not_sealed_before_the_time_of_grace_is_over()
 {
    let mut faulty = FaultyStore::default();
    let clock = Clock::begin();
    faulty.clock = Some(clock.clone());
    let ours = watched(&faulty, sample::options());
    ours.create_if_absent().await.unwrap();
    let written = sample::segments(&ours, &full(0), 0).await.unwrap();
    let theirs = impatient(&faulty, sample::options());
    theirs.discard(COLLECTION, &full(0)).await.unwrap();
    assert!(theirs.unfinished(COLLECTION).await.unwrap().is_empty());
    let manifest = sample::manifest(&full(0), None, written);
    // A process that was stopped after it had seen all objects, and goes on hours later.
    for hours in [0, 1, 22] {
        clock.advance(hours * 3600);
        theirs.collect_garbage().await.unwrap();
        let name = format!("p/collections/{COLLECTION}/{}/manifest.json", full(0));
        let (name, text) = (Path::from(name), PutPayload::from("{}"));
        let sealed = faulty.put_opts(&name, text, PutMode::Create.into()).await;
        assert!(sealed.is_err(), "after {hours} hours more");
        let refused = ours.put_manifest(&manifest, WRITER).await.unwrap_err();
        assert!(matches!(refused, Error::Incomplete { .. }), "{refused:?}");
    }
    clock.advance(2 * 3600);
    theirs.collect_garbage().await.unwrap();
    let left: Vec<_> = faulty.below.list(None).try_collect().await.unwrap();
    let left = left.iter().map(|object| object.location.as_ref());
    let left: Vec<_> = left.filter(|name| name.contains("/collections/")).collect();
    assert_eq!(left, [""; 0]);
}

/// Lets so many requests of a process through, or all. Says whether it is at its end.
async fn let_through<T>(gate: &Gate, work: &JoinHandle<T>, requests: usize) -> bool {
    for _ in 0..requests {
        while !work.is_finished() && !gate.let_through() {
            tokio::task::yield_now().await;
        }
        if work.is_finished() {
            break;
        }
    }
    while !work.is_finished() && !gate.is_waited_at() {
        tokio::task::yield_now().await;
    }
    work.is_finished()
}

#[test]
fn an_increment_whose_sealing_has_begun_before_a_deletion_and_ends_before_any_request_of_it_is_whole()
 {
    for begun in 0.. {
        let mut is_sealed = false;
        for gone in 0.. {
            let is_deleted = crate::chain_world::run(async {
                let faulty = FaultyStore::default();
                let below = watched(&faulty, sample::options());
                let parent = backup(&below, &full(0), None).await.unwrap();
                let written = sample::segments(&below, &increment(1), 0).await.unwrap();
                let manifest = sample::manifest(&increment(1), Some(&parent), written);
                let gates = [Gate::default(), Gate::default()];
                let [ours, theirs] = gates.clone().map(|gate| {
                    let mut gated = faulty.clone();
                    gated.gate = Some(gate);
                    watched(&gated, sample::options())
                });
                let seal = tokio::spawn(async move { ours.put_manifest(&manifest, WRITER).await });
                let delete =
                    tokio::spawn(async move { theirs.delete_backup(COLLECTION, &full(0)).await });
                is_sealed = let_through(&gates[0], &seal, begun).await;
                let is_deleted = let_through(&gates[1], &delete, gone).await;
                let_through(&gates[0], &seal, usize::MAX).await;
                let_through(&gates[1], &delete, usize::MAX).await;
                let (sealed, deleted) = (seal.await.unwrap(), delete.await.unwrap());
                let there = whole(&below).await;
                let context = format!("{begun} and {gone}: {sealed:?}, {deleted:?}, {there:?}");
                assert_eq!(there.contains(&increment(1)), sealed.is_ok(), "{context}");
                assert_eq!(there.contains(&full(0)), deleted.is_err(), "{context}");
                is_deleted
            });
            if is_deleted {
                break;
            }
        }
        if is_sealed {
            break;
        }
    }
}

async fn increment_on_full(repository: &Repository) -> Result<()> {
    let parent = repository.manifest(COLLECTION, &full(0)).await?;
    backup(repository, &increment(1), Some(&parent)).await?;
    Ok(())
}

/// Removes all there is, and sees that nothing stays but what the repository is.
async fn clear(faulty: &FaultyStore, of: &[BackupId]) {
    stop_nobody(faulty);
    let repository = impatient(faulty, sample::options());
    repository.delete_backups(COLLECTION, of).await.unwrap();
    let left: Vec<_> = faulty.below.list(None).try_collect().await.unwrap();
    let mut left: Vec<_> = (left.iter())
        .map(|object| object.location.to_string())
        .filter(|name| !name.starts_with("p/ids/"))
        .collect();
    left.sort();
    assert_eq!(left, ["p/lease.json", "p/mendb.json"]);
}

#[tokio::test]
async fn an_increment_sealed_between_any_two_requests_of_a_deletion_keeps_its_parent_or_is_refused()
{
    let (mut kept, mut refused) = (0, 0);
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        backup(&ours, &full(0), None).await.unwrap();
        let theirs = impatient(&faulty, sample::options());
        let let_in = stop_before(&faulty, nth, async move || {
            drop(increment_on_full(&theirs).await);
        });
        let deleted = ours.delete_backup(COLLECTION, &full(0)).await;
        let theirs = impatient(&faulty, sample::options());
        let there = whole(&theirs).await;
        match (deleted, there.as_slice()) {
            (Ok(()), []) => refused += 1,
            (Err(Error::StoodOn { .. }), there) => {
                assert_eq!(there, [full(0), increment(1)], "before request {nth}");
                kept += 1;
            }
            other => panic!("before request {nth}: {other:?}"),
        }
        clear(&faulty, &[increment(1), full(0)]).await;
        if !let_in.was() {
            break;
        }
    }
    assert!(kept > 2 && refused > 2, "{kept} kept, {refused} refused");
}

#[tokio::test]
async fn ids_claimed_between_any_two_requests_of_claiming_one_are_others() {
    let now = full(0).unix_seconds();
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        let theirs = impatient(&faulty, sample::options());
        let claimed = Arc::new(Mutex::new(Vec::new()));
        let by_others = claimed.clone();
        let let_in = stop_before(&faulty, nth, async move || {
            for _ in 0..3 {
                let id = theirs.claim_id(COLLECTION, BackupKind::Full, now).await;
                by_others.lock().unwrap().push(id.unwrap());
            }
        });
        let id = ours.claim_id(COLLECTION, BackupKind::Full, now).await;
        let claimed = claimed.lock().unwrap();
        let id = id.unwrap();
        assert!(
            !claimed.contains(&id),
            "before request {nth}: {id} and {claimed:?}"
        );
        if !let_in.was() {
            break;
        }
    }
}

#[tokio::test]
async fn a_parent_deleted_between_any_two_requests_of_sealing_its_increment_keeps_that_or_stays() {
    let (mut gone, mut stayed) = (0, 0);
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        backup(&ours, &full(0), None).await.unwrap();
        let theirs = impatient(&faulty, sample::options());
        let let_in = stop_before(&faulty, nth, async move || {
            drop(theirs.delete_backup(COLLECTION, &full(0)).await);
        });
        let sealed = increment_on_full(&ours).await;
        let theirs = impatient(&faulty, sample::options());
        let there = whole(&theirs).await;
        match (sealed, there.as_slice()) {
            (Ok(()), there) => {
                assert_eq!(there, [full(0), increment(1)], "before request {nth}");
                stayed += 1;
            }
            (Err(_), []) => gone += 1,
            other => panic!("before request {nth}: {other:?}"),
        }
        clear(&faulty, &[increment(1), full(0)]).await;
        if !let_in.was() {
            break;
        }
    }
    assert!(gone > 2 && stayed > 2, "{gone} gone, {stayed} stayed");
}

#[tokio::test]
async fn leftovers_discarded_between_any_two_requests_of_sealing_leave_a_whole_backup_or_none() {
    let (mut gone, mut stayed) = (0, 0);
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        ours.create_if_absent().await.unwrap();
        let theirs = impatient(&faulty, sample::options());
        let segments = sample::segments(&ours, &full(0), 0).await.unwrap();
        let manifest = sample::manifest(&full(0), None, segments);
        let let_in = stop_before(&faulty, nth, async move || {
            drop(theirs.discard(COLLECTION, &full(0)).await);
        });
        let sealed = ours.put_manifest(&manifest, WRITER).await;
        let theirs = impatient(&faulty, sample::options());
        let there = whole(&theirs).await;
        match sealed {
            Ok(_) => {
                assert_eq!(there, [full(0)], "before request {nth}");
                stayed += 1;
            }
            Err(error) => {
                assert!(there.is_empty(), "before request {nth}: {error:?}");
                gone += 1;
            }
        }
        clear(&faulty, &[full(0)]).await;
        if !let_in.was() {
            break;
        }
    }
    assert!(gone > 1 && stayed > 1, "{gone} gone, {stayed} stayed");
}

#[tokio::test]
async fn a_backup_sealed_between_any_two_requests_of_discarding_it_is_whole_or_refused() {
    let (mut gone, mut stayed) = (0, 0);
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        ours.create_if_absent().await.unwrap();
        let theirs = impatient(&faulty, sample::options());
        let segments = sample::segments(&ours, &full(0), 0).await.unwrap();
        let manifest = sample::manifest(&full(0), None, segments);
        let let_in = stop_before(&faulty, nth, async move || {
            drop(theirs.put_manifest(&manifest, WRITER).await);
        });
        let discarded = ours.discard(COLLECTION, &full(0)).await;
        let theirs = impatient(&faulty, sample::options());
        let there = whole(&theirs).await;
        match discarded {
            Ok(()) => {
                assert!(there.is_empty(), "before request {nth}");
                gone += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Complete { .. }), "{error:?}");
                assert_eq!(there, [full(0)], "before request {nth}");
                stayed += 1;
            }
        }
        clear(&faulty, &[full(0)]).await;
        if !let_in.was() {
            break;
        }
    }
    assert!(gone > 2 && stayed > 2, "{gone} gone, {stayed} stayed");
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_told_and_nothing_is_removed_there() {
    for conditions in [
        Conditions::CreateIgnored,
        Conditions::UpdateIgnored,
        Conditions::UpdateUnknown,
        Conditions::UpdateNever,
    ] {
        let mut faulty = FaultyStore::default();
        faulty.conditions = conditions;
        let repository = watched(&faulty, sample::options());
        let parent = backup(&repository, &full(0), None).await.unwrap();
        (backup(&repository, &increment(1), Some(&parent)).await).unwrap();
        let refused = |outcome: Result<()>| {
            let error = outcome.unwrap_err();
            assert!(
                matches!(error, Error::NoConditions { .. }),
                "{conditions:?}: {error:?}"
            );
            assert!(
                error.to_string().starts_with("ours: cannot be shared"),
                "{error}"
            );
        };
        refused(repository.delete_backup(COLLECTION, &increment(1)).await);
        refused(repository.discard(COLLECTION, &full(9)).await);
        refused(repository.collect_garbage().await.map(drop));
        let (first, last) = (full(0), increment(1));
        let compacted = repository.compact(COLLECTION, &first, &last, "c0ffee");
        refused(compacted.await.map(drop));
        assert_eq!(whole(&repository).await, [full(0), increment(1)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_one_process_removes_things_others_are_told_which_and_go_on_after_it() {
    let faulty = FaultyStore::default();
    let options = RepositoryOptions {
        lease_ms: 1000,
        ..sample::options()
    };
    let repository = watched(&faulty, options);
    backup(&repository, &full(0), None).await.unwrap();
    let lease = repository.lease("folds backups").await.unwrap();
    let error = repository.collect_garbage().await.unwrap_err();
    let Error::Leased { work, holder, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(work, "folds backups");
    assert!(holder.contains(&std::process::id().to_string()), "{holder}");
    // Backups are taken beside it.
    backup(&repository, &full(1), None).await.unwrap();
    lease.renew().await.unwrap();
    lease.release().await;
    repository.collect_garbage().await.unwrap();
}

#[tokio::test]
async fn a_process_that_was_taken_for_dead_removes_nothing_any_more() {
    let faulty = FaultyStore::default();
    let repository = watched(&faulty, sample::options());
    backup(&repository, &full(0), None).await.unwrap();
    let lease = repository.lease("folds backups").await.unwrap();
    let theirs = impatient(&faulty, sample::options());
    theirs
        .lease("deletes backups")
        .await
        .unwrap()
        .release()
        .await;
    let error = lease.renew().await.unwrap_err();
    assert!(matches!(error, Error::LeaseLost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_repository_of_version_1_is_worked_on_and_is_one_of_version_2_from_its_first_deletion_on()
{
    let faulty = FaultyStore::default();
    let repository = watched(&faulty, sample::options());
    let text = "{\n  \"format_version\": 1,\n  \"repository_id\": \"00c0ffee\"\n}";
    let seal = blake3::hash(text.as_bytes()).to_hex();
    let sealed = text.replace("\n}", &format!(",\n  \"seal\": \"{seal}\"\n}}\n"));
    let header = Path::from("p/mendb.json");
    (faulty.below.put(&header, PutPayload::from(sealed)))
        .await
        .unwrap();
    let version = async || {
        let header = repository.header().await.unwrap().unwrap();
        assert_eq!(header.repository_id, "00c0ffee");
        header.format_version
    };
    let parent = backup(&repository, &full(0), None).await.unwrap();
    (backup(&repository, &increment(1), Some(&parent)).await).unwrap();
    assert_eq!(version().await, 1);
    repository
        .delete_backup(COLLECTION, &increment(1))
        .await
        .unwrap();
    assert_eq!(version().await, REPOSITORY_FORMAT);
    assert_eq!(whole(&repository).await, [full(0)]);
    repository
        .withdraw(COLLECTION, &full(0), OPERATION, WRITER)
        .await
        .unwrap();
}
