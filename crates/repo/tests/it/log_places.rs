//! A log is made once: who knows it makes no other in its place, and misses what was taken out of it.

use std::fs;
use std::path::Path as FilePath;
use std::sync::Arc;

use futures::TryStreamExt;
use mendb_repo::log::{Leader, Log, LogId, LogPlace, LogThere, Look};
use mendb_repo::{Error, Repository, RepositoryOptions};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Notify;

use crate::faulty_store::{Fault, FaultyStore, Request};
use crate::parts_sample;
use crate::s3_server::Server;

/// A leader says that it lives after a fifth of this, or never; who waits for one that does is patient.
const OFTEN_MS: u64 = 100;
const NEVER_MS: u64 = 60 * 60 * 1000;
const PATIENT_MS: u64 = 4_000;

fn options(lease_ms: u64) -> RepositoryOptions {
    RepositoryOptions {
        lease_ms,
        ..parts_sample::options()
    }
}

fn place_on(store: &FaultyStore, lease_ms: u64) -> LogPlace {
    let store = Arc::new(store.clone());
    LogPlace::with_store(store, Path::from("p"), "ours:", options(lease_ms))
}

fn place_in(directory: &FilePath) -> LogPlace {
    LogPlace::open(directory.to_str().unwrap(), options(NEVER_MS)).unwrap()
}

async fn made(place: &LogPlace) -> Log {
    place.log(place.create().await.unwrap())
}

async fn lead(log: &Log) -> Leader {
    let turn = log.turn_now().await.unwrap();
    let end = log.read(&mut |_| Ok(())).await.unwrap();
    log.lead(turn, &end, None).await.unwrap().unwrap()
}

/// Waits until it is known that a leader leads no more; the reason.
async fn lost(leader: &Leader) -> String {
    leader.lost().wait_for(|lost| *lost).await.unwrap();
    leader.why_lost().unwrap()
}

async fn objects(store: &FaultyStore) -> Vec<String> {
    let listed = store
        .below
        .list(None)
        .map_ok(|object| object.location.to_string());
    let mut names: Vec<String> = listed.try_collect().await.unwrap();
    names.sort();
    names
}

async fn remove(store: &FaultyStore, which: impl Fn(&str) -> bool) {
    for name in objects(store).await {
        if which(&name) {
            store.below.delete(&Path::from(name)).await.unwrap();
        }
    }
}

