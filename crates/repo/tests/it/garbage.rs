//! Content that no backup needs goes, and none that one needs, whatever else happens meanwhile.

use std::sync::{Arc, Mutex};

use futures::TryStreamExt;
use mendb_model::manifest::Manifest;
use mendb_model::part::PartRecord;
use mendb_repo::{Error, Repository, RepositoryOptions, Result, StoredManifest};
use object_store::ObjectStore;

use crate::faulty_store::{Clock, FaultyStore};
use crate::parts_sample::{self, SamplePart, backup, draft, expect_back, objects_of};
use crate::promises::{Promise, promises};
use crate::sample::{COLLECTION, WRITER, full};
use crate::sharing::{impatient, stop_before, stop_before_both, stop_nobody, watched};

pub const ALL: &[Promise] =
    promises![several_who_back_up_delete_and_tidy_up_at_once_leave_every_backup_whole];

const HOUR_S: i64 = 3600;
const DAY_S: i64 = 24 * HOUR_S;

/// Each on a thread's worth of its own: what they do falls together as it happens.
async fn several_who_back_up_delete_and_tidy_up_at_once_leave_every_backup_whole(
    repository: Repository,
) {
    let parts: Vec<_> = (0..3)
        .map(|n| SamplePart::wide(&format!("all_{n}_{n}_0"), 100 * n))
        .collect();
    let parts = &parts;
    let takes = async |first: i64| {
        for n in 0..4 {
            let id = full(first + 2 * n);
            let of: Vec<_> = (0..2)
                .map(|m| &parts[((n + first + m) % 3) as usize])
                .collect();
            let newest = repository.list(COLLECTION).await.unwrap().pop();
            let known = match newest {
                Some((_, Ok(stored))) => records_there(&repository, &stored.manifest).await,
                _ => Vec::new(),
            };
            match backup(&repository, &id, &of, &known).await {
                // What it relied on went before it was listed.
                Ok(_) | Err(Error::Incomplete { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    let deletes = async {
        for n in 0..6 {
            let there = repository.list(COLLECTION).await.unwrap();
            if let Some((id, _)) = there.get(n % 2) {
                repository.delete_backup(COLLECTION, id).await.unwrap();
            }
            repository.collect_garbage().await.unwrap();
        }
    };
    futures::join!(takes(0), takes(1), deletes);
    for (id, stored) in repository.list(COLLECTION).await.unwrap() {
        let manifest = &stored.unwrap().manifest;
        repository.check_present(manifest).await.unwrap();
        let records = records_of(&repository, manifest).await;
        let verified = repository.verify_files(&records).await.unwrap();
        assert!(verified.damaged.is_empty(), "{id}: {verified:?}");
    }
}

/// What a backup lists, as far as it is still there.
async fn records_there(repository: &Repository, manifest: &Manifest) -> Vec<PartRecord> {
    let mut all = Vec::new();
    let tables = &manifest.part_store.as_ref().unwrap().tables;
    for list in tables.iter().flat_map(|table| &table.lists) {
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        if let Ok(records) = repository.document_at(collection, id, &list.at).await {
            let records: Vec<PartRecord> = records;
            all.extend(records);
        }
    }
    all
}

/// What has to be removed, and what a backup needs meanwhile.
struct World {
    faulty: FaultyStore,
    options: RepositoryOptions,
    part: Arc<SamplePart>,
    /// Of the backup that goes.
    before: Vec<PartRecord>,
}

/// With what time things are told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Time {
    /// Nothing is too young to go.
    None,
    /// By the clock of the store.
    OfTheStore,
}

impl World {
    /// A backup that is to go, and half a minute or a day after it.
    async fn new(time: Time) -> Self {
        Self::of_file(time, parts_sample::LARGE + 17).await
    }

    /// With a large file of so many bytes.
    async fn of_file(time: Time, bytes: usize) -> Self {
        let clock = (time == Time::OfTheStore).then(Clock::begin);
        let options = RepositoryOptions {
            garbage_grace_ms: match time {
                Time::None => 0,
                Time::OfTheStore => 1000 * HOUR_S.unsigned_abs(),
            },
            ..parts_sample::options()
        };
        let mut faulty = FaultyStore::default();
        faulty.clock = clock;
        let part = Arc::new(SamplePart::new(
            "all_1_1_0",
            &[
                ("checksums.txt", parts_sample::filled(1, 700)),
                ("price.bin", parts_sample::filled(2, bytes)),
            ],
        ));
        let world = Self {
            faulty,
            options,
            part,
            before: Vec::new(),
        };
        let ours = world.ours();
        let (_, before) = backup(&ours, &full(0), &[&world.part], &[]).await.unwrap();
        world.pass(2 * HOUR_S);
        Self { before, ..world }
    }

    fn ours(&self) -> Repository {
        watched(&self.faulty, self.options.clone())
    }

    fn theirs(&self) -> Repository {
        impatient(&self.faulty, self.options.clone())
    }

    fn pass(&self, seconds: i64) {
        if let Some(clock) = &self.faulty.clock {
            clock.advance(seconds);
        }
    }

    /// Deletes the backup, and goes on until its files are gone, as far as nobody needs them.
    async fn delete(&self, ours: &Repository) -> Result<()> {
        ours.delete_backup(COLLECTION, &full(0)).await?;
        self.pass(2 * HOUR_S);
        ours.collect_garbage().await?;
        Ok(())
    }

    /// Checks that each backup there is has all that it needs, to the last byte. Returns how many there
    /// are.
    async fn whole(&self) -> usize {
        let theirs = self.theirs();
        let there = theirs.list(COLLECTION).await.unwrap();
        for (_, stored) in &there {
            let manifest = &stored.as_ref().unwrap().manifest;
            for record in records_of(&theirs, manifest).await {
                expect_back(&theirs, &record, &self.part).await;
            }
        }
        there.len()
    }

    /// Deletes all there is, and sees that nothing stays for ever.
    async fn clear(&self) {
        stop_nobody(&self.faulty);
        let theirs = self.theirs();
        for (id, _) in theirs.list(COLLECTION).await.unwrap() {
            theirs.delete_backup(COLLECTION, &id).await.unwrap();
        }
        for id in theirs.unfinished(COLLECTION).await.unwrap() {
            theirs.discard(COLLECTION, &id).await.unwrap();
        }
        for _ in 0..2 {
            self.pass(2 * HOUR_S);
            theirs.collect_garbage().await.unwrap();
        }
        assert_eq!(self.objects("p/files/").await, [""; 0]);
        if self.faulty.clock.is_some() {
            self.pass(31 * DAY_S);
            theirs.collect_garbage().await.unwrap();
            assert_eq!(self.objects("p/garbage/").await, [""; 0]);
        }
    }

    async fn objects(&self, prefix: &str) -> Vec<String> {
        let there: Vec<_> = self.faulty.below.list(None).try_collect().await.unwrap();
        let names = there.into_iter().map(|object| object.location.to_string());
        names.filter(|name| name.starts_with(prefix)).collect()
    }
}

async fn records_of(repository: &Repository, manifest: &Manifest) -> Vec<PartRecord> {
    let mut all = Vec::new();
    let tables = &manifest.part_store.as_ref().unwrap().tables;
    for list in tables.iter().flat_map(|table| &table.lists) {
        let (collection, id) = (&manifest.collection, &manifest.backup_id);
        let records: Vec<PartRecord> = repository
            .document_at(collection, id, &list.at)
            .await
            .unwrap();
        all.extend(records);
    }
    all
}

/// How another process takes the backup of the same parts.
#[derive(Debug, Clone, Copy)]
enum Takes {
    /// As if there were no other.
    Anew,
    /// With what is there of the earlier one.
    Knowing,
    /// With what was there of the earlier one before the deletion began.
    Remembering,
    /// After it has collected the garbage itself, and has taken us for dead.
    AfterUs,
}

async fn take(
    repository: &Repository,
    how: Takes,
    part: &SamplePart,
    before: &[PartRecord],
) -> Result<StoredManifest> {
    let there = |records: Vec<PartRecord>| async move {
        let files = records.iter().flat_map(|record| &record.files);
        repository.check_files_present(files).await.is_ok()
    };
    let known = match how {
        Takes::Anew => Vec::new(),
        Takes::Remembering => before.to_vec(),
        Takes::Knowing if there(before.to_vec()).await => before.to_vec(),
        Takes::Knowing => Vec::new(),
        Takes::AfterUs => {
            repository.collect_garbage().await?;
            Vec::new()
        }
    };
    Ok(backup(repository, &full(1), &[part], &known).await?.0)
}

#[tokio::test]
async fn parts_taken_and_sealed_between_any_two_requests_of_a_deletion_have_all_their_files() {
    for time in [Time::None, Time::OfTheStore] {
        for how in [
            Takes::Anew,
            Takes::Knowing,
            Takes::Remembering,
            Takes::AfterUs,
        ] {
            let mut refused = 0;
            for nth in 0.. {
                let world = World::new(time).await;
                let ours = world.ours();
                let theirs = world.theirs();
                let (part, before) = (Arc::clone(&world.part), world.before.clone());
                let failure: Arc<Mutex<Option<Error>>> = Arc::default();
                let said = Arc::clone(&failure);
                let let_in = stop_before(&world.faulty, nth, async move || {
                    if let Err(error) = take(&theirs, how, &part, &before).await {
                        *said.lock().unwrap() = Some(error);
                    }
                });
                let deleted = world.delete(&ours).await;
                let context = format!("{time:?}, {how:?}, before request {nth}");
                match (deleted, how) {
                    (Ok(()), _) | (Err(Error::LeaseLost { .. }), Takes::AfterUs) => {}
                    (Err(Error::FilesStay { .. }), Takes::AfterUs) => {}
                    (Err(error), _) => panic!("{context}: {error:?}"),
                }
                let failure = failure.lock().unwrap().take();
                match (failure, how) {
                    (None, _) => {
                        let sealed = usize::from(let_in.was());
                        assert!(world.whole().await >= sealed, "{context}");
                    }
                    // What it relied on had gone.
                    (Some(Error::Incomplete { .. }), Takes::Remembering) => {
                        refused += 1;
                        world.whole().await;
                    }
                    (Some(error), _) => panic!("{context}: {error:?}"),
                }
                world.clear().await;
                if !let_in.was() {
                    break;
                }
            }
            assert_eq!(refused > 0, matches!(how, Takes::Remembering), "{how:?}");
        }
    }
}

#[tokio::test]
async fn parts_listed_before_any_request_of_a_deletion_and_sealed_before_any_other_are_whole() {
    for time in [Time::None, Time::OfTheStore] {
        let (mut sealed, mut refused) = (0, 0);
        let mut last = usize::MAX;
        for first in (0..).step_by(2) {
            if first > last {
                break;
            }
            for second in (first..).step_by(3) {
                let world = World::new(time).await;
                let ours = world.ours();
                let theirs = world.theirs();
                let (part, before) = (Arc::clone(&world.part), world.before.clone());
                let drafted: Arc<Mutex<Option<Manifest>>> = Arc::default();
                let outcome: Arc<Mutex<Option<Result<StoredManifest>>>> = Arc::default();
                let (kept, said) = (Arc::clone(&drafted), Arc::clone(&outcome));
                let other = async move |step| {
                    if step == 0 {
                        let drafted = draft(&theirs, &full(1), &[&part], &before).await;
                        *kept.lock().unwrap() = Some(drafted.unwrap().0);
                        return;
                    }
                    let manifest = kept.lock().unwrap().take().unwrap();
                    let sealed = theirs.put_manifest(&manifest, WRITER).await;
                    *said.lock().unwrap() = Some(sealed);
                };
                stop_before_both(&world.faulty, [first, second], other);
                world.delete(&ours).await.unwrap();
                let outcome = outcome.lock().unwrap().take();
                match outcome {
                    Some(Ok(_)) => {
                        assert!(world.whole().await > 0);
                        sealed += 1;
                    }
                    Some(Err(Error::Incomplete { .. })) => refused += 1,
                    Some(Err(error)) => panic!("{first}, {second}: {error:?}"),
                    None => {}
                }
                world.clear().await;
                if outcome.is_none() {
                    last = second;
                    break;
                }
            }
        }
        assert!(
            sealed > 20 && refused > 0,
            "{time:?}: {sealed} sealed, {refused} refused"
        );
    }
}

#[tokio::test]
async fn what_no_backup_needs_is_named_goes_after_the_time_of_grace_and_is_forgotten() {
    let world = World::new(Time::OfTheStore).await;
    let ours = world.ours();
    let files = world.objects("p/files/").await;
    assert_eq!(files.len(), objects_of(&world.before).len());
    ours.delete_backup(COLLECTION, &full(0)).await.unwrap();
    assert_eq!(world.objects("p/garbage/").await.len(), 1);
    world.pass(HOUR_S - 1);
    assert_eq!(ours.collect_garbage().await.unwrap().objects, 0);
    assert_eq!(world.objects("p/files/").await, files);
    world.pass(1);
    let collected = ours.collect_garbage().await.unwrap();
    assert_eq!(collected.objects, files.len() as u64);
    assert_eq!(world.objects("p/files/").await, [""; 0]);
    assert_eq!(world.objects("p/garbage/").await.len(), 2);
    world.pass(31 * DAY_S);
    ours.collect_garbage().await.unwrap();
    assert_eq!(world.objects("p/garbage/").await, [""; 0]);
}

#[tokio::test]
async fn content_that_is_named_is_stored_under_another_name_and_that_one_is_shared() {
    let world = World::new(Time::OfTheStore).await;
    let ours = world.ours();
    ours.delete_backup(COLLECTION, &full(0)).await.unwrap();
    let parts: [&SamplePart; 1] = [&world.part];
    let (_, anew) = backup(&ours, &full(1), &parts, &[]).await.unwrap();
    let (first, second) = (objects_of(&world.before), objects_of(&anew));
    assert!(first.is_disjoint(&second), "{second:?}");
    let (_, again) = backup(&ours, &full(2), &parts, &[]).await.unwrap();
    assert_eq!(objects_of(&again), second);
    world.pass(2 * HOUR_S);
    ours.collect_garbage().await.unwrap();
    assert_eq!(world.objects("p/files/").await.len(), second.len());
    assert_eq!(world.whole().await, 2);
    world.clear().await;
}

#[tokio::test]
async fn a_backup_that_relied_on_what_is_named_when_it_is_sealed_gets_copies_of_it() {
    // It is copied in pieces.
    let world = World::of_file(Time::OfTheStore, (9 << 20) + 1).await;
    let ours = world.ours();
    ours.delete_backup(COLLECTION, &full(0)).await.unwrap();
    let parts: [&SamplePart; 1] = [&world.part];
    let (drafted, relied) = draft(&ours, &full(1), &parts, &world.before).await.unwrap();
    assert_eq!(objects_of(&relied), objects_of(&world.before));
    let sealed = ours.put_manifest(&drafted, WRITER).await.unwrap();
    let records = records_of(&ours, &sealed.manifest).await;
    assert!(objects_of(&records).is_disjoint(&objects_of(&relied)));
    ours.sweep(&sealed.manifest, WRITER).await.unwrap();
    world.pass(2 * HOUR_S);
    ours.collect_garbage().await.unwrap();
    assert_eq!(world.whole().await, 1);
    world.clear().await;
}
