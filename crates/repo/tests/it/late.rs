//! Requests that come late: a process is stopped right before one, others give up what it was doing, and it wakes.

use futures::TryStreamExt;
use mendb_repo::Error;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutPayload};

use crate::faulty_store::{Clock, FaultyStore};
use crate::sample::{self, COLLECTION, OPERATION, WRITER, backup, full, increment};
use crate::sharing::{impatient, stop_before, stop_nobody, watched, whole};

#[tokio::test]
async fn a_backup_withdrawn_between_any_two_requests_of_sealing_it_is_not_sealed() {
    let mut refused = 0;
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        let parent = backup(&ours, &full(0), None).await.unwrap();
        let segments = sample::segments(&ours, &increment(1), 0).await.unwrap();
        let manifest = sample::manifest(&increment(1), Some(&parent), segments);
        let theirs = impatient(&faulty, sample::options());
        let let_in = stop_before(&faulty, nth, async move || {
            let id = increment(1);
            let withdrawn = theirs.withdraw(COLLECTION, &id, OPERATION, WRITER);
            withdrawn.await.unwrap();
        });
        let sealed = ours.put_manifest(&manifest, WRITER).await;
        stop_nobody(&faulty);
        let theirs = impatient(&faulty, sample::options());
        let there = whole(&theirs).await;
        if !let_in.was() {
            sealed.unwrap();
            assert_eq!(there, [full(0), increment(1)]);
            break;
        }
        // One that was sealed before it was withdrawn is gone, too, whatever its process believes.
        assert_eq!(there, [full(0)], "before request {nth}");
        refused += usize::from(sealed.is_err());
        // And it stays so, whoever comes.
        let again = ours.put_manifest(&manifest, WRITER).await;
        assert!(again.is_err(), "before request {nth}");
        assert_eq!(whole(&theirs).await, [full(0)], "before request {nth}");
    }
    assert!(refused > 3, "{refused} refused");
}

#[tokio::test]
async fn what_a_withdrawn_backup_would_be_sealed_by_comes_late_and_the_mark_goes_with_the_garbage()
{
    let mut faulty = FaultyStore::default();
    let clock = Clock::begin();
    faulty.clock = Some(clock.clone());
    let ours = watched(&faulty, sample::options());
    let parent = backup(&ours, &full(0), None).await.unwrap();
    let segments = sample::segments(&ours, &increment(1), 0).await.unwrap();
    let mut manifest = sample::manifest(&increment(1), Some(&parent), segments);
    let directory = format!("p/collections/{COLLECTION}/{}", increment(1));
    let put = async |name: &str, text: &str| {
        let name = Path::from(format!("{directory}/{name}"));
        let text = PutPayload::from(text.to_owned());
        faulty.put_opts(&name, text, PutMode::Create.into()).await
    };
    ours.withdraw(COLLECTION, &increment(1), OPERATION, WRITER)
        .await
        .unwrap();
    // The last request of a seal, of a backup with objects or without any.
    put("manifest.json", "{}").await.unwrap_err();
    ours.put_manifest(&manifest, WRITER).await.unwrap_err();
    manifest.tables.clear();
    let refused = ours.put_manifest(&manifest, WRITER).await.unwrap_err();
    assert!(matches!(refused, Error::Deleted { .. }), "{refused:?}");
    // What another operation seals is refused in this place as well: its id is given to nobody else.
    manifest.operation_id = "backup-b2".into();
    ours.put_manifest(&manifest, WRITER).await.unwrap_err();
    assert!(ours.unfinished(COLLECTION).await.unwrap().is_empty());
    // A claim that comes late keeps its parent from nobody.
    let claim = format!("{{ \"format_version\": 1, \"parent\": \"{}\" }}", full(0));
    put("parent.json", &claim).await.unwrap();
    ours.delete_backup(COLLECTION, &full(0)).await.unwrap();
    clock.advance(25 * 3600);
    ours.collect_garbage().await.unwrap();
    let left: Vec<_> = faulty.below.list(None).try_collect().await.unwrap();
    let left = left.iter().map(|object| object.location.as_ref());
    let left: Vec<_> = left.filter(|name| name.contains("/collections/")).collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn a_backup_kept_between_any_two_requests_of_its_deletion_is_gone_wholly_or_stays() {
    let (mut gone, mut stayed) = (0, 0);
    for nth in 0.. {
        let faulty = FaultyStore::default();
        let ours = watched(&faulty, sample::options());
        let parent = backup(&ours, &full(0), None).await.unwrap();
        backup(&ours, &increment(1), Some(&parent)).await.unwrap();
        let theirs = impatient(&faulty, sample::options());
        let let_in = stop_before(&faulty, nth, async move || {
            let ids = [increment(1)];
            theirs.keep_backups(COLLECTION, &ids).await.unwrap();
            // Somebody goes on from what was kept. A deletion that has not begun may refuse it.
            if let Ok(parent) = theirs.manifest(COLLECTION, &increment(1)).await {
                drop(backup(&theirs, &increment(2), Some(&parent)).await);
            }
        });
        drop(ours.delete_backup(COLLECTION, &increment(1)).await);
        stop_nobody(&faulty);
        let there = whole(&impatient(&faulty, sample::options())).await;
        match there.as_slice() {
            [first] if *first == full(0) => gone += 1,
            [first, second, ..] if (first, second) == (&full(0), &increment(1)) => stayed += 1,
            other => panic!("before request {nth}: {other:?}"),
        }
        if !let_in.was() {
            break;
        }
    }
    assert!(gone > 1 && stayed > 1, "{gone} gone, {stayed} stayed");
}