fn files(directory: &FilePath) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path.display().to_string()),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_is_moved_away_is_not_made_anew_and_nothing_is_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let (there, away) = (root.path().join("journal"), root.path().join("away"));
    let log = made(&place_in(&there)).await;
    let leader = lead(&log).await;
    leader.append(b"one").await.unwrap();
    fs::rename(&there, &away).unwrap();
    let error = leader.append(b"two").await.unwrap_err();
    assert!(matches!(error, Error::LogGone { .. }), "{error:?}");
    assert!(lost(&leader).await.contains("is gone"));
    drop(leader);
    // Who waits does not lead what is not there.
    let error = log.wait_for_turn(&mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::LogGone { .. }), "{error:?}");
    assert_eq!(files(&there), [""; 0]);
    // When it is back, all that was acknowledged is there.
    fs::rename(&away, &there).unwrap();
    log.wait_for_turn(&mut |_| {}).await.unwrap();
    assert_eq!(log.read(&mut |_| Ok(())).await.unwrap().number, 2);
    // Another one there is none of the same.
    fs::rename(&there, &away).unwrap();
    made(&place_in(&there)).await;
    let error = log.wait_for_turn(&mut |_| {}).await.unwrap_err();
    assert!(matches!(error, Error::OtherLog { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_writes_nothing_notices_that_its_log_was_emptied() {
    let store = FaultyStore::default();
    let log = made(&place_on(&store, OFTEN_MS)).await;
    let leader = lead(&log).await;
    leader.append(b"one").await.unwrap();
    remove(&store, |name| name.ends_with("log.json")).await;
    assert!(lost(&leader).await.contains("is gone"));
    remove(&store, |_| true).await;
    assert!(leader.append(b"two").await.is_err());
    drop(leader);
    assert_eq!(objects(&store).await, [""; 0]);
    let error = log.read(&mut |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, Error::LogGone { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_goes_into_an_emptied_store_is_not_acknowledged() {
    let store = FaultyStore::default();
    let log = made(&place_on(&store, NEVER_MS)).await;
    let leader = lead(&log).await;
    remove(&store, |_| true).await;
    let error = leader.append(b"one").await.unwrap_err();
    assert!(matches!(error, Error::LogGone { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_were_removed_at_the_end_are_missed_by_their_leader_and_by_the_next() {
    let store = FaultyStore::default();
    let log = made(&place_on(&store, OFTEN_MS)).await;
    let leader = lead(&log).await;
    for number in 0..4 {
        leader.append(&[number]).await.unwrap();
    }
    let is_newest = |name: &str| name.ends_with("log/00000000000000000005");
    remove(&store, is_newest).await;
    let why = lost(&leader).await;
    assert!(
        why.contains("entry 5 was there, and the last one is 4"),
        "{why}"
    );
    drop(leader);
    // It reads well, and still nobody leads.
    let turn = log.turn_now().await.unwrap();
    let end = log.read(&mut |_| Ok(())).await.unwrap();
    let error = log.lead(turn, &end, None).await.unwrap_err();
    assert!(
        matches!(
            error,
            Error::LogCut {
                last: 5,
                end: 4,
                ..
            }
        ),
        "{error:?}"
    );
    // Who has decided to go on without them removes what tells of them.
    remove(&store, |name| name.ends_with("leader.json")).await;
    lead(&log).await.release().await;
    // A leader that ends in order tells its last one, too.
    let is_newest = |name: &str| name.ends_with("log/00000000000000000005");
    remove(&store, is_newest).await;
    let turn = log.turn_now().await.unwrap();
    let end = log.read(&mut |_| Ok(())).await.unwrap();
    let error = log.lead(turn, &end, None).await.unwrap_err();
    assert!(matches!(error, Error::LogCut { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_began_an_epoch_and_is_gone_is_missed_though_a_snapshot_has_it() {
    let store = FaultyStore::default();
    let log = made(&place_on(&store, NEVER_MS)).await;
    let leader = lead(&log).await;
    leader.append(b"one").await.unwrap();
    let point = leader.snapshot_point().await;
    leader.snapshot(point, b"one").await.unwrap();
    log.read(&mut |_| Ok(())).await.unwrap();
    remove(&store, |name| name.ends_with("log/00000000000000000001")).await;
    let error = log.read(&mut |_| Ok(())).await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_leader_document_is_mended_by_who_leads_and_waited_at_by_who_waits() {
    let store = FaultyStore::default();
    let log = made(&place_on(&store, OFTEN_MS)).await;
    let document = Path::from("p/leader.json");
    let patient = place_on(&store, PATIENT_MS).log(log.id().clone());
    for damage in ["", "{}", "not json"] {
        let leader = lead(&log).await;
        let put = store.below.put(&document, PutPayload::from(damage));
        put.await.unwrap();
        let mended = Notify::new();
        let mut tell = |look: Look<'_>| match look {
            Look::Unseen(Error::Damaged { .. }) => {}
            Look::Unseen(error) => panic!("{error}"),
            Look::Leads { has_spoken, .. } if has_spoken => mended.notify_one(),
            Look::Leads { .. } => {}
        };
        tokio::select! {
            turn = patient.wait_for_turn(&mut tell) => panic!("{damage:?}: {turn:?}"),
            () = mended.notified() => {}
        }
        leader.append(b"on").await.unwrap();
        leader.release().await;
        // Where nobody leads, nobody mends it, and who waits takes its turn.
        let put = store.below.put(&document, PutPayload::from(damage));
        put.await.unwrap();
        let mut unseen = 0;
        let mut tell = |look: Look<'_>| match look {
            Look::Unseen(Error::Damaged { .. }) => unseen += 1,
            look => panic!("{look:?}"),
        };
        let turn = log.wait_for_turn(&mut tell).await.unwrap();
        assert!(unseen > 0, "{damage:?}: it is not told");
        let end = log.read(&mut |_| Ok(())).await.unwrap();
        let leader = log.lead(turn, &end, None).await.unwrap().unwrap();
        leader.release().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_its_store_refuses_leads_no_more_and_one_that_is_not_answered_says_so() {
    for (fault, is_refusal) in [
        (Fault::Denied, true),
        (Fault::DiskFull, true),
        (Fault::Unavailable, false),
    ] {
        let store = FaultyStore::default();
        let log = made(&place_on(&store, OFTEN_MS)).await;
        let leader = lead(&log).await;
        store.fail(Request::Put, "", fault, 40);
        if is_refusal {
            leader.append(b"one").await.unwrap_err();
            assert!(*leader.lost().borrow(), "{fault:?}");
            assert!(lost(&leader).await.contains("ours:"));
            continue;
        }
        while leader.trouble().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(!*leader.lost().borrow());
        while store.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        leader.append(b"one").await.unwrap();
        while leader.trouble().is_some() {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_place_of_a_log_is_refused_by_name_and_nothing_is_left_there() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let repository = at("repository");
    let repository = Repository::open(repository.to_str().unwrap(), options(NEVER_MS));
    repository.await.unwrap().create_if_absent().await.unwrap();
    fs::create_dir_all(at("other/below")).unwrap();
    fs::write(at("other/note.txt"), "mine").unwrap();
    for (place, wanted) in [
        ("repository", "it holds mendb.json, as a repository does"),
        ("repository/journal", "it lies in the repository"),
        ("other", "which is nothing of a journal"),
    ] {
        let before = files(root.path());
        let error = place_in(&at(place)).look().await.unwrap_err();
        assert!(matches!(error, Error::NoLogPlace { .. }), "{error:?}");
        assert!(error.to_string().contains(wanted), "{error}");
        assert_eq!(files(root.path()), before);
    }
    let place = place_in(&at("journal"));
    for (repository, is_refused) in [
        ("journal", true),
        ("journal/repository", true),
        ("", true),
        ("journal-2", false),
        ("repository", false),
    ] {
        let repository = at(repository);
        let checked = place.check_apart_from(repository.to_str().unwrap(), &options(NEVER_MS));
        assert_eq!(checked.is_err(), is_refused, "{repository:?}");
    }
    let on_s3 = LogPlace::open("s3://one/some/journal", options(NEVER_MS)).unwrap();
    for (repository, is_refused) in [
        ("s3://one/some/journal/repository", true),
        ("s3://one/some", true),
        ("s3://one", true),
        ("s3://two/some", false),
        ("s3://one/some/journals", false),
        ("memory:", false),
    ] {
        let checked = on_s3.check_apart_from(repository, &options(NEVER_MS));
        assert_eq!(checked.is_err(), is_refused, "{repository}");
    }
    let error = LogPlace::open("memory:x", options(NEVER_MS)).unwrap();
    let error = error.check_conditions().await.unwrap_err();
    assert!(
        error.to_string().contains("memory of one process"),
        "{error}"
    );
    // Where nothing is, a log is made, and found from then on.
    assert_eq!(place.look().await.unwrap(), LogThere::Nothing);
    assert!(!at("journal").exists());
    let id = place.create().await.unwrap();
    assert_eq!(place.look().await.unwrap(), LogThere::Log(id.clone()));
    assert_eq!(place.create().await.unwrap(), id);
    assert_eq!(LogId::noted(id.as_str()), id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_does_not_exist_is_named() {
    let server = Server::start();
    let options = RepositoryOptions {
        s3: server
            .settings()
            .map(|(key, value)| (key.to_owned(), value))
            .into(),
        ..options(NEVER_MS)
    };
    let place = LogPlace::open("s3://absent/journal", options).unwrap();
    let error = place.look().await.unwrap_err();
    assert!(matches!(error, Error::NoBucket { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_an_older_mendb_gets_its_identity_and_one_without_its_first_entries_does_not() {
    let store = FaultyStore::default();
    let log = made(&place_on(&store, NEVER_MS)).await;
    let leader = lead(&log).await;
    leader.append(b"one").await.unwrap();
    leader.append(b"two").await.unwrap();
    leader.release().await;
    remove(&store, |name| name.ends_with("log.json")).await;
    let place = place_on(&store, NEVER_MS);
    assert_eq!(place.look().await.unwrap(), LogThere::Unnamed);
    let log = made(&place).await;
    assert_eq!(log.read(&mut |_| Ok(())).await.unwrap().number, 3);
    remove(&store, |name| {
        name.ends_with("log.json") || name.ends_with("0002")
    })
    .await;
    let error = place.create().await.unwrap_err();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}
